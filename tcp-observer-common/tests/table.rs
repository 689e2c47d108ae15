//! The flow table for one thread: it does what a map does, and fills up as far as two choices let it. Between threads:
//! `proofs/tests/table`.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};

use proofs::buckets::{BucketOf, Native, Table, Word as _, random_hash};
use tcp_observer_common::table::{
    Bucket, Buckets, ENTRIES, FREE, Looked, PLACES, Refusal, There, Watch, Which, copy_whole, find, find_in_two,
    insert, release,
};

type Full = Table<Native, PLACES>;

fn put<const PLACES: u32>(table: &Table<Native, PLACES>, key: u32, value: u32, there: There) -> Result<(), Refusal> {
    insert(&table, &random_hash(key), &key, there, |_, _| false, |bucket, place| bucket.write(place, key, value))
}

fn value_of<const PLACES: u32>(table: &Table<Native, PLACES>, key: u32) -> Option<u32> {
    match find(&table, &random_hash(key), &key) {
        Looked::Found(found) => Some(table.cell(found.index, found.place).words()[1]),
        Looked::Absent => None,
        Looked::Unsure => panic!("nobody else is there"),
    }
}

fn remove<const PLACES: u32>(table: &Table<Native, PLACES>, key: u32) -> bool {
    let found = find(&table, &random_hash(key), &key).found();
    found.is_some_and(|found| release(&found.bucket, found.place, random_hash(key).tag()))
}

#[test]
fn four_fifths_of_a_million_places_are_taken_before_the_first_refusal() {
    const BUCKETS: u32 = (1 << 20) / ENTRIES;
    let table = Full::new(BUCKETS);
    let refused = (0..).find(|&key| put(&table, key, key, There::Stays) == Err(Refusal::Full)).unwrap();
    let share = f64::from(refused) / f64::from(BUCKETS * ENTRIES);
    println!("{refused} of {} places: {:.1} %", BUCKETS * ENTRIES, 100.0 * share);
    assert!(share >= 0.80, "{share}");
    for key in (0..refused).step_by(977) {
        assert_eq!(value_of(&table, key), Some(key));
    }
    assert_eq!(value_of(&table, refused), None);
}

#[test]
fn any_sequence_of_steps_does_what_it_does_to_a_map() {
    // 60 keys for 45 places in three buckets: some are refused, all come back.
    does_what_it_does_to_a_map::<PLACES>();
    // Two entries to a bucket, as where interleavings are explored.
    does_what_it_does_to_a_map::<3>();
}

fn does_what_it_does_to_a_map<const PLACES: u32>() {
    let table = Table::<Native, PLACES>::new(3);
    let mut model: HashMap<u32, u32> = HashMap::new();
    let (mut state, mut refused) = (7_u32, 0);
    let mut random = |below: u32| {
        // A linear congruential generator (Numerical Recipes' figures); its upper bits.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    for step in 0..50_000 {
        let key = random(60);
        match random(4) {
            0 | 1 => match put(&table, key, step, There::Stays) {
                Ok(()) => assert_eq!(model.insert(key, step), None),
                Err(Refusal::Exists) => assert!(model.contains_key(&key)),
                Err(Refusal::Full) => {
                    refused += 1;
                    assert!(!model.contains_key(&key) && model.len() >= 2 * (PLACES as usize - 1));
                }
                Err(Refusal::Busy) => panic!("nobody else is there"),
            },
            2 => match put(&table, key, step, There::IsReplaced) {
                Ok(()) => drop(model.insert(key, step)),
                Err(refusal) => assert!(refusal == Refusal::Full && !model.contains_key(&key), "{refusal:?}"),
            },
            _ => assert_eq!(remove(&table, key), model.remove(&key).is_some()),
        }
        assert_eq!(value_of(&table, key), model.get(&key).copied(), "step {step}");
    }
    for key in 0..60 {
        assert_eq!(value_of(&table, key), model.get(&key).copied());
        assert_eq!(table.places_of(key), usize::from(model.contains_key(&key)));
    }
    assert!(refused > 0, "the table was full now and then");
}

