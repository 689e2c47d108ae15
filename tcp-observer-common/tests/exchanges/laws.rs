//! Laws that hold for any exchange whatever, over exchanges at random.
//!
//! Their segments have numbers near those of a plausible talk, so that many of them are acceptable; the seed is
//! fixed, so that a failure is the same everywhere.

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};
use tcp_observer_common::{
    conn::{Half, Mark, Note, Outcome, Phase, Role, State, Word},
    counters::{Counters, Skip},
    flow::{Ipv4, Side},
    segment::Flags,
};

use crate::support::{CLIENT_ADDR, Endpoint, Peer, SECOND, SERVER_ADDR, Talk};

const SYN: u8 = Flags::SYN;
const ACK: u8 = Flags::ACK;
const FIN: u8 = Flags::FIN;
const RST: u8 = Flags::RST;

fn config() -> Config {
    Config { cases: 256, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() }
}

/// One step of an exchange; numbers count from the initial ones of either side.
#[derive(Clone, Copy, Debug)]
struct Step {
    from_client: bool,
    flags: u8,
    seq: i32,
    ack: i32,
    bytes: u32,
    /// TSval of its timestamps option, if it has one.
    timestamp: Option<u32>,
    closes_window: bool,
    interface: u32,
    wait_ns: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let flags = prop_oneof![
        2 => Just(SYN),
        2 => Just(SYN | ACK),
        6 => Just(ACK),
        4 => Just(FIN | ACK),
        1 => Just(RST),
        1 => Just(RST | ACK),
        // Impossible ones.
        1 => prop::sample::select(vec![0, FIN, SYN | FIN, FIN | RST, SYN | RST, SYN | FIN | RST | ACK]),
    ];
    // Mostly the very next number; now and then one that is early, late or far out.
    let number = || prop_oneof![6 => 0..4, 1 => -3..12, 1 => Just(70_000), 1 => Just(-70_000)];
    let bytes = prop_oneof![3 => Just(0_u32), 1 => 1..3_u32];
    let wait = prop_oneof![6 => Just(0), 2 => Just(SECOND), 1 => Just(61 * SECOND)];
    let timestamp = prop_oneof![2 => Just(None), 1 => (1..6_u32).prop_map(Some)];
    let beside = (bytes, timestamp, prop::bool::weighted(0.1), prop_oneof![5 => Just(1_u32), 1 => Just(2)], wait);
    let step = (any::<bool>(), flags, number(), number(), beside);
    let step =
        step.prop_map(|(from_client, flags, seq, ack, (bytes, timestamp, closes_window, interface, wait_ns))| Step {
            from_client,
            flags,
            seq,
            ack,
            bytes,
            timestamp,
            closes_window,
            interface,
            wait_ns,
        });
    // Half the exchanges begin with a handshake, or they would seldom come so far.
    (any::<bool>(), prop::collection::vec(step, 1..40)).prop_map(|(opens, steps)| {
        let plain = |from_client, flags, seq, ack| Step {
            from_client,
            flags,
            seq,
            ack,
            bytes: 0,
            timestamp: None,
            closes_window: false,
            interface: 1,
            wait_ns: 0,
        };
        let handshake = [plain(true, SYN, 0, 0), plain(false, SYN | ACK, 0, 1), plain(true, ACK, 1, 1)];
        handshake.into_iter().filter(|_| opens).chain(steps).collect()
    })
}

/// The client's and the server's initial sequence numbers.
type Bases = (u32, u32);

const BASES: Bases = (1_000_000, 5_000_000);

