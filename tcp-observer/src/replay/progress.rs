//! How far reading has come, for whoever waits at a terminal.

use std::{
    cell::{Cell, OnceCell},
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::input::Input;

/// Of more than this it is shown from the beginning, of less after [`PATIENCE`].
const LARGE_BYTES: u64 = 64 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr, which goes when this goes.
#[derive(Debug)]
pub struct Progress {
    is_wanted: bool,
    /// `None` where one of the inputs is no regular file.
    total_bytes: Option<u64>,
    read_bytes: Cell<u64>,
    started: Instant,
    bar: OnceCell<ProgressBar>,
}

impl Progress {
    /// Shows nothing, ever.
    pub fn hidden() -> Self {
        Self::new(false, None)
    }

    /// Shown where stderr is a terminal.
    pub fn on_stderr(inputs: &[Input]) -> Self {
        Self::new(io::stderr().is_terminal(), inputs.iter().map(Input::bytes).sum())
    }

    fn new(is_wanted: bool, total_bytes: Option<u64>) -> Self {
        let (started, read_bytes, bar) = (Instant::now(), Cell::default(), OnceCell::new());
        Self { is_wanted, total_bytes, read_bytes, started, bar }
    }

    /// So much more was read, packed bytes where the input is packed.
    pub fn advance(&self, bytes: u64) {
        if !self.is_wanted {
            return;
        }
        let read_bytes = self.read_bytes.get().saturating_add(bytes);
        self.read_bytes.set(read_bytes);
        if self.bar.get().is_some() || self.is_due() {
            self.bar.get_or_init(|| self.bar()).set_position(read_bytes);
        }
    }

    fn is_due(&self) -> bool {
        self.total_bytes.is_some_and(|bytes| bytes > LARGE_BYTES) || self.started.elapsed() > PATIENCE
    }

    fn bar(&self) -> ProgressBar {
        let (template, style) = match self.total_bytes {
            Some(_) => ("{wide_bar} {bytes} of {total_bytes}, {eta} left", ProgressStyle::default_bar()),
            None => ("{spinner} {bytes} in {elapsed}", ProgressStyle::default_spinner()),
        };
        let bar = ProgressBar::with_draw_target(self.total_bytes, ProgressDrawTarget::stderr());
        bar.set_style(style.clone().template(template).unwrap_or(style));
        bar
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_where_nobody_looks_or_before_it_takes_long() {
        let hidden = Progress::hidden();
        hidden.advance(u64::MAX);
        assert!(hidden.bar.get().is_none());
        let short = Progress::new(true, Some(LARGE_BYTES));
        short.advance(LARGE_BYTES);
        assert!(short.bar.get().is_none());
    }

    #[test]
    fn large_inputs_and_slow_ones_are_waited_for_with_a_bar() {
        let large = Progress::new(true, Some(LARGE_BYTES + 1));
        large.advance(7);
        assert_eq!(large.bar.get().map(ProgressBar::position), Some(7));
        let mut slow = Progress::new(true, None);
        slow.started = slow.started.checked_sub(2 * PATIENCE).unwrap();
        slow.advance(7);
        assert_eq!(slow.bar.get().map(ProgressBar::position), Some(7));
    }
}
