//! The tables of flows of loaded programs, mapped for reading and writing: what a test finds in them, takes out of them,
//! and changes.

use std::{
    borrow::Borrow,
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use aya::maps::MapData;
use tcp_observer::kernel::mapped::{Mapped, MappedTable};
use tcp_observer_common::{
    abi::map,
    conn::Flow,
    flow::FlowKey,
    table::{FREE, PLACES, Slot, TAGS_BYTES, TAKEN, is_taken, slot_at, slots_bytes},
};

/// One table. Nothing else may write to an entry while a test does.
pub struct FlowTable<A> {
    reader: MappedTable<A>,
    tags: Writable,
    slots: Writable,
    family: PhantomData<A>,
}

/// A map's memory, to be written.
struct Writable {
    start: *mut u8,
    bytes: usize,
}

impl Writable {
    #[track_caller]
    fn new(data: &MapData, bytes: usize) -> Self {
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, of as many bytes as the map has.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, shared, data.fd().as_fd().as_raw_fd(), 0) };
        assert!(start != libc::MAP_FAILED, "cannot map a table: {}", io::Error::last_os_error());
        Self { start: start.cast(), bytes }
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

impl<A: Copy + Eq> FlowTable<A> {
    /// The table of this name, among maps that `open` opens or has by name.
    #[track_caller]
    pub fn new<M: Borrow<MapData>>(name: &str, open: impl Fn(&str) -> M) -> Self {
        let (tags, slots) = (open(&format!("{name}{}", map::TAGS)), open(name));
        let (tags, slots) = (tags.borrow(), slots.borrow());
        let reader = MappedTable::new(name, tags, slots, Mapped::AtOnce).unwrap_or_else(|error| panic!("{error:#}"));
        let buckets = reader.buckets() as usize;
        let (tags, slots) =
            (Writable::new(tags, buckets * TAGS_BYTES), Writable::new(slots, buckets * slots_bytes::<A>()));
        Self { reader, tags, slots, family: PhantomData }
    }

    /// Every entry.
    pub fn entries(&self) -> Vec<(FlowKey<A>, Flow)> {
        let mut entries = Vec::new();
        let read = self.reader.for_each(|key, flow| entries.push((*key, flow.clone())));
        read.expect("what is mapped can be read");
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

    /// Puts an entry where another one lies: packets look for it elsewhere.
    #[track_caller]
    pub fn put_in_place_of(&self, old: &FlowKey<A>, key: FlowKey<A>, flow: Flow) {
        // SAFETY: it lies in the mapping.
        let is_old = |slot: *mut Slot<A>| unsafe { (*slot).key == *old };
        let mut taken = self.words().filter(|(tag, _)| is_taken(tag.load(SeqCst)));
        let (_, slot) = taken.find(|(_, slot)| is_old(*slot)).expect("the entry is there");
        // SAFETY: likewise, and the mapping can be written.
        unsafe { slot.write(Slot { key, flow }) };
    }

    /// Puts an entry into the first place that is free: packets look for it elsewhere.
    #[track_caller]
    pub fn put_anywhere(&self, key: FlowKey<A>, flow: Flow) {
        let (tag, slot) = self.words().find(|(tag, _)| tag.load(SeqCst) == FREE).expect("there is room");
        // SAFETY: it lies in the mapping, which can be written, and nobody looks at a free place.
        unsafe { slot.write(Slot { key, flow }) };
        tag.store(TAKEN, SeqCst);
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
            // SAFETY: within the mappings, as are the words and slots of the bucket.
            let (tags, slots) =
                unsafe { (self.tags.start.add(index * TAGS_BYTES), self.slots.start.add(index * slots_bytes::<A>())) };
            (1..PLACES).map(move |place| {
                // SAFETY: as above.
                let tag = unsafe { &*tags.cast::<AtomicU32>().add(place as usize) };
                // SAFETY: as above.
                (tag, unsafe { slots.add(slot_at::<A>(place)).cast() })
            })
        })
    }
}