/// Puts a key in, where the first entry makes room that is asked after so many others; the keys of all that were asked.
fn put_over(table: &Full, key: u32, others: usize) -> (Result<(), Refusal>, Vec<u32>) {
    let asked = RefCell::new(Vec::new());
    let gives_way = |bucket: &BucketOf<'_, Native, PLACES>, place| {
        asked.borrow_mut().push(table.cell(0, place).words()[0]);
        asked.borrow().len() > others && bucket.retire(place)
    };
    let write = |bucket: &BucketOf<'_, Native, PLACES>, place| bucket.write(place, key, key);
    (insert(&table, &random_hash(key), &key, There::Stays, gives_way, write), asked.into_inner())
}

#[test]
fn in_a_full_bucket_the_oldest_entry_is_asked_first_to_make_room() {
    let table = Full::in_order(1);
    for key in 0..ENTRIES {
        assert_eq!(put_over(&table, key, 0), (Ok(()), vec![]), "there is room");
    }
    // Three times round: each new key takes the place of the oldest one. Four are asked, and then it is left at that.
    for key in ENTRIES..4 * ENTRIES {
        let four = (key - ENTRIES..key - ENTRIES + 4).collect();
        assert_eq!(put_over(&table, 1_000, 4), (Err(Refusal::Full), four));
        assert_eq!(put_over(&table, key, 0), (Ok(()), vec![key - ENTRIES]));
        assert_eq!((value_of(&table, key), value_of(&table, key - ENTRIES)), (Some(key), None));
    }
    let oldest = 3 * ENTRIES;
    let four = (oldest..oldest + 4).collect();
    assert_eq!(put_over(&table, oldest, 0), (Err(Refusal::Exists), vec![]));
    assert_eq!(put_over(&table, 1_000, 3), (Ok(()), four));
    assert_eq!((value_of(&table, 1_000), value_of(&table, oldest + 3)), (Some(1_000), None));
    assert!((oldest..4 * ENTRIES).filter(|key| *key != oldest + 3).all(|key| value_of(&table, key) == Some(key)));
}

#[test]
fn an_entry_that_leaves_early_does_not_upset_the_order() {
    let table = Full::in_order(1);
    for key in 1..=5 {
        assert_eq!(put(&table, key, key, There::Stays), Ok(()));
    }
    assert!(remove(&table, 2));
    for key in 6..=15 {
        assert_eq!(put(&table, key, key, There::Stays), Ok(()));
        assert_eq!(table.cell(0, key).words()[0], key, "each in the place after the last one");
    }
    // Only now is the place that was left wanted.
    assert_eq!(put_over(&table, 16, 0), (Ok(()), vec![]));
    assert_eq!(table.cell(0, 2).words()[0], 16);
}

#[test]
fn only_entries_of_a_keys_home_make_room_for_it() {
    let table = Full::in_order(2);
    for key in 0.. {
        if put(&table, key, key, There::Stays).is_err() && table.cells.iter().all(|cell| cell.tag.load() > 0) {
            break;
        }
    }
    for key in 1_000..1_020 {
        let home = random_hash(key).home(2);
        let is_at_home = |bucket: &BucketOf<'_, Native, PLACES>| {
            // The lock of the key's home is held.
            (&&table).bucket(home).unwrap().word(0) & 1 == 1 && bucket.word(0) & 1 == 1
        };
        let gives_way = |bucket: &BucketOf<'_, Native, PLACES>, place| {
            assert!(is_at_home(bucket));
            bucket.retire(place)
        };
        let write = |bucket: &BucketOf<'_, Native, PLACES>, place| bucket.write(place, key, key);
        let put = insert(&&table, &random_hash(key), &key, There::Stays, gives_way, write);
        assert_eq!((put, value_of(&table, key)), (Ok(()), Some(key)));
    }
}

#[test]
fn keys_go_home_until_half_of_it_is_taken_and_then_where_there_is_more_room() {
    let table = Full::new(2);
    let home = |key: u32| random_hash(key).buckets(2).0;
    let keys: Vec<u32> = (0..).filter(|&key| home(key) == 0).take(2 * ENTRIES as usize).collect();
    let lies_in = |key: u32| find(&&table, &random_hash(key), &key).found().unwrap().index;
    let mut homes = Vec::new();
    for &key in &keys {
        put(&table, key, key, There::Stays).unwrap();
        homes.push(lies_in(key) == 0);
    }
    // By hand: seven at home, as many in the other bucket, and then in turns until both are full.
    assert_eq!(homes[..7], [true; 7]);
    assert_eq!(homes[7..14], [false; 7]);
    assert!(homes[14..].chunks(2).all(|two| two[0] != two[1]));
}

