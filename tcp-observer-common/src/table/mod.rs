//! The table of flows: set-associative, in an array that userspace maps, changed by compare-and-exchange alone.
//!
//! Each key has two buckets: it is put into the first, or, once that is half full, into the emptier one. A bucket has one
//! line of 32-bit words: a control word, and for each of fifteen places a *tag*: [`FREE`], [`BUSY`], or what stands for
//! the key that lies there. docs/flow-table.md explains why.
//!
//! **The protocol.** A place goes from free to busy to its key's tag and back to free, each by an exchange. Who has made
//! it busy writes key and value, and then publishes the tag: nobody takes a half-written entry for one. Keys are put in
//! under the lock in the control word of their *home*, the first of their two buckets, so that no key gets in twice.
//! Who looks in vain while the home is locked, or was meanwhile, cannot know: the entry may be on its way from one
//! place to another. Nothing waits for a reader.
//!
//! **Who may take an entry out.** Whoever has won the exchange of its word by which it is retired, or settles. The word
//! also says which of the entries is meant that have lain in a place one after another (whoever writes one puts a number
//! into it that the last one did not have), so that an exchange that was meant for an earlier one fails. Whoever comes by an
//! entry without having looked for its key reads its word, and then the tag: an entry that is still being written has a
//! word, but nobody may take it out.
//!
//! The code here is written over [`Buckets`], and runs in the kernel and under a model checker alike
//! (`proofs/tests/table`). It knows nothing of flows.

mod hash;
mod layout;

use crate::verifier::{forget, opaque};

pub use hash::{Hash, SECRETS};
pub use layout::{LINE, Slot, TAGS_BYTES, buckets_for, glance_bytes, slot_at, slots_bytes};

/// Words of a bucket's first line: the control word, and a tag for each place.
pub const PLACES: u32 = 16;
/// Entries of a bucket: places 1 to 15.
pub const ENTRIES: u32 = PLACES - 1;

/// The place of the control word.
const CONTROL: u32 = 0;
/// And so of no entry.
const NOWHERE: u32 = CONTROL;

/// Nothing lies here.
pub const FREE: u32 = 0;
/// Somebody is writing here.
pub const BUSY: u32 = 1;
/// In every key's tag, and nothing else's: so those of a bucket are counted two at a time.
pub const TAKEN: u32 = 1 << 31;

/// In the control word: somebody is putting in a key that belongs here.
const LOCKED: u32 = 1;
/// Above it, in four bits: the place that was filled last, the last of all being zero.
const CURSOR_SHIFT: u32 = 1;
const CURSOR: u32 = 0xf << CURSOR_SHIFT;
/// And above that how often a key was put in, modulo 2^27.
const CHANGE: u32 = 1 << 5;

/// How often a lock is tried before the caller is told to come again, which it does often enough ([`crate::observer`]).
const LOCK_TRIES: u32 = 128;

/// How many entries are asked to give way. A bucket has fifteen; in a full half-open table the first will do.
const CANDIDATES: u32 = 4;

/// Whether a word of a bucket's first line, not the control word, says that an entry lies there.
#[inline(always)]
pub const fn is_taken(tag: u32) -> bool {
    tag & TAKEN != 0
}

/// The words and entries of one bucket, shared by all CPUs.
pub trait Bucket: Copy {
    type Key;
    /// Words of the first line: the control word's and one for each entry. A model may have fewer.
    const PLACES: u32 = PLACES;
    /// The word of a place. What was written before this value was put there is seen by what is read afterwards
    /// (acquire). BPF has no such load: on x86-64 each load is one, elsewhere see docs/flow-table.md.
    fn word(&self, place: u32) -> u32;
    /// The tags of an even place, in the lower half, and of the next, each as [`Self::word`] has it; for the control word
    /// anything.
    fn two_tags(&self, place: u32) -> u64 {
        let first = if place == CONTROL { BUSY } else { self.word(place) };
        u64::from(first) | u64::from(self.word(place + 1)) << 32
    }
    /// Exchanges the word of a place if it is still `current`; says whether it was. A full barrier either way, as BPF's
    /// atomics are that give back a value.
    fn exchange(&self, place: u32, current: u32, new: u32) -> bool;
    /// Gives a new value to a word that nobody else changes, since it is busy or locked by this CPU's doing. What was written
    /// before is seen by whoever sees this value (release).
    fn publish(&self, place: u32, current: u32, new: u32);
    /// Makes the word of an entry busy that is this CPU's to take out, so that nobody else changes it. Seen before whatever
    /// is written there from here on.
    fn make_busy(&self, place: u32, tag: u32);
    /// Asks for the memory of the entry in a place, which is needed soon.
    fn ask_for(&self, _place: u32) {}
    /// Whether the entry in a place has this key. What is compared may change meanwhile.
    fn holds(&self, place: u32, key: &Self::Key) -> bool;
}

