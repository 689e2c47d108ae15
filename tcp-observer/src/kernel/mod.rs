//! The kernel side of the agent: what must be true before programs are loaded, where they are attached, the maps that
//! they share with this program, and how a snapshot is read from those.
//!
//! Read in the order of a start: [`preflight`] and [`lock`], [`links`] and [`plan`], [`load`], [`attach`] (with
//! [`clsact`] for kernels without TCX), then [`sweep`] and [`local`] while it runs. The other commands only need
//! [`PinnedMaps`]. [`sockets`] is the kernel's other word on the same connections, its socket table: what it has at the
//! start is taken in by [`adopt`], what is gone from it is closed by [`reconcile`].

pub mod adopt;
pub mod attach;
pub mod bpf;
pub mod choice;
pub mod clock;
pub mod clsact;
pub mod leftover;
pub mod links;
pub mod listeners;
pub mod load;
pub mod local;
pub mod lock;
pub mod mapped;
mod mapping;
mod maps;
pub mod memory;
pub mod netstat;
pub mod pin;
pub mod plan;
pub mod preflight;
pub mod processes;
pub mod reconcile;
pub mod sight;
mod snapshot;
pub mod sockets;
pub mod sweep;

pub use mapped::Mapped;
pub use maps::PinnedMaps;
