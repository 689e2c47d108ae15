//! The core's [`table`](tcp_observer_common::table) over arrays of buckets, which userspace has mapped.
//!
//! The shortest path looks a key up in its own program ([`Table::find`]). All else that is done to a table
//! is a function with global linkage for each family, which the verifier looks at once; they say where an entry lies,
//! since such a function cannot give back a pointer.

use core::{
    arch::asm,
    intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg},
    marker::PhantomData,
    ops::Deref,
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::maps::Array;
use tcp_observer_common::{
    conn::{Flow, Word},
    flow::{Address, FlowKey, FlowKey4, FlowKey6, Ipv4, Ipv6},
    observer::{Known, Seeker, Table},
    table::{
        self, BUSY, Bucket, Buckets, ENTRIES, Found, Hash, LINE, Looked, PLACES, Refusal, Slot, There, Watch, Which,
        is_taken, slot_at,
    },
    verifier::forget_index,
};

use crate::maps::{
    FLOWS_IPV4, FLOWS_IPV4_TAGS, FLOWS_IPV6, FLOWS_IPV6_TAGS, GEOMETRY, HALF_OPEN_IPV4, HALF_OPEN_IPV4_TAGS,
    HALF_OPEN_IPV6, HALF_OPEN_IPV6_TAGS, Slots4, Slots6, Tags,
};

/// A table of flows: the arrays of its buckets' tags and entries, and which of a family's two tables it is.
#[derive(Clone, Copy)]
pub struct FlowTable<A: 'static, B: 'static> {
    tags: &'static Array<Tags>,
    slots: &'static Array<B>,
    is_half_open: bool,
    family: PhantomData<A>,
}

pub type FlowTable4 = FlowTable<Ipv4, Slots4>;
pub type FlowTable6 = FlowTable<Ipv6, Slots6>;

pub const FLOWS4: FlowTable4 =
    FlowTable { tags: &FLOWS_IPV4_TAGS, slots: &FLOWS_IPV4, is_half_open: false, family: PhantomData };
pub const HALF_OPEN4: FlowTable4 =
    FlowTable { tags: &HALF_OPEN_IPV4_TAGS, slots: &HALF_OPEN_IPV4, is_half_open: true, family: PhantomData };
pub const FLOWS6: FlowTable6 =
    FlowTable { tags: &FLOWS_IPV6_TAGS, slots: &FLOWS_IPV6, is_half_open: false, family: PhantomData };
pub const HALF_OPEN6: FlowTable6 =
    FlowTable { tags: &HALF_OPEN_IPV6_TAGS, slots: &HALF_OPEN_IPV6, is_half_open: true, family: PhantomData };

/// The hash of a key under this agent's secret.
#[inline(always)]
fn hash<A: Address>(key: &FlowKey<A>) -> Hash<impl Fn() -> u32 + Copy> {
    // SAFETY: a load-time constant; the index is below the array's length.
    Hash::of(key, |i| unsafe { read_volatile((&raw const GEOMETRY.secrets).cast::<u64>().add(i)) })
}

/// A bucket in its arrays.
pub struct BucketAt<A> {
    tags: *mut u32,
    slots: *mut u8,
    family: PhantomData<A>,
}

impl<A> Clone for BucketAt<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for BucketAt<A> {}

impl<A> BucketAt<A> {
    #[inline(always)]
    fn word_at(&self, place: u32) -> *mut u32 {
        self.tags.wrapping_add(place as usize)
    }

    #[inline(always)]
    fn slot(&self, place: u32) -> *mut Slot<A> {
        self.slots.wrapping_add(slot_at::<A>(place)).cast()
    }

    /// The same for a place that is not known, in the way in which the verifier sees that it is one: before 6.8 it
    /// learns nothing from a number that is not zero.
    #[inline(always)]
    fn checked_slot(&self, place: u32) -> Option<*mut Slot<A>> {
        let index = forget_index(u64::from(place).wrapping_sub(1));
        if index >= u64::from(ENTRIES) {
            return None;
        }
        Some(self.slots.wrapping_add(index as usize * size_of::<Slot<A>>()).cast())
    }

