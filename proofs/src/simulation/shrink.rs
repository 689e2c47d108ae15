//! Makes a plan smaller while a run of it still fails: delta debugging (Zeller and Hildebrandt, "Simplifying and
//! isolating failure-inducing input", 2002) over faults and actions, and then the plainest settings that will do.

use super::plan::{Plan, SECOND};

/// The smallest plan found that `fails`, as `plan` does. At most `tries` runs.
pub fn shrink(plan: &Plan, tries: u32, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut best = plan.clone();
    let mut left = tries;
    let mut try_out = |best: &mut Plan, smaller: Plan| {
        let is_one = left > 0 && smaller != *best && {
            left -= 1;
            fails(&smaller)
        };
        if is_one {
            *best = smaller;
        }
        is_one
    };
    loop {
        let before = best.clone();
        for length in halves(best.faults.len()) {
            let mut at = 0;
            while at < best.faults.len() {
                let mut smaller = best.clone();
                smaller.faults.drain(at..(at + length).min(best.faults.len()));
                at += if try_out(&mut best, smaller) { 0 } else { length };
            }
        }
        for length in halves(best.acts.len()) {
            let mut at = 0;
            while at < best.acts.len() {
                let mut smaller = best.clone();
                smaller.acts.drain(at..(at + length).min(best.acts.len()));
                at += if try_out(&mut best, smaller) { 0 } else { length };
            }
        }
        for index in 0..best.hosts.len() {
            for plainer in PLAINER {
                let mut smaller = best.clone();
                plainer(&mut smaller, index);
                try_out(&mut best, smaller);
            }
        }
        if best == before {
            return best;
        }
    }
}

const PLAINER: [fn(&mut Plan, usize); 7] = [
    |plan, index| plan.hosts[index].timestamps = false,
    |plan, index| plan.hosts[index].keep_alive_ms = None,
    |plan, index| plan.hosts[index].timeout_ms = None,
    |plan, index| plan.hosts[index].ack_delay_ms = None,
    |plan, index| plan.hosts[index].receive_bytes = 8_000,
    |plan, index| plan.hosts[index].answers_close = false,
    |plan, _| plan.first_sweep_ns = SECOND - 1,
];

/// How many things to leave out at once: all, half of them, …, one.
fn halves(all: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(all), |&length| (length > 1).then_some(length / 2)).filter(|&length| length > 0)
}