#[test]
fn what_was_released_already_is_not_released_again() {
    let table = Full::new(2);
    put(&table, 5, 1, There::Stays).unwrap();
    let found = find(&&table, &random_hash(5), &5).found().unwrap();
    assert!(release(&found.bucket, found.place, random_hash(5).tag()));
    assert!(!release(&found.bucket, found.place, random_hash(5).tag()));
}

#[test]
fn a_place_that_is_not_written_after_all_is_free_again() {
    let table = Full::new(1);
    put(&table, 1, 1, There::Stays).unwrap();
    let put_in = |writes| {
        let write = |bucket: &BucketOf<'_, Native, PLACES>, place| writes && bucket.write(place, 2, 2);
        insert(&&table, &random_hash(2), &2, There::Stays, |_, _| false, write)
    };
    assert_eq!(put_in(false), Err(Refusal::Busy));
    assert_eq!(keys_in(&table), [1].into());
    assert_eq!((put_in(true), put_in(true)), (Ok(()), Err(Refusal::Exists)));
    assert_eq!(keys_in(&table), [1, 2].into());
}

#[test]
fn a_key_is_absent_until_one_that_belongs_where_it_does_is_put_in() {
    let table = Full::new(2);
    let with_home = |home: u32| (0..).filter(move |&key| random_hash(key).home(2) == home);
    let (key, neighbour) = (with_home(0).next().unwrap(), with_home(0).nth(1).unwrap());
    let hash = random_hash(key);
    let watch = || Watch::of(&&table, &hash).unwrap();
    let before = watch();
    assert!(before.is_absent(&&table, &hash, &key) && before.lasts());
    put(&table, with_home(1).next().unwrap(), 0, There::Stays).unwrap();
    assert!(before.lasts(), "of another home");
    put(&table, neighbour, 0, There::Stays).unwrap();
    assert!(!before.lasts() && watch().is_absent(&&table, &hash, &key));
    // Whoever holds the lock may be putting it in.
    let home = (&table).bucket(0).unwrap();
    let control = home.word(0);
    assert!(home.exchange(0, control, control | 1));
    assert!(!watch().is_absent(&&table, &hash, &key));
    assert!(home.exchange(0, control | 1, control));
    put(&table, key, 0, There::Stays).unwrap();
    assert!(!watch().is_absent(&&table, &hash, &key));
    // In the other bucket it is found as well.
    let crowded = Full::new(2);
    with_home(0).take(9).for_each(|key| put(&crowded, key, key, There::Stays).unwrap());
    let elsewhere =
        with_home(0).take(9).find(|key| find(&&crowded, &random_hash(*key), key).found().unwrap().index == 1);
    let hash = random_hash(elsewhere.unwrap());
    assert!(!Watch::of(&&crowded, &hash).unwrap().is_absent(&&crowded, &hash, &elsewhere.unwrap()));
}

#[test]
fn keys_with_one_hash_are_entries_of_their_own() {
    let table = Full::new(2);
    let hash = random_hash(1);
    let put = |key: u32| {
        insert(&&table, &hash, &key, There::Stays, |_, _| false, |bucket, place| bucket.write(place, key, key))
    };
    assert_eq!([put(1), put(2), put(2)], [Ok(()), Ok(()), Err(Refusal::Exists)]);
    let place_of = |key: u32| find(&&table, &hash, &key).found();
    let first = place_of(1).unwrap();
    assert!(release(&first.bucket, first.place, hash.tag()));
    assert!(place_of(1).is_none() && place_of(2).is_some());
    // Its key still stands where it lay.
    assert_eq!((put(1), put(1)), (Ok(()), Err(Refusal::Exists)));
    assert!(place_of(1).is_some() && place_of(2).is_some());
    // The one in whose place a new one comes is the one with its key.
    let replaces =
        insert(&&table, &hash, &1, There::IsReplaced, |_, _| false, |bucket, place| bucket.write(place, 1, 9));
    assert!(replaces == Ok(()) && place_of(1).is_some() && place_of(2).is_some());
    // As many as both buckets hold.
    let all = 1..=2 * ENTRIES;
    assert!(all.clone().skip(2).all(|key| put(key) == Ok(())));
    assert!(all.clone().all(|key| place_of(key).is_some() && put(key) == Err(Refusal::Exists)));
    assert_eq!(put(2 * ENTRIES + 1), Err(Refusal::Full));
}

