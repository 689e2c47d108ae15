//! Who makes room in a full bucket: what is over, then what silence has ended, then the oldest half-open flow.
//!
//! An established flow never does, and none of the settled ones makes room for a half-open one, since they have a table
//! of their own. So a flood of SYNs renews itself: each takes the place of the oldest one, and what the table holds are
//! the latest so many attempts. The sweep would end and remove what is over as well, if it came in time.

use crate::{
    conn::{Flow, Mark, Outcome, Phase, Role, Word},
    counters::{Eviction, place, tally},
    flow::{Address, FlowKey},
    observer::{Family, Host, Table},
    sweep::{end, eviction},
    table::{Refusal, There},
};

/// Puts a flow into one of the two tables, into the place of one that is worth less if there is no other.
///
/// # Errors
/// As [`Table::insert`].
#[inline(always)]
pub fn put<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    there: There,
    is_half_open: bool,
    write: impl FnOnce(&Flow, u16),
) -> Result<(), Refusal> {
    let table = if is_half_open { host.half_open() } else { host.flows() };
    table.insert(key, there, |key, flow, word| host.gives_way(key, flow, word, is_half_open), write)
}

/// Retires an entry, seen with this word, if it is worth less than a new one; says whether it was this CPU that did.
#[inline(always)]
pub fn gives_way<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    flow: &Flow,
    word: Word,
    is_half_open: bool,
) -> bool {
    let Some(limits) = host.limits() else {
        return false;
    };
    // Somebody is about to take it out, or to move it.
    if word.has(Mark::Retired) || word.is_settled() == is_half_open {
        return false;
    }
    let now_ns = host.coarse_ns();
    // In a flood they all have, and nothing more of them has to come from afar to be read.
    let ended = if flow.has_changed_lately(word, now_ns, limits) { word } else { flow.settled_at(now_ns, limits) };
    let is_over = matches!(ended.phase(), Phase::Closed);
    if !is_over && !is_half_open {
        return false;
    }
    if is_over && ended != word && !end(host, key, flow, word, ended, now_ns) {
        return false;
    }
    let word = if is_over { ended } else { word };
    if !host.exchange(&flow.word, word, word.with(Mark::Retired)) {
        return false;
    }
    if !is_over && matches!(word.outcome(), Outcome::InProgress) {
        tally::attempt(host, word, key.port(word.side_of(Role::Responder)), Outcome::Evicted);
    }
    let table = if is_half_open { E::HALF_OPEN } else { E::FLOWS };
    host.add(place::evictions(table, if is_over { eviction(word) } else { Eviction::Replaced }), 1);
    true
}
