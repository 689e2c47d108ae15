//! The sweep: carries out what silence has decided, entry by entry, and removes what has been shown long enough.
//!
//! One sweep runs at a time; packets go on meanwhile. An entry leaves in two steps: its word is exchanged for a
//! retired one, after which no packet touches it, and then it is removed by its key.

use crate::{
    conn::{Flow, Mark, Note, Outcome, Phase, Role, Word, count, without_socket},
    counters::{Eviction, TableKind, place, tally},
    flow::{Address, FlowKey},
    limits::Limits,
    observer::Host,
};

/// Looks at one entry, seen with this word; says whether it is to be removed.
#[inline(always)]
pub fn sweep_entry<A: Address, E: Host>(
    host: &E,
    table: TableKind,
    key: &FlowKey<A>,
    flow: &Flow,
    word: Word,
    now_ns: u64,
    limits: &Limits,
) -> bool {
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
    end(host, key, flow, word, flow.settled_at(now_ns, limits), now_ns);
    false
}

/// A flow as somebody has found it who then learnt that its local sockets are gone.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub word: Word,
    pub last_seen_ns: u64,
}

/// Ends a flow whose local sockets are gone, unless something has happened to it since it was found.
#[inline(always)]
pub fn end_without_socket<A: Address, E: Host>(host: &E, key: &FlowKey<A>, flow: &Flow, found: Found, now_ns: u64) {
    if flow.word.load() != found.word || flow.last_seen_ns() != found.last_seen_ns {
        return;
    }
    if end(host, key, flow, found.word, without_socket(found.word), now_ns) {
        flow.story.add(host, Note::SocketGone.bit());
        count(host, Note::SocketGone);
    }
}

/// Exchanges a word for the one that silence has brought about, and counts what that means.
#[inline(always)]
pub(crate) fn end<A: Address, E: Host>(
    host: &E,
    key: &FlowKey<A>,
    flow: &Flow,
    word: Word,
    ended: Word,
    now_ns: u64,
) -> bool {
    if ended == word || !host.exchange(&flow.word, word, ended) {
        return false;
    }
    if ended.phase() == Phase::Closed {
        flow.times.changed_ns.set(now_ns);
    }
    flow.times.end_half_close(word, ended, now_ns);
    if matches!((word.outcome(), ended.outcome()), (Outcome::InProgress, Outcome::TimedOut)) {
        tally::attempt(host, ended, key.port(ended.side_of(Role::Responder)), Outcome::TimedOut);
    }
    tally::close(host, word, ended);
    true
}

/// Why a flow with this word leaves.
#[inline(always)]
pub(crate) fn eviction(word: Word) -> Eviction {
    use crate::conn::How;
    match (word.outcome(), word.how()) {
        (Outcome::NotSeen, _) if !word.is_settled() => Eviction::Unconfirmed,
        (Outcome::TimedOut, _) | (_, How::Timeout) => Eviction::TimedOut,
        _ => Eviction::Closed,
    }
}
