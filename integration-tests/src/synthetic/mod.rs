//! Flows and floods that are made of frames: no socket stands behind them.
//!
//! Frames go through a running agent's programs by test runs, or as live ones into a wire. How the tables are laid out is
//! not known here.

mod flood;
pub mod flows;
mod generator;
mod hook;
mod lane;
mod subject;

pub use self::{
    flood::{Flood, Kind},
    generator::{Order, Then, generator},
    hook::{Direction, Hook, verdict},
    lane::{Lane, new_state, spare},
    subject::{Subject, empty},
};
