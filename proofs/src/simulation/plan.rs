//! What is to happen in a run: who does what when, and which packets meet with what. A plan and nothing else decides a
//! run; it comes from a seed, or from another plan by leaving something out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::random::Random;

pub const MICROSECOND: u64 = 1_000;
pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

/// The two ends. The left one opens first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Left,
    Right,
}

impl End {
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// Where the watcher stands. Between a near end and the watcher nothing is lost, and no time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Near(End),
    Middle,
}

/// What an application does, or its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opens actively, also where its host still waits in TIME-WAIT. Nothing if it has a connection.
    Connect,
    /// Writes so many bytes, as soon as the connection takes them.
    Send(u32),
    /// Stops reading, so that the window closes.
    Pause,
    Resume,
    /// Closes when all is written; of a handshake in progress only the opener's is given up.
    Close,
    Abort,
    /// Loses power and comes back at once: connections are gone, and nothing is sent.
    Crash,
    /// From now on nobody listens, or somebody does again.
    Deafen,
    Listen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    pub at_ns: u64,
    pub end: End,
    pub action: Action,
}

/// The two parts of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    BeforeWatcher,
    AfterWatcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    Lost,
    /// A copy follows so much later.
    Doubled(u64),
    /// It takes so much longer, and is perhaps overtaken.
    Delayed(u64),
}

/// What the `nth` packet of an end meets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub from: End,
    pub nth: u32,
    pub hop: Hop,
    pub mishap: Mishap,
}

/// How a host is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPlan {
    pub addr: IpAddr,
    pub port: u16,
    /// Drives the initial sequence numbers, which are shifted so that the first one is `isn`.
    pub seed: u64,
    pub isn: u32,
    pub receive_bytes: usize,
    pub send_bytes: usize,
    pub timestamps: bool,
    pub nagle: bool,
    pub ack_delay_ms: Option<u64>,
    pub keep_alive_ms: Option<u64>,
    pub timeout_ms: Option<u64>,
    pub listens: bool,
    /// Closes as soon as the other end has.
    pub answers_close: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    pub place: Place,
    pub hosts: [HostPlan; 2],
    /// How long a packet takes between the left end and the watcher, and between the watcher and the right end.
    pub hops_ns: [u64; 2],
    pub acts: Vec<Act>,
    pub faults: Vec<Fault>,
    /// When the watcher sweeps first; then every second.
    pub first_sweep_ns: u64,
}

/// Faults are drawn for so many packets of each end; what comes later is delivered, so that runs end.
const FAULTY_PACKETS: u32 = 60;

impl Plan {
    /// The plan of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let place = random.one_of(&[Place::Near(End::Left), Place::Near(End::Right), Place::Middle]);
        let hosts = hosts(&mut random);
        let mut hops_ns = [0, 1].map(|_| {
            let scale = random.one_of(&[10 * MICROSECOND, MILLISECOND, 30 * MILLISECOND, 300 * MILLISECOND]);
            random.between(scale / 2, scale)
        });
        match place {
            Place::Near(End::Left) => hops_ns[0] = 0,
            Place::Near(End::Right) => hops_ns[1] = 0,
            Place::Middle => {}
        }
        let trip_ns = 2 * (hops_ns[0] + hops_ns[1]);
        let acts = acts(&mut random, trip_ns);
        let faults = faults(&mut random, place, trip_ns);
        let first_sweep_ns = random.below(SECOND);
        Self { seed, place, hosts, hops_ns, acts, faults, first_sweep_ns }
    }

    pub fn host(&self, end: End) -> &HostPlan {
        &self.hosts[end as usize]
    }
}

fn hosts(random: &mut Random) -> [HostPlan; 2] {
    let mut addrs: [IpAddr; 2] = if random.percent(50) {
        [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(198, 51, 100, 2).into()]
    } else {
        [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2).into()]
    };
    if random.percent(50) {
        addrs.swap(0, 1);
    }
    let timestamps = random.percent(50);
    let [left, right] = addrs.map(|addr| HostPlan {
        addr,
        port: 0,
        seed: random.bits(),
        isn: isn(random.bits()),
        receive_bytes: random.one_of(&[600, 2_000, 8_000, 100_000]),
        send_bytes: random.one_of(&[600, 4_000, 16_000]),
        timestamps: timestamps && random.percent(80),
        nagle: random.percent(70),
        ack_delay_ms: random.percent(70).then(|| random.one_of(&[10, 40, 200])),
        keep_alive_ms: random.percent(15).then(|| random.one_of(&[1_000, 7_500, 75_000])),
        timeout_ms: random.percent(25).then(|| random.one_of(&[3_000, 20_000, 100_000])),
        listens: false,
        answers_close: random.percent(60),
    });
    let (from, to) = random.one_of(&[(40_000, 80), (50_123, 8_080), (1_023, 514), (5_000, 60_000)]);
    let listens = random.percent(93);
    let both_listen = random.percent(15);
    let right = HostPlan { port: to, listens, ..right };
    [HostPlan { port: from, listens: both_listen, ..left }, right]
}

