//! How a bucket lies in memory: a cache line of one control word and fifteen tags in one array, fifteen entries in another.
//!
//! Both arrays are BPF maps that userspace has mapped. The tags of all buckets lie close together: a key that is not there
//! is looked for without a page of entries being touched. An IPv4 entry is four cache lines: the key, the word and the
//! times, which are all that is counted of most flows; the story, and what transitions touch of the low side; what each
//! segment of the low side writes; and the same of the high side. So a data segment reads the tags and the first line, and
//! writes the line of its own direction, which no data segment of the other direction writes.

use core::mem::offset_of;

use crate::{
    conn::{Flow, Half, Times},
    flow::{FlowKey, Ipv4, Ipv6},
};

use super::{ENTRIES, PLACES};

/// What lies in one place of a bucket.
#[derive(Debug)]
#[repr(C)]
pub struct Slot<A> {
    pub key: FlowKey<A>,
    pub flow: Flow,
}

/// The bytes of a cache line.
pub const LINE: usize = 64;

/// The bytes of a bucket's control word and tags: one line.
pub const TAGS_BYTES: usize = PLACES as usize * size_of::<u32>();
const _: () = assert!(TAGS_BYTES == LINE);

/// The bytes of a bucket's entries with addresses `A`: whole lines.
pub const fn slots_bytes<A>() -> usize {
    (ENTRIES as usize * size_of::<Slot<A>>()).next_multiple_of(LINE)
}

/// Where among them the entry in a place (1 to [`ENTRIES`]) begins.
#[inline(always)]
pub const fn slot_at<A>(place: u32) -> usize {
    (place as usize - 1) * size_of::<Slot<A>>()
}

/// The first bytes of an entry, which no data segment writes: the key, the word, and the times up to the last change.
pub const fn glance_bytes<A>() -> usize {
    let times = offset_of!(Slot<A>, flow) + offset_of!(Flow, times);
    times + offset_of!(Times, changed_ns) + size_of::<u64>()
}

/// How many buckets it takes so that `flows` fit: where keys are random the first refusal comes when 84 % of the
/// places are taken, so there are a quarter more.
pub const fn buckets_for(flows: u32) -> u32 {
    let places = flows as u64 + (flows as u64).div_ceil(4);
    let buckets = places.div_ceil(ENTRIES as u64);
    if buckets < 1 { 1 } else { buckets as u32 }
}

const _: () = {
    assert!(size_of::<Slot<Ipv4>>() == 256 && size_of::<Slot<Ipv6>>() == 280);
    assert!(slots_bytes::<Ipv4>() == 3_840 && slots_bytes::<Ipv6>() == 4_224);
    // The two directions' hot halves in lines of their own.
    let flow = offset_of!(Slot<Ipv4>, flow);
    let hot = offset_of!(Half, last_seen_ns);
    let low = flow + offset_of!(Flow, low) + hot..flow + offset_of!(Flow, high);
    let high = flow + offset_of!(Flow, high) + hot..size_of::<Slot<Ipv4>>();
    assert!(2 * LINE <= low.start && low.start < low.end && low.end <= 3 * LINE);
    assert!(3 * LINE <= high.start && high.start < high.end && high.end <= 4 * LINE);
    // What a glance takes in the first one.
    assert!(glance_bytes::<Ipv4>() == LINE);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_more_places_than_flows_are_made() {
        // By hand: 262,144 flows want 327,680 places, which is 21,846 buckets of fifteen.
        assert_eq!(buckets_for(262_144), 21_846);
        assert_eq!(buckets_for(12), 1);
        assert_eq!(buckets_for(13), 2);
        assert_eq!(buckets_for(0), 1);
        assert_eq!(buckets_for(u32::MAX), 357_913_942);
    }

    #[test]
    fn entries_follow_each_other() {
        assert_eq!(slot_at::<Ipv4>(1), 0);
        assert_eq!(slot_at::<Ipv4>(15) + 256, 3_840);
        assert_eq!(slot_at::<Ipv6>(2), 280);
    }
}
