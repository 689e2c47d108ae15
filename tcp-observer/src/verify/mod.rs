//! Holds the observer against the kernel's own sockets: what `verify` shows, and what the agent asks itself now and then.
//!
//! What enters is one [`Source`] of both views: the socket table, the flows, and the facts by which exceptions are
//! recognised. What leaves is a [`Report`]. One try is a [`Look`]: flows between two dumps of the sockets, which have
//! to agree on a socket for it to take part. A disagreement that is no [`Exception`] is looked at again; it counts when
//! each of the tries has found it, the same socket and flow in the same states. Then it is no matter of timing.
//!
//! Ends whose socket is gone, in states for which the agent asks the socket table every few seconds, are waited for
//! until it has asked: their sockets have ended in silence, which no packet can tell.
//!
//! Nothing is changed by any of this. Everything happens in the network namespace of the calling thread.

mod compare;
mod difference;
mod exception;
mod live;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    thread,
    time::Duration,
};

pub use compare::{Look, Looked};
pub use difference::{Difference, Kind, Tuple, Views, tuple_of};
pub use exception::{Exception, Facts, recognise};
pub use live::{Live, agents_sight};

use crate::{
    filter::Filter,
    kernel::{reconcile, sockets::Socket},
    snapshot::FlowRecord,
};

/// Both views, to be asked again and again.
pub trait Source {
    /// Every socket with a peer.
    ///
    /// # Errors
    /// When the kernel does not show them.
    fn sockets(&self) -> anyhow::Result<Vec<Socket>>;

    /// Shows every flow; the moment that their records refer to, in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// When the tables cannot be read.
    fn flows(&self, visit: &mut dyn FnMut(FlowRecord)) -> anyhow::Result<u64>;

    /// What exceptions are recognised by, as it is now.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn facts(&self) -> anyhow::Result<Facts>;
}

/// How often a disagreement has to be found, and the time from one try to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    pub count: u32,
    pub interval: Duration,
}

impl Default for Tries {
    /// Five tries over a second.
    fn default() -> Self {
        Self { count: 5, interval: Duration::from_millis(250) }
    }
}

/// How long the agent takes at most to find that a socket has ended: the pause between two looks, the silence before
/// which it does not ask, and the sweep that it may be in.
pub const LOOKED_UP_WITHIN: Duration = Duration::from_secs(reconcile::EVERY.as_secs() + 5);
/// How often that is asked.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);

/// What a comparison has found.
#[derive(Debug, Default)]
pub struct Report {
    /// When the last try was, in nanoseconds since the Unix epoch.
    pub taken_unix_ns: u64,
    /// How often both views were looked at.
    pub tries: u32,
    /// Of the last try: sockets that took part, and those that the observer has in the same state.
    pub compared: u64,
    pub agreed: u64,
    /// Of the last try: sockets that did not take part, since the two dumps differ on them.
    pub changed: u64,
    /// Disagreements that were not found in each try: timing.
    pub passing: u64,
    /// Disagreements that were to be expected.
    pub excepted: Vec<Difference>,
    /// The others, which lasted.
    pub differing: Vec<Difference>,
}

impl Report {
    /// How many disagreements there are of this kind.
    pub fn differing_in(&self, kind: Kind) -> u64 {
        self.differing.iter().filter(|difference| difference.kind() == kind).count() as u64
    }

    /// How many there are for this reason.
    pub fn excepted_by(&self, exception: Exception) -> u64 {
        self.excepted.iter().filter(|difference| difference.exception == Some(exception)).count() as u64
    }
}

/// Compares both views of what the filter takes in.
///
/// # Errors
/// When one of the views cannot be had.
pub fn compare(source: &impl Source, tries: Tries, filter: &Filter) -> anyhow::Result<Report> {
    let sleep = |pause| {
        thread::sleep(pause);
        true
    };
    compare_pausing(source, tries, filter, sleep).map(Option::unwrap_or_default)
}

