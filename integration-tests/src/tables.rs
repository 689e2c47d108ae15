//! The tables of flows of loaded programs, mapped for reading and writing: what a test finds in them, takes out of them,
//! and changes.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use aya::maps::MapData;
use tcp_observer::kernel::mapped::MappedTable;
use tcp_observer_common::{
    conn::Flow,
    flow::FlowKey,
    table::{FREE, PLACES, Slot, bucket_bytes, is_taken, slot_at},
};

/// One table. Nothing else may write to an entry while a test does.
pub struct FlowTable<A> {
    reader: MappedTable<A>,
    start: *mut u8,
    family: PhantomData<A>,
}

impl<A: Copy + Eq> FlowTable<A> {
    #[track_caller]
    pub fn new(name: &str, data: &MapData) -> Self {
        let reader = MappedTable::new(name, data).unwrap_or_else(|error| panic!("{error:#}"));
        let bytes = reader.buckets() as usize * bucket_bytes::<A>();
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, of as many bytes as the map has.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, shared, data.fd().as_fd().as_raw_fd(), 0) };
        assert!(start != libc::MAP_FAILED, "cannot map `{name}`: {}", io::Error::last_os_error());
        Self { reader, start: start.cast(), family: PhantomData }
    }

    /// Every entry.
    pub fn entries(&self) -> Vec<(FlowKey<A>, Flow)> {
        let mut entries = Vec::new();
        self.reader.for_each(|key, flow| entries.push((*key, flow.clone())));
        entries
    }

    /// The flow with this key.
    pub fn find(&self, key: &FlowKey<A>) -> Option<Flow> {
        self.places().find(|slot| slot.key == *key).map(|slot| slot.flow.clone())
    }

    /// Takes the entry with this key out; says whether it was there.
    pub fn remove(&self, key: &FlowKey<A>) -> bool {
        let mut tags = self.tags().filter(|(_, slot)| slot.key == *key);
        let removed = tags.next().map(|(tag, _)| tag.store(FREE, SeqCst)).is_some();
        removed && tags.next().is_none()
    }

    /// Takes every entry out.
    pub fn clear(&self) {
        self.tags().for_each(|(tag, _)| tag.store(FREE, SeqCst));
    }

    /// Changes the flow with this key where it lies.
    #[track_caller]
    pub fn change(&self, key: &FlowKey<A>, change: impl FnOnce(&Flow)) {
        change(&self.places().find(|slot| slot.key == *key).expect("the entry is there").flow);
    }

    /// Puts an entry into the first place that is free: packets look for it elsewhere.
    #[track_caller]
    pub fn put_anywhere(&self, key: FlowKey<A>, flow: Flow) {
        const ANY_TAG: u32 = 2;
        let (tag, slot) = self.words().find(|(tag, _)| tag.load(SeqCst) == FREE).expect("there is room");
        // SAFETY: it lies in the mapping, which can be written, and nobody looks at a free place.
        unsafe { slot.write(Slot { key, flow }) };
        tag.store(ANY_TAG, SeqCst);
    }

    fn places(&self) -> impl Iterator<Item = &Slot<A>> {
        self.tags().map(|(_, slot)| slot)
    }

    /// The tag and the entry of each place that is taken.
    fn tags(&self) -> impl Iterator<Item = (&AtomicU32, &Slot<A>)> {
        let taken = self.words().filter(|(tag, _)| is_taken(tag.load(SeqCst)));
        // SAFETY: within the mapping; made of cells and plain words.
        taken.map(|(tag, slot)| (tag, unsafe { &*slot }))
    }

    /// The tag of each place, and where its entry is.
    fn words(&self) -> impl Iterator<Item = (&AtomicU32, *mut Slot<A>)> {
        let buckets = 0..self.reader.buckets() as usize;
        buckets.flat_map(move |index| {
            // SAFETY: within the mapping, as are the tags and slots of the bucket.
            let bucket = unsafe { self.start.add(index * bucket_bytes::<A>()) };
            (1..PLACES).map(move |place| {
                // SAFETY: as above.
                let tag = unsafe { &*bucket.cast::<AtomicU32>().add(place as usize) };
                // SAFETY: as above.
                (tag, unsafe { bucket.add(slot_at::<A>(place)).cast() })
            })
        })
    }
}

impl<A> Drop for FlowTable<A> {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped.
        unsafe { libc::munmap(self.start.cast(), self.reader.buckets() as usize * bucket_bytes::<A>()) };
    }
}
