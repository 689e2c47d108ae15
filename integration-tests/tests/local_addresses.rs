//! Which addresses are the host's own, while they come and go.

use std::net::IpAddr;

use integration_tests::{
    pair::{WIRE, address},
    prelude::*,
    traffic::connect_again,
    wait::equal,
};
use tcp_observer_common::{
    flow::{ipv4_word, ipv6_words},
    local,
};

const PORT: u16 = 8080;

fn place(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(addr) => local::place(&ipv4_word(addr)),
        IpAddr::V6(addr) => local::place(&ipv6_words(addr)),
    }
}

/// The n-th host of another network than the pair's, likewise for documentation.
fn elsewhere(family: Family, n: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([198, 51, 100, n]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, u16::from(n)]),
    }
}

/// A host of the other network and one of the pair's that share a place in the kernel's table of local addresses. Within
/// either network each has its own.
fn sharing_a_place(family: Family) -> [IpAddr; 2] {
    let hosts = || 3..=254;
    let mut pairs = hosts().flat_map(|n| hosts().map(move |m| [elsewhere(family, n), family.host(m)]));
    pairs.find(|[one, other]| place(*one) == place(*other)).expect("252 hosts of each in 256 places")
}

/// What the server's agent takes it for in a new connection.
#[track_caller]
fn role(pair: &Pair, agent: &Agent<'_>, from: IpAddr, to: IpAddr) -> Result<String, String> {
    let listener = Listener::new(&pair.server, (to, PORT).into());
    let client = connect_again(&pair.client, (from, 0).into(), listener.addr()).map_err(|error| error.to_string())?;
    let _server = listener.accept();
    let port = client.local_addr().expect("it is connected").port();
    let mut role = String::new();
    wait_until("the handshake to be seen", SOON, || {
        let record = agent.flows_of_port(port).pop().ok_or("no flow")?;
        role = record["role"].to_string();
        equal("handshake", record["handshake"]["outcome"].as_str(), Some("completed"))
    });
    Ok(role)
}

#[test]
fn an_address_that_comes_is_local_and_one_that_goes_is_not_though_they_share_a_place() {
    let _bound = bounded();
    let pair = Pair::new();
    let agent = Agent::start(&pair.server, &["--interface", WIRE]);
    for family in Family::BOTH {
        address(&pair.client, WIRE, elsewhere(family, 1));
        address(&pair.server, WIRE, elsewhere(family, 2));
        let [moving, staying] = sharing_a_place(family);
        let is_server = |from, to| {
            wait_until("the agent to know its addresses", SOON, || {
                equal("role", role(&pair, &agent, from, to)?, "\"server\"".into())
            });
        };
        for (from, to) in [(elsewhere(family, 1), moving), (family.host(1), staying)] {
            address(&pair.server, WIRE, to);
            is_server(from, to);
        }
        is_server(elsewhere(family, 1), moving);
        // A connection of the host's own with the host's own would be loopback.
        let prefix = if moving.is_ipv4() { 24 } else { 64 };
        pair.server.ip(&format!("addr del {moving}/{prefix} dev {WIRE}"));
        address(&pair.client, WIRE, moving);
        is_server(moving, staying);
    }
    agent.stop();
}
