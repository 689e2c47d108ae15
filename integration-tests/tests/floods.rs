//! Floods of segments that belong to no connection: none of them changes an established flow, none goes uncounted, and
//! neither tables nor agent grow. They come as fast as one CPU makes them, while real connections are opened beside.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use integration_tests::{
    interface,
    pair::WIRE,
    prelude::*,
    process::Held,
    synthetic::{Flood, Hook, Kind, Subject, flows},
    untouched::Untouched,
    wait::equal,
};

const PORT: u16 = 8080;
/// Connections before the flood: made of frames, and of sockets.
const SYNTHETIC: u32 = 3_000;
const REAL: usize = 20;
/// Frames of each kind that have to arrive: many times what the half-open table holds.
const FRAMES: u64 = 200_000;
const AT_A_TIME: u32 = 20_000;
const MAX_FLOWS: u32 = 16_384;
const MAX_HALF_OPEN: u32 = 16_384;
/// What answers to scrapes leave with the allocator, whatever was flooded.
const GROWTH_KIB: u64 = 4_096;

#[test]
fn floods_change_no_established_flow_and_none_of_their_frames_goes_uncounted_with_xdp() {
    let _bound = bounded();
    withstand(Hook::XdpIngress);
}

#[test]
fn floods_change_no_established_flow_and_none_of_their_frames_goes_uncounted_with_tc() {
    let _bound = bounded();
    withstand(Hook::TcIngress);
}

fn withstand(hook: Hook) {
    let pair = Pair::new();
    let subject = Subject::start(&pair.server, hook, MAX_FLOWS, MAX_HALF_OPEN);
    let agent = &subject.agent;
    flows::establish(&subject, Family::V4, flows::ESTABLISHED, SYNTHETIC);
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let quiet = Connection::open_many(&pair.client, &listener, REAL);
    let agreed = || ss::agree_among(agent, &["--port", &PORT.to_string()], SOON, |socket| socket.local.port() == PORT);
    assert_eq!(agreed().len(), REAL);
    let silent = || Untouched::established(agent, &[flows::ESTABLISHED, PORT]);
    let before = silent();
    assert_eq!(before.count(), SYNTHETIC as usize + REAL);
    // Test runs are on no interface, and what came before the agent is not its.
    let uncounted = settled(&pair, agent, None);
    let held_before = Held::by(agent.pid());

    let over = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        let scraping = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                within_capacity(&agent.metrics());
                thread::sleep(Duration::from_millis(100));
            }
        });
        let connecting = scope.spawn(|| {
            let mut held = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let connection = Connection::open(&pair.client, &listener);
                connection.send(10);
                held.push(connection);
                thread::sleep(Duration::from_millis(20));
            }
            held
        });
        // Whatever fails here, the others have to end.
        let flooded = scope.spawn(|| Kind::ALL.map(|kind| flood(&pair, kind))).join();
        over.store(true, Ordering::Relaxed);
        flooded.expect("the floods go on to their end");
        scraping.join().expect("/metrics is answered");
        connecting.join().expect("connections can be opened")
    });

    settled(&pair, agent, Some(uncounted));
    let metrics = agent.metrics();
    within_capacity(&metrics);
    eprintln!("skipped {:?}, {} connections opened meanwhile", metrics.skipped(), beside.len());
    let grown = Held::by(agent.pid()).anonymous_kib.saturating_sub(held_before.anonymous_kib);
    assert!(grown <= GROWTH_KIB, "the agent has grown by {grown} KiB");
    let after = silent();
    let (lost, changed) = (before.lost(&after), before.changed(&after));
    assert!(lost.is_empty(), "{} flows are lost: {:?} …", lost.len(), lost[0]);
    assert!(changed.is_empty(), "{} flows have changed: {:#?} …", changed.len(), changed[0]);

    // Those of which the flood left only the middle are known once both ends have acknowledged something.
    for connection in quiet.iter().chain(&beside) {
        connection.send(10);
        connection.answer(10);
        connection.send(10);
    }
    assert!(!beside.is_empty());
    let agreed = agreed();
    assert_eq!(agreed.len(), quiet.len() + beside.len());
    assert!(agreed.iter().all(|socket| socket.state == "established"));
    subject.agent.stop();
}

/// Floods the server until so many frames have come there: where a wire is full, some are lost before anybody sees them.
fn flood(pair: &Pair, kind: Kind) {
    let received = || interface::received(&pair.server, WIRE);
    let before = received();
    Flood::new(pair, kind).within(|send| {
        while received() - before < FRAMES {
            send(AT_A_TIME);
        }
    });
}

/// Waits until the interface keeps still, and gives by how many packets it has carried more than the observer has
/// counted: `expected` if that is known, since each packet is counted once, as an update or by the reason why it is none.
#[track_caller]
fn settled(pair: &Pair, agent: &Agent<'_>, expected: Option<u64>) -> u64 {
    wait_until("all packets to be counted", SOON, || {
        let before = interface::carried(&pair.server, WIRE);
        let metrics = agent.metrics();
        thread::sleep(Duration::from_millis(50));
        equal("packets carried meanwhile", interface::carried(&pair.server, WIRE) - before, 0)?;
        let uncounted = before.wrapping_sub(metrics.packets());
        equal("packets carried and not counted", uncounted, expected.unwrap_or(uncounted))?;
        Ok(uncounted)
    })
}

#[track_caller]
fn within_capacity(metrics: &Metrics) {
    for table in ["flows_ipv4", "flows_ipv6", "half_open_ipv4", "half_open_ipv6"] {
        let count = |name| metrics.count(name, &[("table", table)]);
        let (entries, room) = (count("table_entries"), count("table_capacity"));
        assert!(entries <= room, "{entries} entries in {table}, which has room for {room}");
    }
}