#[test]
fn in_an_empty_bucket_is_nothing_to_copy() {
    let table = Full::new(1);
    let cell = table.cell(0, random_hash(7).place(PLACES));
    assert_eq!(copy_whole(cell, || cell.words()), None);
    put(&table, 7, 9, There::Stays).unwrap();
    assert_eq!(copy_whole(cell, || cell.words()), Some([7, 9, 9]));
}

#[test]
fn a_copy_during_which_the_entry_makes_way_is_made_again_eight_times_at_most() {
    for (changes, copies, copied) in [(1, 2, true), (7, 8, true), (8, 8, false)] {
        let (table, place) = (Full::new(1), random_hash(7).place(PLACES));
        put(&table, 7, 9, There::Stays).unwrap();
        let mut made = 0;
        let copy = copy_whole(table.cell(0, place), || {
            made += 1;
            let words = table.cell(0, place).words();
            if made <= changes {
                assert!(remove(&table, 7));
                put(&table, 7, 10 + made, There::Stays).unwrap();
            }
            words
        });
        assert_eq!((copy.is_some(), made), (copied, copies));
        assert!(copy.is_none_or(|[key, one, other]| key == 7 && one == 10 + changes && other == one));
    }
}

/// A table in which something is done at one of the looks at a word, as another CPU might.
struct Interrupted<'a> {
    table: &'a Full,
    /// How many looks are left before it.
    looks: Cell<u32>,
    act: &'a dyn Fn(),
}

#[derive(Clone, Copy)]
struct InterruptedBucket<'a> {
    bucket: BucketOf<'a, Native, PLACES>,
    table: &'a Interrupted<'a>,
}

impl Bucket for InterruptedBucket<'_> {
    type Key = u32;

    fn word(&self, place: u32) -> u32 {
        let looks = self.table.looks.get();
        self.table.looks.set(looks.wrapping_sub(1));
        if looks == 0 {
            (self.table.act)();
        }
        self.bucket.word(place)
    }

    fn exchange(&self, place: u32, current: u32, new: u32) -> bool {
        self.bucket.exchange(place, current, new)
    }

    fn publish(&self, place: u32, current: u32, new: u32) {
        self.bucket.publish(place, current, new);
    }

    fn make_busy(&self, place: u32, tag: u32) {
        self.bucket.make_busy(place, tag);
    }

    fn holds(&self, place: u32, key: &u32) -> bool {
        self.bucket.holds(place, key)
    }
}

impl<'a> Buckets for &'a Interrupted<'a> {
    type Bucket = InterruptedBucket<'a>;

    fn count(&self) -> u32 {
        (&self.table).count()
    }

    fn bucket(&self, index: u32) -> Option<Self::Bucket> {
        (&self.table).bucket(index).map(|bucket| InterruptedBucket { bucket, table: self })
    }

    fn keeps_order(&self) -> bool {
        (&self.table).keeps_order()
    }
}

/// Puts keys from this one on into all places of a bucket that are free, as other CPUs whose home is another one.
fn fill(table: &Full, index: u32, first: u32) {
    let bucket = (&table).bucket(index).unwrap();
    for (key, place) in (first..).zip(1..PLACES) {
        if bucket.word(place) == FREE {
            assert!(bucket.exchange(place, FREE, 1));
            bucket.write(place, key, key);
            bucket.publish(place, 1, random_hash(key).tag());
        }
    }
}

/// The keys in a table, each of which has its own value.
fn keys_in(table: &Full) -> HashSet<u32> {
    let taken =
        table.cells.iter().enumerate().filter(|(at, cell)| at % PLACES as usize != 0 && cell.tag.load() != FREE);
    let entries: Vec<_> = taken.map(|(_, cell)| cell.words()).collect();
    let keys: HashSet<_> = entries.iter().map(|&[key, ..]| key).collect();
    assert!(entries.iter().all(|&[key, one, other]| key == one && one == other) && keys.len() == entries.len());
    keys
}

