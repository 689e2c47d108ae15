//! What replay hands over.

use super::link::Tags;
use crate::snapshot::{Endpoint, FlowRecord};

/// A flow that is over, or with which the capture ends.
#[derive(Clone, Debug)]
pub struct Finished {
    pub record: FlowRecord,
    pub(super) tags: Tags,
    /// When that was, in nanoseconds since the Unix epoch.
    pub now_unix_ns: u64,
}

impl Finished {
    /// The ids of the VLANs that it was in, outermost first.
    pub fn vlans(&self) -> &[u16] {
        self.tags.ids()
    }

    /// What sorts flows by their first packets, and always in the same way.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let end = |endpoint: &Endpoint| (endpoint.addr, endpoint.port);
        let record = &self.record;
        (record.first_seen_unix_ns, self.tags, end(&record.originator), end(&record.responder))
    }
}