/// The buckets of one table.
pub trait Buckets {
    type Bucket: Bucket;
    /// How many there are, at least one.
    fn count(&self) -> u32;
    /// One of them; `None` beyond the last.
    fn bucket(&self, index: u32) -> Option<Self::Bucket>;
    /// Whether entries are put into a bucket one after the other, so that the oldest one can be told.
    /// Otherwise each goes to the place that its hash names, if that is free, and there it is looked for first.
    fn keeps_order(&self) -> bool;
}

/// The keys of a table.
pub type KeyOf<T> = <<T as Buckets>::Bucket as Bucket>::Key;

/// Where an entry was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<B> {
    pub bucket: B,
    /// The bucket's index.
    pub index: u32,
    /// From 1 to [`ENTRIES`].
    pub place: u32,
}

/// What looking for a key has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked<E> {
    Found(E),
    Absent,
    /// It may be there: another CPU is putting in a key that belongs to the same bucket.
    Unsure,
}

impl<E> Looked<E> {
    #[inline(always)]
    pub fn found(self) -> Option<E> {
        match self {
            Looked::Found(entry) => Some(entry),
            Looked::Absent | Looked::Unsure => None,
        }
    }
}

impl<E> From<Option<E>> for Looked<E> {
    /// Where looking is never in vain by chance.
    #[inline(always)]
    fn from(found: Option<E>) -> Self {
        found.map_or(Looked::Absent, Looked::Found)
    }
}

/// Why a key was not put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is there.
    Exists,
    /// No place is free in either of its buckets.
    Full,
    /// Another CPU has held the lock for too long.
    Busy,
}

/// Looks where entries that are published lie, and asks nothing further.
#[inline(always)]
pub fn find_published<T: Buckets>(
    buckets: &T,
    hash: &Hash<impl Fn() -> u32>,
    key: &KeyOf<T>,
) -> Option<Found<T::Bucket>> {
    let home = hash.home(buckets.count());
    if let Some(found) = look_at_home(buckets, buckets.bucket(home)?, home, hash, key) {
        return Some(found);
    }
    let other = hash.other(buckets.count());
    look_into(buckets.bucket(other)?, other, hash.tag(), key)
}

/// Looks for a key.
#[inline(always)]
pub fn find<T: Buckets>(buckets: &T, hash: &Hash<impl Fn() -> u32>, key: &KeyOf<T>) -> Looked<Found<T::Bucket>> {
    let Some(watch) = Watch::of(buckets, hash) else {
        return Looked::Absent;
    };
    match find_published(buckets, hash, key) {
        Some(found) => Looked::Found(found),
        None if watch.saw_nothing_come() => Looked::Absent,
        None => Looked::Unsure,
    }
}

/// Which of two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    First,
    Second,
}

/// Looks for a key in two tables between which keys move: one that moves is put into the one before it is taken out of the
/// other. Absent is what was in neither at one moment. Of a key that is in both, the entry in the first is found.
#[inline(always)]
pub fn find_in_two<T: Buckets>(
    (first, second): (&T, &T),
    hash: &Hash<impl Fn() -> u32>,
    key: &KeyOf<T>,
) -> Looked<(Which, Found<T::Bucket>)> {
    let hash = &hash.summed();
    let (Some(at_first), Some(at_second)) = (Watch::of(first, hash), Watch::of(second, hash)) else {
        return Looked::Absent;
    };
    if let Some(found) = find_published(first, hash, key) {
        return Looked::Found((Which::First, found));
    }
    if let Some(found) = find_published(second, hash, key) {
        return Looked::Found((Which::Second, found));
    }
    if at_first.saw_nothing_come() && at_second.saw_nothing_come() { Looked::Absent } else { Looked::Unsure }
}

/// Asks for the memory that will be needed where a key is put in: most of the time goes into waiting for it.
#[inline(always)]
pub fn ask_for<T: Buckets>(buckets: &T, hash: &Hash<impl Fn() -> u32>) {
    let (home, other) = hash.buckets(buckets.count());
    if let Some(other) = buckets.bucket(other) {
        other.word(CONTROL);
    }
    if let Some(home) = buckets.bucket(home) {
        home.ask_for(wish(buckets, hash, home.word(CONTROL)));
    }
}

