//! Every interleaving of two or three threads in a table of two buckets with two places each, on memory that is as
//! weakly ordered as C11 has it (loom). The protocol is the kernel's; only the buckets are smaller.

use std::cell::Cell;

use loom::{
    sync::{
        Arc,
        atomic::{
            AtomicU32,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
            fence,
        },
    },
    thread::{self, JoinHandle},
};
use proofs::{
    amount::amount,
    buckets::{BucketOf, Table, Word as _},
};
use tcp_observer_common::table::{
    Bucket as _, Buckets as _, FREE, Hash, Looked, Refusal, There, Watch, copy_whole, find, find_in_two, insert,
    is_taken, release,
};

proofs::word!(
    /// A word whose order of access loom explores.
    ///
    /// Of two accesses that follow each other in one thread, loom (0.7) knows the later one only: who loads a word and then
    /// exchanges it, as writers do, hides from it that another thread had loaded the word before. So a [`race`]r's loads are
    /// exchanges as well, which keeps it from seeing old values; the other thread's are loads.
    Explored,
    |word| if IS_RACER.with(Cell::get) { word.fetch_or(0, AcqRel) } else { word.load(Acquire) }
);

loom::thread_local! {
    static IS_RACER: Cell<bool> = Cell::new(false);
}

/// Another thread.
fn race<T: 'static>(act: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    thread::spawn(move || {
        IS_RACER.with(|is_racer| is_racer.set(true));
        act()
    })
}

type Small = Table<Explored, 3>;

/// Both keys belong to the first of two buckets, and may lie in the other.
const ONE: u32 = 1;
const OTHER: u32 = 2;

fn hash(key: u32) -> Hash<impl Fn() -> u32 + Copy> {
    Hash { first: u64::from(key) << 40, second: move || key }
}

fn put(table: &Small, key: u32, value: u32, there: There) -> Result<(), Refusal> {
    insert(&table, &hash(key), &key, there, |_, _| false, |bucket, place| bucket.write(place, key, value))
}

/// The same, where whatever lies in its home makes room for it.
fn put_over(table: &Small, key: u32, value: u32) -> Result<(), Refusal> {
    let write = |bucket: &BucketOf<'_, Explored, 3>, place| bucket.write(place, key, value);
    insert(&table, &hash(key), &key, There::Stays, |bucket, place| bucket.retire(place), write)
}

/// Takes out what lies in a place, as the sweep does; whether it was there to be taken out.
fn sweep(table: &Small, place: u32) -> bool {
    let bucket = (&table).bucket(0).unwrap();
    bucket.retire(place) && release(&bucket, place, bucket.word(place))
}

/// Moves the key from one table to the other, as a flow that has settled.
fn move_one(from: &Arc<Small>, to: &Arc<Small>) -> JoinHandle<()> {
    let (from, to) = (Arc::clone(from), Arc::clone(to));
    race(move || {
        put(&to, ONE, 7, There::Stays).unwrap();
        let found = find(&&*from, &hash(ONE), &ONE).found().unwrap();
        assert!(release(&found.bucket, found.place, hash(ONE).tag()));
    })
}

/// Explores all interleavings with as many changes of thread as the amount says, besides those where one ends.
fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(amount("interleavings", 2) as usize);
    model.check(test);
}

#[test]
fn of_two_that_put_in_one_key_one_does() {
    explore(|| {
        let table = Arc::new(Small::new(2));
        let racer = {
            let table = Arc::clone(&table);
            race(move || put(&table, ONE, 7, There::Stays))
        };
        let mine = put(&table, ONE, 8, There::Stays);
        let its = racer.join().unwrap();
        let got_in = [mine, its].iter().filter(|result| result.is_ok()).count();
        // Who never got a turn has not looked.
        let busy = [mine, its].contains(&Err(Refusal::Busy));
        assert!(got_in == 1 && table.places_of(ONE) == 1, "{mine:?} {its:?} {busy}");
    });
}

#[test]
fn of_two_that_want_the_last_place_one_gets_it() {
    explore(|| {
        let table = Arc::new(Small::new(1));
        put(&table, 9, 9, There::Stays).unwrap();
        let racer = {
            let table = Arc::clone(&table);
            race(move || put(&table, ONE, 1, There::Stays))
        };
        let mine = put(&table, OTHER, 2, There::Stays);
        let its = racer.join().unwrap();
        assert_eq!([mine, its].iter().filter(|result| result.is_ok()).count(), 1, "{mine:?} {its:?}");
        assert_eq!(table.places_of(ONE) + table.places_of(OTHER), 1);
        assert_eq!(table.places_of(9), 1);
    });
}

#[test]
fn who_looks_for_a_key_that_is_being_replaced_finds_it_or_is_not_sure() {
    explore(|| {
        let table = Arc::new(Small::new(2));
        // Both hashes name the same place: the second key lies behind it, and moves there when it is replaced.
        put(&table, OTHER, 6, There::Stays).unwrap();
        put(&table, ONE, 7, There::Stays).unwrap();
        let found = find(&&*table, &hash(OTHER), &OTHER).found().unwrap();
        assert!(release(&found.bucket, found.place, hash(OTHER).tag()));
        let racer = {
            let table = Arc::clone(&table);
            race(move || put(&table, ONE, 8, There::IsReplaced))
        };
        let looked = find(&&*table, &hash(ONE), &ONE);
        assert!(!matches!(looked, Looked::Absent));
        racer.join().unwrap().unwrap();
        assert_eq!(table.places_of(ONE), 1);
    });
}

