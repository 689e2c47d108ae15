//! The flow table's protocol (`tcp_observer_common::table`) over words in memory: the same code as in the kernel, on
//! small entries. The words are the standard library's, or those of a model checker.

use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

use tcp_observer_common::table::{BUSY, Bucket, Buckets, Hash, Place, is_taken};

/// A word of 32 bits, as BPF's instructions treat one.
pub trait Word: Sized {
    fn new(value: u32) -> Self;
    /// An acquire load.
    fn load(&self) -> u32;
    fn load_relaxed(&self) -> u32;
    fn store_relaxed(&self, value: u32);
    /// A release store.
    fn store(&self, value: u32);
    /// With a full barrier before and after.
    fn exchange(&self, current: u32, new: u32) -> bool;
    fn acquire_fence();
    fn release_fence();
}

/// A [`Word`] made of the atomics (`AtomicU32`, `fence`, and the orders) that the module has imported, and how it is
/// loaded.
#[macro_export]
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $load:expr) => {
        $(#[$doc])*
        pub struct $name(AtomicU32);

        impl $crate::buckets::Word for $name {
            fn new(value: u32) -> Self {
                Self(AtomicU32::new(value))
            }

            fn load(&self) -> u32 {
                let load: fn(&AtomicU32) -> u32 = $load;
                load(&self.0)
            }

            fn load_relaxed(&self) -> u32 {
                self.0.load(Relaxed)
            }

            fn store_relaxed(&self, value: u32) {
                self.0.store(value, Relaxed);
            }

            fn store(&self, value: u32) {
                self.0.store(value, Release);
            }

            fn exchange(&self, current: u32, new: u32) -> bool {
                fence(SeqCst);
                let exchanged = self.0.compare_exchange(current, new, SeqCst, SeqCst).is_ok();
                fence(SeqCst);
                exchanged
            }

            fn acquire_fence() {
                fence(Acquire);
            }

            fn release_fence() {
                fence(Release);
            }
        }
    };
}

word!(
    /// This machine's own words.
    Native,
    |word| word.load(Acquire)
);

/// Two hashes as good as random: two numbers of one sequence of splitmix64, by Steele, Lea and Flood.
pub fn random_hash(key: u32) -> Hash<impl Fn() -> u32 + Copy> {
    let nth = |n: u64| {
        let mut z = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    Hash { first: nth(2 * u64::from(key)), second: move || (nth(2 * u64::from(key) + 1) >> 32) as u32 }
}

/// In a [`Cell`]'s number: whoever has set it may take the entry out.
const RETIRED: u32 = 1 << 16;

/// One place: its tag, and an entry of a number (16 bits), a key, and two words that are to be of the same entry as the key.
pub struct Cell<W> {
    pub tag: W,
    pub number: W,
    pub key: W,
    pub value: [W; 2],
}

impl<W: Word> Cell<W> {
    fn new() -> Self {
        Self { tag: W::new(0), number: W::new(0), key: W::new(0), value: [W::new(0), W::new(0)] }
    }

    /// The entry's words as they are at this moment, which may be of two entries.
    pub fn words(&self) -> [u32; 3] {
        [self.key.load_relaxed(), self.value[0].load_relaxed(), self.value[1].load_relaxed()]
    }
}

impl<W: Word> Place for Cell<W> {
    fn tag(&self) -> u32 {
        self.tag.load()
    }

    fn number(&self) -> u16 {
        self.number.load() as u16
    }

    fn fence(&self) {
        W::acquire_fence();
    }
}

/// A table of buckets with `PLACES` words each. The first cell of a bucket is its control word's.
pub struct Table<W, const PLACES: u32> {
    pub cells: Vec<Cell<W>>,
    keeps_order: bool,
}

impl<W: Word, const PLACES: u32> Table<W, PLACES> {
    pub fn new(buckets: u32) -> Self {
        Self { cells: (0..buckets * PLACES).map(|_| Cell::new()).collect(), keeps_order: false }
    }

    /// One in whose buckets entries are put one after the other.
    pub fn in_order(buckets: u32) -> Self {
        Self { keeps_order: true, ..Self::new(buckets) }
    }

    /// The cell of a place.
    pub fn cell(&self, index: u32, place: u32) -> &Cell<W> {
        &self.cells[(index * PLACES + place) as usize]
    }

    /// The places in which this key lies.
    pub fn places_of(&self, key: u32) -> usize {
        let taken = |at: usize| !(at as u32).is_multiple_of(PLACES) && self.cells[at].tag.load() > 1;
        (0..self.cells.len()).filter(|&at| taken(at) && self.cells[at].key.load_relaxed() == key).count()
    }
}

pub struct BucketOf<'a, W, const PLACES: u32>(&'a [Cell<W>]);

impl<W, const PLACES: u32> Clone for BucketOf<'_, W, PLACES> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W, const PLACES: u32> Copy for BucketOf<'_, W, PLACES> {}

impl<W: Word, const PLACES: u32> BucketOf<'_, W, PLACES> {
    /// Writes an entry into a place that is busy; true, for [`insert`](tcp_observer_common::table::insert).
    pub fn write(&self, place: u32, key: u32, value: u32) -> bool {
        let cell = &self.0[place as usize];
        cell.number.store_relaxed(u32::from(cell.number().wrapping_add(1)));
        cell.key.store_relaxed(key);
        cell.value.iter().for_each(|word| word.store_relaxed(value));
        true
    }

    /// Retires the entry that is to be found in a place, as the kernel's programs do it with a flow's word; whether it was
    /// this thread that did.
    pub fn retire(&self, place: u32) -> bool {
        let cell = &self.0[place as usize];
        let number = cell.number.load();
        is_taken(cell.tag.load()) && number & RETIRED == 0 && cell.number.exchange(number, number | RETIRED)
    }
}

impl<W: Word, const PLACES: u32> Bucket for BucketOf<'_, W, PLACES> {
    type Key = u32;
    const PLACES: u32 = PLACES;

    fn word(&self, place: u32) -> u32 {
        self.0[place as usize].tag.load()
    }

    fn exchange(&self, place: u32, current: u32, new: u32) -> bool {
        self.0[place as usize].tag.exchange(current, new)
    }

    fn publish(&self, place: u32, current: u32, new: u32) {
        let word = &self.0[place as usize].tag;
        assert_eq!(word.load_relaxed(), current, "nobody else changes it");
        word.store(new);
    }

    fn make_busy(&self, place: u32, tag: u32) {
        self.publish(place, tag, BUSY);
        W::release_fence();
    }

    fn holds(&self, place: u32, key: &u32) -> bool {
        self.0[place as usize].key.load_relaxed() == *key
    }
}

impl<'a, W: Word, const PLACES: u32> Buckets for &'a Table<W, PLACES> {
    type Bucket = BucketOf<'a, W, PLACES>;

    fn count(&self) -> u32 {
        self.cells.len() as u32 / PLACES
    }

    fn bucket(&self, index: u32) -> Option<Self::Bucket> {
        self.cells.chunks(PLACES as usize).nth(index as usize).map(BucketOf)
    }

    fn keeps_order(&self) -> bool {
        self.keeps_order
    }
}