/// A key's home, watched while the key is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Watch<B> {
    home: B,
    control: u32,
}

impl<B: Bucket> Watch<B> {
    /// `None` where there is no such bucket.
    #[inline(always)]
    pub fn of<T: Buckets<Bucket = B>>(buckets: &T, hash: &Hash<impl Fn() -> u32>) -> Option<Self> {
        let home = buckets.bucket(hash.home(buckets.count()))?;
        Some(Self { home, control: home.word(CONTROL) })
    }

    /// Whether the key is not there, nor is anybody putting it in. It stays so for as long as the home [lasts](Self::lasts).
    #[inline(always)]
    pub fn is_absent<T: Buckets<Bucket = B>>(
        &self,
        buckets: &T,
        hash: &Hash<impl Fn() -> u32>,
        key: &KeyOf<T>,
    ) -> bool {
        // Asked for before the first one is looked into.
        if let Some(other) = buckets.bucket(hash.other(buckets.count())) {
            other.word(CONTROL);
        }
        self.control & LOCKED == 0 && find_published(buckets, hash, key).is_none()
    }

    /// Whether no key that belongs there was put in since.
    #[inline(always)]
    pub fn lasts(&self) -> bool {
        self.home.word(CONTROL) == self.control
    }

    /// Whether who has looked in vain since can be sure: nobody was putting in a key that belongs there.
    #[inline(always)]
    fn saw_nothing_come(&self) -> bool {
        self.control & LOCKED == 0 && self.lasts()
    }
}

/// Looks into a key's home, first where its hash would have it.
#[inline(always)]
fn look_at_home<T: Buckets>(
    buckets: &T,
    home: T::Bucket,
    index: u32,
    hash: &Hash<impl Fn() -> u32>,
    key: &KeyOf<T>,
) -> Option<Found<T::Bucket>> {
    let tag = hash.tag();
    if !buckets.keeps_order() {
        let place = hash.place(<T::Bucket as Bucket>::PLACES);
        if home.word(place) == tag && home.holds(place, key) {
            return Some(Found { bucket: home, index, place });
        }
    }
    look_into(home, index, tag, key)
}

/// Looks into a bucket: first, without a branch, whether the tag is there at all. Most of the time it is not, and code
/// that compares keys, fifteen times over, would only drive other code out of the processor's cache.
#[inline(always)]
fn look_into<B: Bucket>(bucket: B, index: u32, tag: u32, key: &B::Key) -> Option<Found<B>> {
    if !may_hold(&bucket, tag) {
        return None;
    }
    let place = place_of(&bucket, tag, key);
    if place == NOWHERE { None } else { Some(Found { bucket, index, place }) }
}

/// Whether a bucket's tags are worth a second look: false where none is this one. Two at a time.
#[inline(always)]
fn may_hold<B: Bucket>(bucket: &B, tag: u32) -> bool {
    let both = u64::from(tag) << 32 | u64::from(tag);
    let (mut zero_halves, mut place) = (0, CONTROL);
    while place + 1 < B::PLACES {
        zero_halves |= zero_half(bucket.two_tags(place) ^ both);
        place += 2;
    }
    zero_halves & TOP_BITS != 0 || !B::PLACES.is_multiple_of(2) && bucket.word(B::PLACES - 1) == tag
}

/// The top bit of each half of a word.
const TOP_BITS: u64 = 1 << 63 | 1 << 31;

/// A word of whose [`TOP_BITS`] one is set if one of its halves is zero, and none otherwise (Warren, Hacker's Delight, 6-1).
#[inline(always)]
const fn zero_half(halves: u64) -> u64 {
    halves.wrapping_sub(1 << 32 | 1) & !halves
}

/// What a reader sees of one place, and asks before and after it copies the entry.
pub trait Place {
    /// The place's tag (acquire).
    fn tag(&self) -> u32;
    /// The number by which entries are told apart that lie here one after another (acquire).
    fn number(&self) -> u16;
    /// Keeps what was read before in front of what is read from here on (an acquire fence).
    fn fence(&self);
}

/// How often an entry is copied that changes hands each time. Then it is left out, as one that left in that moment.
const COPIES: u32 = 8;

