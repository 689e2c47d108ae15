//! Who makes room in a full bucket: what is over, then what silence has ended, then the oldest half-open flow.
//!
//! An established flow never does, and none of the settled ones makes room for a half-open one, since they have a table
//! of their own. So a flood of SYNs renews itself: each takes the place of the oldest one, and what the table holds are
//! the latest so many attempts. The sweep would end and remove what is over as well, if it came in time.

use crate::{
    conn::{Flow, Mark, Outcome, Phase, Role},
    counters::{Eviction, TableKind, place, tally},
    flow::{Address, FlowKey},
    limits::Limits,
    observer::{Family, Host, Table},
    sweep::{end, eviction},
};

/// How many entries are looked at. A bucket has fifteen; in a full half-open table the first will do.
const CANDIDATES: u32 = 4;

/// Takes an entry out that is worth less than a new one with this key; says whether there was one.
#[inline(always)]
pub fn make_room<A: Address, E: Host + Family<A>>(host: &E, key: &FlowKey<A>, is_half_open: bool) -> bool {
    let mut nth = 0;
    while nth < CANDIDATES {
        if host.take_nth_oldest(key, nth, is_half_open) {
            return true;
        }
        nth += 1;
    }
    false
}

/// The same for the `nth` of them only.
#[inline(always)]
pub fn take_nth_oldest<A: Address, E: Host + Family<A>>(
    host: &E,
    key: &FlowKey<A>,
    nth: u32,
    is_half_open: bool,
) -> bool {
    let (table, kind) = if is_half_open { (host.half_open(), E::HALF_OPEN) } else { (host.flows(), E::FLOWS) };
    let Some(limits) = host.limits() else {
        return false;
    };
    let now_ns = host.coarse_ns();
    table.take_nth_oldest(key, nth, |key, flow| gives_way(host, kind, key, flow, now_ns, limits))
}

/// Retires an entry if it is worth less than a new one; says whether it was this CPU that did.
#[inline(always)]
fn gives_way<A: Address, E: Host>(
    host: &E,
    table: TableKind,
    key: &FlowKey<A>,
    flow: &Flow,
    now_ns: u64,
    limits: &Limits,
) -> bool {
    let word = flow.word.load();
    let is_half_open = matches!(table, TableKind::HalfOpenIpv4 | TableKind::HalfOpenIpv6);
    // Somebody is about to take it out, or to move it.
    if word.has(Mark::Retired) || word.is_settled() == is_half_open {
        return false;
    }
    let ended = flow.settled_at(now_ns, limits);
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
    host.add(place::evictions(table, if is_over { eviction(word) } else { Eviction::Replaced }), 1);
    true
}
