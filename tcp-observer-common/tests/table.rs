//! The flow table for one thread: it does what a map does, and fills up as far as two choices let it. Between threads:
//! `proofs/tests/table`.

use std::collections::HashMap;

use proofs::buckets::{Native, Table, random_hash};
use tcp_observer_common::table::{
    Bucket, Buckets, ENTRIES, Looked, PLACES, Refusal, There, find, insert, nth_oldest, release,
};

type Full = Table<Native, PLACES>;

fn put(table: &Full, key: u32, value: u32, there: There) -> Result<(), Refusal> {
    insert(&table, random_hash(key), &key, &value, there)
}

fn value_of(table: &Full, key: u32) -> Option<u32> {
    match find(&table, random_hash(key), &key) {
        Looked::Found(found) => Some(table.cell(found.index, found.place).words()[1]),
        Looked::Absent => None,
        Looked::Unsure => panic!("nobody else is there"),
    }
}

fn remove(table: &Full, key: u32) -> bool {
    let found = find(&table, random_hash(key), &key).found();
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
    // 40 keys for 45 places in three buckets: some are refused, all come back.
    let table = Full::new(3);
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
                    assert!(!model.contains_key(&key) && model.len() >= 2 * ENTRIES as usize);
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

#[test]
fn in_a_full_bucket_the_oldest_entry_comes_first() {
    let table = Full::new(1);
    let bucket = (&table).bucket(0).unwrap();
    for key in 0..ENTRIES {
        put(&table, key, key, There::Stays).unwrap();
    }
    // Three times round: each new key takes the place of the oldest one.
    for key in ENTRIES..4 * ENTRIES {
        assert_eq!(put(&table, key, key, There::Stays), Err(Refusal::Full));
        let place = nth_oldest(&bucket, 0).unwrap();
        assert_eq!(table.cell(0, place).words()[0], key - ENTRIES);
        assert!(release(&bucket, place, bucket.word(place)));
        put(&table, key, key, There::Stays).unwrap();
        let second = nth_oldest(&bucket, 1).unwrap();
        assert_eq!(table.cell(0, second).words()[0], key + 2 - ENTRIES);
    }
}

#[test]
fn what_was_released_already_is_not_released_again() {
    let table = Full::new(2);
    put(&table, 5, 1, There::Stays).unwrap();
    let found = find(&&table, random_hash(5), &5).found().unwrap();
    assert!(release(&found.bucket, found.place, random_hash(5).tag()));
    assert!(!release(&found.bucket, found.place, random_hash(5).tag()));
}
