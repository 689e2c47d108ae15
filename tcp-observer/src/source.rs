//! Where snapshots come from.

use crate::snapshot::Snapshot;

/// Something that can say what it knows at this moment: the maps of an agent, or a capture that was read.
pub trait Source {
    /// # Errors
    /// When the maps cannot be read any more, for example since the agent is gone.
    fn snapshot(&self) -> anyhow::Result<Snapshot>;
}