    /// Asks for all lines of an entry. Off the shortest path all are needed, and they would come one after the other.
    #[inline(always)]
    fn ask_for_all(&self, place: u32) {
        if let Some(slot) = self.checked_slot(place) {
            ask_for(slot);
        }
    }

    /// The flow in a place, if it is this key's; asked for likewise.
    #[inline(always)]
    fn flow_of(&self, place: u32, key: &FlowKey<A>) -> Option<&'static Flow>
    where
        A: Address,
    {
        let slot = self.checked_slot(place)?;
        ask_for(slot);
        if !is_taken(self.word(place)) || !has(slot, key) {
            return None;
        }
        // SAFETY: as in `flow`.
        Some(unsafe { &(*slot).flow })
    }

    /// Writes an entry into a place that is busy by this CPU's doing: the key, and by `write` the flow, whose word is to have
    /// the epoch after that of the last one there.
    #[inline(always)]
    fn write(&self, place: u32, key: &FlowKey<A>, write: impl FnOnce(&Flow, u16)) -> bool {
        let Some(slot) = self.checked_slot(place) else {
            return false;
        };
        // SAFETY: within the bucket; a key is made of these words.
        let (to, from) = unsafe { ((&raw mut (*slot).key).cast::<u32>(), (&raw const *key).cast::<u32>()) };
        let mut i = 0;
        while i < size_of::<FlowKey<A>>() / size_of::<u32>() {
            // SAFETY: as above. Volatile, so that a loop is what it stays.
            unsafe { write_volatile(to.add(i), *from.add(i)) };
            i += 1;
        }
        // SAFETY: within the bucket; any bytes are a flow.
        let flow = unsafe { &(*slot).flow };
        write(flow, flow.word.load().epoch().wrapping_add(1));
        true
    }

    /// The word, the key and the flow of an entry that is to be found in a place. The word is read first and the tag last:
    /// while the word is this one, so are they.
    #[inline(always)]
    fn entry(&self, place: u32) -> Option<(Word, &'static FlowKey<A>, &'static Flow)>
    where
        A: Address,
    {
        // SAFETY: within the bucket; plain words, any of which are a key and a flow.
        let slot = unsafe { &*self.checked_slot(place)? };
        // SAFETY: as above.
        let word = Word(unsafe { read_volatile(slot.flow.word.0.as_ptr()) });
        self.is_published(place, self.word(place)).then_some((word, &slot.key, &slot.flow))
    }

    /// Whether a place, whose word was this, has an entry: read after what was read before, and before what is read from here
    /// on.
    #[inline(always)]
    fn is_published(&self, place: u32, tag: u32) -> bool
    where
        A: Address,
    {
        // On x86-64 loads keep their order; an exchange is a full barrier everywhere.
        is_taken(tag) && (cfg!(bpf_target_arch = "x86_64") || self.exchange(place, tag, tag))
    }

    /// The flow in a place, which lies in the map as long as the program runs.
    #[inline(always)]
    fn flow(&self, place: u32) -> Option<&'static Flow> {
        // SAFETY: within the bucket. Any bytes are a flow; what else may write to it is told in `observer`.
        Some(unsafe { &(*self.checked_slot(place)?).flow })
    }
}

#[inline(always)]
fn ask_for<A>(slot: *mut Slot<A>) {
    let mut line = LINE;
    while line < size_of::<Slot<A>>() {
        // SAFETY: within the slot.
        unsafe { read_volatile(slot.byte_add(line).cast::<u32>()) };
        line += LINE;
    }
}

