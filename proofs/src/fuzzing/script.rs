//! From bytes to acts. Each act takes [`ACT_BYTES`]; the numbers of its segment are most often the very next ones of
//! its sender, or random bytes would never get past a handshake.
//!
//! What a sender would say next is kept here, by arithmetic of its own: the script knows nothing of the observer.

use std::fmt;

use tcp_observer_common::{conn::State, counters::HookDirection};

use crate::frames::{ACK, CWR, ECE, FIN, PSH, RST, SYN};

pub const ACT_BYTES: usize = 6;
/// More than this adds little and makes fuzzing slow.
const MAX_ACTS: usize = 96;
/// Between how many pairs of endpoints there is talk.
pub const PAIRS: usize = 4;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;
/// How long after the act before. Past every limit of the observer, and just short of some.
const WAITS: [u64; 16] = [
    0,
    1_000,
    250_000,
    3 * MILLISECOND,
    40 * MILLISECOND,
    150 * MILLISECOND,
    SECOND,
    1_100 * MILLISECOND,
    4 * SECOND,
    6 * SECOND,
    33 * SECOND,
    61 * SECOND,
    65 * SECOND,
    131 * SECOND,
    3600 * SECOND,
    6 * 86_400 * SECOND,
];

/// Which end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

/// A segment, its numbers relative to where those of their end begin.
#[derive(Clone, PartialEq, Eq)]
pub struct Spoken {
    pub pair: usize,
    pub from: End,
    pub flags: u8,
    pub seq: u32,
    /// The field is zero without ACK, wherever numbers begin.
    pub ack: Option<u32>,
    pub payload_bytes: u16,
    pub window: u16,
    pub accurate_ecn: bool,
    pub options: Options,
    pub interface: u32,
    pub direction: HookDirection,
}

/// TCP options, in the order in which they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub mss: Option<u16>,
    pub shift: Option<u8>,
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    pub fast_open: bool,
    /// One block of selective acknowledgement, relative to where the other end's numbers begin.
    pub sack: Option<(u32, u32)>,
}

/// What is done to a frame's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    Set { at: u8, value: u8 },
    Flip { at: u8, bit: u8 },
    Cut { to: u8 },
    Pad { by: u8 },
}

/// One thing that happens.
#[derive(Clone, PartialEq, Eq)]
pub enum What {
    Spoken(Spoken),
    /// The segment before this one again, at the same hook or at another.
    Again {
        elsewhere: bool,
    },
    /// An ICMP error that quotes the last SYN of this end.
    Unreachable {
        pair: usize,
        from: End,
        seq: u32,
        code: u8,
    },
    /// The segment's bytes, but not quite.
    Damaged(Spoken, Damage),
    Noise(Vec<u8>),
    Sweep,
    /// The socket table tells of a connection.
    Adopted {
        pair: usize,
        states: [Option<State>; 2],
    },
    /// And that it has no socket for one any more.
    Gone {
        pair: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub after_ns: u64,
    pub what: What,
}

/// What happens, in order, before an observer of this kind.
#[derive(Clone, PartialEq, Eq)]
pub struct Script {
    pub acts: Vec<Act>,
    /// Whether a lone ACK or RST begins a flow, as in a capture.
    pub keeps_all: bool,
    /// Whether the clients' addresses are local, and the servers'.
    pub local: [bool; 2],
    /// Whether damaged frames are IPv6.
    pub is_v6: bool,
    /// A number that depends on all of the script.
    pub seed: u64,
}

/// In a line, as one reads captures.
impl fmt::Debug for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pair, from, flags, seq, ack, payload_bytes, window, accurate_ecn, options, interface, direction } =
            self;
        let names = "FSRPAUEW".chars().enumerate().filter(|(bit, _)| flags >> bit & 1 != 0);
        let flags: String = names.map(|(_, name)| name).chain(accurate_ecn.then_some('e')).collect();
        write!(f, "{pair} {from:?} [{flags}] seq {}", *seq as i32)?;
        if let Some(ack) = ack {
            write!(f, " ack {}", *ack as i32)?;
        }
        write!(f, " len {payload_bytes} win {window} at {interface} {direction:?}")?;
        if *options == Options::default() { Ok(()) } else { write!(f, " {options:?}") }
    }
}

