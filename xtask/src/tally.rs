//! Counting tests: what `test result: …` lines say, added up.

use std::{fmt, ops::AddAssign};

/// How a line begins by which a test says that it cannot run here (`integration_tests::kernel::has`).
const SKIPPED: &str = "skipped: ";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Tally {
    /// Reads one line of a test binary's output; `None` for any line that is not its summary.
    pub fn parse(line: &str) -> Option<Self> {
        let (verdict, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        if !matches!(verdict, "ok" | "FAILED") {
            return None;
        }
        let count = |name: &str| {
            let words = counts.split(';').filter_map(|part| part.trim().split_once(' '));
            words.into_iter().find(|(_, word)| *word == name).and_then(|(number, _)| number.parse().ok())
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }

    /// No test ran: whatever was asked for, nothing was shown.
    pub fn is_empty(&self) -> bool {
        self.passed + self.failed == 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let Self { passed, failed, ignored } = other;
        self.passed += passed;
        self.failed += failed;
        self.ignored += ignored;
    }
}

/// What a whole run adds up to, told line by line.
#[derive(Debug, Default)]
pub struct Counting {
    tally: Tally,
    summaries: usize,
    /// Tests that have said that they cannot run here, and passed as far as their binary knows: it has not summed up
    /// yet.
    skipped: u64,
    failures: Vec<String>,
}

impl Counting {
    /// Takes one line of whatever was printed.
    pub fn line(&mut self, line: &str) {
        if line.starts_with(SKIPPED) {
            self.skipped += 1;
        } else if let Some(failure) = failure(line) {
            self.failures.push(failure);
        } else if let Some(mut counts) = Tally::parse(line) {
            let skipped = std::mem::take(&mut self.skipped).min(counts.passed);
            counts.passed -= skipped;
            counts.ignored += skipped;
            self.tally += counts;
            self.summaries += 1;
        }
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The tests that have failed, with what they say of it on their line.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// How many test binaries have summed up.
    pub fn summaries(&self) -> usize {
        self.summaries
    }
}

/// `test NAME ... FAILED`, and whatever comes after it.
fn failure(line: &str) -> Option<String> {
    let (name, said) = line.strip_prefix("test ")?.split_once(" ... FAILED")?;
    Some(format!("{name}{said}"))
}

/// The last line of `cargo xtask test`, which CI reads.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, ignored } = self;
        write!(f, "tests: {passed} passed, {failed} failed")?;
        if *ignored > 0 {
            write!(f, ", {ignored} skipped")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_a_test_binary_is_read() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 1 filtered out; finished in 0.03s";
        assert_eq!(Tally::parse(line), Some(Tally { passed: 12, failed: 0, ignored: 3 }));
        let line = "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        assert_eq!(Tally::parse(line), Some(Tally { passed: 4, failed: 2, ignored: 0 }));
    }

    #[test]
    fn any_other_line_is_no_summary() {
        for line in [
            "",
            "running 12 tests",
            "test seq::tests::order_wraps ... ok",
            "test result: unknown. 1 passed; 0 failed; 0 ignored",
            "test result: ok. many passed; 0 failed; 0 ignored",
            "test result: ok.",
        ] {
            assert_eq!(Tally::parse(line), None, "{line}");
        }
    }

    #[test]
    fn sums_are_told_in_one_line() {
        let mut sum = Tally { passed: 120, failed: 0, ignored: 0 };
        sum += Tally { passed: 3, failed: 0, ignored: 0 };
        assert_eq!(sum.to_string(), "tests: 123 passed, 0 failed");
        sum += Tally { passed: 0, failed: 1, ignored: 4 };
        assert_eq!(sum.to_string(), "tests: 123 passed, 1 failed, 4 skipped");
    }

    #[test]
    fn a_test_that_says_it_cannot_run_has_not_passed() {
        let mut counting = Counting::default();
        for line in [
            "test one ... ok",
            "skipped: two: no TCX",
            "test two ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
        ] {
            counting.line(line);
        }
        assert_eq!(counting.tally(), Tally { passed: 4, failed: 0, ignored: 2 });
        assert_eq!(counting.summaries(), 2);
    }

    #[test]
    fn who_has_failed_is_told() {
        let mut counting = Counting::default();
        for line in [
            "test one::of ... ok",
            "test one::other ... FAILED",
            "test a ratio, 1000 flows ... FAILED: ratio 1.30, recorded 0.60",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            counting.line(line);
        }
        assert_eq!(counting.failures(), ["one::other", "a ratio, 1000 flows: ratio 1.30, recorded 0.60"]);
        assert_eq!(counting.tally(), Tally { passed: 1, failed: 2, ignored: 0 });
    }

    #[test]
    fn skipped_tests_alone_show_nothing() {
        assert!(Tally { passed: 0, failed: 0, ignored: 7 }.is_empty());
        assert!(!Tally { passed: 1, failed: 0, ignored: 0 }.is_empty());
    }
}
