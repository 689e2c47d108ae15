//! A table of flows as the kernel has it, mapped into this process for reading: no system call a flow, and nothing that
//! a packet would have to wait for.
//!
//! An entry may change, leave, or make way for another one while it is copied ([`copy_whole`]): what is shown is all of one
//! flow, though a half may be between two stores, as everywhere ([`Flow`]).

use std::{
    io, iter,
    marker::PhantomData,
    mem::{self, MaybeUninit, offset_of},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed},
            fence,
        },
    },
};

use anyhow::{Context, ensure};
use aya::maps::MapData;
use tcp_observer_common::{
    conn::{Flow, Times, Word},
    flow::FlowKey,
    table::{ENTRIES, PLACES, Place, Slot, TAGS_BYTES, copy_whole, glance_bytes, is_taken, slot_at, slots_bytes},
};

use super::mapping::{Mapping, OnDemand, cannot_map};
use crate::prefetch;

#[cfg(test)]
use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

#[cfg(test)]
use tcp_observer_common::table::TAKEN;

/// How many buckets before its turn what lies in a bucket is asked for.
const AHEAD: usize = 2;

/// One of so many buckets is looked at, to see whether there are so many taken ones.
const ONE_OF: usize = 16;

/// How much of an entry is looked at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Glance,
    Whole,
}

/// What is shown of an entry.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a, A> {
    /// Its word, and when it last changed.
    InPassing(Word, u64),
    /// Its first words ([`glance_bytes`]); the others are zero, or as they were left the last time.
    Glance(&'a FlowKey<A>, &'a Flow),
    Whole(&'a FlowKey<A>, &'a Flow),
}

/// Whether what was shown of an entry will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enough {
    Yes,
    No,
}

/// One table, of flows with addresses `A`.
#[derive(Debug)]
pub struct MappedTable<A> {
    tags: Mapping,
    slots: Mapping,
    /// What is still to be mapped of the entries, if they are mapped on demand.
    on_demand: Option<Mutex<OnDemand>>,
    buckets: usize,
    family: PhantomData<fn() -> A>,
}

/// Which entries are mapped, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// All of them at once, for a process that reads them again and again.
    AtOnce,
    /// Those of a bucket when something is first seen to lie there, or all, when there are many: to map a page takes the
    /// kernel a third of a microsecond, and all of a table's pages longer than to read the few flows that may be there.
    OnDemand,
}

impl<A> MappedTable<A> {
    /// The table of this name, whose lines of tags and whose entries are in these maps.
    ///
    /// # Errors
    /// When the kernel's description of the maps is not that of such a table, or they cannot be mapped.
    pub fn new(name: &str, tags: &MapData, slots: &MapData, mapped: Mapped) -> anyhow::Result<Self> {
        let describe = |data: &MapData| data.info().with_context(|| format!("cannot describe map `{name}`"));
        let [tags_info, slots_info] = [describe(tags)?, describe(slots)?];
        let buckets = slots_info.max_entries();
        let (expected, got) = (slots_bytes::<A>(), slots_info.value_size() as usize);
        ensure!(
            expected == got
                && tags_info.value_size() as usize == TAGS_BYTES
                && tags_info.max_entries() == buckets
                && buckets > 0,
            "map `{name}` has {buckets} buckets of {got} bytes where this version has {expected}; restart the agent"
        );
        let buckets = buckets as usize;
        let map = |data: &MapData, bytes| Mapping::new(data.fd().as_fd(), buckets * bytes);
        let all = || {
            let tags = map(tags, TAGS_BYTES)?;
            match mapped {
                Mapped::AtOnce => {
                    let slots = map(slots, slots_bytes::<A>())?;
                    Ok(Self { tags, slots, on_demand: None, buckets, family: PhantomData })
                }
                Mapped::OnDemand => Self::on_demand(name, tags, slots.fd().as_fd(), buckets),
            }
        };
        all().map_err(|error| cannot_map(name, error))
    }

