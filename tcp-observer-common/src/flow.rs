//! What identifies a flow: its two endpoints in canonical order, the same key for both directions.
//!
//! The key's sides are *low* and *high*. Which of them opened the connection is the state machine's knowledge and
//! lives in its [`Word`](crate::conn::Word), since it may be learnt late.

use core::{
    cmp::Ordering,
    net::{Ipv4Addr, Ipv6Addr},
};

/// An IP address as 32-bit words in network byte order, so that comparing costs no call to `memcmp` in the kernel.
pub trait Address: Copy + Eq {
    /// Of how many words it is made.
    const WORDS: usize;
    /// One of them.
    fn word(&self, index: usize) -> u32;
    /// A total order, the same on every machine that runs one observer; it carries no meaning beyond that.
    fn order(&self, other: &Self) -> Ordering;
    /// Whether this is a loopback address by its mere value (127.0.0.0/8, ::1).
    fn is_loopback(&self) -> bool;
}

/// An IPv4 address.
pub type Ipv4 = [u32; 1];
/// An IPv6 address.
pub type Ipv6 = [u32; 4];

impl Address for Ipv4 {
    const WORDS: usize = 1;

    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        self[index]
    }

    #[inline(always)]
    fn order(&self, other: &Self) -> Ordering {
        u32::from_be(self[0]).cmp(&u32::from_be(other[0]))
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        u32::from_be(self[0]) >> 24 == 127
    }
}

impl Address for Ipv6 {
    const WORDS: usize = 4;

    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        self[index]
    }

    #[inline(always)]
    fn order(&self, other: &Self) -> Ordering {
        let mut i = 0;
        while i < 4 {
            if self[i] != other[i] {
                return u32::from_be(self[i]).cmp(&u32::from_be(other[i]));
            }
            i += 1;
        }
        Ordering::Equal
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self[0] | self[1] | self[2] == 0 && u32::from_be(self[3]) == 1
    }
}

/// Two endpoints, the lower (address, then port) first. 12 bytes for IPv4, 36 for IPv6; ports in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey<A> {
    pub low_addr: A,
    pub high_addr: A,
    pub low_port: u16,
    pub high_port: u16,
}

/// The key of an IPv4 flow.
pub type FlowKey4 = FlowKey<Ipv4>;
/// The key of an IPv6 flow.
pub type FlowKey6 = FlowKey<Ipv6>;

const _: () = assert!(size_of::<FlowKey4>() == 12 && size_of::<FlowKey6>() == 36);

/// One of a key's two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    Low,
    High,
}

impl Side {
    pub const BOTH: [Self; 2] = [Side::Low, Side::High];

    /// The side whose discriminant this is.
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Self {
        if bits == Side::Low as u8 { Side::Low } else { Side::High }
    }

    /// The other side.
    #[inline(always)]
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Side::Low => Side::High,
            Side::High => Side::Low,
        }
    }
}

impl<A: Address> FlowKey<A> {
    /// The key of a segment, and the side that sent it. An endpoint that talks to itself is always `Low`.
    #[inline(always)]
    pub fn of(source: A, source_port: u16, destination: A, destination_port: u16) -> (Self, Side) {
        let destination_is_low = match destination.order(&source) {
            Ordering::Less => true,
            Ordering::Equal => destination_port < source_port,
            Ordering::Greater => false,
        };
        if destination_is_low {
            let key =
                Self { low_addr: destination, high_addr: source, low_port: destination_port, high_port: source_port };
            (key, Side::High)
        } else {
            let key =
                Self { low_addr: source, high_addr: destination, low_port: source_port, high_port: destination_port };
            (key, Side::Low)
        }
    }

    /// The address of one side.
    #[inline(always)]
    pub fn addr(&self, side: Side) -> &A {
        match side {
            Side::Low => &self.low_addr,
            Side::High => &self.high_addr,
        }
    }

    /// The port of one side.
    #[inline(always)]
    pub fn port(&self, side: Side) -> u16 {
        match side {
            Side::Low => self.low_port,
            Side::High => self.high_port,
        }
    }
}

/// An address in network byte order, as one word.
pub fn ipv4_word(address: Ipv4Addr) -> Ipv4 {
    [u32::from_ne_bytes(address.octets())]
}

/// An address in network byte order, as four words in memory order.
pub fn ipv6_words(address: Ipv6Addr) -> Ipv6 {
    let mut words = [0; 4];
    for (word, four) in words.iter_mut().zip(address.octets().chunks_exact(4)) {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(four);
        *word = u32::from_ne_bytes(bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4 = [u32::from_be_bytes([192, 0, 2, 1]).to_be()];
    const B: Ipv4 = [u32::from_be_bytes([198, 51, 100, 9]).to_be()];

    #[test]
    fn both_directions_have_one_key_and_opposite_sides() {
        let (there, from) = FlowKey::of(A, 40000, B, 443);
        let (back, to) = FlowKey::of(B, 443, A, 40000);
        assert_eq!(there, back);
        assert_eq!((from, to), (Side::Low, Side::High));
        assert_eq!((there.low_addr, there.low_port), (A, 40000));
    }

    #[test]
    fn one_host_with_itself_is_ordered_by_port() {
        let (key, side) = FlowKey::of(A, 5000, A, 80);
        assert_eq!((key.low_port, key.high_port, side), (80, 5000, Side::High));
    }

    #[test]
    fn an_endpoint_that_talks_to_itself_is_low() {
        assert_eq!(FlowKey::of(A, 5000, A, 5000).1, Side::Low);
    }

    #[test]
    fn a_side_is_told_by_its_bits() {
        for side in [Side::Low, Side::High] {
            assert_eq!(Side::from_bits(side as u8), side);
        }
    }

    #[test]
    fn ipv6_orders_by_the_first_word_that_differs() {
        let a: Ipv6 = [0x2001_0db8_u32.to_be(), 0, 0, 2_u32.to_be()];
        let b: Ipv6 = [0x2001_0db8_u32.to_be(), 0, 0, 0x0100_u32.to_be()];
        assert_eq!([a.order(&b), b.order(&a), a.order(&a)], [Ordering::Less, Ordering::Greater, Ordering::Equal]);
    }

    #[test]
    fn words_keep_the_bytes_in_network_order() {
        let words = ipv6_words("2001:db8::2".parse().unwrap());
        assert_eq!(words, [0x2001_0db8_u32.to_be(), 0, 0, 2_u32.to_be()]);
        assert_eq!(ipv4_word(Ipv4Addr::new(192, 0, 2, 1)), A);
        assert!(ipv6_words(Ipv6Addr::LOCALHOST).is_loopback());
    }

    #[test]
    fn loopback_is_told_by_value() {
        assert!([u32::from_be_bytes([127, 8, 9, 1]).to_be()].is_loopback());
        assert!(!A.is_loopback());
        assert!([0, 0, 0, 1_u32.to_be()].is_loopback());
        assert!(![0, 0, 0, 0_u32].is_loopback());
        let one = 1_u32.to_be();
        for other in [[9, 0, 0, one], [0, 9, 0, one], [0, 0, 9, one], [9, 9, 0, one], [0, 9, 9, one], [9, 9, 9, one]] {
            assert!(!other.is_loopback(), "{other:?}");
        }
    }
}