/// A third near the end of all numbers, so that they wrap at once or soon.
fn isn(bits: u64) -> u32 {
    if bits.is_multiple_of(3) { u32::MAX - ((bits >> 8) % 3_000) as u32 } else { (bits >> 8) as u32 }
}

/// A pause between two actions: from nothing to more than the limits of silence.
fn pause_ns(random: &mut Random, trip_ns: u64) -> u64 {
    match random.below(100) {
        0..15 => 0,
        15..55 => random.below(2 * trip_ns),
        55..75 => random.below(SECOND),
        75..90 => random.below(8 * SECOND),
        90..97 => random.below(30 * SECOND),
        _ => random.below(150 * SECOND),
    }
}

fn acts(random: &mut Random, trip_ns: u64) -> Vec<Act> {
    let mut at_ns = random.below(2 * SECOND);
    let mut acts = Vec::new();
    // Connections one after the other on the same ports.
    let connections = random.one_of(&[1, 1, 1, 1, 2, 2, 3]);
    for nth in 0..connections {
        let opener = if nth > 0 && random.percent(15) { End::Right } else { End::Left };
        acts.push(Act { at_ns, end: opener, action: Action::Connect });
        if random.percent(6) {
            let at_ns = at_ns + random.below(trip_ns / 2 + 1);
            acts.push(Act { at_ns, end: opener.opposite(), action: Action::Connect });
        }
        for _ in 0..random.below(9) {
            at_ns += pause_ns(random, trip_ns);
            acts.push(Act { at_ns, end: random.one_of(&End::BOTH), action: action(random) });
        }
        // Most connections are closed in order in the end.
        if random.percent(75) {
            at_ns += pause_ns(random, trip_ns);
            let first = random.one_of(&End::BOTH);
            acts.push(Act { at_ns, end: first, action: Action::Close });
            acts.push(Act { at_ns, end: first.opposite(), action: Action::Resume });
            at_ns += pause_ns(random, trip_ns);
            acts.push(Act { at_ns, end: first.opposite(), action: Action::Close });
            acts.push(Act { at_ns, end: first, action: Action::Resume });
        }
        at_ns += pause_ns(random, trip_ns);
    }
    acts.sort_by_key(|act| act.at_ns);
    acts
}

fn action(random: &mut Random) -> Action {
    match random.below(100) {
        0..45 => Action::Send(random.one_of(&[1, 100, 700, 3_000, 9_000])),
        45..55 => Action::Pause,
        55..67 => Action::Resume,
        67..83 => Action::Close,
        83..93 => Action::Abort,
        93..96 => Action::Crash,
        96..98 => Action::Deafen,
        _ => Action::Listen,
    }
}

fn faults(random: &mut Random, place: Place, trip_ns: u64) -> Vec<Fault> {
    let percent = random.one_of(&[0, 0, 2, 8, 8, 20, 40]);
    let mut faults = Vec::new();
    for (from, nth) in End::BOTH.into_iter().flat_map(|end| (0..FAULTY_PACKETS).map(move |nth| (end, nth))) {
        if !random.percent(percent) {
            continue;
        }
        let hop = match place {
            Place::Near(near) if near == from => Hop::AfterWatcher,
            Place::Near(_) => Hop::BeforeWatcher,
            Place::Middle => random.one_of(&[Hop::BeforeWatcher, Hop::AfterWatcher]),
        };
        let by_ns = match random.below(10) {
            0..5 => random.below(trip_ns + 1),
            5..8 => random.below(3 * trip_ns + 1),
            8 => random.below(3 * SECOND),
            _ => random.below(50 * MICROSECOND),
        };
        let mishap = match random.below(10) {
            0..5 => Mishap::Lost,
            5..7 => Mishap::Doubled(by_ns),
            _ => Mishap::Delayed(by_ns),
        };
        faults.push(Fault { from, nth, hop, mishap });
    }
    faults
}
