//! Tables of one size: two agents, one for each way in, with as many established flows; and all cases on them.

use std::os::fd::OwnedFd;

use integration_tests::{
    frames::{Frame, SYN},
    pair::{Family, Pair},
};

use super::{
    Direction, Hook, Lane, Order, Subject,
    case::{self, Case, Three, Warming},
    connection::Connections,
    flows::{self, CLIENT_ISN, ESTABLISHED, FLOOD, HOT, NEW, REQUEST_BYTES, TALKING, establish},
    generator::spare,
    reference::Tables,
    subject::empty,
};
use crate::figure::Figure;

/// How large, and how much of it is measured.
pub struct Size {
    pub flows: u32,
    pub rounds: usize,
    max_flows: u32,
    max_half_open: u32,
    /// The cases of one hot flow.
    hot: bool,
    /// New flows, whole connections, a full table.
    new: bool,
}

/// The agent's own defaults.
const MAX_FLOWS: u32 = 262_144;
/// Room for the new flows of all rounds.
const MAX_HALF_OPEN: u32 = 131_072;

const THOUSAND: Size =
    Size { flows: 1_000, rounds: 21, max_flows: MAX_FLOWS, max_half_open: MAX_HALF_OPEN, hot: true, new: false };
const HUNDRED_THOUSAND: Size = Size { flows: 100_000, rounds: 15, hot: false, new: true, ..THOUSAND };
const MILLION: Size = Size { flows: 1_000_000, rounds: 9, max_flows: 1_500_000, hot: false, new: false, ..THOUSAND };

impl Size {
    pub const ALL: [Self; 3] = [THOUSAND, HUNDRED_THOUSAND, MILLION];
    pub const SHORT: [Self; 2] = [Self { rounds: 10, ..THOUSAND }, Self { rounds: 10, ..HUNDRED_THOUSAND }];

    /// New flows in each round: less than what its table takes, in all.
    fn new_flows(&self) -> u32 {
        MAX_HALF_OPEN / 4 * 3 / self.rounds as u32
    }
}

/// Runs of one frame, and of frames at random.
const REPEAT: u32 = 100_000;

/// An agent, and the reference that sees what it sees.
pub struct Side<'n> {
    pub subject: Subject<'n>,
    reference: Tables,
}

impl Side<'_> {
    pub fn programs(&self, hook: Hook) -> Three<OwnedFd> {
        Three {
            empty: empty(hook.kind()),
            reference: self.reference.program(hook.kind(), hook.direction()),
            ours: spare(self.subject.program(hook)),
        }
    }
}

pub struct Scene<'n> {
    sides: Vec<Side<'n>>,
    cases: Vec<Case>,
    connections: Vec<Connections>,
    full: Vec<Case>,
}

impl<'n> Scene<'n> {
    pub fn new(pairs: &'n [Pair; 2], size: &Size) -> Self {
        let side = |pair: &'n Pair, ingress| Side {
            subject: Subject::start(&pair.server, ingress, size.max_flows, size.max_half_open),
            reference: Tables::new(size.max_flows + size.max_half_open),
        };
        let sides = vec![side(&pairs[0], Hook::XdpIngress), side(&pairs[1], Hook::TcIngress)];
        let mut scene = Self { sides, cases: Vec::new(), connections: Vec::new(), full: Vec::new() };
        for side in &scene.sides {
            side.subject.stand_still();
            for family in Family::BOTH {
                fill(side, family, size);
                // What leaves is the same with either way in.
                let hooks: &[_] = match side.subject.ingress {
                    Hook::TcIngress => &[Hook::TcIngress, Hook::TcEgress],
                    _ => &[Hook::XdpIngress],
                };
                for &hook in hooks {
                    scene.cases.extend(size.hot.then(|| hot(side, hook, family)).into_iter().flatten());
                    scene.cases.push(at_random(side, hook, family, size));
                }
                if size.new {
                    scene.cases.push(new_flows(side, family, size));
                    scene.full.push(refused(side, family, size));
                    scene.connections.push(Connections::new(side, family, size.flows));
                }
            }
        }
        scene
    }

    pub fn round(&mut self) {
        self.cases.iter_mut().for_each(Case::round);
        self.connections.iter_mut().for_each(Connections::round);
    }

    /// Shows the agents more new flows than their half-open tables take.
    pub fn fill_half_open(&mut self) {
        for case in &mut self.full {
            case.lanes.ours.run(&case.frame, 4 * MAX_HALF_OPEN);
            case.lanes.reference.run(&case.frame, 4 * (MAX_FLOWS + MAX_HALF_OPEN));
        }
    }

    pub fn full_round(&mut self) {
        self.full.iter_mut().for_each(Case::round);
    }

    /// Whether the agents have seen what was measured: connections that closed, and nothing that was skipped but for
    /// want of room.
    ///
    /// # Panics
    /// When they have not.
    pub fn check(&self) {
        for side in &self.sides {
            side.subject.go_on();
            let metrics = side.subject.agent.metrics();
            let mut skipped = metrics.skipped();
            // What the wire itself carries, such as neighbour discovery; and the flood.
            skipped.retain(|reason, _| !["not_ip", "not_tcp", "table_full"].contains(&reason.as_str()));
            assert!(skipped.is_empty(), "skipped: {skipped:?}");
            let own = self.connections.iter().filter(|one| one.ingress() == side.subject.ingress);
            let closed = metrics.count("closes_total", &[("how", "fin")]);
            assert_eq!(closed, own.map(Connections::count).sum::<u64>(), "connections closed");
        }
    }

    pub fn figures(&self) -> Vec<Figure> {
        let mut figures: Vec<_> = self.cases.iter().chain(&self.full).map(Case::figure).collect();
        figures.extend(self.connections.iter().flat_map(Connections::figures));
        figures
    }
}

