//! The sweep: carries out what silence has decided, entry by entry, and removes what has been shown long enough.
//!
//! One sweep runs at a time; packets go on meanwhile. An entry leaves in two steps: its word is exchanged for a
//! retired one, after which no packet touches it, and then it is removed by its key.

use crate::{
    conn::{Flow, Mark, Outcome, Phase, Role, Word},
    counters::{Eviction, TableKind, place, tally},
    flow::{Address, FlowKey},
    limits::Limits,
    observer::Host,
};

/// Looks at one entry; says whether it is to be removed.
#[inline(always)]
pub fn sweep_entry<A: Address, E: Host>(
    host: &E,
    table: TableKind,
    key: &FlowKey<A>,
    flow: &Flow,
    now_ns: u64,
    limits: &Limits,
) -> bool {
    let word = flow.word.load();
    if word.has(Mark::Retired) {
        // A packet has begun to replace it.
        return false;
    }
    if word.phase() == Phase::Closed {
        if !flow.has_lingered(now_ns, limits) || !host.exchange(&flow.word, word, word.with(Mark::Retired)) {
            return false;
        }
        let reason = eviction(word);
        host.add(place::evictions(table, reason), 1);
        return true;
    }
    let settled = flow.settled_at(now_ns, limits);
    if settled != word && host.exchange(&flow.word, word, settled) {
        if settled.phase() == Phase::Closed {
            flow.times.changed_ns.set(now_ns);
        }
        if matches!((word.outcome(), settled.outcome()), (Outcome::InProgress, Outcome::TimedOut)) {
            tally::attempt(host, settled, key.port(settled.side_of(Role::Responder)), Outcome::TimedOut);
        }
        tally::close(host, word, settled);
    }
    false
}

/// Why a flow with this word leaves.
#[inline(always)]
fn eviction(word: Word) -> Eviction {
    use crate::conn::How;
    match (word.outcome(), word.how()) {
        (Outcome::NotSeen, _) if !word.is_settled() => Eviction::Unconfirmed,
        (Outcome::TimedOut, _) | (_, How::Timeout) => Eviction::TimedOut,
        _ => Eviction::Closed,
    }
}
