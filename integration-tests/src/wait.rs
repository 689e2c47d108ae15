//! Waiting for a condition instead of sleeping for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// What an observer, a scrape or a kernel timer may take where nothing else is said.
pub const SOON: Duration = Duration::from_secs(8);

/// Asks until the answer is `Ok`, and gives what it holds.
///
/// # Panics
/// With the last refusal, when the limit passes.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        let refusal = match ask() {
            Ok(answer) => return answer,
            Err(refusal) => refusal,
        };
        if started.elapsed() > limit {
            panic!("waited {limit:?} for {what}:\n{refusal}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// `Ok` when both are equal; else a refusal that names them.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, seen: T, expected: T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what}: {seen:?}, expected {expected:?}")) }
}