/// A copy of the entry in a place, as `copy` makes it, if all of it is of one entry; `None` where there is none.
#[inline]
pub fn copy_whole<P: Place, C>(place: &P, mut copy: impl FnMut() -> C) -> Option<C> {
    for _ in 0..COPIES {
        let before = (place.tag(), place.number());
        if !is_taken(before.0) {
            return None;
        }
        let copied = copy();
        place.fence();
        if before == (place.tag(), place.number()) {
            return Some(copied);
        }
    }
    None
}

/// What becomes of an entry that a key which is put in already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// It stays, and the new one does not get in.
    Stays,
    /// The new one takes its place. Who looks meanwhile is unsure.
    IsReplaced,
}

/// Puts a key in. Where both of its buckets are full, the places of its home that were filled first are shown to
/// `gives_way`, oldest first, and the entry in the first of which that says so makes way. It may say so only of an entry that
/// is this CPU's to take out.
///
/// `write` writes the entry into a place that is busy by this CPU's doing, key and value, with a number that the last one
/// there had not. It may as well say that it has not: then there is no turn.
///
/// # Errors
/// When it is there and stays, or there is no room, or no turn.
#[inline(always)]
pub fn insert<T: Buckets>(
    buckets: &T,
    hash: &Hash<impl Fn() -> u32>,
    key: &KeyOf<T>,
    there: There,
    gives_way: impl Fn(&T::Bucket, u32) -> bool,
    write: impl FnOnce(&T::Bucket, u32) -> bool,
) -> Result<(), Refusal> {
    let (home, other) = hash.buckets(buckets.count());
    let (Some(home), Some(other)) = (buckets.bucket(home), buckets.bucket(other)) else {
        return Err(Refusal::Full);
    };
    let control = lock(&home)?;
    let tag = hash.tag();
    if matches!(there, There::IsReplaced) {
        take_out(&home, tag, key);
        take_out(&other, tag, key);
    }
    let (at_home, elsewhere) = (survey(&home, tag), survey(&other, tag));
    let is_there = at_home.has_alike && place_of(&home, tag, key) != NOWHERE
        || elsewhere.has_alike && place_of(&other, tag, key) != NOWHERE;
    let (changed, result) = if is_there {
        (control, Err(Refusal::Exists))
    } else {
        // Who looks for a key looks into its home first: while there is room enough, that is where it lies.
        let is_home_first = at_home.free > <T::Bucket as Bucket>::PLACES / 2 || at_home.free >= elsewhere.free;
        let (first, second) = if is_home_first { (home, other) } else { (other, home) };
        let wish = wish(buckets, hash, control);
        let (mut bucket, mut place) = (first, NOWHERE);
        if at_home.free | elsewhere.free != 0 {
            place = claim(&first, wish);
            // Another CPU has just filled it.
            if place == NOWHERE {
                bucket = second;
                place = claim(&second, wish);
            }
        }
        if place == NOWHERE {
            bucket = home;
            place = make_room(&home, control, gives_way);
        }
        if place == NOWHERE {
            (control, Err(Refusal::Full))
        } else {
            let is_written = write(&bucket, place);
            bucket.publish(place, BUSY, if is_written { tag } else { FREE });
            // The other bucket's order is its own keys' business.
            let changed = with_cursor(control, place, <T::Bucket as Bucket>::PLACES);
            (changed, if is_written { Ok(()) } else { Err(Refusal::Busy) })
        }
    };
    unlock(&home, control, changed);
    result
}

/// Frees the place of an entry that is this CPU's to take out. Says whether it was still there.
#[inline(always)]
pub fn release<B: Bucket>(bucket: &B, place: u32, tag: u32) -> bool {
    bucket.exchange(place, tag, FREE)
}

/// Makes the place of an entry busy that gives way to a key which belongs to this bucket: which, or [`NOWHERE`]. The next
/// entries after the one that was put in last, going round, are the oldest where every place is taken.
#[inline(always)]
fn make_room<B: Bucket>(home: &B, control: u32, gives_way: impl Fn(&B, u32) -> bool) -> u32 {
    let (mut nth, end) = (0, opaque(CANDIDATES));
    while nth < end {
        // Forgotten and masked, since verifiers before 6.10 know nothing of a remainder.
        let place = forget(u64::from(1 + (cursor(control) + nth) % (B::PLACES - 1))) as u32 & (PLACES - 1);
        if gives_way(home, place) {
            // Its tag as it is now that nobody else may take it out.
            home.make_busy(place, home.word(place));
            return place;
        }
        nth += 1;
    }
    NOWHERE
}

