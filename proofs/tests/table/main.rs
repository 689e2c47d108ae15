//! The flow table's protocol between threads (`threads`), and in all interleavings of a few steps on weakly ordered memory
//! (`interleavings`). What it does for one thread is tested beside the core (`tcp-observer-common/tests/table.rs`).

mod interleavings;
mod threads;
