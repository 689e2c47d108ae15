//! Two threads at full speed on a few keys in one small table.
//!
//! Whoever takes an entry out has retired it before, as in the kernel.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use proofs::buckets::{BucketOf, Native, Table, random_hash};
use tcp_observer_common::table::{
    Bucket as _, Found, PLACES, Refusal, There, copy_whole, find_published, insert, release,
};

const STEPS: u32 = 200_000;

#[test]
fn two_writers_and_a_reader_leave_each_key_once_and_every_copy_whole() {
    each_key_is_left_once_and_every_copy_whole(24, |_, _| false);
}

#[test]
fn entries_that_make_room_for_others_are_taken_out_once_and_never_half_written() {
    each_key_is_left_once_and_every_copy_whole(100, |bucket, place| bucket.retire(place));
}

/// In two buckets: 30 places, and each key may lie in either.
fn each_key_is_left_once_and_every_copy_whole(
    keys: u32,
    gives_way: impl Fn(&BucketOf<'_, Native, PLACES>, u32) -> bool + Copy + Send,
) {
    let table = Table::<Native, PLACES>::new(2);
    let is_over = AtomicBool::new(false);
    let copies = thread::scope(|scope| {
        let writers = [0, 1].map(|offset| {
            let table = &table;
            scope.spawn(move || {
                for step in 0..STEPS {
                    let key = (step * 7 + offset) % keys;
                    let value = key << 16 | step & 0xffff;
                    // What is to be replaced is retired first.
                    let old = find_published(&table, &random_hash(key), &key).filter(|_| step % 5 == 0);
                    let old = old.filter(|found| found.bucket.retire(found.place));
                    let there = if old.is_some() { There::IsReplaced } else { There::Stays };
                    let write = |bucket: &BucketOf<'_, Native, PLACES>, place| bucket.write(place, key, value);
                    match insert(&table, &random_hash(key), &key, there, gives_way, write) {
                        Ok(()) | Err(Refusal::Exists) => {}
                        Err(Refusal::Busy) => old.iter().for_each(take_out),
                        // Four may be on their way out at once.
                        Err(Refusal::Full) => assert!(keys > 30, "they all have room"),
                    }
                    let leaving = (step * 11 + offset) % keys;
                    let found = find_published(&table, &random_hash(leaving), &leaving);
                    found.iter().filter(|found| found.bucket.retire(found.place)).for_each(take_out);
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
        let ends = writers.map(|writer| writer.join());
        is_over.store(true, SeqCst);
        ends.into_iter().for_each(|end| end.unwrap());
        reader.join().unwrap()
    });
    assert!(copies > 0);
    for key in 0..keys {
        assert!(table.places_of(key) <= 1, "key {key} lies in {} places", table.places_of(key));
    }
}

fn take_out(found: &Found<BucketOf<'_, Native, PLACES>>) {
    assert!(release(&found.bucket, found.place, found.bucket.word(found.place)), "it is this thread's to take out");
}
