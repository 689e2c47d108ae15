//! The observer's counters beside the kernel's own of the same namespace, and which of them say the same.
//!
//! Kernel: `/proc/net/snmp` and `/proc/net/netstat` (6.18, `net/ipv4/tcp*.c`), and nft for what the kernel's TCP does
//! not see or sees twice. Both are read while nothing moves, before the load and after it; what counts is the
//! difference.

use std::{collections::BTreeMap, fmt, thread, time::Duration};

use integration_tests::{
    agent::Agent,
    netstat, pinned,
    wait::{SOON, wait_until},
};
use tcp_observer_common::{
    conn::{How, Locality, Note, Outcome, Phase},
    counters::{Counters, HookDirection, Retransmit, Skip},
    histogram::HandshakePart,
    segment::SegmentKind,
};

use crate::{load::Ledger, stage::Stage};

const CLIENT: &[Locality] = &[Locality::Client, Locality::Loopback];
const SERVER: &[Locality] = &[Locality::Server, Locality::Loopback];

/// Losses of the observer, and packets that this stage has none of.
const NONE_OF: [Skip; 6] = [
    Skip::Contended,
    Skip::TableFull,
    Skip::Truncated,
    Skip::BadHeader,
    Skip::Fragment,
    // No segment passes two hooks of the host.
    Skip::Duplicate,
];

/// Everything that is counted, at a moment at which nothing moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    pub kernel: BTreeMap<String, u64>,
    /// Segments in that TCP has not counted, and segments that it has counted on both ways.
    silent: u64,
    loopback: u64,
    pub ours: Counters,
    handshakes: BTreeMap<(usize, usize), u64>,
}

impl Counts {
    /// Waits until no segment comes or goes between two readings. Timers of TIME_WAIT and sweeps never rest.
    pub fn still(stage: &Stage, agent: &Agent<'_>) -> Self {
        wait_until("the counters to keep still", 2 * SOON, || {
            let before = Self::read(stage, agent);
            thread::sleep(Duration::from_millis(300));
            let after = Self::read(stage, agent);
            let seen = |counts: &Self| {
                let kernel = ["InSegs", "OutSegs", "RetransSegs", "ActiveOpens", "PassiveOpens"];
                (kernel.map(|name| counts.kernel(name)), counts.silent, counts.segments())
            };
            if seen(&before) == seen(&after) {
                Ok(after)
            } else {
                Err(format!("{:?}, then {:?}", seen(&before), seen(&after)))
            }
        })
    }

    fn read(stage: &Stage, agent: &Agent<'_>) -> Self {
        let mut handshakes = BTreeMap::new();
        for &part in HandshakePart::ALL {
            for &role in Locality::ALL {
                handshakes.insert((part.index(), role.index()), pinned::handshakes(agent, part, role));
            }
        }
        Self {
            kernel: netstat::tcp_counters(&stage.host),
            silent: stage.ruled("silent"),
            loopback: stage.ruled("loopback"),
            ours: pinned::counters(agent),
            handshakes,
        }
    }

    /// What has been counted since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (name, value) in &mut since.kernel {
            *value = value.wrapping_sub(earlier.kernel[name]);
        }
        since.silent -= earlier.silent;
        since.loopback -= earlier.loopback;
        for (value, earlier) in since.ours.words_mut().iter_mut().zip(earlier.ours.words()) {
            *value -= earlier;
        }
        for (place, value) in &mut since.handshakes {
            *value -= earlier.handshakes[place];
        }
        since
    }

    fn kernel(&self, name: &str) -> u64 {
        *self.kernel.get(name).unwrap_or_else(|| panic!("this kernel has no counter `{name}`"))
    }

    fn attempts(&self, roles: &[Locality], outcomes: &[Outcome]) -> u64 {
        let ports = self.ours.attempts.iter();
        let of_port = |port: &[[u64; Outcome::COUNT]; Locality::COUNT]| -> u64 {
            let counts = roles.iter().map(|role| &port[role.index()]);
            counts.flat_map(|counts| outcomes.iter().map(|outcome| counts[outcome.index()])).sum()
        };
        ports.map(of_port).sum()
    }

    fn retransmits(&self, what: Retransmit, roles: &[Locality]) -> u64 {
        roles.iter().map(|role| self.ours.handshake_retransmits[what.index()][role.index()]).sum()
    }

    /// Segments that a hook saw, whatever came of them.
    fn segments(&self) -> u64 {
        let updates: u64 = self.ours.segments.as_flattened().iter().sum();
        let is_tcp = |skip: &&Skip| !matches!(skip, Skip::NotIp | Skip::NotTcp | Skip::Fragment);
        updates + Skip::ALL.iter().filter(is_tcp).map(|skip| self.ours.skipped[skip.index()]).sum::<u64>()
    }

    fn resets(&self, phases: &[Phase]) -> u64 {
        phases.iter().flat_map(|phase| self.ours.resets[phase.index()]).sum()
    }
}

