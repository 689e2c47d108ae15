//! The record of one flow as it lies in a table: the state word, its story, a half for each direction, and the times
//! that only transitions touch.
//!
//! Who writes what: the [`Word`] and the [`Story`] change by compare-and-exchange only; each [`Half`] is
//! written by the segments of its own direction and read by the other; the [`Times`] are written by whoever won the
//! exchange that they belong to, or, for a repetition that leaves the word as it is, by the segment that repeats. All
//! fields are cells, since a table hands out shared references. Copies that userspace takes may catch a half between
//! two stores; every field by itself is whole.

use core::cell::Cell;

use super::{
    half::Half,
    story::Story,
    times::Times,
    word::{Mark, Role, Word},
};
use crate::{flow::Side, segment::Options};

/// The state word of a flow in a table. How it is exchanged atomically is its
/// [`Host`](crate::observer::Host)'s business.
#[derive(Clone, Debug, Default)]
#[repr(transparent)]
pub struct WordCell(pub Cell<u64>);

impl WordCell {
    /// The word at this moment.
    #[inline(always)]
    pub fn load(&self) -> Word {
        Word(self.0.get())
    }
}

/// One flow: the value of both tables. In this order each half's hot part lies in a cache line that the other direction
/// does not write.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Flow {
    pub word: WordCell,
    pub times: Times,
    pub story: Story,
    pub low: Half,
    pub high: Half,
}

const _: () = {
    assert!(size_of::<Flow>() == 240 && align_of::<Flow>() == 8);
    assert!(core::mem::offset_of!(Flow, low) == 80 && core::mem::offset_of!(Flow, high) == 160);
};

impl Flow {
    /// Forgets everything, word by word: left to the compiler it would be a call to `memset`, which in the kernel programs
    /// goes byte by byte.
    #[inline(always)]
    pub(super) fn clear(&self) {
        let words = core::ptr::from_ref(self).cast::<u64>().cast_mut();
        let mut i = 0;
        while i < size_of::<Self>() / size_of::<u64>() {
            // SAFETY: within this flow, all of which is cells of plain numbers, without padding.
            unsafe { words.add(i).write_volatile(0) };
            i += 1;
        }
        for half in [&self.low, &self.high] {
            half.window_shift.set(Options::NO_SHIFT);
        }
    }

    /// Becomes a copy of another flow, whose word has this epoch. The word is written first and nothing later than it stands
    /// here: volatile, and so a loop is what it stays.
    #[inline(always)]
    pub fn become_like(&self, other: &Flow, epoch: u16) {
        let (to, from) = (core::ptr::from_ref(self).cast::<u64>().cast_mut(), core::ptr::from_ref(other).cast::<u64>());
        // SAFETY: the first word of a flow is its word.
        unsafe { to.write_volatile(Word(from.read_volatile()).in_epoch(epoch).0) };
        let mut i = 1;
        while i < size_of::<Self>() / size_of::<u64>() {
            // SAFETY: within the flows, all of which is cells of plain numbers, without padding.
            unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
            i += 1;
        }
    }

    /// The half that the endpoint on this side of the key writes.
    #[inline(always)]
    pub fn half(&self, side: Side) -> &Half {
        match side {
            Side::Low => &self.low,
            Side::High => &self.high,
        }
    }

    /// The keepalive probes of an endpoint that its peer has not answered so far; one at least, when the word says that any
    /// are out, which it does before they are counted.
    pub fn unanswered_keepalives(&self, word: Word, of: Role) -> u8 {
        if word.has_of(Mark::Probing, of) { self.half(word.side_of(of)).unanswered.get().max(1) } else { 0 }
    }

    /// When anything of this flow was last seen, in nanoseconds of the observer's clock.
    #[inline(always)]
    pub fn last_seen_ns(&self) -> u64 {
        let (low, high, first) = (self.low.last_seen_ns.get(), self.high.last_seen_ns.get(), self.times.first_ns.get());
        let later = if low > high { low } else { high };
        // The coarse clock of the steady state lags the precise one of the first segment by up to a tick.
        if later > first { later } else { first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_flow_in_an_epoch_of_its_own() {
        let other = Flow::default();
        let words = |flow: &Flow| {
            // SAFETY: a flow is made of so many words, any bits of which will do.
            unsafe { std::slice::from_raw_parts(core::ptr::from_ref(flow).cast::<Cell<u64>>(), size_of::<Flow>() / 8) }
                .iter()
        };
        words(&other).zip(1..).for_each(|(word, number)| word.set(7 << 48 | number));
        let flow = Flow::default();
        flow.become_like(&other, 9);
        assert_eq!(flow.word.load().0, 9 << 48 | 1);
        assert!(words(&flow).zip(words(&other)).skip(1).all(|(word, other)| word == other));
        let before = "the word, six times, the story's three, the low half's ten, and the five of what transitions touch come before it";
        assert_eq!(flow.high.last_seen_ns.get(), 7 << 48 | 26, "{before}");
    }

    #[test]
    fn probes_are_out_as_soon_as_the_word_says_so() {
        let flow = Flow::default();
        let word = Word::fresh(0).with(Mark::OriginatorIsHigh).with_of(Mark::Probing, Role::Responder);
        let unanswered = || [Role::Originator, Role::Responder].map(|role| flow.unanswered_keepalives(word, role));
        assert_eq!(unanswered(), [0, 1]);
        flow.low.unanswered.set(2);
        flow.high.unanswered.set(3);
        assert_eq!(unanswered(), [0, 2]);
    }
}
