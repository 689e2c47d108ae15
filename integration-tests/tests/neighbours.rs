//! Other programs at the same hooks go on as if the observer were not there.

use integration_tests::{
    asm::Program,
    bpf::{Count, Hook, Neighbour},
    pair::WIRE,
    prelude::*,
    tcp_info::TcpInfo,
};

/// A program that counts IPv4 packets and lets them go on.
fn counting(count: &Count) -> Vec<integration_tests::asm::Insn> {
    Program::new().if_half(12, 0x0800).count_in(count.map()).finish()
}

/// Programs attached before the agent and after it, on both ways, all see every packet.
#[test]
fn programs_before_and_after_ours_see_every_packet() {
    let _bound = bounded();
    for mode in IngressMode::ALL {
        let pair = Pair::new();
        let counts = [(); 4].map(|()| Count::new());
        let attach = |count, hook| Neighbour::attach(&pair.server, WIRE, hook, &counting(count));
        let _before = [attach(&counts[0], Hook::Ingress), attach(&counts[1], Hook::Egress)];
        let agent = Agent::start(&pair.server, &["--interface", WIRE, "--ingress", mode.word()]);
        let _after = [attach(&counts[2], Hook::Ingress), attach(&counts[3], Hook::Egress)];

        let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, 8080));
        let connection = Connection::open(&pair.client, &listener);
        for _ in 0..10 {
            connection.send(100);
            connection.answer(100);
        }
        wait_until("both neighbours on each way to see each segment", SOON, || {
            // One client, one connection, small segments: what its socket sent and received is all there was.
            let info = TcpInfo::of(&connection.client);
            let [ingress_before, egress_before, ingress_after, egress_after] =
                counts.each_ref().map(|count| count.value());
            let (sent, received) = (u64::from(info.segs_out), u64::from(info.segs_in));
            let expected = [sent, received, sent, received];
            let seen = [ingress_before, egress_before, ingress_after, egress_after];
            if seen == expected { Ok(()) } else { Err(format!("{seen:?}, expected {expected:?}")) }
        });
        agent.stop();
    }
}