/// What stands before is written before what stands behind, as far as the compiler goes: it takes it that this looks at all
/// of memory. (It has no fence for BPF.)
#[inline(always)]
fn keep_in_order() {
    // SAFETY: no instruction.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// Whether an entry has this key.
#[inline(always)]
fn has<A>(slot: *const Slot<A>, key: &FlowKey<A>) -> bool {
    const WORD: usize = size_of::<u32>();
    let words = size_of::<FlowKey<A>>() / WORD;
    // SAFETY: an address within the bucket; nothing is read.
    let there = unsafe { &raw const (*slot).key }.cast::<u32>();
    // SAFETY: within the key; plain words. Volatile, since the compiler would keep the words of the key for all places at
    // once, on a stack that has no room for them.
    let own = |i: usize| u64::from(unsafe { read_volatile((&raw const *key).cast::<u32>().add(i)) });
    let (mut differs, mut i) = (0, 0);
    while i + 1 < words {
        // SAFETY: within the bucket, where entries begin at multiples of eight bytes.
        let both = unsafe { read_volatile(there.add(i).cast::<u64>()) };
        differs |= both ^ (own(i) | own(i + 1) << 32);
        i += 2;
    }
    if i < words {
        // SAFETY: as above.
        differs |= u64::from(unsafe { read_volatile(there.add(i)) }) ^ own(i);
    }
    differs == 0
}

impl<A: Address> Bucket for BucketAt<A> {
    type Key = FlowKey<A>;

    #[inline(always)]
    fn word(&self, place: u32) -> u32 {
        // SAFETY: within the bucket's first line.
        unsafe { read_volatile(self.word_at(place)) }
    }

    #[inline(always)]
    fn two_tags(&self, place: u32) -> u64 {
        // SAFETY: as above; lines of tags are aligned, and places that are even to eight bytes. As x86-64 and aarch64 load
        // eight bytes at once, so each half is one load.
        let both = unsafe { read_volatile(self.word_at(place).cast::<u64>()) };
        if cfg!(target_endian = "little") { both } else { both.rotate_left(32) }
    }

    #[inline(always)]
    fn exchange(&self, place: u32, current: u32, new: u32) -> bool {
        // SAFETY: within the bucket's first line, and aligned.
        unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(self.word_at(place), current, new).1 }
    }

    #[inline(always)]
    fn publish(&self, place: u32, current: u32, new: u32) {
        keep_in_order();
        // x86-64 keeps stores in their order. An exchange would wait until all lines of the entry have come.
        if cfg!(bpf_target_arch = "x86_64") {
            // SAFETY: as above.
            unsafe { write_volatile(self.word_at(place), new) };
        } else {
            self.exchange(place, current, new);
        }
    }

    #[inline(always)]
    fn make_busy(&self, place: u32, tag: u32) {
        self.publish(place, tag, BUSY);
        keep_in_order();
    }

    #[inline(always)]
    fn ask_for(&self, place: u32) {
        if let Some(slot) = self.checked_slot(place) {
            // SAFETY: within the bucket; a plain word.
            unsafe { read_volatile((*slot).flow.word.0.as_ptr()) };
        }
    }

    #[inline(always)]
    fn holds(&self, place: u32, key: &FlowKey<A>) -> bool {
        has(self.slot(place), key)
    }
}

impl<A: Address, B> Buckets for FlowTable<A, B> {
    type Bucket = BucketAt<A>;

    #[inline(always)]
    fn count(&self) -> u32 {
        // SAFETY: load-time constants.
        unsafe {
            if self.is_half_open {
                read_volatile(&raw const GEOMETRY.half_open_buckets)
            } else {
                read_volatile(&raw const GEOMETRY.flows_buckets)
            }
        }
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<BucketAt<A>> {
        let (tags, slots) = (self.tags.get_ptr_mut(index)?, self.slots.get_ptr_mut(index)?);
        Some(BucketAt { tags: tags.cast(), slots: slots.cast(), family: PhantomData })
    }

    #[inline(always)]
    fn keeps_order(&self) -> bool {
        self.is_half_open
    }
}

/// A flow, and where it lies, as [`packed`] says it.
#[derive(Clone, Copy)]
pub struct Entry {
    flow: &'static Flow,
    pub at: u64,
}

impl Deref for Entry {
    type Target = Flow;