/// Two counts of the same thing, or a count and its bounds.
pub struct Comparison {
    what: String,
    ours: u64,
    least: u64,
    most: u64,
}

impl Comparison {
    pub fn holds(&self) -> bool {
        (self.least..=self.most).contains(&self.ours)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, ours, least, most } = self;
        let verdict = if self.holds() { "  " } else { "≠ " };
        let bounds = if least == most { least.to_string() } else { format!("{least} to {most}") };
        write!(f, "{verdict}{what}: {ours}, the kernel {bounds}")
    }
}

/// All that can be compared of what was counted since the load began.
pub fn compare(counts: &Counts, ledger: &Ledger) -> Vec<Comparison> {
    let kernel = |name| counts.kernel(name);
    let within = |what: &str, ours, least, most| Comparison { what: what.to_owned(), ours, least, most };
    let equal = |what: &str, ours, theirs| within(what, ours, theirs, theirs);
    let completed = |roles: &[Locality]| counts.attempts(roles, &[Outcome::Completed]);
    let all: Vec<_> = Outcome::ALL.iter().copied().filter(|&outcome| outcome != Outcome::InProgress).collect();
    // Sockets that their application has closed in SYN_SENT fail in silence: the kernel does not count them.
    let given_up = ledger.sum(|name| name.starts_with("GivenUp/Out"));
    // A RST between two local ends resets both.
    let resets_of_both = ledger.sum(|name| {
        let (act, way) = name.split_once('/').unwrap_or_default();
        way == "Loopback" && ["ClientResets", "ServerResets", "LeftUnread", "LeftUnreadByServer"].contains(&act)
    });
    let synacks_again = counts.retransmits(Retransmit::SynAck, SERVER);
    let seen_once = counts.loopback;
    let established = counts.resets(&[Phase::Established]) + resets_of_both;
    let rsts = counts.ours.segments[HookDirection::Egress.index()][SegmentKind::Rst.index()];
    let mut comparisons = vec![
        equal("completed as server = PassiveOpens", completed(SERVER), kernel("PassiveOpens")),
        equal("attempts as client = ActiveOpens", counts.attempts(CLIENT, &all), kernel("ActiveOpens")),
        equal(
            "failed attempts = AttemptFails",
            counts.attempts(CLIENT, &[Outcome::Refused, Outcome::Unreachable, Outcome::TimedOut])
                + counts.attempts(Locality::ALL, &[Outcome::Reset]),
            kernel("AttemptFails") + given_up,
        ),
        equal(
            "repeated SYNs and SYN-ACKs of ours = TCPSynRetrans",
            counts.retransmits(Retransmit::Syn, CLIENT) + synacks_again,
            kernel("TCPSynRetrans"),
        ),
        equal(
            "segments seen = InSegs + dropped before + OutSegs + RetransSegs - SYN-ACKs in both - lo in both",
            counts.segments(),
            (kernel("InSegs") + counts.silent + kernel("OutSegs") + kernel("RetransSegs"))
                .wrapping_sub(synacks_again + seen_once),
        ),
        within(
            "EstabResets, by resets in established and those while closing",
            kernel("EstabResets"),
            established,
            established + counts.resets(&[Phase::HalfClosed, Phase::Closing]),
        ),
        within("RSTs out, some of OutRsts", rsts, 1, kernel("OutRsts")),
        within(
            "suspected listen overflows, some of the repeated SYN-ACKs",
            [Note::SynAckAfterAck, Note::SynAckAfterData].map(|note| counts.ours.notes[note as usize]).iter().sum(),
            0,
            synacks_again,
        ),
        equal(
            "connections that ended = those that began",
            counts.ours.closes.as_flattened().iter().sum(),
            completed(Locality::ALL),
        ),
        equal(
            "connections that ended in silence",
            counts.ours.closes.iter().map(|closes| closes[How::Timeout.index()]).sum(),
            0,
        ),
    ];
    for name in ["ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPTimeWaitOverflow", "TCPBacklogDrop"] {
        comparisons.push(equal(name, 0, kernel(name)));
    }
    for skip in NONE_OF {
        comparisons.push(equal(skip.label(), counts.ours.skipped[skip.index()], 0));
    }
    for &role in Locality::ALL {
        for &part in HandshakePart::ALL {
            let timed = counts.handshakes[&(part.index(), role.index())];
            let what = format!("handshakes timed as {}, {} = completed", role.label(), part.label());
            comparisons.push(equal(&what, timed, completed(&[role])));
        }
    }
    comparisons
}
