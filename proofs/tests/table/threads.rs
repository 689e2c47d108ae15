//! Two threads at full speed on a few keys in one small table.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use proofs::buckets::{Native, Table, random_hash};
use tcp_observer_common::table::{PLACES, Refusal, There, copy_whole, find_published, insert, release};

const KEYS: u32 = 24;
const STEPS: u32 = 200_000;

#[test]
fn two_writers_and_a_reader_leave_each_key_once_and_every_copy_whole() {
    // Two buckets: 30 places, and each key may lie in either.
    let table = Table::<Native, PLACES>::new(2);
    let is_over = AtomicBool::new(false);
    let copies = thread::scope(|scope| {
        let writers = [0, 1].map(|offset| {
            let table = &table;
            scope.spawn(move || {
                for step in 0..STEPS {
                    let key = (step * 7 + offset) % KEYS;
                    let value = key << 16 | step & 0xffff;
                    let there = if step % 5 == 0 { There::IsReplaced } else { There::Stays };
                    match insert(&table, &random_hash(key), &key, &value, there) {
                        Ok(()) | Err(Refusal::Exists | Refusal::Busy) => {}
                        Err(Refusal::Full) => panic!("24 keys have room in 30 places"),
                    }
                    let leaving = (step * 11 + offset) % KEYS;
                    if let Some(found) = find_published(&table, &random_hash(leaving), &leaving) {
                        release(&found.bucket, found.place, random_hash(leaving).tag());
                    }
                }
            })
        });
        let reader = scope.spawn(|| {
            let mut copies = 0_u64;
            while !is_over.load(SeqCst) {
                for place in (0..2 * PLACES).filter(|at| at % PLACES != 0) {
                    let cell = table.cell(place / PLACES, place % PLACES);
                    if let Some([key, one, other]) = copy_whole(cell, || cell.words()) {
                        assert!(one == other && one >> 16 == key, "a copy of two entries: {key} {one:x} {other:x}");
                        copies += 1;
                    }
                }
            }
            copies
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_over.store(true, SeqCst);
        reader.join().unwrap()
    });
    assert!(copies > 0);
    for key in 0..KEYS {
        assert!(table.places_of(key) <= 1, "key {key} lies in {} places", table.places_of(key));
    }
}