    /// One of whose entries nothing is mapped yet.
    fn on_demand(name: &str, tags: Mapping, slots: BorrowedFd<'_>, buckets: usize) -> io::Result<Self> {
        let bytes = buckets * slots_bytes::<A>();
        let mut on_demand = OnDemand::new(name, slots.try_clone_to_owned()?, slots_bytes::<A>(), buckets);
        let mut table = Self { tags, slots: Mapping::reserve(bytes)?, on_demand: None, buckets, family: PhantomData };
        // Where there are more already, one by one would only be in vain. Keys lie as it comes: some buckets tell of all.
        let mut taken = (0..buckets).step_by(ONE_OF).filter(|&bucket| table.taken(bucket) != 0);
        if taken.nth(on_demand.singly / ONE_OF).is_some() {
            on_demand.singly = 0;
        }
        table.on_demand = Some(Mutex::new(on_demand));
        Ok(table)
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
    ///
    /// # Errors
    /// When a bucket cannot be mapped.
    pub fn for_each(&self, mut visit: impl FnMut(&FlowKey<A>, &Flow)) -> anyhow::Result<()> {
        let mut room = MaybeUninit::zeroed();
        self.walk(Self::WHOLE, |bucket, place| {
            if let Some(slot) = self.copy(bucket, place, Self::WHOLE, &mut room) {
                visit(&slot.key, &slot.flow);
            }
        })
    }

    /// Shows every entry to `visit` in passing; where that was not enough, at a glance, and where that was not either, all
    /// there is. A glance takes a quarter of the memory to be read.
    ///
    /// # Errors
    /// When a bucket cannot be mapped.
    pub fn for_each_at_a_glance(&self, mut visit: impl FnMut(Shown<'_, A>) -> Enough) -> anyhow::Result<()> {
        let (mut room, mut whole_room) = (MaybeUninit::zeroed(), MaybeUninit::zeroed());
        self.walk(Self::GLANCE, |bucket, place| {
            let Some((word, changed_ns)) = self.standing(bucket, place) else { return };
            if let Enough::Yes = visit(Shown::InPassing(word, changed_ns)) {
                return;
            }
            let Some(slot) = self.copy(bucket, place, Self::GLANCE, &mut room) else { return };
            if let Enough::No = visit(Shown::Glance(&slot.key, &slot.flow))
                && let Some(slot) = self.copy(bucket, place, Self::WHOLE, &mut whole_room)
            {
                visit(Shown::Whole(&slot.key, &slot.flow));
            }
        })
    }

    /// How many words all of an entry are.
    const WHOLE: usize = size_of::<Slot<A>>() / 8;
    /// And a glance at one.
    const GLANCE: usize = glance_bytes::<A>() / 8;
    /// Which of them says when it last changed.
    const CHANGED: usize = (offset_of!(Slot<A>, flow) + offset_of!(Flow, times) + offset_of!(Times, changed_ns)) / 8;

    /// Goes through all places with an entry. Most of the time is spent waiting for memory, so the first `words` of the
    /// entries are asked for beforehand; that the tags follow each other the processor sees by itself.
    #[inline]
    fn walk(&self, words: usize, mut at: impl FnMut(usize, u32)) -> anyhow::Result<()> {
        let on_demand = self.on_demand.as_ref().map(Mutex::lock);
        let mut on_demand = on_demand.map(|locked| locked.unwrap_or_else(PoisonError::into_inner));
        let mut taken = [0; AHEAD];
        for bucket in 0..self.buckets + AHEAD {
            let found = if bucket < self.buckets { self.taken(bucket) } else { 0 };
            if found != 0
                && let Some(on_demand) = &mut on_demand
            {
                on_demand.map(bucket, &self.slots)?;
            }
            for place in places(found) {
                let slot = self.slot(bucket, place);
                // One in each cache line, wherever the first one begins.
                let lines = (0..words).step_by(8).chain([words - 1]);
                lines.for_each(|word| prefetch::line(slot.wrapping_add(word)));
            }
            let due = mem::replace(&mut taken[bucket % AHEAD], found);
            if let Some(bucket) = bucket.checked_sub(AHEAD) {
                places(due).for_each(|place| at(bucket, place));
            }
        }
        Ok(())
    }

    /// The places of a bucket with an entry, as bits.
    #[inline]
    fn taken(&self, bucket: usize) -> u32 {
        // All of the line first: the comparisons can then be made at once.
        let tags = self.tags(bucket).each_ref().map(|tag| tag.load(Relaxed));
        fence(Acquire);
        let taken = tags.iter().rev().fold(0, |taken, &tag| taken << 1 | u32::from(is_taken(tag)));
        taken & !1
    }

    /// The word of an entry and when it last changed, both of one flow; `None` as for [`Self::copy`].
    #[inline(always)]
    fn standing(&self, bucket: usize, place: u32) -> Option<(Word, u64)> {
        const { assert!(Self::CHANGED < Self::GLANCE) };
        // SAFETY: a word of the slot.
        let changed_ns = unsafe { &*self.slot(bucket, place).add(Self::CHANGED) };
        let place = self.place(bucket, place);
        copy_whole(&place, || (Word(place.word.load(Relaxed)), changed_ns.load(Relaxed)))
    }

    /// A copy of the first `words` of an entry in `room`, all of one flow; `None` when there is none, or it changes hands each
    /// time.
    #[inline(always)]
    fn copy<'a>(
        &self,
        bucket: usize,
        place: u32,
        words: usize,
        room: &'a mut MaybeUninit<Slot<A>>,
    ) -> Option<&'a Slot<A>> {
        const { assert!(size_of::<Slot<A>>().is_multiple_of(8) && align_of::<Slot<A>>() == 8) };
        let from = self.slot(bucket, place);
        copy_whole(&self.place(bucket, place), || {
            for i in 0..words {
                // SAFETY: within the slot, there and here.
                unsafe { room.as_mut_ptr().cast::<u64>().add(i).write((*from.add(i)).load(Relaxed)) };
            }
        })?;
        // SAFETY: any bytes are a slot, and all were written: the room was zeroed once.
        Some(unsafe { room.assume_init_ref() })
    }

