//! Connections of a host with itself: one device, one hook on either way, both sockets local.

use integration_tests::{cpu, prelude::*, tcp_info::TcpInfo, wait::equal};

const COUNT: usize = 10;
const PORT: u16 = 8080;

/// Native XDP does not exist on `lo`.
const MODES: [IngressMode; 2] = [IngressMode::Tc, IngressMode::XdpGeneric];

fn concerns(socket: &Socket) -> bool {
    [socket.local.port(), socket.peer.port()].contains(&PORT)
}

#[track_caller]
fn observe(namespace: &Namespace, mode: IngressMode) -> Agent<'_> {
    eprintln!("lo with {}", mode.word());
    Agent::start(namespace, &["--interface", "lo", "--ingress", mode.word()])
}

#[test]
fn both_ends_are_local_and_are_the_sockets_that_ss_shows() {
    let _bound = bounded();
    for mode in MODES {
        let namespace = Namespace::new();
        let agent = observe(&namespace, mode);
        let listeners = Family::BOTH.map(|family| Listener::new(&namespace, (family.loopback(), PORT).into()));
        let mut held: Vec<_> =
            listeners.iter().flat_map(|listener| Connection::open_many(&namespace, listener, COUNT)).collect();
        let agreed = ss::agree(&agent, SOON, concerns);
        assert_eq!(agreed.len(), 4 * COUNT);
        assert!(agreed.iter().all(|socket| socket.state == "established"), "{agreed:?}");
        for record in agent.flows_of_port(PORT) {
            assert_eq!(record["role"], "loopback", "{record}");
        }
        // Half of each family closes, client first.
        for connection in held.drain(..COUNT) {
            drop(connection.client);
            drop(connection.server);
        }
        let agreed = ss::agree(&agent, SOON, concerns);
        let time_wait = agreed.iter().filter(|socket| socket.state == "time_wait").count();
        assert_eq!((time_wait, agreed.len()), (COUNT, 3 * COUNT), "{agreed:?}");
        agent.stop();
    }
}

#[test]
fn each_segment_is_counted_once() {
    let _bound = bounded();
    // Of a direction that passes on two CPUs at once a segment may be missing.
    cpu::stay_on(0);
    for mode in MODES {
        for family in Family::BOTH {
            let namespace = Namespace::new();
            let agent = observe(&namespace, mode);
            let listener = Listener::new(&namespace, (family.loopback(), PORT).into());
            let connection = Connection::open(&namespace, &listener);
            for _ in 0..20 {
                connection.send(700);
                connection.answer(1300);
            }
            wait_until("the counts to agree", SOON, || {
                let record = agent.flows_of_port(PORT).pop().ok_or("no flow")?;
                let info = TcpInfo::of(&connection.client);
                let count = |end: &str, field: &str| record[end][field].as_u64().unwrap();
                // On a slow machine some of it may be sent again.
                let payload = [info.bytes_sent, TcpInfo::of(&connection.server).bytes_sent];
                equal("payload", [count("originator", "bytes"), count("responder", "bytes")], payload)?;
                let packets = [count("originator", "packets"), count("responder", "packets")];
                equal("segments", packets, [u64::from(info.segs_out), u64::from(info.segs_in)])
            });
            agent.stop();
        }
    }
}

/// What is asked on one's own address goes over `lo` too.
#[test]
fn a_host_that_calls_itself_by_its_own_address_is_loopback() {
    let _bound = bounded();
    let pair = Pair::new();
    let agent = Agent::start(&pair.client, &["--interface", "lo", "--interface", "wire0", "--ingress", "tc"]);
    for family in Family::BOTH {
        let listener = Listener::new(&pair.client, (family.host(1), PORT).into());
        let _connection = Connection::open(&pair.client, &listener);
        let agreed = ss::agree(&agent, SOON, |socket| concerns(socket) && socket.state == "established");
        assert_eq!(agreed.len(), 2);
    }
    for record in agent.flows_of_port(PORT) {
        assert_eq!(record["role"], "loopback", "{record}");
        assert_eq!(record["interface"], "lo", "{record}");
    }
    agent.stop();
}