impl fmt::Debug for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spoken(spoken) => write!(f, "{spoken:?}"),
            Self::Again { elsewhere } => write!(f, "again{}", if *elsewhere { " elsewhere" } else { "" }),
            Self::Unreachable { pair, from, seq, code } => write!(f, "{pair} ICMP {code} to {from:?}, seq {seq}"),
            Self::Damaged(spoken, damage) => write!(f, "{spoken:?} damaged: {damage:?}"),
            Self::Noise(bytes) => write!(f, "noise {bytes:02x?}"),
            Self::Sweep => f.write_str("sweep"),
            Self::Adopted { pair, states } => write!(f, "{pair} adopted {states:?}"),
            Self::Gone { pair } => write!(f, "{pair} has no socket"),
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acts, keeps_all, local, is_v6, seed } = self;
        writeln!(f, "keeps all: {keeps_all}, local: {local:?}, IPv6: {is_v6}, seed: {seed:#x}")?;
        acts.iter().enumerate().try_for_each(|(n, Act { after_ns, what })| writeln!(f, "  {n:2} +{after_ns} {what:?}"))
    }
}

/// What an end would say next.
#[derive(Clone, Copy, Debug)]
struct Voice {
    isn: u32,
    next: u32,
    /// The last TSval.
    ts_value: u32,
}

impl Default for Voice {
    fn default() -> Self {
        Self { isn: 0, next: 1, ts_value: 0 }
    }
}

