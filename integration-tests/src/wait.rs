//! Waiting for a condition instead of sleeping for a time.

use std::{
    env,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

/// What an observer, a scrape or a kernel timer may take where nothing else is said.
pub const SOON: Duration = Duration::from_secs(8);

/// This limit of time on this machine: longer by the factor in `TCP_OBSERVER_PATIENCE`, where everything is emulated
/// for one. For limits only: what a test waits for on purpose takes its time everywhere.
///
/// # Panics
/// When the variable holds anything but a number.
pub fn patience(limit: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| match env::var("TCP_OBSERVER_PATIENCE") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("`TCP_OBSERVER_PATIENCE` is no number: `{text}`")),
        Err(_) => 1,
    });
    limit * *FACTOR
}

/// Asks until the answer is `Ok`, and gives what it holds.
///
/// # Panics
/// With the last refusal, when the limit passes.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let (limit, started) = (patience(limit), Instant::now());
    loop {
        let refusal = match ask() {
            Ok(answer) => return answer,
            Err(refusal) => refusal,
        };
        if started.elapsed() > limit {
            panic!("waited {limit:?} for {what}:\n{refusal}");
        }
        // Asking costs time too, on a slow machine more than the answer is worth.
        thread::sleep(patience(Duration::from_millis(5)).max(Duration::from_millis(20)));
    }
}

/// `Ok` when both are equal; else a refusal that names them.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, seen: T, expected: T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what}: {seen:?}, expected {expected:?}")) }
}
