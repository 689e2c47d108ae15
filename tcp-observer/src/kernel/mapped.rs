//! A table of flows as the kernel has it, mapped into this process for reading: no system call a flow, and nothing that
//! a packet would have to wait for.
//!
//! An entry may change, leave, or make way for another one while it is copied ([`copy_whole`]): what is shown is all of one
//! flow, though a half may be between two stores, as everywhere ([`Flow`]).

use std::{
    io,
    marker::PhantomData,
    mem::{MaybeUninit, offset_of},
    os::fd::{AsFd, AsRawFd},
    ptr::{self, NonNull},
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed},
        fence,
    },
};

use anyhow::{Context, ensure};
use aya::maps::MapData;
use tcp_observer_common::{
    conn::{Flow, Word},
    flow::FlowKey,
    table::{ENTRIES, PLACES, Place, Slot, TAGS_BYTES, copy_whole, is_taken, slot_at, slots_bytes},
};

/// One table, of flows with addresses `A`.
#[derive(Debug)]
pub struct MappedTable<A> {
    tags: Mapping,
    slots: Mapping,
    buckets: usize,
    family: PhantomData<fn() -> A>,
}

impl<A> MappedTable<A> {
    /// The table of this name, whose lines of tags and whose entries are in these maps.
    ///
    /// # Errors
    /// When the kernel's description of the maps is not that of such a table, or they cannot be mapped.
    pub fn new(name: &str, tags: &MapData, slots: &MapData) -> anyhow::Result<Self> {
        let describe = |data: &MapData| data.info().with_context(|| format!("cannot describe map `{name}`"));
        let [tags_info, slots_info] = [describe(tags)?, describe(slots)?];
        let buckets = slots_info.max_entries();
        let (expected, got) = (slots_bytes::<A>(), slots_info.value_size() as usize);
        ensure!(
            expected == got && tags_info.value_size() as usize == TAGS_BYTES && tags_info.max_entries() == buckets,
            "map `{name}` has {buckets} buckets of {got} bytes where this version has {expected}; restart the agent"
        );
        let buckets = buckets as usize;
        let map = |data, bytes| Mapping::new(data, buckets * bytes).with_context(|| format!("cannot map `{name}`"));
        Ok(Self { tags: map(tags, TAGS_BYTES)?, slots: map(slots, slots_bytes::<A>())?, buckets, family: PhantomData })
    }

    /// How many entries have a place.
    pub fn capacity(&self) -> u64 {
        self.buckets as u64 * u64::from(ENTRIES)
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> u32 {
        self.buckets as u32
    }

    /// Shows every entry to `visit`, in the order in which they lie.
    ///
    /// One that comes, goes or changes its place meanwhile may be missed or shown twice, as with any walk of a live table.
    pub fn for_each(&self, mut visit: impl FnMut(&FlowKey<A>, &Flow)) {
        for bucket in 0..self.buckets {
            for place in 1..PLACES {
                let tag = self.tag(bucket, place);
                if !is_taken(tag.load(Acquire)) {
                    continue;
                }
                if let Some(slot) = self.copy(bucket, place) {
                    visit(&slot.key, &slot.flow);
                }
            }
        }
    }

    /// A copy of an entry, all of one flow; `None` when there is none, or it changes hands each time.
    fn copy(&self, bucket: usize, place: u32) -> Option<Slot<A>> {
        const { assert!(size_of::<Slot<A>>().is_multiple_of(8) && align_of::<Slot<A>>() == 8) };
        let from = self.slot(bucket, place);
        let word_at = (offset_of!(Slot<A>, flow) + offset_of!(Flow, word)) / 8;
        // SAFETY: a word of the slot.
        let place = MappedPlace { tag: self.tag(bucket, place), word: unsafe { &*from.add(word_at) } };
        let mut slot = MaybeUninit::<Slot<A>>::uninit();
        copy_whole(&place, || {
            for i in 0..size_of::<Slot<A>>() / 8 {
                // SAFETY: within the slot, there and here.
                unsafe { slot.as_mut_ptr().cast::<u64>().add(i).write((*from.add(i)).load(Relaxed)) };
            }
        })?;
        // SAFETY: every word was written, and any bytes are a slot.
        Some(unsafe { slot.assume_init() })
    }

    fn slot(&self, bucket: usize, place: u32) -> *const AtomicU64 {
        debug_assert!(bucket < self.buckets);
        // SAFETY: within the mapping, at a multiple of eight.
        unsafe { self.slots.start.as_ptr().add(bucket * slots_bytes::<A>() + slot_at::<A>(place)) }.cast()
    }

    fn tag(&self, bucket: usize, place: u32) -> &AtomicU32 {
        debug_assert!(bucket < self.buckets);
        // SAFETY: within the mapping, which is made of such words.
        unsafe { &*self.tags.start.as_ptr().add(bucket * TAGS_BYTES).cast::<AtomicU32>().add(place as usize) }
    }
}

/// The tag of a place, and the word of the flow in it.
struct MappedPlace<'a> {
    tag: &'a AtomicU32,
    word: &'a AtomicU64,
}

impl Place for MappedPlace<'_> {
    fn tag(&self) -> u32 {
        self.tag.load(Acquire)
    }

    fn number(&self) -> u16 {
        Word(self.word.load(Acquire)).epoch()
    }

    fn fence(&self) {
        fence(Acquire);
    }
}

/// A map's memory, for reading.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: memory that is read by atomic loads only, and stays mapped until the last owner is gone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(data: &MapData, bytes: usize) -> io::Result<Self> {
        let fd = data.fd().as_fd().as_raw_fd();
        // SAFETY: a new mapping, of a file's pages that nobody takes for anything but atomic words.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        let mapped = if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) };
        Ok(Self { start: mapped.ok_or_else(io::Error::last_os_error)?, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped, which nobody refers to any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