#[test]
fn a_key_goes_where_there_is_room_though_others_fill_what_it_was_about_to_take() {
    const KEY: u32 = 7;
    let home = random_hash(KEY).home(2);
    // One bucket is filled while the key is put in, or both, and then an entry makes room.
    for (filled, looks) in
        [&[home][..], &[1 - home], &[0, 1]].into_iter().flat_map(|filled| (0..120).map(move |at| (filled, at)))
    {
        let table = Full::new(2);
        for key in (100..).filter(|&key| random_hash(key).home(2) == home).take(20) {
            put(&table, key, key, There::Stays).unwrap();
        }
        let before = keys_in(&table);
        let act = || filled.iter().for_each(|&index| fill(&table, index, 1_000 * (index + 1)));
        let interrupted = Interrupted { table: &table, looks: Cell::new(looks), act: &act };
        let made_room = Cell::new(0);
        let gives_way = |bucket: &InterruptedBucket<'_>, place| {
            made_room.set(made_room.get() + 1);
            bucket.bucket.retire(place)
        };
        let write = |bucket: &InterruptedBucket<'_>, place| bucket.bucket.write(place, KEY, KEY);
        let put = insert(&&interrupted, &random_hash(KEY), &KEY, There::Stays, gives_way, write);
        assert_eq!((put, value_of(&table, KEY)), (Ok(()), Some(KEY)), "{filled:?} after {looks} looks");
        let lost = before.difference(&keys_in(&table)).count();
        assert!(lost <= made_room.get() && made_room.get() <= usize::from(filled.len() == 2), "{lost}");
    }
}

/// Puts a key into the second place of a table's first bucket, so that it moves to the first one when it is replaced.
fn put_beside_its_place(table: &Full) -> u32 {
    // Two keys whose place is the first one: the second finds it taken by the first, which then leaves.
    let is_first = |key: &u32| (random_hash(*key).home(2), random_hash(*key).place(PLACES)) == (0, 1);
    let mut keys = (0..).filter(is_first);
    let (neighbour, key) = (keys.next().unwrap(), keys.next().unwrap());
    for key in [neighbour, key] {
        put(table, key, key, There::Stays).unwrap();
    }
    assert!(remove(table, neighbour));
    key
}

#[test]
fn who_looks_in_vain_while_a_key_is_replaced_is_not_sure() {
    let mut unsure = 0;
    for looks in 0..40 {
        let table = Full::new(2);
        let key = put_beside_its_place(&table);
        let act = || put(&table, key, 4, There::IsReplaced).unwrap();
        let interrupted = Interrupted { table: &table, looks: Cell::new(looks), act: &act };
        match find(&&interrupted, &random_hash(key), &key) {
            Looked::Found(found) => assert_eq!(table.cell(found.index, found.place).words()[0], key),
            Looked::Unsure => unsure += 1,
            Looked::Absent => panic!("it is there all the time: interrupted after {looks} looks"),
        }
    }
    // It moves to the first place. Whoever has passed that already, and not yet the second, misses it: one moment while
    // looking for the tag, and one while comparing keys.
    assert_eq!(unsure, 2);
}

#[test]
fn a_key_is_found_in_the_table_where_it_lies() {
    let (first, second) = (Full::new(2), Full::new(3));
    put(&first, 1, 1, There::Stays).unwrap();
    put(&second, 2, 2, There::Stays).unwrap();
    for key in [3, 1] {
        put(&first, key, 30, There::IsReplaced).unwrap();
        put(&second, key, 30, There::IsReplaced).unwrap();
    }
    let which = |key: u32| {
        find_in_two((&&first, &&second), &random_hash(key), &key).found().map(|(which, found)| {
            let table = if which == Which::First { &first } else { &second };
            assert_eq!(table.cell(found.index, found.place).words()[0], key);
            which
        })
    };
    assert_eq!([1, 2, 3, 4].map(which), [Some(Which::First), Some(Which::Second), Some(Which::First), None]);
}

