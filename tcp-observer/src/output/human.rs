//! Numbers as people read them: three digits and a unit.

use std::fmt;

/// Nanoseconds as a time that was measured: `45 µs`, `12.3 ms`, `1.03 s`.
#[derive(Clone, Copy)]
pub(super) struct Took(pub u64);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(f64, &str); 4] = [(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")];
        let ns = self.0 as f64;
        // The largest unit of which there is one; what rounds up to a thousand is one of the next.
        let (unit, name) = UNITS.into_iter().rev().find(|(unit, _)| ns / unit >= 0.9995).unwrap_or(UNITS[0]);
        write!(f, "{} {name}", three_digits(ns / unit))
    }
}

/// Nanoseconds as a time that has passed: `0.4s`, `42s`, `5m12s`, `2h05m`, `3d04h`.
#[derive(Clone, Copy)]
pub(super) struct Ago(pub u64);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 / 100_000_000;
        let seconds = tenths / 10;
        match seconds {
            0..10 => write!(f, "{seconds}.{}s", tenths % 10),
            10..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{}m{:02}s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{}h{:02}m", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
        }
    }
}

/// Bytes: `512 B`, `4.5 KiB`.
#[derive(Clone, Copy)]
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut amount = self.0 as f64;
        let mut unit = 0;
        // 1023.5 would be written as 1024.
        while amount >= 1023.5 && unit + 1 < UNITS.len() {
            amount /= 1024.0;
            unit += 1;
        }
        match unit {
            0 => write!(f, "{} B", self.0),
            _ => write!(f, "{} {}", three_digits(amount), UNITS[unit]),
        }
    }
}

/// A whole number with its thousands apart: `1,234,567`.
#[derive(Clone, Copy)]
pub(super) struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() * 4 / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// About three significant digits, without zeros that say nothing.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_times_have_three_digits_and_a_unit() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1 µs"),
            (45_000, "45 µs"),
            (168_400, "168 µs"),
            (999_600, "1 ms"),
            (12_345_678, "12.3 ms"),
            (1_034_000_000, "1.03 s"),
            (131_000_000_000, "131 s"),
        ] {
            assert_eq!(Took(ns).to_string(), text);
        }
    }

    #[test]
    fn passed_times_have_two_units() {
        const S: u64 = 1_000_000_000;
        for (ns, text) in [
            (0, "0.0s"),
            (3_290_000_000, "3.2s"),
            (42 * S, "42s"),
            (312 * S, "5m12s"),
            (7_500 * S, "2h05m"),
            (273_600 * S, "3d04h"),
        ] {
            assert_eq!(Ago(ns).to_string(), text);
        }
    }

    #[test]
    fn bytes_go_by_powers_of_1024() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (4_608, "4.5 KiB"),
            (1_048_570, "1 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Count(count).to_string(), text);
        }
        assert_eq!(format!("{:>7}", Count(1000)), "  1,000");
    }
}
