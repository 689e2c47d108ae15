//! An interface that comes, is observed, carries connections, and goes.

use std::{net::Shutdown, time::Duration};

use integration_tests::{
    agent::Agent,
    namespace::Namespace,
    pair::{Family, address},
    traffic::{Connection, Listener, reset_on_close},
    wait::{SOON, wait_until},
};

use super::{Clock, Ledger, server::to_the_end};
use crate::stage::{GUEST, Stage, guest_host, plain_segments};

/// Where the host listens while the guest is there; one port for each visit, so that none meets another's TIME_WAIT.
const FIRST_PORT: u16 = 10_000;

/// What the interface is called before it is one of those that are observed.
const UNNAMED: &str = "early0";

pub fn come_and_go(stage: &Stage, agent: &Agent<'_>, clock: Clock, ledger: &Ledger) {
    let guest = Namespace::new();
    let mut port = FIRST_PORT;
    // A visit takes a second or two.
    while clock.left().is_some_and(|left| left > Duration::from_secs(4)) {
        visit(stage, agent, &guest, port);
        ledger.note("Guest", Ok(()));
        port += 1;
        clock.pause(Duration::from_secs(2));
    }
}

fn visit(stage: &Stage, agent: &Agent<'_>, guest: &Namespace, port: u16) {
    let host = &stage.host;
    guest.ip(&format!("link add {GUEST} type veth peer name {UNNAMED} netns {}", host.name()));
    plain_segments(guest, GUEST);
    for family in Family::BOTH {
        address(guest, GUEST, guest_host(family, 1));
        address(host, UNNAMED, guest_host(family, 2));
    }
    // Observed from here on, when its addresses are there: those that come later are local within a tenth of a second.
    host.ip(&format!("link set {UNNAMED} name {GUEST}"));
    host.ip(&format!("link set {GUEST} up"));
    guest.ip(&format!("link set {GUEST} up"));
    // What passes before is not the observer's to see.
    wait_until("the agent to observe the guest", SOON, || {
        let programs = attached(agent);
        if programs == Some(2.0) { Ok(()) } else { Err(format!("{programs:?} programs")) }
    });
    for family in Family::BOTH {
        let listener = Listener::new(host, (guest_host(family, 2), port).into());
        for n in 0..6 {
            let Connection { client, server } = Connection::open(guest, &listener);
            let (mut first, mut second) = if n % 2 == 0 { (client, server) } else { (server, client) };
            if n % 3 == 0 {
                reset_on_close(&first);
                drop(first);
                to_the_end(&mut second).expect_err("the other end has reset");
            } else {
                first.shutdown(Shutdown::Write).expect("a connected socket can be shut down");
                to_the_end(&mut second).expect("the other end has closed");
                drop(second);
                to_the_end(&mut first).expect("both ends have closed");
            }
        }
    }
    // Nothing is to be under way when the wire goes.
    wait_until("the guest's connections to be over", SOON, || {
        let sockets = integration_tests::ss::sockets(host);
        let is_guest = |ip| Family::BOTH.iter().any(|&family| guest_host(family, 2) == ip);
        let left = sockets.iter().filter(|socket| is_guest(socket.local.ip()) && socket.state != "time_wait").count();
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    });
    host.ip(&format!("link del {GUEST}"));
    wait_until("the agent to let go of the guest", SOON, || match attached(agent) {
        None => Ok(()),
        Some(programs) => Err(format!("{programs} programs")),
    });
}

/// How many programs the agent says hang on the guest's interface.
fn attached(agent: &Agent<'_>) -> Option<f64> {
    agent.metrics().sum("attached", &[("interface", GUEST)])
}
