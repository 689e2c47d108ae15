//! Time stamps as captures carry them: ticks of a resolution that each interface chooses, and an offset in seconds.
//!
//! Everything here saturates: a time stamp beyond the range of 64-bit nanoseconds is a broken one, and the capture
//! may still have something to say.

const NS_PER_SECOND: u64 = 1_000_000_000;

/// How the ticks of an interface turn into time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    resolution: Resolution,
    offset_seconds: i64,
}

/// Ticks for each second: a power of ten or of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    Decimal(u8),
    Binary(u8),
}

impl Clock {
    /// Microseconds.
    pub const DEFAULT_TSRESOL: u8 = 6;

    /// As pcapng has it: the top bit of `if_tsresol` says whether the rest is an exponent of two or of ten
    /// (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html#section-4.2>).
    pub const fn new(if_tsresol: u8, offset_seconds: i64) -> Self {
        let exponent = if_tsresol & 0x7f;
        let is_binary = if_tsresol & 0x80 != 0;
        let resolution = if is_binary { Resolution::Binary(exponent) } else { Resolution::Decimal(exponent) };
        Self { resolution, offset_seconds }
    }

    /// Whether a tick is shorter than a microsecond.
    pub const fn has_nanoseconds(self) -> bool {
        match self.resolution {
            Resolution::Decimal(digits) => digits > 6,
            // 2^20 ticks a second are those of a microsecond, nearly.
            Resolution::Binary(bits) => bits > 20,
        }
    }

    /// Nanoseconds since the Unix epoch.
    pub fn unix_ns(self, ticks: u64) -> u64 {
        let ns = match self.resolution {
            Resolution::Decimal(digits @ 0..=9) => ticks.saturating_mul(10_u64.pow(9 - u32::from(digits))),
            Resolution::Decimal(digits) => {
                10_u64.checked_pow(u32::from(digits) - 9).map_or(0, |ticks_per_ns| ticks / ticks_per_ns)
            }
            Resolution::Binary(bits) => {
                let ns = (u128::from(ticks) * u128::from(NS_PER_SECOND)) >> bits;
                u64::try_from(ns).unwrap_or(u64::MAX)
            }
        };
        let offset_ns = i128::from(self.offset_seconds) * i128::from(NS_PER_SECOND);
        let shifted = i128::from(ns) + offset_ns;
        u64::try_from(shifted.max(0)).unwrap_or(u64::MAX)
    }
}

/// A time stamp of the older format: whole seconds, and a fraction in micro- or nanoseconds. Fractions beyond a
/// second are taken at their word.
pub fn unix_ns(seconds: u32, fraction: u32, is_nanoseconds: bool) -> u64 {
    let fraction_ns = u64::from(fraction) * if is_nanoseconds { 1 } else { 1_000 };
    u64::from(seconds) * NS_PER_SECOND + fraction_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_every_resolution_turn_into_nanoseconds() {
        for (if_tsresol, ticks, ns) in [
            (6, 1_500_000, 1_500_000_000),
            (9, 1_500_000_000, 1_500_000_000),
            (0, 2, 2_000_000_000),
            (12, 1_500_000_000_000, 1_500_000_000),
            (0x80 | 10, 1536, 1_500_000_000),
            (0x80 | 32, 3 << 31, 1_500_000_000),
        ] {
            assert_eq!(Clock::new(if_tsresol, 0).unix_ns(ticks), ns, "{if_tsresol:#x}");
        }
        assert_eq!(Clock::new(6, 10).unix_ns(1), 10_000_001_000);
        assert_eq!(Clock::new(6, -1).unix_ns(1_000_001), 1_000);
    }

    #[test]
    fn nonsense_saturates() {
        for if_tsresol in 0..=u8::MAX {
            for offset in [i64::MIN, -1, 0, 1, i64::MAX] {
                for ticks in [0, 1, u64::MAX] {
                    Clock::new(if_tsresol, offset).unix_ns(ticks);
                }
            }
        }
        assert_eq!(Clock::new(0, 0).unix_ns(u64::MAX), u64::MAX);
        assert_eq!(Clock::new(6, i64::MIN).unix_ns(u64::MAX), 0);
        assert_eq!(unix_ns(u32::MAX, u32::MAX, false), 4_294_967_295_000_000_000 + 4_294_967_295_000);
    }
}