/// The flows that the cases find.
fn fill(side: &Side<'_>, family: Family, size: &Size) {
    establish(&side.subject, family, ESTABLISHED, size.flows);
    if size.hot {
        establish(&side.subject, family, HOT, 1);
        establish(&side.subject, family, TALKING, 1);
    }
    for hook in [side.subject.ingress, Hook::TcEgress] {
        let programs = side.programs(hook);
        let what = (hook.kind(), family, hook.direction());
        let frame = flows::ack(family, hook.direction(), ESTABLISHED).bytes();
        Lane::behind(what, Order::Sequential, &programs.reference).run(&frame, size.flows);
    }
}

/// One flow: an ACK without data, over and over; and data in order.
fn hot(side: &Side<'_>, hook: Hook, family: Family) -> Vec<Case> {
    let direction = hook.direction();
    let programs = side.programs(hook);
    // The tuple of the first flow, as the generator has written it: the frame is taken as it is.
    let frame = |port| first_flow(flows::ack(family, direction, port), direction);
    let lanes = programs.map(Lane::plain);
    let ack = Case { repeat: REPEAT, ..Case::new("ACK of one flow", (hook, family), &frame(HOT), lanes) };
    let seq_offset = if family == Family::V4 { 38 } else { 58 };
    let lanes = programs.map(|program| Lane::advancing(hook.kind(), seq_offset, REQUEST_BYTES as i32, program));
    let mut data = frame(TALKING).with_payload(REQUEST_BYTES as usize);
    data.seq = data.seq.wrapping_sub(REQUEST_BYTES);
    let data = Case {
        repeat: REPEAT,
        moving: Some((seq_offset as usize, REQUEST_BYTES)),
        ..Case::new("data of one flow", (hook, family), &data, lanes)
    };
    vec![ack, data]
}

/// The first tuple that a generator writes.
fn first_flow(mut frame: Frame, direction: Direction) -> Frame {
    let client = if direction == Direction::FromClient { &mut frame.source } else { &mut frame.destination };
    client.set_port(10_000);
    match client {
        std::net::SocketAddr::V4(addr) => addr.set_ip([198, 18, 0, 0].into()),
        std::net::SocketAddr::V6(addr) => addr.set_ip([0x2001, 0xdb8, 1, 0, 0, 0, 0, 0].into()),
    }
    frame
}

/// ACKs of established flows, one of all of them each time.
fn at_random(side: &Side<'_>, hook: Hook, family: Family, size: &Size) -> Case {
    let programs = side.programs(hook);
    let frame = flows::ack(family, hook.direction(), ESTABLISHED);
    let lanes = case::behind(hook, family, Order::Random { of: size.flows }, &programs);
    let warming = Warming {
        lanes: case::behind(hook, family, Order::Sequential, &programs),
        flows: size.flows,
        // The first pass over a million takes so long that its beginning is silent again.
        times: if size.flows > 500_000 { 2 } else { 1 },
    };
    Case {
        flows: size.flows,
        repeat: REPEAT,
        warming: Some(warming),
        ..Case::new("ACK at random", (hook, family), &frame, lanes)
    }
}

/// SYNs of tuples that were never seen, while there is room.
fn new_flows(side: &Side<'_>, family: Family, size: &Size) -> Case {
    let hook = side.subject.ingress;
    let frame = flows::frame(family, hook.direction(), NEW, SYN, CLIENT_ISN, 0);
    let lanes = case::behind(hook, family, Order::Sequential, &side.programs(hook));
    let repeat = size.new_flows();
    Case { flows: size.flows, repeat, ..Case::new("SYN of a new flow", (hook, family), &frame, lanes) }
}

/// The same while there is none.
fn refused(side: &Side<'_>, family: Family, size: &Size) -> Case {
    let hook = side.subject.ingress;
    let frame = flows::frame(family, hook.direction(), FLOOD, SYN, CLIENT_ISN, 0);
    let lanes = case::behind(hook, family, Order::Any, &side.programs(hook));
    let repeat = REPEAT;
    Case { flows: size.flows, repeat, ..Case::new("SYN, half-open table full", (hook, family), &frame, lanes) }
}
