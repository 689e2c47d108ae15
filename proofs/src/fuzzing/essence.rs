//! Everything that is known of a flow, independent of where numbers and times begin, of which address is the lower one,
//! and of what was around its segments.

use tcp_observer_common::{
    conn::{Flow, Half, Mark, Role, Story, Times, Word},
    counters::{Counters, TableKind},
    flow::Side,
};

use super::stage::{Setting, Stage, pairs};

/// A number's distance from where it begins; zero also says "none", wherever that is.
#[derive(Clone, Copy, Debug)]
struct Distance {
    distance: u32,
    may_be_none: bool,
}

impl PartialEq for Distance {
    fn eq(&self, other: &Self) -> bool {
        self.distance == other.distance || self.may_be_none && other.may_be_none
    }
}

/// One direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    numbers: [Distance; 5],
    last_seen_ns: u64,
    counts: [u64; 20],
}

/// A flow, from the client's side.
#[derive(Clone, Debug, PartialEq)]
pub struct Essence {
    word: Word,
    client_originates: bool,
    is_settled: bool,
    said: [Said; 2],
    times_ns: [u64; 6],
    story: [u64; 3],
}

/// What is known of each pair's flow.
pub fn essences(stage: &Stage) -> Vec<Option<Essence>> {
    pairs().map(|pair| stage.flow(pair).map(|(flow, client)| essence(&flow, client, &stage.setting))).collect()
}

fn essence(flow: &Flow, client: Side, setting: &Setting) -> Essence {
    let Flow { word, low: _, high: _, times, story } = flow;
    let word = word.load();
    let Times { first_ns, syn_ns, synack_ns, ack_ns, changed_ns, half_close_ns } = times;
    let Story { letters, notes } = story;
    let [client_base, server_base] = setting.bases;
    // While the flow is half-closed a moment, afterwards a duration.
    let half_close_ns = match half_close_ns.get() {
        at_ns if word.phase() == tcp_observer_common::conn::Phase::HalfClosed => since(at_ns, setting),
        lasted_ns => lasted_ns,
    };
    let moments = [first_ns, syn_ns, synack_ns, ack_ns, changed_ns].map(|at_ns| since(at_ns.get(), setting));
    let [first_ns, syn_ns, synack_ns, ack_ns, changed_ns] = moments;
    Essence {
        word: word.without(Mark::OriginatorIsHigh).in_epoch(0),
        client_originates: word.role_of(client) == Role::Originator,
        is_settled: word.is_settled(),
        said: [
            said(flow.half(client), [client_base, server_base], setting),
            said(flow.half(client.opposite()), [server_base, client_base], setting),
        ],
        times_ns: [first_ns, syn_ns, synack_ns, ack_ns, changed_ns, half_close_ns],
        story: [letters[0].get(), letters[1].get(), notes.get()],
    }
}

/// Zero is "not yet".
fn since(at_ns: u64, setting: &Setting) -> u64 {
    if at_ns == 0 { u64::MAX } else { at_ns - setting.start_ns }
}

/// Taken apart, so that a new field has to be thought of here.
fn said(half: &Half, [own, peer]: [u32; 2], setting: &Setting) -> Said {
    let Half {
        last_seen_ns,
        payload_bytes,
        packets,
        next_seq,
        acked,
        tap,
        max_window,
        letters,
        seen,
        isn,
        gap_end,
        rst_seq,
        retransmits,
        first_ts,
        last_ts,
        mss,
        zero_windows,
        keepalives,
        window_probes,
        beat_period,
        beats,
        unanswered,
        syn_retransmits,
        fin_retransmits,
        window_shift,
        options,
    } = half;
    let distance = |number: u32, base: u32| Distance { distance: number.wrapping_sub(base), may_be_none: number == 0 };
    Said {
        numbers: [
            distance(next_seq.get().0, own),
            distance(isn.get().0, own),
            distance(gap_end.get().0, own),
            distance(rst_seq.get().0, own),
            distance(acked.get().0, peer),
        ],
        last_seen_ns: since(last_seen_ns.get(), setting),
        counts: [
            payload_bytes.get(),
            packets.get(),
            tap.get().into(),
            max_window.get().into(),
            letters.get().into(),
            seen.get().into(),
            retransmits.get().into(),
            first_ts.get().into(),
            last_ts.get().into(),
            mss.get().into(),
            zero_windows.get().into(),
            keepalives.get().into(),
            window_probes.get().into(),
            beat_period.get().into(),
            beats.get().into(),
            unanswered.get().into(),
            syn_retransmits.get().into(),
            fin_retransmits.get().into(),
            window_shift.get().into(),
            options.get().into(),
        ],
    }
}

/// The counters, with what happened to either family's tables under IPv4's.
pub fn counted(stage: &Stage) -> Counters {
    let mut counters = stage.memory.counters.borrow().clone();
    for (to, from) in [(TableKind::FlowsIpv4, TableKind::FlowsIpv6), (TableKind::HalfOpenIpv4, TableKind::HalfOpenIpv6)]
    {
        let from = std::mem::take(&mut counters.evictions[from.index()]);
        for (sum, term) in counters.evictions[to.index()].iter_mut().zip(from) {
            *sum += term;
        }
    }
    counters
}