    fn place(&self, bucket: usize, place: u32) -> MappedPlace<'_> {
        let word_at = (offset_of!(Slot<A>, flow) + offset_of!(Flow, word)) / 8;
        // SAFETY: a word of the slot.
        MappedPlace { tag: self.tag(bucket, place), word: unsafe { &*self.slot(bucket, place).add(word_at) } }
    }

    fn slot(&self, bucket: usize, place: u32) -> *const AtomicU64 {
        debug_assert!(bucket < self.buckets);
        // SAFETY: within the mapping, at a multiple of eight.
        unsafe { self.slots.start.as_ptr().add(bucket * slots_bytes::<A>() + slot_at::<A>(place)) }.cast()
    }

    fn tag(&self, bucket: usize, place: u32) -> &AtomicU32 {
        &self.tags(bucket)[place as usize]
    }

    /// The control word and the tags of a bucket.
    fn tags(&self, bucket: usize) -> &[AtomicU32; PLACES as usize] {
        debug_assert!(bucket < self.buckets);
        // SAFETY: within the mapping, which is made of such lines.
        unsafe { &*self.tags.start.as_ptr().add(bucket * TAGS_BYTES).cast() }
    }
}

/// The bits that are set.
fn places(mut taken: u32) -> impl Iterator<Item = u32> {
    iter::from_fn(move || {
        let place = taken.trailing_zeros();
        taken &= taken.wrapping_sub(1);
        (place < u32::BITS).then_some(place)
    })
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

/// Tables in memory, for tests.
#[cfg(test)]
impl<A> MappedTable<A> {
    pub fn of_memory(buckets: usize) -> Self {
        Self::of_files(&Self::files(buckets), buckets, Mapped::AtOnce)
    }

    /// Files for the tags and entries of so many buckets.
    fn files(buckets: usize) -> [OwnedFd; 2] {
        [TAGS_BYTES, slots_bytes::<A>()].map(|bytes| {
            // SAFETY: the name ends with a zero, and the descriptor is nobody else's.
            let file = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"table".as_ptr(), libc::MFD_CLOEXEC)) };
            // SAFETY: no memory is involved.
            assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), (buckets * bytes) as libc::off_t) }, 0);
            file
        })
    }

    /// The table in these files, which can be written where it is mapped at once.
    fn of_files([tags, slots]: &[OwnedFd; 2], buckets: usize, mapped: Mapped) -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let memory = |file: &OwnedFd, bytes| {
            // SAFETY: a new mapping.
            let start =
                unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
            Mapping::made(start, bytes).unwrap()
        };
        let tags = memory(tags, buckets * TAGS_BYTES);
        if mapped == Mapped::OnDemand {
            return Self::on_demand("table", tags, slots.as_fd(), buckets).unwrap();
        }
        let slots = memory(slots, buckets * slots_bytes::<A>());
        Self { tags, slots, on_demand: None, buckets, family: PhantomData }
    }

    /// Puts an entry into a place, which nobody reads meanwhile.
    pub fn put(&self, bucket: usize, place: u32, key: &FlowKey<A>, flow: Flow)
    where
        FlowKey<A>: Copy,
    {
        // SAFETY: the slot is within the mapping, which can be written.
        unsafe { self.slot(bucket, place).cast::<Slot<A>>().cast_mut().write(Slot { key: *key, flow }) };
        self.tag(bucket, place).store(TAG, Relaxed);
    }
}