impl Script {
    /// Any bytes are a script.
    pub fn read(bytes: &[u8]) -> Self {
        let (&head, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let mut voices = [[Voice::default(); 2]; PAIRS];
        let mut acts = Vec::new();
        for act in rest.chunks_exact(ACT_BYTES).take(MAX_ACTS) {
            read_act(act.try_into().expect("a chunk of that length"), &mut voices, &mut acts);
        }
        // FNV-1a (<https://www.ietf.org/archive/id/draft-eastlake-fnv-17.html>), and its high bits stirred.
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let seed = bytes.iter().fold(0xcbf2_9ce4_8422_2325, hash);
        Self { acts, keeps_all: head & 1 != 0, local: [head & 2 == 0, head & 4 != 0], is_v6: head & 8 != 0, seed }
    }

    /// Without what is not addressed to the state machine: damaged frames, noise.
    #[must_use]
    pub fn sound(&self) -> Self {
        let is_sound = |act: &&Act| !matches!(act.what, What::Damaged(..) | What::Noise(_));
        Self { acts: self.acts.iter().filter(is_sound).cloned().collect(), ..*self }
    }

    /// Without sweeps, and without what only the socket table says.
    #[must_use]
    pub fn packets(&self) -> Self {
        let is_packet = |act: &&Act| !matches!(act.what, What::Sweep | What::Adopted { .. } | What::Gone { .. });
        Self { acts: self.acts.iter().filter(is_packet).cloned().collect(), ..*self }
    }
}

/// The fields of an act.
#[derive(Clone, Copy)]
struct Fields {
    pair: usize,
    from: End,
    numbers: u8,
    more: u8,
    hook: u8,
    value: u8,
}

fn read_act(act: [u8; ACT_BYTES], voices: &mut [[Voice; 2]; PAIRS], acts: &mut Vec<Act>) {
    let [what, numbers, more, hook, value, time] = act;
    let from = if what & 4 == 0 { End::Client } else { End::Server };
    let fields = Fields { pair: usize::from(what & 3), from, numbers, more, hook, value };
    let pair = &mut voices[fields.pair];
    // A quarter of all acts follow after some time.
    let after_ns = if time & 0x30 == 0 { WAITS[usize::from(time & 15)] } else { 0 };
    let mut say = |what: What| acts.push(Act { after_ns: if acts.is_empty() { 0 } else { after_ns }, what });
    match what >> 3 {
        0 => say(What::Spoken(syn(fields, pair, SYN))),
        1 => say(What::Spoken(syn(fields, pair, SYN | ACK))),
        2..=4 => say(What::Spoken(spoken(fields, pair, ACK, 0))),
        5..=7 => say(What::Spoken(spoken(fields, pair, ACK | PSH, payload(value)))),
        8..=11 => say(What::Spoken(spoken(fields, pair, ACK | FIN, 0))),
        12 => say(What::Spoken(spoken(fields, pair, ACK | FIN, payload(value)))),
        13 => say(What::Spoken(spoken(fields, pair, RST, 0))),
        14 => say(What::Spoken(spoken(fields, pair, RST | ACK, 0))),
        // The same data again.
        15 => {
            let bytes = payload(value);
            let voice = voice(pair, from);
            voice.next = voice.next.wrapping_sub(bytes.into());
            say(What::Spoken(spoken(fields, pair, ACK, bytes)));
        }
        // Data beyond a gap.
        16 => {
            voice(pair, from).next = voice(pair, from).next.wrapping_add(100);
            say(What::Spoken(spoken(fields, pair, ACK, payload(value))));
        }
        // One number before what is expected.
        17 => {
            let keepalive = Fields { numbers: numbers & 0xf0 | 9, ..fields };
            say(What::Spoken(spoken(keepalive, pair, ACK, u16::from(value & 1))));
        }
        18 => say(What::Spoken(spoken(fields, pair, value, u16::from(more & 1)))),
        19 => {
            say(What::Unreachable { pair: fields.pair, from, seq: number(pair, from, numbers & 15, true), code: value })
        }
        20..=21 => say(What::Again { elsewhere: value & 1 != 0 }),
        22 => say(What::Sweep),
        // A handshake at one go: most of what is worth seeing comes after one.
        23 => {
            let (client, server) = (Fields { from: End::Client, ..fields }, Fields { from: End::Server, ..fields });
            acts.push(Act { after_ns, what: What::Spoken(syn(client, pair, SYN)) });
            acts.push(Act { after_ns: 0, what: What::Spoken(syn(server, pair, SYN | ACK)) });
            acts.push(Act { after_ns: 0, what: What::Spoken(spoken(client, pair, ACK, 0)) });
        }
        // The same little after equal silences.
        24 => (0..4).for_each(|_| {
            let what = What::Spoken(spoken(fields, pair, ACK | PSH, 1));
            acts.push(Act { after_ns: WAITS[7 + usize::from(value & 1)], what });
        }),
        25 => {
            let damage = match value >> 6 {
                0 => Damage::Set { at: numbers, value: more },
                1 => Damage::Flip { at: numbers, bit: more & 7 },
                2 => Damage::Cut { to: numbers },
                _ => Damage::Pad { by: numbers },
            };
            let plain = Fields { numbers: 0, more: 0, ..fields };
            let flags = [SYN, SYN | ACK, ACK, ACK | FIN][usize::from(value & 3)];
            // What a damaged segment says is not remembered.
            let mut aside = *pair;
            say(What::Damaged(spoken(plain, &mut aside, flags, u16::from(value >> 2 & 7)), damage));
        }
        26 => say(What::Noise([&act[..], &act[1..]].concat().repeat(1 + usize::from(value & 7)))),
        27 => say(What::Adopted { pair: fields.pair, states: [known_state(numbers), known_state(more)] }),
        28 => say(What::Gone { pair: fields.pair }),
        // A window of zero.
        29 => {
            let shut = spoken(fields, pair, ACK, 0);
            say(What::Spoken(Spoken { window: 0, ..shut }));
        }
        // The other end's FIN is acknowledged with one's own, as most closes end.
        30 => {
            let other = Fields { from: opposite(from), ..fields };
            acts.push(Act { after_ns, what: What::Spoken(spoken(fields, pair, ACK | FIN, 0)) });
            acts.push(Act { after_ns: 0, what: What::Spoken(spoken(other, pair, ACK | FIN, 0)) });
            acts.push(Act { after_ns: 0, what: What::Spoken(spoken(fields, pair, ACK, 0)) });
        }
        // A handshake whose first or second step is seen again after a second, with and without timestamps, perhaps with
        // ECN; or answered with a RST.
        _ => {
            let stamped = Fields { numbers: 0, more: more & 0x7f, value: value & 0xc7, ..fields };
            let (client, server) = (Fields { from: End::Client, ..stamped }, Fields { from: End::Server, ..stamped });
            let ecn = if value & 1 != 0 { ECE | CWR } else { 0 };
            let first = syn(Fields { more, ..client }, pair, SYN | ecn);
            acts.push(Act { after_ns, what: What::Spoken(first.clone()) });
            if value & 2 != 0 {
                acts.push(Act { after_ns: SECOND, what: What::Spoken(syn(client, pair, SYN | ecn)) });
            }
            let mut answer = syn(server, pair, SYN | ACK | ecn & ECE);
            // To the first of them.
            if let (Some((sent, _)), Some((_, echo)), true) =
                (first.options.timestamps, &mut answer.options.timestamps, value & 4 != 0)
            {
                *echo = sent;
            }
            acts.push(Act { after_ns: 0, what: What::Spoken(answer) });
            if value & 0x40 != 0 {
                acts.push(Act { after_ns: SECOND, what: What::Spoken(syn(server, pair, SYN | ACK)) });
            }
            // Both begin anew, also where numbers are those of the connection before.
            pair.iter_mut().for_each(|voice| voice.next = voice.isn.wrapping_add(1));
            let last = spoken(client, pair, if value & 0x80 != 0 { RST } else { ACK }, 0);
            acts.push(Act { after_ns: 0, what: What::Spoken(last) });
        }
    }
}

fn opposite(end: End) -> End {
    match end {
        End::Client => End::Server,
        End::Server => End::Client,
    }
}

fn voice(pair: &mut [Voice; 2], end: End) -> &mut Voice {
    &mut pair[end as usize]
}

fn payload(value: u8) -> u16 {
    [1, 2, 7, 20, 100, 1000, 1400, 0][usize::from(value & 7)]
}

/// A number of this end: mostly the next one; now and then one that is early, late or far out. `begins` takes it from
/// the SYN instead.
fn number(pair: &[Voice; 2], end: End, choice: u8, begins: bool) -> u32 {
    let Voice { isn, next, .. } = pair[end as usize];
    let base = if begins { isn } else { next };
    base.wrapping_add_signed(match choice {
        0..=7 => 0,
        8 => 1,
        9 => -1,
        10 => 2,
        11 => -20,
        12 => 1400,
        13 => 70_000,
        14 => -70_000,
        _ => i32::MAX,
    })
}

/// A SYN or SYN-ACK. With the highest bit of `more` numbers begin anew, as for another connection.
fn syn(fields: Fields, pair: &mut [Voice; 2], flags: u8) -> Spoken {
    let Fields { pair: index, from, numbers, more, hook, value } = fields;
    if more & 0x80 != 0 {
        let isn = pair[from as usize].next.wrapping_add(50_000);
        let voice = voice(pair, from);
        (voice.isn, voice.next) = (isn, isn.wrapping_add(1));
    }
    let seq = number(pair, from, numbers & 15, true);
    let ack = (flags & ACK != 0).then(|| number(pair, opposite(from), numbers >> 4, false));
    // Data with one of eight.
    let payload_bytes = if value & 0x38 == 0x38 { payload(value) } else { 0 };
    let timestamps = timestamps(fields, pair);
    let voice = voice(pair, from);
    if seq == voice.isn {
        let end = seq.wrapping_add(1).wrapping_add(payload_bytes.into());
        if end.wrapping_sub(voice.next) < 1 << 31 {
            voice.next = end;
        }
    }
    let options = Options {
        mss: (more & 8 != 0).then_some(1460),
        shift: (more & 16 != 0).then_some(value & 15),
        sack_permitted: more & 32 != 0,
        timestamps,
        fast_open: value & 0x78 == 0x78,
        sack: None,
    };
    let accurate_ecn = flags & ECE != 0 && value & 0x80 != 0;
    let (interface, direction) = tap(from, hook);
    let window = window(hook);
    Spoken { pair: index, from, flags, seq, ack, payload_bytes, window, accurate_ecn, options, interface, direction }
}

/// Any other segment.
fn spoken(fields: Fields, pair: &mut [Voice; 2], flags: u8, payload_bytes: u16) -> Spoken {
    let Fields { pair: index, from, numbers, more, hook, value: _ } = fields;
    let seq = number(pair, from, numbers & 15, false);
    let ack = (flags & ACK != 0).then(|| number(pair, opposite(from), numbers >> 4, false));
    let sack = (more & 0x60 == 0x60).then(|| {
        let first = number(pair, opposite(from), 8, false);
        (first, first.wrapping_add(10))
    });
    let timestamps = timestamps(fields, pair);
    let voice = voice(pair, from);
    // A RST is the last word, whatever its number.
    if seq == voice.next && flags & RST == 0 {
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        voice.next = seq.wrapping_add(payload_bytes.into()).wrapping_add(controls);
    }
    let options = Options { timestamps, sack, ..Options::default() };
    let accurate_ecn = false;
    let (interface, direction) = tap(from, hook);
    let window = window(hook);
    Spoken { pair: index, from, flags, seq, ack, payload_bytes, window, accurate_ecn, options, interface, direction }
}

/// Mostly an echo of what the other end has sent last.
fn timestamps(Fields { from, more, .. }: Fields, pair: &mut [Voice; 2]) -> Option<(u32, u32)> {
    if more & 4 == 0 {
        return None;
    }
    let echo = voice(pair, opposite(from)).ts_value.saturating_sub(u32::from(more & 0x18 == 0x18));
    let voice = voice(pair, from);
    voice.ts_value = voice.ts_value.wrapping_add((more & 3).into());
    Some((voice.ts_value, echo))
}

/// Mostly the hook where one expects this end.
fn tap(from: End, hook: u8) -> (u32, HookDirection) {
    let (own, other) = match from {
        End::Client => (HookDirection::Egress, HookDirection::Ingress),
        End::Server => (HookDirection::Ingress, HookDirection::Egress),
    };
    match hook & 15 {
        0 => (2, own),
        1 => (3, own),
        2 => (1, other),
        _ => (1, own),
    }
}

fn window(hook: u8) -> u16 {
    match hook >> 4 {
        0 => 1,
        1 => 100,
        2 => 0,
        3 => u16::MAX,
        _ => 8192,
    }
}

/// What the kernel says of a socket that has a peer.
fn known_state(byte: u8) -> Option<State> {
    use State::*;
    let states = [SynSent, SynReceived, Established, FinWait1, FinWait2, CloseWait, Closing, LastAck, TimeWait];
    (byte & 0x80 == 0).then(|| states[usize::from(byte) % states.len()])
}
