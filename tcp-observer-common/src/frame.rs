//! A packet as bytes to be asked for, wherever they lie: in a slice, in an XDP buffer or in an skb.
//!
//! The verifier accepts a parser over this trait where it rejects one over `&[u8]`, because each load brings its own
//! bounds check.

/// Headers that reach beyond this are not followed; a power of two.
pub const MAX_OFFSET: usize = 1024;

/// A buffer that starts at a link-layer or network-layer header.
#[expect(clippy::len_without_is_empty, reason = "a frame of length zero is just truncated")]
pub trait Frame {
    /// The `N` bytes at `offset`, or `None` where the buffer holds fewer. `N` is 2 or 4.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// So many words in a row as they lie there, or `None` where the buffer holds fewer. One bounds check, where there is
    /// one to each load.
    #[inline(always)]
    fn load_words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let mut words = [0; N];
        let mut at = offset;
        for word in &mut words {
            *word = u32::from_ne_bytes(self.load(at)?);
            at += 4;
        }
        Some(words)
    }

    /// The packet's true length in bytes, which may be more than can be loaded: a capture may have cut it off, and a
    /// super-packet's length field may be zero.
    fn len(&self) -> usize;

    /// The packet's length if that is less than so many bytes, and otherwise any number from there to its length, which may
    /// cost more to know.
    #[inline(always)]
    fn len_up_to(&self, _bytes: usize) -> usize {
        self.len()
    }

    /// How many segments the wire carries for this buffer: `gso_segs` of a super-packet, otherwise one.
    fn wire_segments(&self) -> u32 {
        1
    }
}

impl Frame for [u8] {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn load_words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let (chunks, _) = self.get(offset..)?.as_chunks();
        let chunks: &[_; N] = chunks.first_chunk()?;
        Some(chunks.map(u32::from_ne_bytes))
    }

    #[inline(always)]
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}