/// Any key's.
#[cfg(test)]
const TAG: u32 = TAKEN | 77;

#[cfg(test)]
mod tests {
    use std::{
        hint,
        sync::atomic::{AtomicBool, Ordering::SeqCst},
        thread,
        time::{Duration, Instant},
    };

    use tcp_observer_common::flow::{Ipv4, Ipv6};

    use super::*;

    const BUSY: u32 = 1;
    const BUCKETS: usize = 20;

    /// The words of what is shown.
    fn words<A>(key: &FlowKey<A>) -> &[AtomicU64] {
        // SAFETY: the key is the first field of a slot.
        unsafe { std::slice::from_raw_parts(ptr::from_ref(key).cast(), size_of::<Slot<A>>() / 8) }
    }

    /// Gives every place words of its own, and one in three a tag.
    fn fill<A>(table: &MappedTable<A>) {
        for (bucket, place) in places_of(table) {
            for word in 0..size_of::<Slot<A>>() / 8 {
                // SAFETY: within the slot.
                unsafe { &*table.slot(bucket, place).add(word) }.store(number(bucket, place, word), Relaxed);
            }
            table.tag(bucket, place).store([0, BUSY, TAG][place as usize % 3], Relaxed);
        }
    }

    fn places_of<A>(table: &MappedTable<A>) -> impl Iterator<Item = (usize, u32)> + use<A> {
        let buckets = table.buckets;
        (0..buckets).flat_map(|bucket| (1..PLACES).map(move |place| (bucket, place)))
    }

    fn number(bucket: usize, place: u32, word: usize) -> u64 {
        1 + ((bucket as u64 * 100 + u64::from(place)) * 100 + word as u64)
    }

    /// A glance shows so many words.
    fn is_shown_what_there_is<A>(glance: usize) {
        let files = MappedTable::<A>::files(BUCKETS);
        let [table, on_demand] =
            [Mapped::AtOnce, Mapped::OnDemand].map(|mapped| MappedTable::<A>::of_files(&files, BUCKETS, mapped));
        fill(&table);
        is_shown_of(&table, glance);
        // Some of the buckets one by one, and then the others together; or all, where there are many to begin with.
        let left = |table: &MappedTable<A>| table.on_demand.as_ref().unwrap().lock().unwrap().singly;
        assert!((1..BUCKETS).contains(&left(&on_demand)));
        is_shown_of(&on_demand, glance);
        assert_eq!(left(&on_demand), 0);
        let on_demand = MappedTable::<A>::of_files(&files, BUCKETS, Mapped::OnDemand);
        assert_eq!(left(&on_demand), 0);
        is_shown_of(&on_demand, glance);
    }