    #[inline(always)]
    fn deref(&self) -> &Flow {
        self.flow
    }
}

/// Looks into both tables of IPv4.
#[inline(always)]
pub fn find4(key: &FlowKey4, seeker: Seeker) -> Looked<Known<Entry>> {
    known(
        FLOWS4,
        HALF_OPEN4,
        match seeker {
            Seeker::Segment => table_find_ipv4(key),
            Seeker::Agent => table_find_settled_first_ipv4(key),
        },
    )
}

/// And of IPv6.
#[inline(always)]
pub fn find6(key: &FlowKey6, seeker: Seeker) -> Looked<Known<Entry>> {
    known(
        FLOWS6,
        HALF_OPEN6,
        match seeker {
            Seeker::Segment => table_find_ipv6(key),
            Seeker::Agent => table_find_settled_first_ipv6(key),
        },
    )
}

/// Where an entry lies, in a register: the bucket's index, the place in four bits, and [`FOUND`], with [`HALF_OPEN`] where
/// it is in that table. Or one of the numbers below.
const ABSENT: u64 = 0;
const UNSURE: u64 = 1;
const FOUND: u64 = 2;
const HALF_OPEN: u64 = 4;

#[inline(always)]
fn packed<B>(found: Found<B>) -> u64 {
    u64::from(found.index) << 8 | u64::from(found.place) << 4 | FOUND
}

/// The index and the place in it.
#[inline(always)]
fn unpacked(at: u64) -> (u32, u32) {
    ((at >> 8) as u32, (at >> 4) as u32 & (PLACES - 1))
}

#[inline(always)]
fn known<A: Address, B>(flows: FlowTable<A, B>, half_open: FlowTable<A, B>, at: u64) -> Looked<Known<Entry>> {
    if at <= UNSURE {
        return if at == UNSURE { Looked::Unsure } else { Looked::Absent };
    }
    let (index, place) = unpacked(at);
    let is_settled = at & HALF_OPEN == 0;
    let bucket = if is_settled { flows.bucket(index) } else { half_open.bucket(index) };
    let flow = bucket.and_then(|bucket| bucket.flow(place));
    flow.map(|flow| Known { flow: Entry { flow, at }, is_settled }).into()
}

impl<A: Address, B> FlowTable<A, B> {
    /// The flow that was found here before, unless it has left since: another one may have come in its place.
    #[inline(always)]
    pub fn find_again(&self, key: &FlowKey<A>, at: u64) -> Looked<Known<Entry>> {
        let (index, place) = unpacked(at);
        let flow = self.bucket(index).and_then(|bucket| bucket.flow_of(place, key));
        let known = flow.map(|flow| Known { flow: Entry { flow, at }, is_settled: !self.is_half_open });
        known.map_or(Looked::Unsure, Looked::Found)
    }
}

/// [`table::insert`], where entries are shown as what they are.
#[inline(always)]
fn put<A: Address, B>(
    table: &FlowTable<A, B>,
    hash: &Hash<impl Fn() -> u32>,
    key: &FlowKey<A>,
    there: There,
    gives_way: impl Fn(&FlowKey<A>, &Flow, Word) -> bool,
    write: impl FnOnce(&BucketAt<A>, u32) -> bool,
) -> Result<(), Refusal> {
    let gives_way =
        |bucket: &BucketAt<A>, place| bucket.entry(place).is_some_and(|(word, key, flow)| gives_way(key, flow, word));
    table::insert(table, hash, key, there, gives_way, write)
}

/// Puts a flow among the half-open ones, unless it is there or among the settled ones. Without `looks` it is known not to
/// be among these.
///
/// # Errors
/// [`Refusal::Exists`] where it is there, or may be; otherwise as [`Table::insert`].
#[inline(always)]
pub fn put_half_open<A: Address, B>(
    (half_open, flows): (&FlowTable<A, B>, &FlowTable<A, B>),
    key: &FlowKey<A>,
    there: There,
    looks: bool,
    gives_way: impl Fn(&FlowKey<A>, &Flow, Word) -> bool,
    write: impl FnOnce(&Flow, u16),
) -> Result<(), Refusal> {
    let hash = hash(key);
    table::ask_for(half_open, &hash);
    let watch = Watch::of(flows, &hash).ok_or(Refusal::Full)?;
    if looks && !watch.is_absent(flows, &hash, key) {
        return Err(Refusal::Exists);
    }
    put(half_open, &hash, key, there, gives_way, |bucket, place| watch.lasts() && bucket.write(place, key, write))
}

/// The functions of a family, which look into both of its tables. None chooses between tables: the verifier wants to know
/// whose array is meant.
macro_rules! family {
    (
        $key:ty,
        [$find:ident, $find_settled_first:ident],
        [$flows:ident, $half_open:ident]
    ) => {
        /// Looks among the half-open ones first: a segment whose flow has settled has nearly always been looked for
        /// there by its entry. (Of a flow that is about to move, its word says so, and it is looked for again.)
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $find(key: *const $key) -> u64 {
            // SAFETY: null, or a reference of the only callers.
            let Some(key) = (unsafe { key.as_ref() }) else { return ABSENT };
            match table::find_in_two((&$half_open, &$flows), &hash(key), key) {
                Looked::Found((which, found)) => {
                    found.bucket.ask_for_all(found.place);
                    packed(found) | if which == Which::First { HALF_OPEN } else { 0 }
                }
                Looked::Absent => ABSENT,
                Looked::Unsure => UNSURE,
            }
        }

        /// Of a flow that is in both tables for a moment, the settled one is found.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $find_settled_first(key: *const $key) -> u64 {
            // SAFETY: as above.
            let Some(key) = (unsafe { key.as_ref() }) else { return ABSENT };
            match table::find_in_two((&$flows, &$half_open), &hash(key), key) {
                Looked::Found((which, found)) => packed(found) | if which == Which::First { 0 } else { HALF_OPEN },
                Looked::Absent => ABSENT,
                Looked::Unsure => UNSURE,
            }
        }
    };
}

