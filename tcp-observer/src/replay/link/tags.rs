//! The VLANs that a packet was in.

/// How many tags are told apart; what is tagged more often belongs to the same flow as what shares these.
const MAX_TAGS: usize = 4;

/// The ids of a packet's VLAN tags, outermost first, zero where there are no more. A tag without an id (zero, a mere
/// priority) counts as none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tags([u16; MAX_TAGS]);

impl Tags {
    /// Adds what a tag says: its upper four bits are a priority.
    pub fn push(&mut self, tag: u16) {
        let id = tag & 0x0fff;
        if id != 0
            && let Some(free) = self.0.iter_mut().find(|id| **id == 0)
        {
            *free = id;
        }
    }

    /// All of them as one number.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        let [a, b, c, d] = self.0;
        a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48
    }

    /// The ids, outermost first.
    pub fn ids(&self) -> &[u16] {
        let count = self.0.iter().position(|&id| id == 0).unwrap_or(MAX_TAGS);
        &self.0[..count]
    }
}
