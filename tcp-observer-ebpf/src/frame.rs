//! Packets where the kernel keeps them: an XDP buffer and an skb, behind the core's [`Frame`].
//!
//! Each load brings the bounds check that the verifier asks for. Only the linear part is looked at; where an skb's
//! headers lie beyond it, the entry pulls them in and parses again.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::bpf_xdp_get_buff_len,
    programs::{TcContext, XdpContext},
};
use tcp_observer_common::frame::Frame;

/// The linear bytes of a packet, from start to end. Pointers, not addresses: the compiler may not take sums of
/// pointers apart, and the verifier connects a bounds check with a load only where both start from one register.
struct Linear {
    start: *const u8,
    end: *const u8,
}

impl Linear {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let at = self.start.wrapping_add(offset);
        if at.wrapping_add(N) > self.end {
            return None;
        }
        // One load of N bytes: as an array the compiler, which takes BPF to need alignment, would fetch single bytes
        // and shift them together. Both JITs of interest and the verifier allow unaligned packet access.
        let mut bytes = [0; N];
        // SAFETY: N bytes at `at` were just found to lie within the packet.
        unsafe {
            match N {
                2 => bytes.copy_from_slice(&(*at.cast::<u16>()).to_ne_bytes()),
                4 => bytes.copy_from_slice(&(*at.cast::<u32>()).to_ne_bytes()),
                _ => return None,
            }
        }
        Some(bytes)
    }

    #[inline(always)]
    fn load_words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let at = self.start.wrapping_add(offset);
        if at.wrapping_add(4 * N) > self.end {
            return None;
        }
        // SAFETY: so many words at `at` were just found to lie within the packet. Unaligned as in `load`.
        Some(unsafe { *at.cast::<[u32; N]>() })
    }
}

/// A packet at an XDP hook.
pub struct XdpFrame<'a> {
    context: &'a XdpContext,
    linear: Linear,
}

impl<'a> XdpFrame<'a> {
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self { context, linear: Linear { start: context.data() as *const u8, end: context.data_end() as *const u8 } }
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.linear.load(offset)
    }

    #[inline(always)]
    fn load_words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        self.linear.load_words(offset)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        // Fragments included (helper since 5.18, as are XDP fragments themselves).
        // SAFETY: the context is this program's own.
        unsafe { bpf_xdp_get_buff_len(self.context.ctx) as usize }
    }

    #[inline(always)]
    fn len_up_to(&self, bytes: usize) -> usize {
        let linear = self.context.data_end() - self.context.data();
        if linear >= bytes { linear } else { self.len() }
    }
}

/// A packet at a tc hook.
pub struct TcFrame<'a> {
    context: &'a TcContext,
    linear: Linear,
}

impl<'a> TcFrame<'a> {
    #[inline(always)]
    pub fn new(context: &'a TcContext) -> Self {
        Self { context, linear: Linear { start: context.data() as *const u8, end: context.data_end() as *const u8 } }
    }

    /// Whether part of the packet lies beyond the linear bytes.
    #[inline(always)]
    pub fn has_more(&self) -> bool {
        self.context.data_end() - self.context.data() < self.context.len() as usize
    }

    #[inline(always)]
    fn skb(&self) -> *const __sk_buff {
        self.context.skb.skb
    }
}

impl Frame for TcFrame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.linear.load(offset)
    }

    #[inline(always)]
    fn load_words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        self.linear.load_words(offset)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.context.len() as usize
    }

    #[inline(always)]
    fn wire_segments(&self) -> u32 {
        // SAFETY: the context is this program's own; the field is there since 5.1.
        let gso_segments = unsafe { (*self.skb()).gso_segs };
        if gso_segments > 1 { gso_segments } else { 1 }
    }
}
