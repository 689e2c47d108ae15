//! When the sweep runs in capture time: as often as the agent's, the half-open tables every second and all of them
//! every fifth time.
//!
//! It never goes back. Captures merged from several interfaces jump to and fro by microseconds, and one whose clock
//! was set back by an hour is swept again when the hour is over; until then nothing is thrown out too early, and
//! records do not depend on the sweep anyway. Of a long silence only the end is swept: what the silence has ended is
//! ended by the first of these sweeps and has lingered by the last, as it would have live.

const EVERY_NS: u64 = 1_000_000_000;
const ALL_EVERY: u32 = 5;
/// More than [`linger_ns`](tcp_observer_common::limits::Limits::linger_ns) and one round of sweeps.
const SILENCE_NS: u64 = 15 * EVERY_NS;

/// One sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub now_ns: u64,
    /// Whether settled flows are looked at as well.
    pub all: bool,
}

/// The times of the sweeps to come.
#[derive(Debug, Default)]
pub struct Schedule {
    /// `None` before the first packet.
    next_ns: Option<u64>,
    sweeps: u32,
}

impl Schedule {
    /// The next sweep that is due by `now_ns`; to be asked until there is none.
    #[inline]
    pub fn due(&mut self, now_ns: u64) -> Option<Due> {
        let next_ns = *self.next_ns.get_or_insert_with(|| now_ns.saturating_add(EVERY_NS));
        if next_ns > now_ns {
            return None;
        }
        let at_ns = if now_ns - next_ns > SILENCE_NS {
            // The first sweep after a silence looks at everything.
            self.sweeps = ALL_EVERY - 1;
            now_ns - SILENCE_NS
        } else {
            next_ns
        };
        self.sweeps += 1;
        let all = self.sweeps == ALL_EVERY;
        if all {
            self.sweeps = 0;
        }
        // At the end of time nothing is due any more.
        self.next_ns = Some(at_ns.saturating_add(EVERY_NS).max(1));
        (at_ns < u64::MAX).then_some(Due { now_ns: at_ns, all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(schedule: &mut Schedule, now: u64) -> Vec<(u64, bool)> {
        std::iter::from_fn(|| schedule.due(now * EVERY_NS)).map(|due| (due.now_ns / EVERY_NS, due.all)).collect()
    }

    #[test]
    fn every_second_is_swept_and_every_fifth_sweep_takes_all() {
        let mut schedule = Schedule::default();
        assert_eq!(seconds(&mut schedule, 100), []);
        assert_eq!(seconds(&mut schedule, 102), [(101, false), (102, false)]);
        assert_eq!(seconds(&mut schedule, 90), []);
        assert_eq!(seconds(&mut schedule, 106), [(103, false), (104, false), (105, true), (106, false)]);
    }

    #[test]
    fn of_a_silence_the_end_is_swept_and_all_of_it_twice_with_the_linger_between() {
        let mut schedule = Schedule::default();
        assert_eq!(seconds(&mut schedule, 0), []);
        let swept = seconds(&mut schedule, 1_000);
        let all: Vec<_> = swept.iter().filter(|&&(_, all)| all).map(|&(at, _)| at).collect();
        assert_eq!(all, [985, 990, 995, 1_000]);
        assert_eq!(swept.len(), 16);
    }

    #[test]
    fn the_end_of_time_is_no_loop() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(u64::MAX), None);
        assert_eq!(schedule.due(u64::MAX), None);
    }
}
