//! A flow that leaves between the program that has found it and the one that takes its segment in.

use std::net::SocketAddr;

use aya::maps::ProgramArray;
use integration_tests::{
    cpu,
    frames::{ACK, FIN, Frame, SYN},
    pair::Family,
    prelude::bounded,
    test_run,
};
use proofs::races::{CLIENT_PORT, SERVER_PORT};
use tcp_observer_common::{
    abi::{map, program},
    flow::{FlowKey4, Ipv4, Side},
    limits::Limits,
};

use crate::arena::Arena;

/// In its place lies another one by then: that must not take the segment for its own.
#[test]
fn a_segment_is_not_taken_in_by_the_flow_that_has_come_in_its_own_flows_place() {
    let _bound = bounded();
    // What an entry hands over lies in memory of its CPU.
    cpu::stay_on(0);
    let mut arena = Arena::load();
    arena.set_limits(Limits::DEFAULT);
    let [ingress, egress, longer_way] =
        [program::XDP_INGRESS, program::TC_EGRESS, program::XDP_UNSTEADY].map(|name| arena.program(name));
    let server = SocketAddr::new(Family::V4.host(1), SERVER_PORT);
    let client = |number| SocketAddr::new(Family::V4.host(2), CLIENT_PORT + number);
    let show = |program, frame: Frame| {
        test_run::mean_ns(program, &frame.bytes(), 1);
    };
    for number in [0, 1] {
        show(&ingress, Frame::new(client(number), server, SYN, 1000, 0));
        show(&egress, Frame::new(server, client(number), SYN | ACK, 5000, 1001));
        show(&ingress, Frame::new(client(number), server, ACK, 1001, 5001));
    }
    let flows = arena.flows::<Ipv4>(map::FLOWS_IPV4);
    let is_of = |key: &FlowKey4, number| Side::BOTH.iter().any(|&side| key.port(side) == CLIENT_PORT + number);
    let entry = |number| flows.entries().into_iter().find(|(key, _)| is_of(key, number)).expect("it is established");
    let ((own, _), (other, flow)) = (entry(0), entry(1));

    let longer_ways = ProgramArray::try_from(arena.ebpf.map_mut(map::UNSTEADY_XDP).expect("there is one"));
    longer_ways.expect("an array of programs").clear_index(&0).expect("it can be emptied");
    let fin = Frame::new(client(0), server, FIN | ACK, 1001, 5001);
    show(&ingress, fin.clone());
    let before = format!("{flow:?}");
    let flows = arena.flows::<Ipv4>(map::FLOWS_IPV4);
    assert!(flows.remove(&other));
    flows.put_in_place_of(&own, other, flow);
    show(&longer_way, fin);

    assert_eq!(format!("{:?}", flows.find(&other).expect("it lies there")), before);
    assert!(flows.find(&own).is_none());
    let picked_up = arena.flows::<Ipv4>(map::HALF_OPEN_IPV4).find(&own).expect("the FIN of a flow that is not known");
    assert_eq!(picked_up.low.packets.get() + picked_up.high.packets.get(), 1);
}
