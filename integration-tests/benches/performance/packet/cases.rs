//! What is measured in a scene, frame by frame.

use integration_tests::{
    frames::SYN,
    pair::Family,
    synthetic::{
        Hook, Lane, Order,
        flows::{self, CLIENT_ISN, ESTABLISHED, FLOOD, HOT, NEW, REQUEST_BYTES, TALKING},
    },
};

use super::{
    case::{self, Case, Warming},
    side::Side,
    size::Size,
};

/// Runs of one frame, and of frames at random.
const REPEAT: u32 = 100_000;
/// Runs after other work, each of which takes a hundred times as long.
const REPEAT_APART: u32 = 64;
/// So many flows are shown a frame within much less than a second, and do not fit into a cache.
const MANY: u32 = 250_000;

/// One flow: an ACK without data, over and over, and each after other work; and data in order.
pub fn hot(side: &Side<'_>, hook: Hook, family: Family) -> Vec<Case> {
    let direction = hook.direction();
    let programs = side.programs(hook);
    // The tuple of the first flow, as the generator has written it: the frame is taken as it is.
    let frame = |port| flows::as_first(flows::ack(family, direction, port), direction);
    let lanes = programs.map(Lane::plain);
    let ack = Case { repeat: REPEAT, ..Case::new("ACK of one flow", (hook, family), &frame(HOT), lanes) };
    let apart = Case {
        repeat: REPEAT_APART,
        apart: true,
        ..Case::new("ACK of one flow, after other work", (hook, family), &frame(HOT), programs.map(Lane::plain))
    };
    let seq_offset = if family == Family::V4 { 38 } else { 58 };
    let lanes = programs.map(|program| Lane::advancing(hook.kind(), seq_offset, REQUEST_BYTES as i32, program));
    let mut data = frame(TALKING).with_payload(REQUEST_BYTES as usize);
    data.seq = data.seq.wrapping_sub(REQUEST_BYTES);
    let data = Case {
        repeat: REPEAT,
        moving: Some((seq_offset as usize, REQUEST_BYTES)),
        ..Case::new("data of one flow", (hook, family), &data, lanes)
    };
    vec![ack, data, apart]
}

/// ACKs of established flows, one of all of them each time.
pub fn at_random(side: &Side<'_>, hook: Hook, family: Family, size: &Size) -> Case {
    let programs = side.programs(hook);
    let frame = flows::ack(family, hook.direction(), ESTABLISHED);
    let lanes = case::behind(hook, family, Order::Random { of: size.flows }, &programs);
    let (warming, repeat) = if size.flows > MANY {
        (Warming::Same, MANY)
    } else {
        let lanes = Box::new(case::behind(hook, family, Order::Sequential, &programs));
        (Warming::All { lanes, flows: size.flows }, REPEAT)
    };
    Case {
        flows: size.flows,
        repeat,
        warming: Some(warming),
        ..Case::new("ACK at random", (hook, family), &frame, lanes)
    }
}

/// SYNs of tuples that were never seen, while there is room.
pub fn new_flows(side: &Side<'_>, family: Family, size: &Size) -> Case {
    let hook = side.subject.ingress;
    let frame = flows::frame(family, hook.direction(), NEW, SYN, CLIENT_ISN, 0);
    let lanes = case::behind(hook, family, Order::Sequential, &side.programs(hook));
    let repeat = size.new_flows();
    Case { flows: size.flows, repeat, ..Case::new("SYN of a new flow", (hook, family), &frame, lanes) }
}

/// The same while there is none.
pub fn refused(side: &Side<'_>, family: Family, size: &Size) -> Case {
    let hook = side.subject.ingress;
    let frame = flows::frame(family, hook.direction(), FLOOD, SYN, CLIENT_ISN, 0);
    let lanes = case::behind(hook, family, Order::Any, &side.programs(hook));
    let repeat = REPEAT / 5;
    Case { flows: size.flows, repeat, ..Case::new("SYN, half-open table full", (hook, family), &frame, lanes) }
}
