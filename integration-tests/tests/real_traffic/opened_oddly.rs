//! Handshakes with something unusual about them: Fast Open, a full accept queue, a listener that waits for data.

use std::io::Read;

use integration_tests::{
    netstat::tcp_counter,
    pinned::{self, Observed},
    prelude::*,
    traffic::{begin_connect, connect_fast},
    wait::equal,
};
use tcp_observer_common::conn::{Note, Outcome, Role};

const PORT: u16 = 8080;

/// The first connection asks for a cookie, the second one's SYN has it and data.
#[test]
fn data_goes_with_the_syn_of_a_fast_open() {
    let _bound = bounded();
    for scene in EITHER_END {
        for family in Family::BOTH {
            let pair = Pair::new();
            [&pair.client, &pair.server].iter().for_each(|end| end.sysctl("ipv4/tcp_fastopen", "3"));
            let agent = scene.observe(&pair);
            let listener = Listener::new(&pair.server, pair.server_addr(family, PORT));
            listener.set_tcp_option(libc::TCP_FASTOPEN, 5);
            for _ in 0..2 {
                let client = connect_fast(&pair.client, listener.addr(), b"early").unwrap();
                let mut early = [0; 5];
                listener.accept().read_exact(&mut early).expect("it arrives");
                assert_eq!(&early, b"early");
                drop(client);
            }
            assert_eq!(tcp_counter(&pair.client, "TCPFastOpenActive"), 1, "the kernel does it");
            assert_eq!(tcp_counter(&pair.server, "TCPFastOpenPassive"), 1);
            let flows = wait_until("both", SOON, || {
                let flows = pinned::flows_of_port(&agent, PORT);
                let completed = |flow: &&Observed| flow.word().outcome() == Outcome::Completed;
                equal("completed", flows.iter().filter(completed).count(), 2)?;
                Ok(flows)
            });
            assert!(flows.iter().all(|flow| flow.has(Note::FastOpen)), "{} {}", flows[0], flows[1]);
            let with_data: Vec<_> = flows.iter().filter(|flow| flow.has(Note::SynWithData)).collect();
            assert_eq!(with_data.len(), 1);
            assert!(flows.iter().all(|flow| flow.half(Role::Originator).payload_bytes.get() == 5));
            agent.stop();
        }
    }
}

/// Nobody accepts: the first connections fill the queue, the others hang, in whatever way this kernel lets them.
#[test]
fn a_full_accept_queue_shows() {
    let _bound = bounded();
    at_once(EITHER_END, |scene, pair| {
        let agent = scene.observe(pair);
        let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
        listener.set_backlog(1);
        let _held: Vec<_> = (0..8).map(|_| begin_connect(&pair.client, listener.addr())).collect();
        let kernel = || tcp_counter(&pair.server, "ListenOverflows") + tcp_counter(&pair.server, "ListenDrops");
        wait_until("attempts that hang", SOON, || {
            let flows = pinned::flows_of_port(&agent, PORT);
            equal("flows", flows.len(), 8)?;
            let ignored = |flow: &&Observed| flow.has(Note::SynAckAfterAck) || flow.has(Note::SynRepeated);
            match (kernel(), flows.iter().filter(ignored).count()) {
                (1.., 1..) => Ok(()),
                (dropped, hanging) => Err(format!("{hanging} hang, the kernel has dropped {dropped}")),
            }
        });
        agent.stop();
    });
}

/// The listener drops the handshake's last ACK, and sends its SYN-ACK again until data comes.
#[test]
fn a_listener_that_waits_for_data_repeats_its_synack() {
    let _bound = bounded();
    at_once(EITHER_END, |scene, pair| {
        let agent = scene.observe(pair);
        let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
        listener.set_tcp_option(libc::TCP_DEFER_ACCEPT, 5);
        let client = begin_connect(&pair.client, listener.addr());
        let observed = wait_until("the SYN-ACK again", SOON, || {
            let observed = pinned::flow_of_port(&agent, PORT)?;
            if observed.has(Note::SynAckAfterAck) { Ok(observed) } else { Err(observed.to_string()) }
        });
        assert_eq!(observed.word().outcome(), Outcome::Completed, "{observed}");
        assert!(!observed.has(Note::SynAckAfterData), "{observed}");
        assert_eq!(tcp_counter(&pair.server, "ListenOverflows"), 0);
        // The connection is a good one all the same.
        std::io::Write::write_all(&mut &client, b"now").unwrap();
        listener.accept().read_exact(&mut [0; 3]).expect("it arrives");
        agent.stop();
    });
}