fn take(talk: &Talk, step: &Step, bases: Bases) -> Result<(), Skip> {
    let (client, server) = talk.peers();
    let (peer, own, other): (Peer<'_, Ipv4>, u32, u32) =
        if step.from_client { (client, bases.0, bases.1) } else { (server, bases.1, bases.0) };
    // Without ACK the field is zero, wherever the numbers begin.
    let ack = if step.flags & ACK != 0 { other.wrapping_add_signed(step.ack) } else { 0 };
    let peer = step.timestamp.map_or(peer, |value| peer.timestamps(value, 1));
    let peer = if step.closes_window { peer.window(0) } else { peer };
    peer.via(step.interface).try_send(step.flags, own.wrapping_add_signed(step.seq), ack, step.bytes)
}

fn play(talk: &Talk, steps: &[Step], bases: Bases) -> Vec<Result<(), Skip>> {
    let mut results = Vec::new();
    for step in steps {
        talk.wait(step.wait_ns);
        talk.memory.sweep();
        results.push(take(talk, step, bases));
    }
    results
}

/// Which states two ends can be in at once, as far as an observer can tell: each end's state follows from its own
/// FIN, the other's, and which of them was acknowledged.
fn may_coincide(outcome: Outcome, one: State, other: State) -> bool {
    use State::*;
    let either_way = |a: State, b: State| (a, b) == (one, other) || (b, a) == (one, other);
    match outcome {
        Outcome::InProgress => {
            either_way(SynSent, Listen)
                || either_way(SynSent, SynReceived)
                // The responder closed before the last ACK was seen.
                || either_way(SynSent, FinWait1)
                || either_way(SynReceived, SynReceived)
                || either_way(SynReceived, Established)
                // The same in a simultaneous open, before or after the other end's SYN was acknowledged.
                || either_way(SynReceived, FinWait1)
                || either_way(Established, FinWait1)
                || either_way(CloseWait, FinWait1)
        }
        Outcome::Completed | Outcome::NotSeen => [
            (Established, Established),
            // Of the other end nothing was seen, nor anything that it must have received.
            (Established, Unknown),
            (FinWait1, Unknown),
            // A FIN beyond a gap, or two of them.
            (Established, FinWait1),
            (FinWait1, FinWait1),
            (FinWait1, CloseWait),
            (FinWait2, CloseWait),
            (FinWait1, Closing),
            (FinWait2, Closing),
            (FinWait2, LastAck),
            (Closing, Closing),
            (Closing, TimeWait),
            (LastAck, TimeWait),
            (TimeWait, TimeWait),
            (TimeWait, Closed),
            (Closed, Closed),
        ]
        .into_iter()
        .any(|(a, b)| either_way(a, b)),
        Outcome::Refused
        | Outcome::Reset
        | Outcome::Unreachable
        | Outcome::TimedOut
        | Outcome::Abandoned
        | Outcome::Evicted => (one, other) == (Closed, Closed),
    }
}

/// What is known of a half, its numbers as distances from where they begin.
#[derive(Debug)]
struct Relative {
    counts: [u64; 14],
    isn: u32,
    next_seq: u32,
    acked: u32,
    /// A SYN acknowledges nothing, and its field is zero wherever the numbers begin.
    has_acked_zero: bool,
}

impl PartialEq for Relative {
    fn eq(&self, other: &Self) -> bool {
        let acked_alike = self.acked == other.acked || self.has_acked_zero && other.has_acked_zero;
        (self.counts, self.isn, self.next_seq) == (other.counts, other.isn, other.next_seq) && acked_alike
    }
}

fn relative(half: &Half, own: u32, peer: u32) -> Relative {
    let counts = [
        half.last_seen_ns.get(),
        half.payload_bytes.get(),
        half.packets.get(),
        half.tap.get().into(),
        half.syn_retransmits.get().into(),
        half.fin_retransmits.get().into(),
        half.retransmits.get().into(),
        half.zero_windows.get().into(),
        half.keepalives.get().into(),
        half.window_probes.get().into(),
        half.unanswered.get().into(),
        half.beats.get().into(),
        half.completeness().into(),
        half.window_is_zero().into(),
    ];
    let (isn, next_seq, acked) = (half.isn.get().0, half.next_seq.get().0, half.acked.get().0);
    Relative {
        counts,
        isn: isn.wrapping_sub(own),
        next_seq: next_seq.wrapping_sub(own),
        acked: acked.wrapping_sub(peer),
        has_acked_zero: acked == 0,
    }
}

/// A flow's history and its notes.
type Told = (String, Vec<Note>);

/// Everything that is known of the flow, independent of where numbers begin and of which address is the lower one:
/// the word without its epoch, told from the client's side, and the story; then the client's half and the server's, if
/// seen, as long as the flow is not closed: after that numbers decide nothing.
fn essence(talk: &Talk, bases: Bases) -> Option<(Word, Told, [Option<Relative>; 2])> {
    let word = talk.find()?.word.load();
    let (client, server) = talk.peers();
    let client_is_low = u32::from_be(talk.client.addr[0]) < u32::from_be(talk.server.addr[0]);
    let (client_side, server_side) = if client_is_low { (Side::Low, Side::High) } else { (Side::High, Side::Low) };
    let is_over = word.phase() == Phase::Closed;
    let seen = |side| !is_over && word.has_of(Mark::Seen, word.role_of(side));
    let client_half = seen(client_side).then(|| relative(&client.half(), bases.0, bases.1));
    let server_half = seen(server_side).then(|| relative(&server.half(), bases.1, bases.0));
    // The mark now says that the server is the originator.
    let mark = 1 << Mark::OriginatorIsHigh as u64;
    let server_originates = word.role_of(server_side) == Role::Originator;
    let word = Word(word.0 & !mark | if server_originates { mark } else { 0 }).in_epoch(0);
    Some((word, (talk.history(), talk.flow().story.notes().collect()), [client_half, server_half]))
}

/// Two peers and an observer of live traffic, or of a capture.
fn observed(keeps_all: bool) -> Talk {
    if keeps_all { Talk::keeping_all() } else { Talk::new() }
}

fn monotone(before: &Counters, after: &Counters) -> bool {
    before.words().iter().zip(after.words()).all(|(before, after)| before <= after)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn states_always_fit_together_and_counters_only_grow(steps in steps(), keeps_all in any::<bool>()) {
        let talk = observed(keeps_all);
        let mut before = talk.counters();
        for step in &steps {
            talk.wait(step.wait_ns);
            talk.memory.sweep();
            let _ = take(&talk, step, BASES);
            let after = talk.counters();
            prop_assert!(monotone(&before, &after));
            before = after;
            if let Some(flow) = talk.find() {
                let word = flow.word.load();
                let (one, other) = (word.state(Role::Originator), word.state(Role::Responder));
                prop_assert!(may_coincide(word.outcome(), one, other), "{word:?} after {step:?}");
                prop_assert!(!word.has(Mark::Retired));
            }
        }
    }

    #[test]
    fn every_segment_is_one_update_or_one_skip(steps in steps()) {
        let talk = Talk::new();
        let results = play(&talk, &steps, BASES);
        let counters = talk.counters();
        let updates: u64 = counters.segments.iter().flatten().sum();
        let skips: u64 = counters.skipped.iter().sum();
        prop_assert_eq!(updates, results.iter().filter(|result| result.is_ok()).count() as u64);
        prop_assert_eq!(skips, results.iter().filter(|result| result.is_err()).count() as u64);
        prop_assert_eq!(updates + skips, talk.passed());
    }

    #[test]
    fn where_the_numbers_begin_does_not_matter(
        steps in steps(),
        client in any::<u32>(),
        server in any::<u32>(),
        keeps_all in any::<bool>(),
    ) {
        let (here, there) = (observed(keeps_all), observed(keeps_all));
        for (number, step) in steps.iter().enumerate() {
            // One interface: what trails a failed attempt on another one is a duplicate or stale by the numbers.
            let step = Step { interface: 1, ..*step };
            let one = play(&here, &[step], BASES);
            let other = play(&there, &[step], (client, server));
            prop_assert_eq!(one, other, "step {} of {:?}", number, steps);
            prop_assert_eq!(essence(&here, BASES), essence(&there, (client, server)), "step {} of {:?}", number, steps);
        }
        prop_assert_eq!(here.counters(), there.counters());
    }

    #[test]
    fn which_address_is_the_lower_does_not_matter(steps in steps()) {
        let here = Talk::new();
        let there = Talk::between(
            Endpoint { addr: SERVER_ADDR, port: 40000 },
            Endpoint { addr: CLIENT_ADDR, port: 443 },
        )
        .with_local(SERVER_ADDR);
        prop_assert_eq!(play(&here, &steps, BASES), play(&there, &steps, BASES));
        prop_assert_eq!(essence(&here, BASES), essence(&there, BASES));
        prop_assert_eq!(here.counters(), there.counters());
    }

    #[test]
    fn a_segment_repeated_at_once_moves_no_state_a_second_time(steps in steps(), keeps_all in any::<bool>()) {
        let talk = observed(keeps_all);
        for step in &steps {
            let _ = play(&talk, &[*step], BASES);
            let once = talk.find().map(|flow| flow.word.load().states());
            let attempts = (talk.all_attempts(), talk.all_closes(), talk.all_resets());
            let _ = take(&talk, step, BASES);
            prop_assert_eq!(once, talk.find().map(|flow| flow.word.load().states()), "{:?} in {:?}", step, steps);
            prop_assert_eq!(attempts, (talk.all_attempts(), talk.all_closes(), talk.all_resets()));
        }
    }

    #[test]
    fn each_flow_ends_and_leaves_in_the_end(steps in steps(), keeps_all in any::<bool>()) {
        let talk = observed(keeps_all);
        let _ = play(&talk, &steps, BASES);
        for _ in 0..4 {
            talk.sweep_after(6 * 86_400 * SECOND);
        }
        prop_assert_eq!(talk.table_entries(), (0, 0));
        let counters = talk.counters();
        // Whatever settled was closed once, and whatever was attempted has an outcome.
        let evictions: u64 = counters.evictions.iter().flatten().sum();
        prop_assert!(talk.all_closes() + talk.all_attempts() <= 2 * evictions);
    }
}
