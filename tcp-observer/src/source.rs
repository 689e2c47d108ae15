//! Where snapshots come from.

use crate::snapshot::{Overview, Snapshot};

/// Something that can say what it knows at this moment: the maps of an agent, or a capture that was read.
pub trait Source {
    /// # Errors
    /// When the maps cannot be read any more, for example since the agent is gone.
    fn snapshot(&self) -> anyhow::Result<Snapshot>;

    /// The same for who only wants numbers: a source may count its flows without keeping them.
    ///
    /// # Errors
    /// As above.
    fn overview(&self) -> anyhow::Result<Overview> {
        self.snapshot().map(Overview::from)
    }
}
