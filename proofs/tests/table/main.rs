//! The flow table: what its protocol promises, held against a model (`filling`), between threads (`threads`), and between
//! all interleavings of a few steps on weakly ordered memory (`interleavings`).

/// A [`Word`](proofs::buckets::Word) made of the atomics that the module has imported.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(AtomicU32);

        impl proofs::buckets::Word for $name {
            fn new(value: u32) -> Self {
                Self(AtomicU32::new(value))
            }

            fn load(&self) -> u32 {
                self.0.load(Acquire)
            }

            fn load_relaxed(&self) -> u32 {
                self.0.load(Relaxed)
            }

            fn store_relaxed(&self, value: u32) {
                self.0.store(value, Relaxed);
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
        }
    };
}

mod filling;
mod interleavings;
mod threads;

use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, SeqCst},
    fence,
};

use tcp_observer_common::table::Hash;

word!(
    /// This machine's own words.
    Native
);

/// A hash as good as random: splitmix64, by Steele, Lea and Flood.
pub fn random_hash(key: u32) -> Hash {
    let mut z = (u64::from(key) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    Hash { first: (z >> 32) as u32, second: z as u32 }
}
