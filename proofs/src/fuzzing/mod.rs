//! What a fuzzer throws at the core: any bytes are read as a script of segments, frames, silences and sweeps between
//! few endpoints, played before observers in memory, and held against the RFC and against themselves.
//!
//! ```text
//!   bytes ──► script ──► stage (one setting: addresses, numbers, family, wrapping, clock) ──► witness, after each act
//!                    └─► stage (the same in another setting) ──────────────────────────────► law: nothing has changed
//! ```
//!
//! Nothing here needs a fuzzer: [`frames`] is a function of bytes that panics where something is wrong, called by
//! libFuzzer (`fuzz/`), by ordinary tests over the corpus, and by [`play`] and [`laws`] with bytes at random.

mod arrows;
mod essence;
mod laws;
mod script;
mod stage;
mod witness;

use std::{fs, path::Path};

pub use laws::{LAWS, Law};
pub use script::{Act, Script};
pub use stage::{Asked, Packet, Setting, Stage, Wrapping};
pub use witness::{Reached, play};

/// Every input under `fuzz/corpus/frames` by its path: those made by hand, those that a fuzzer has found worth keeping, and
/// those that once failed. The last byte of each chooses a law, and is no part of its script.
///
/// # Panics
/// When they cannot be read.
pub fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/frames");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

/// Plays whatever these bytes say before one observer, under a witness, and then before two between which one law says
/// that there is no difference. The last byte chooses the law, so that the ones before it stay what they are.
///
/// # Panics
/// Where something is wrong.
pub fn frames(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_last() else { return };
    let script = Script::read(bytes);
    play(&script);
    LAWS[usize::from(choice) % LAWS.len()].hold(&script);
}