family!(FlowKey4, [table_find_ipv4, table_find_settled_first_ipv4], [FLOWS4, HALF_OPEN4]);
family!(FlowKey6, [table_find_ipv6, table_find_settled_first_ipv6], [FLOWS6, HALF_OPEN6]);

macro_rules! table {
    ($address:ty, $slots:ty) => {
        impl Table<$address> for FlowTable<$address, $slots> {
            type Entry = Entry;

            #[inline(always)]
            fn find(&self, key: &FlowKey<$address>) -> Option<Entry> {
                let found = table::find_published(self, &hash(key), key)?;
                let at = packed(found) | if self.is_half_open { HALF_OPEN } else { 0 };
                found.bucket.flow(found.place).map(|flow| Entry { flow, at })
            }

            #[inline(always)]
            fn insert(
                &self,
                key: &FlowKey<$address>,
                there: There,
                gives_way: impl Fn(&FlowKey<$address>, &Flow, Word) -> bool,
                write: impl FnOnce(&Flow, u16),
            ) -> Result<(), Refusal> {
                put(self, &hash(key), key, there, gives_way, |bucket, place| bucket.write(place, key, write))
            }

            #[inline(always)]
            fn take_out(&self, _key: &FlowKey<$address>, entry: &Entry, word: Word) {
                let (index, place) = unpacked(entry.at);
                if let Some(bucket) = self.bucket(index) {
                    // The tag first: that of a later entry is there after its word.
                    let tag = bucket.word(place);
                    if bucket.is_published(place, tag) && entry.word.load().epoch() == word.epoch() {
                        table::release(&bucket, place, tag);
                    }
                }
            }
        }
    };
}

table!(Ipv4, Slots4);
table!(Ipv6, Slots6);

impl<A: Address, B> FlowTable<A, B> {
    /// What lies in a place of a bucket.
    #[inline(always)]
    pub fn entry(&self, index: u32, place: u32) -> Option<(Word, &'static FlowKey<A>, &'static Flow)> {
        self.bucket(index)?.entry(place & (PLACES - 1))
    }
}
