//! A packet as it comes between other work: each run alone, when the caches that a processor has for itself hold
//! something else.
//!
//! In a test run of many the program's code and all that it looks at lie in the nearest cache. On a host they do not:
//! between two packets the kernel's stack goes through as much as those caches hold.

use std::{cell::RefCell, hint};

use integration_tests::synthetic::Lane;
use tcp_observer_common::table::LINE;

use crate::spread::Spread;

/// As much as the caches hold that belong to one processor: today's have half a MiB to two of them.
const OTHER_BYTES: usize = 2 << 20;

thread_local! {
    static OTHER: RefCell<Vec<u8>> = RefCell::new(vec![0; OTHER_BYTES]);
}

/// The duration of one of so many runs, each after other work: the mean of the middle half, in nanoseconds.
pub fn run(lane: &Lane, frame: &[u8], times: u32) -> f64 {
    let one = |_| {
        OTHER.with_borrow_mut(|other| other.iter_mut().step_by(LINE).for_each(|byte| *byte = byte.wrapping_add(1)));
        hint::black_box(&OTHER);
        lane.run(frame, 1)
    };
    Spread::of(&(0..times).map(one).collect::<Vec<_>>()).middle
}