/// What a bucket's tags say.
struct Survey {
    /// How many places are free.
    free: u32,
    /// Whether one of them has the key's tag.
    has_alike: bool,
}

/// Without a branch, each of which would double what the verifier has to look at, and two at a time. The control word may
/// look like the key's tag: it is looked at again.
#[inline(always)]
fn survey<B: Bucket>(bucket: &B, tag: u32) -> Survey {
    let both = u64::from(tag) << 32 | u64::from(tag);
    let (mut taken, mut alike) = (0, 0);
    let (mut place, end) = (CONTROL, opaque(B::PLACES));
    while place + 1 < end {
        let words = bucket.two_tags(place);
        taken += words >> 31 & (1 << 32 | 1);
        alike |= zero_half(words ^ both);
        place += 2;
    }
    if !B::PLACES.is_multiple_of(2) {
        let word = bucket.word(B::PLACES - 1);
        taken += u64::from(is_taken(word));
        alike |= u64::from(word == tag) << 63;
    }
    let taken = taken as u32 + (taken >> 32) as u32;
    Survey { free: (B::PLACES - 1).wrapping_sub(taken), has_alike: alike & TOP_BITS != 0 }
}

/// The place in which a key with this tag lies, or [`NOWHERE`].
#[inline(always)]
fn place_of<B: Bucket>(bucket: &B, tag: u32, key: &B::Key) -> u32 {
    let (mut place, end) = (1, opaque(B::PLACES));
    loop {
        if bucket.word(place) == tag && bucket.holds(place, key) {
            // Forgotten and masked, so that the verifier follows one way from here instead of fifteen.
            return forget(u64::from(place)) as u32 & (PLACES - 1);
        }
        place += 1;
        if place >= end {
            return NOWHERE;
        }
    }
}

/// The place that a key is put into if it is free, where its home has this control word.
#[inline(always)]
fn wish<T: Buckets>(buckets: &T, hash: &Hash<impl Fn() -> u32>, control: u32) -> u32 {
    if buckets.keeps_order() { after_last(control) } else { hash.place(<T::Bucket as Bucket>::PLACES) }
}

/// Makes a free place of a bucket busy, the one that is wished for if it can be: which, or [`NOWHERE`].
#[inline(always)]
fn claim<B: Bucket>(bucket: &B, wish: u32) -> u32 {
    let is_claimed = |place| bucket.word(place) == FREE && bucket.exchange(place, FREE, BUSY);
    if is_claimed(wish) {
        return wish;
    }
    let (mut place, end) = (1, opaque(B::PLACES));
    while place < end {
        if is_claimed(place) {
            return forget(u64::from(place)) as u32 & (PLACES - 1);
        }
        place += 1;
    }
    NOWHERE
}

/// The place that was filled last, the last of all being zero.
#[inline(always)]
const fn cursor(control: u32) -> u32 {
    (control & CURSOR) >> CURSOR_SHIFT
}

/// The same control word once this place was filled.
#[inline(always)]
const fn with_cursor(control: u32, place: u32, places: u32) -> u32 {
    control & !CURSOR | (place % (places - 1)) << CURSOR_SHIFT
}

/// The place after the one that was filled last.
#[inline(always)]
const fn after_last(control: u32) -> u32 {
    // The mask is for the verifier, which does not know that the last of all is zero here, and none is 15.
    (1 + cursor(control)) & (PLACES - 1)
}

#[inline(always)]
fn take_out<B: Bucket>(bucket: &B, tag: u32, key: &B::Key) {
    let (mut place, end) = (1, opaque(B::PLACES));
    while place < end {
        if bucket.word(place) == tag && bucket.holds(place, key) {
            release(bucket, place, tag);
        }
        place += 1;
    }
}

/// Takes the lock of a bucket; its control word without it.
#[inline(always)]
fn lock<B: Bucket>(home: &B) -> Result<u32, Refusal> {
    let mut tries = 0;
    while tries < LOCK_TRIES {
        let control = home.word(CONTROL);
        if control & LOCKED == 0 && home.exchange(CONTROL, control, control | LOCKED) {
            return Ok(control);
        }
        tries += 1;
    }
    Err(Refusal::Busy)
}

/// Gives the lock back: nobody else has changed the control word meanwhile.
#[inline(always)]
fn unlock<B: Bucket>(home: &B, locked: u32, control: u32) {
    home.publish(CONTROL, locked | LOCKED, control.wrapping_add(CHANGE) & !LOCKED);
}