/// The same; `pause` waits for so long, or says that nobody wants to know any more.
///
/// # Errors
/// When one of the views cannot be had.
pub fn compare_pausing(
    source: &impl Source,
    tries: Tries,
    filter: &Filter,
    mut pause: impl FnMut(Duration) -> bool,
) -> anyhow::Result<Option<Report>> {
    let mut comparison = Comparison { source, filter, report: Report::default(), expected: Vec::new() };
    let mut lasting = comparison.look()?.0;
    let first = lasting.clone();
    while comparison.report.tries < tries.count && !lasting.is_empty() {
        if !pause(tries.interval) {
            return Ok(None);
        }
        lasting = comparison.look_again(lasting)?;
    }
    for difference in &mut lasting {
        if speaks_on(difference, &first) {
            difference.exception = Some(Exception::Elsewhere);
        }
    }
    let is_awaited = |difference: &Difference| difference.exception.is_none() && difference.awaits_lookup();
    let (mut awaited, settled): (Vec<_>, Vec<_>) = lasting.into_iter().partition(is_awaited);
    let mut waited = Duration::ZERO;
    while !awaited.is_empty() && waited < LOOKED_UP_WITHIN {
        if !pause(LOOK_UP_INTERVAL) {
            return Ok(None);
        }
        waited += LOOK_UP_INTERVAL;
        awaited = comparison.look_again(awaited)?;
    }
    let mut report = comparison.report;
    let (excepted, differing): (Vec<_>, Vec<_>) =
        settled.into_iter().chain(awaited).partition(|difference| difference.exception.is_some());
    report.excepted.extend(comparison.expected.into_iter().chain(excepted));
    report.differing = differing;
    Ok(Some(report))
}

/// A comparison under way.
struct Comparison<'s, S> {
    source: &'s S,
    filter: &'s Filter,
    report: Report,
    /// What the last look has found that was to be expected.
    expected: Vec<Difference>,
}

impl<S: Source> Comparison<'_, S> {
    /// One try: what is unexpected, and the ends that the agent has closed for want of a socket.
    fn look(&mut self) -> anyhow::Result<(Vec<Difference>, HashSet<Tuple>)> {
        let mut look = Look::begin(self.source.sockets()?, self.filter);
        let seen_unix_ns = self.source.flows(&mut |flow| look.flow(flow))?;
        let mut looked = look.end(self.source.sockets()?, seen_unix_ns);
        if !looked.differences.is_empty() {
            let facts = self.source.facts()?;
            for difference in looked.differences.iter_mut().filter(|difference| difference.exception.is_none()) {
                difference.exception = recognise(difference, &facts);
            }
        }
        let report = &mut self.report;
        report.tries += 1;
        report.taken_unix_ns = seen_unix_ns;
        (report.compared, report.agreed, report.changed) = (looked.compared, looked.agreed, looked.changed);
        let (expected, unexpected) = looked.differences.into_iter().partition(|one| one.exception.is_some());
        self.expected = expected;
        Ok((unexpected, looked.looked_up))
    }

    /// Another try; those of the earlier disagreements that are still there, as they are now.
    fn look_again(&mut self, earlier: Vec<Difference>) -> anyhow::Result<Vec<Difference>> {
        let (found, looked_up) = self.look()?;
        let mut found: HashMap<Tuple, Difference> =
            found.into_iter().map(|difference| ((difference.local, difference.remote), difference)).collect();
        let mut lasting = Vec::new();
        for mut difference in earlier {
            let tuple = (difference.local, difference.remote);
            match found.remove(&tuple) {
                Some(now) if now.goes_on_from(&difference) => lasting.push(now),
                None if looked_up.contains(&tuple) && difference.kind() == Kind::NoSocket => {
                    difference.exception = Some(Exception::AwaitedLookup);
                    self.report.excepted.push(difference);
                }
                // Expected by now, and found among those.
                None if self.expected.iter().any(|now| (now.local, now.remote) == tuple) => {}
                Some(_) | None => self.report.passing += 1,
            }
        }
        Ok(lasting)
    }
}

/// Whether an end without a socket has sent something since it was first found.
fn speaks_on(now: &Difference, first: &[Difference]) -> bool {
    let packets = |difference: &Difference| difference.endpoint().map(|endpoint| endpoint.packets);
    let earlier = first.iter().find(|earlier| now.goes_on_from(earlier));
    now.kind() == Kind::NoSocket && earlier.is_some_and(|earlier| packets(now) > packets(earlier))
}