#[test]
fn who_looks_for_a_key_that_moves_to_the_other_table_finds_it_or_is_not_sure() {
    for looks_there_first in [true, false] {
        explore(move || {
            let (to, from) = (Arc::new(Small::new(2)), Arc::new(Small::in_order(2)));
            put(&from, ONE, 7, There::Stays).unwrap();
            let racer = move_one(&from, &to);
            let tables = if looks_there_first { (&&*to, &&*from) } else { (&&*from, &&*to) };
            let looked = find_in_two(tables, &hash(ONE), &ONE);
            assert!(!matches!(looked, Looked::Absent));
            racer.join().unwrap();
            assert_eq!((to.places_of(ONE), from.places_of(ONE)), (1, 0));
        });
    }
}

#[test]
fn a_key_that_moves_to_the_other_table_is_not_begun_anew() {
    explore(|| {
        let (to, from) = (Arc::new(Small::new(2)), Arc::new(Small::in_order(2)));
        put(&from, ONE, 7, There::Stays).unwrap();
        let racer = move_one(&from, &to);
        let watch = Watch::of(&&*to, &hash(ONE)).unwrap();
        if watch.is_absent(&&*to, &hash(ONE), &ONE) {
            let write = |bucket: &BucketOf<'_, Explored, 3>, place| watch.lasts() && bucket.write(place, ONE, 8);
            let begun = insert(&&*from, &hash(ONE), &ONE, There::Stays, |_, _| false, write);
            assert!(begun.is_err(), "it is in one of the tables all the time");
        }
        racer.join().unwrap();
        assert_eq!((to.places_of(ONE), from.places_of(ONE)), (1, 0));
    });
}

#[test]
fn of_two_that_want_the_place_of_one_entry_each_gets_one() {
    explore(|| {
        // Two places: what lies in the one makes room for the first, and that one or what lies in the other for the second.
        let table = Arc::new(Small::new(1));
        put(&table, 8, 8, There::Stays).unwrap();
        put(&table, 9, 9, There::Stays).unwrap();
        let racer = {
            let table = Arc::clone(&table);
            race(move || put_over(&table, ONE, 0x11))
        };
        let mine = put_over(&table, OTHER, 0x22);
        let its = racer.join().unwrap();
        assert!(!matches!((mine, its), (Err(_), Err(_))), "{mine:?} {its:?}");
        for (key, put) in [(OTHER, mine), (ONE, its)] {
            // Whoever was put in later may have taken the place again.
            assert!(put.is_ok() || put == Err(Refusal::Busy), "{put:?}");
            assert!(table.places_of(key) <= usize::from(put.is_ok()));
        }
        assert_eq!([8, 9, ONE, OTHER].iter().map(|&key| table.places_of(key)).sum::<usize>(), 2);
    });
}

#[test]
fn an_entry_that_is_still_being_written_is_nobodys_to_take_out() {
    explore(|| {
        let table = Arc::new(Small::new(1));
        put(&table, ONE, 0x11, There::Stays).unwrap();
        let racer = {
            let table = Arc::clone(&table);
            // Another entry comes into the place of the first.
            race(move || sweep(&table, 1) && put(&table, OTHER, 0x22, There::Stays) == Ok(()))
        };
        let swept = sweep(&table, 1);
        let its = racer.join().unwrap();
        // One of the two was faster with the first entry; this one may have taken out the other one as well, once it was there.
        let left = [ONE, OTHER].map(|key| table.places_of(key));
        assert_eq!(left, if its && !swept { [0, 1] } else { [0, 0] }, "{its} {swept}");
        assert!(its || swept);
        let tag = table.cell(0, 1).tag.load();
        assert_eq!(is_taken(tag), left != [0, 0]);
        assert!(is_taken(tag) || tag == FREE, "nothing is left half-way");
    });
}

#[test]
fn a_copy_is_of_one_entry_although_its_place_changes_hands() {
    explore(|| {
        let table = Arc::new(Small::new(1));
        put(&table, ONE, 0x11, There::Stays).unwrap();
        let racer = {
            let table = Arc::clone(&table);
            race(move || {
                let found = find(&&*table, &hash(ONE), &ONE).found().unwrap();
                assert!(release(&found.bucket, found.place, hash(ONE).tag()));
                put(&table, OTHER, 0x22, There::Stays).unwrap();
            })
        };
        let cell = table.cell(0, 1);
        if let Some([key, one, other]) = copy_whole(cell, || cell.words()) {
            assert!(one == other && one == key * 0x11, "{key} {one:x} {other:x}");
        }
        racer.join().unwrap();
        assert!(is_taken(table.cell(0, 1).tag.load()));
    });
}

#[test]
fn a_copy_is_of_one_entry_although_it_makes_way_for_another() {
    explore(|| {
        let table = Arc::new(Small::new(1));
        put(&table, ONE, 0x11, There::Stays).unwrap();
        put(&table, 9, 0x99, There::Stays).unwrap();
        let racer = {
            let table = Arc::clone(&table);
            race(move || put_over(&table, OTHER, 0x22))
        };
        for cell in [1, 2].map(|place| table.cell(0, place)) {
            if let Some([key, one, other]) = copy_whole(cell, || cell.words()) {
                assert!(one == other && one == key * 0x11, "{key} {one:x} {other:x}");
            }
        }
        racer.join().unwrap().unwrap();
        assert_eq!(table.places_of(OTHER), 1);
    });
}
