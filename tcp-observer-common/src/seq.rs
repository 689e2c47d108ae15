//! Sequence numbers: arithmetic modulo 2^32.
//!
//! Deliberately without `Ord`: on a ring nothing is simply less than anything else. Two numbers compare as
//! [before](SeqNum::before) and [after](SeqNum::after) within half the ring
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.4>).

/// A sequence or acknowledgement number of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Whether `self` comes before `other`, that is, less than 2^31 ahead of which `other` lies.
    #[inline(always)]
    pub fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether `self` comes after `other`.
    #[inline(always)]
    pub fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// Whether `self` lies in the closed interval from `first` to `last`.
    #[inline(always)]
    pub fn within(self, first: Self, last: Self) -> bool {
        !self.before(first) && !self.after(last)
    }

    /// The number `length` further on.
    #[inline(always)]
    #[must_use]
    pub fn plus(self, length: u32) -> Self {
        Self(self.0.wrapping_add(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        assert!(SeqNum(u32::MAX).before(SeqNum(0)));
        assert!(SeqNum(5).after(SeqNum(u32::MAX - 5)));
        assert_eq!(SeqNum(u32::MAX).plus(1), SeqNum(0));
    }

    #[test]
    fn nothing_is_before_or_after_itself() {
        for number in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            assert!(!SeqNum(number).before(SeqNum(number)));
            assert!(!SeqNum(number).after(SeqNum(number)));
        }
    }

    #[test]
    fn an_interval_over_the_wrap_holds_its_ends_only_and_what_lies_between() {
        let (first, last) = (SeqNum(u32::MAX - 1), SeqNum(2));
        for inside in [u32::MAX - 1, u32::MAX, 0, 2] {
            assert!(SeqNum(inside).within(first, last));
        }
        for outside in [u32::MAX - 2, 3, 1 << 31] {
            assert!(!SeqNum(outside).within(first, last));
        }
    }
}
