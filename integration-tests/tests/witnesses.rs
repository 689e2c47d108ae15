//! The witnesses themselves, without an observer: what they are to testify is so.

use integration_tests::{
    asm::Program,
    bpf::{Count, Hook, Neighbour},
    pair::WIRE,
    prelude::*,
    tcp_info::TcpInfo,
    wait::equal,
};

#[test]
fn ss_shows_both_ends_of_a_connection() {
    let _bound = bounded();
    let pair = Pair::new();
    for family in Family::BOTH {
        let listener = Listener::new(&pair.server, pair.server_addr(family, 8080));
        let connection = Connection::open(&pair.client, &listener);
        let (client, server) = (connection.client_addr(), listener.addr());
        let here = Socket { local: client, peer: server, state: "established" };
        let there = Socket { local: server, peer: client, state: "established" };
        assert!(ss::sockets(&pair.client).contains(&here));
        assert!(ss::sockets(&pair.server).contains(&there));
        drop(connection.client);
        wait_until("the server's CLOSE-WAIT", SOON, || {
            let sockets = ss::sockets(&pair.server);
            if sockets.contains(&Socket { state: "close_wait", ..there.clone() }) {
                Ok(())
            } else {
                Err(format!("{sockets:?}"))
            }
        });
    }
}

#[test]
fn a_neighbour_counts_what_passes() {
    let _bound = bounded();
    let pair = Pair::new();
    let count = Count::new();
    let program = Program::new().if_half(12, 0x0800).count_in(count.map()).finish();
    let neighbour = Neighbour::attach(&pair.client, WIRE, Hook::Egress, &program);
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, 8080));
    let connection = Connection::open(&pair.client, &listener);
    connection.send(100);
    assert_eq!(count.value(), u64::from(TcpInfo::of(&connection.client).segs_out));
    drop(neighbour);
    // A command that another test starts at this moment has a copy of the descriptor until it runs.
    wait_until("what is no longer attached to count no more", SOON, || {
        let before = count.value();
        connection.send(100);
        equal("packets", count.value(), before)
    });
}