    fn is_shown_of<A>(table: &MappedTable<A>, glance: usize) {
        let taken: Vec<_> = places_of(table).filter(|(_, place)| place % 3 == 2).collect();
        let mut shown = taken.iter();
        table
            .for_each(|key, _| {
                let &(bucket, place) = shown.next().expect("no more than there are");
                for (index, word) in words(key).iter().enumerate() {
                    assert_eq!(word.load(Relaxed), number(bucket, place, index));
                }
            })
            .unwrap();
        assert_eq!(shown.len(), 0);
        let all = size_of::<Slot<A>>() / 8;
        let mut shown = taken.iter().flat_map(|at| [(at, 0), (at, glance), (at, all)]);
        table
            .for_each_at_a_glance(|entry| {
                let (&(bucket, place), expected) = shown.next().expect("no more than there are");
                let (key, extent) = match entry {
                    // The last change is the last word of a glance; the flow's word is the fifth before it.
                    Shown::InPassing(word, changed_ns) => {
                        let numbers = [word.0, changed_ns];
                        assert_eq!(numbers, [glance - 6, glance - 1].map(|index| number(bucket, place, index)));
                        assert_eq!(expected, 0);
                        return Enough::No;
                    }
                    Shown::Glance(key, _) => (key, glance),
                    Shown::Whole(key, _) => (key, all),
                };
                assert_eq!(extent, expected);
                for (index, word) in words(key).iter().enumerate() {
                    let expected = if index < extent { number(bucket, place, index) } else { 0 };
                    assert_eq!(word.load(Relaxed), expected, "{index}");
                }
                Enough::No
            })
            .unwrap();
        assert_eq!(shown.count(), 0);
        for looks in 1..=2 {
            let mut shown = 0;
            table
                .for_each_at_a_glance(|_| {
                    shown += 1;
                    if shown % looks == 0 { Enough::Yes } else { Enough::No }
                })
                .unwrap();
            assert_eq!(shown, looks * taken.len());
        }
    }

    #[test]
    fn each_entry_is_shown_in_its_place_and_a_glance_leaves_out_what_segments_write() {
        // By hand, from the layout: the key takes two words (IPv4) or five (IPv6), then come the flow's word and five times.
        is_shown_what_there_is::<Ipv4>(8);
        is_shown_what_there_is::<Ipv6>(11);
    }

    struct Stop<'a>(&'a AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    #[test]
    fn nothing_that_is_shown_mixes_two_entries() {
        let table = MappedTable::<Ipv4>::of_memory(1);
        let stop = AtomicBool::new(false);
        let (seen, changes) = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let word_at = (offset_of!(Slot<Ipv4>, flow) + offset_of!(Flow, word)) / 8;
                let mut turn = 0_u64;
                while !stop.load(Relaxed) {
                    turn += 1;
                    table.tag(0, 5).swap(BUSY, SeqCst);
                    for index in 0..size_of::<Slot<Ipv4>>() / 8 {
                        // The number by which a reader tells entries apart is in the word's upper bits.
                        let value = if index == word_at { turn << 48 | turn & 0xffff_ffff } else { turn };
                        // SAFETY: within the slot.
                        unsafe { &*table.slot(0, 5).add(index) }.store(value, Relaxed);
                    }
                    table.tag(0, 5).swap(TAG, SeqCst);
                    // For as long as a copy takes, so that some are not disturbed.
                    (0..turn % 300).for_each(|_| hint::spin_loop());
                }
                turn
            });
            // However it ends, the writer does as well.
            let stopped = Stop(&stop);
            let (mut seen, begun) = ([0_u64; 3], Instant::now());
            while seen.iter().any(|&times| times < 100_000) {
                assert!(begun.elapsed() < Duration::from_secs(120), "too seldom undisturbed: {seen:?}");
                table
                    .for_each_at_a_glance(|shown| {
                        let (key, flow, is_whole) = match shown {
                            Shown::InPassing(word, turn) => {
                                assert_eq!(word.0, turn << 48 | turn & 0xffff_ffff);
                                seen[0] += 1;
                                return Enough::No;
                            }
                            Shown::Glance(key, flow) => (key, flow, false),
                            Shown::Whole(key, flow) => (key, flow, true),
                        };
                        let turn = flow.times.changed_ns.get();
                        assert_eq!(flow.word.0.get(), turn << 48 | turn & 0xffff_ffff);
                        let others = words(key).iter().map(|word| word.load(Relaxed));
                        let is_of_another = |word: &u64| *word != turn && *word != 0 && *word != flow.word.0.get();
                        assert_eq!(others.filter(is_of_another).count(), 0);
                        assert!(!is_whole || flow.high.packets.get() == turn);
                        seen[1 + usize::from(is_whole)] += 1;
                        Enough::No
                    })
                    .unwrap();
            }
            drop(stopped);
            (seen, writer.join().expect("the writer ends"))
        });
        assert!(changes > 1_000, "{seen:?} looks saw {changes} changes");
    }
}
