//! Snapshots while flows move: between the tables, out of them, and over to their next incarnation.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Relaxed, Release},
    },
    thread,
    time::Duration,
};

use integration_tests::{
    bounds::{BPFFS, bounded_by, unique_name},
    pair::Family,
};
use proofs::{
    amount::amount,
    races::{Act, CLIENT_PORT, End, SERVER_PORT},
};
use tcp_observer::{
    kernel::{Mapped, PinnedMaps, pin},
    snapshot::{FlowRecord, Snapshot},
    source::Source as _,
};
use tcp_observer_common::{abi::program, conn::Phase, limits::Limits, segment::Flags};

use crate::{arena::Arena, lanes::Programs};

/// Tuples that are left alone, and tuples that move, of each family.
const STILL: u16 = 200;
const MOVING: u16 = 100;
const SNAPSHOTS_A_ROUND: u64 = 20;

/// Pins that are gone with this value.
struct Pinned(PathBuf);

impl Pinned {
    #[track_caller]
    fn new(arena: &Arena) -> Self {
        let pinned = Self(Path::new(BPFFS).join(unique_name()));
        pin::create(&pinned.0).expect("a pin directory can be made");
        pin::PINNED.iter().for_each(|name| arena.map(name).pin(pinned.0.join(name)).expect("a map can be pinned"));
        pinned
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = pin::remove(&self.0);
        let _ = fs::remove_dir(&self.0);
    }
}

/// A whole life, that begins anew on the same tuple: `turn` tells the incarnations' numbers apart.
fn life(turn: u32) -> [Act; 6] {
    let (client, server) = (turn.wrapping_mul(100_000), turn.wrapping_mul(70_000));
    let act = |from, flags, seq, ack, payload| Act::Segment { from, flags, seq, ack, payload };
    [
        act(End::Client, Flags::SYN, client, 0, 0),
        act(End::Server, Flags::SYN | Flags::ACK, server, client + 1, 0),
        act(End::Client, Flags::ACK, client + 1, server + 1, 0),
        act(End::Client, Flags::ACK, client + 1, server + 1, 100),
        act(End::Server, Flags::ACK, server + 1, client + 101, 200),
        act(End::Server, Flags::RST | Flags::ACK, server + 201, client + 101, 0),
    ]
}

#[test]
fn a_snapshot_has_each_flow_once_while_others_move() {
    let rounds = amount("races", 2);
    let _bound = bounded_by(Duration::from_secs(180 + 30 * rounds));
    let mut arena = Arena::load();
    arena.set_limits(Limits::DEFAULT);
    let programs = Programs {
        ingress: arena.program(program::XDP_INGRESS),
        egress: arena.program(program::TC_EGRESS),
        sweep: arena.program(program::SWEEP),
    };
    let pinned = Pinned::new(&arena);
    for family in Family::BOTH {
        for number in 0..STILL {
            life(1)[..5].iter().for_each(|&act| programs.run(act, family, number));
        }
        for number in STILL..STILL + MOVING {
            programs.run(life(1)[0], family, number);
        }
    }
    let (stop, moves) = (AtomicBool::new(false), AtomicU64::new(0));
    let (snapshots, missed) = thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 1;
            while !stop.load(Relaxed) {
                turn += 1;
                for (family, number) in
                    (STILL..STILL + MOVING).flat_map(|number| Family::BOTH.map(|family| (family, number)))
                {
                    life(turn).iter().for_each(|&act| programs.run(act, family, number));
                    moves.fetch_add(1, Relaxed);
                }
            }
        });
        // However it ends, the thread that moves them does as well.
        let stopped = Stop(&stop);
        let mut missed = BTreeMap::<(IpAddr, u16), u64>::new();
        let mut total = 0;
        let snapshots = rounds * SNAPSHOTS_A_ROUND;
        for _ in 0..snapshots {
            let maps = PinnedMaps::open(&pinned.0, Mapped::OnDemand).unwrap_or_else(|error| panic!("{error:#}"));
            let snapshot = maps.snapshot().unwrap_or_else(|error| panic!("{error:#}"));
            total += check(&snapshot, &mut missed);
        }
        drop(stopped);
        (snapshots, total)
    });
    let moves = moves.load(Relaxed);
    println!(
        "{snapshots} snapshots while {moves} flows began and ended: {missed} times a tuple between two lives was missed"
    );
    assert!(moves > 100, "only {moves} flows moved");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Release);
    }
}

/// Each flow that stays is there once and whole, and none that moves twice. How many of those were missed: one whose
/// next life begins in the half-open table after that was read.
#[track_caller]
fn check(snapshot: &Snapshot, missed: &mut BTreeMap<(IpAddr, u16), u64>) -> u64 {
    let mut found = BTreeMap::<(IpAddr, u16), Vec<&FlowRecord>>::new();
    for record in &snapshot.flows {
        let ends = [&record.originator, &record.responder];
        let client = ends.into_iter().find(|end| end.port != SERVER_PORT).expect("one end is the client");
        found.entry((client.addr, client.port)).or_default().push(record);
    }
    let mut total = 0;
    for (family, number) in (0..STILL + MOVING).flat_map(|number| Family::BOTH.map(|family| (family, number))) {
        let tuple = (family.host(1), CLIENT_PORT + number);
        let records = found.remove(&tuple).unwrap_or_default();
        if number < STILL {
            let [record] = records[..] else { panic!("{tuple:?} is there {} times: {records:#?}", records.len()) };
            assert_eq!((record.phase, record.originator.packets, record.responder.packets), (Phase::Established, 3, 2));
            continue;
        }
        assert!(records.len() <= 1, "{tuple:?} is there {} times: {records:#?}", records.len());
        let in_a_row = missed.entry(tuple).or_default();
        *in_a_row = if records.is_empty() { *in_a_row + 1 } else { 0 };
        total += u64::from(records.is_empty());
        assert!(*in_a_row < 4, "{tuple:?} is missed for the {in_a_row}th time in a row");
    }
    assert!(found.is_empty(), "flows of tuples that were never shown: {:?}", found.keys());
    total
}