/// Looks for a key that moves from one table to another at one of the looks, at each of them in turn; how often it was not
/// sure.
fn unsure_of_a_key_that_moves(is_to_first: bool) -> u32 {
    let mut unsure = 0;
    // At each look at a word of the first table, and at each of the second.
    for at in 0..80 {
        let tables = [Full::new(2), Full::new(2)];
        let (to, from) = if is_to_first { (&tables[0], &tables[1]) } else { (&tables[1], &tables[0]) };
        put(from, 3, 3, There::Stays).unwrap();
        let act = || {
            put(to, 3, 3, There::Stays).unwrap();
            assert!(remove(from, 3));
        };
        let interrupted = |table, looks| Interrupted { table, looks: Cell::new(looks), act: &act };
        let (in_first, in_second) = if at < 40 { (at, u32::MAX) } else { (u32::MAX, at - 40) };
        let (first, second) = (interrupted(&tables[0], in_first), interrupted(&tables[1], in_second));
        match find_in_two((&&first, &&second), &random_hash(3), &3) {
            Looked::Found(_) => {}
            Looked::Unsure => unsure += 1,
            Looked::Absent => panic!("it is there all the time: {at}"),
        }
    }
    unsure
}

#[test]
fn who_looks_for_a_key_that_moves_to_the_first_table_finds_it_or_is_not_sure() {
    let unsure = unsure_of_a_key_that_moves(true);
    assert!(unsure > 0, "some look at the first table before it is there, and at the second when it is gone");
}

#[test]
fn who_looks_for_a_key_that_moves_to_the_second_table_finds_it() {
    // It is put into the second before it leaves the first, and the second is looked at last.
    assert_eq!(unsure_of_a_key_that_moves(false), 0);
}

#[test]
fn who_looks_into_two_tables_while_a_key_is_replaced_in_one_of_them_is_not_sure() {
    for (with_it, at) in [0, 1].into_iter().flat_map(|with_it| (0..40).map(move |at| (with_it, at))) {
        let tables = [Full::new(2), Full::new(2)];
        let table = &tables[with_it];
        let key = put_beside_its_place(table);
        let act = || put(table, key, 4, There::IsReplaced).unwrap();
        let looks = |of: usize| Cell::new(if of == with_it { at } else { u32::MAX });
        let [first, second] = [0, 1].map(|of| Interrupted { table: &tables[of], looks: looks(of), act: &act });
        let looked = find_in_two((&&first, &&second), &random_hash(key), &key);
        assert!(!matches!(looked, Looked::Absent), "it is there all the time: table {with_it}, after {at} looks");
    }
}

#[test]
fn who_finds_nothing_in_two_tables_while_a_home_is_locked_is_not_sure() {
    let tables = [Full::new(1), Full::new(1)];
    let look = || find_in_two((&&tables[0], &&tables[1]), &random_hash(3), &3);
    assert!(matches!(look(), Looked::Absent));
    for locked in [&tables[..1], &tables[1..], &tables[..]] {
        // The lowest bit of the control word, as the one who holds it has set it.
        let turn = |from, to| locked.iter().all(|table| (&table).bucket(0).unwrap().exchange(0, from, to));
        assert!(turn(0, 1));
        assert!(matches!(look(), Looked::Unsure), "{} locked", locked.len());
        assert!(turn(1, 0));
    }
}

#[test]
fn who_looks_in_vain_while_the_home_is_locked_is_not_sure() {
    let table = Full::new(1);
    let bucket = (&table).bucket(0).unwrap();
    assert_eq!(find(&&table, &random_hash(3), &3).found().map(|found| found.place), None);
    assert!(matches!(find(&&table, &random_hash(3), &3), Looked::Absent));
    // The lowest bit of the control word, as the one who holds it has set it.
    let control = bucket.word(0);
    assert!(bucket.exchange(0, control, control | 1));
    assert!(matches!(find(&&table, &random_hash(3), &3), Looked::Unsure));
    assert_eq!(put(&table, 3, 3, There::Stays), Err(Refusal::Busy));
    assert!(bucket.exchange(0, control | 1, control));
    assert_eq!(put(&table, 3, 3, There::Stays), Ok(()));
}
