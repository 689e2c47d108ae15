//! The blocks of a pcapng section: interfaces, and the three ways in which a packet may be written
//! (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>).
//!
//! Interfaces are numbered anew in each section, so that files which were joined keep their interfaces' numbers.

use pcap_parser::{Block, InterfaceDescriptionBlock, OptionCode};

use super::{
    capture::{Link, Packet, word},
    timestamp::Clock,
};

/// The type of the packet block that the enhanced one has replaced, in either byte order.
const OBSOLETE_PACKET: [u32; 2] = [2, 2_u32.swap_bytes()];
const OBSOLETE_HEADER_BYTES: usize = 20;
const TOO_LONG: &str = "its packet is longer than the block";
const NO_INTERFACE: &str = "no interface with its number was described";

/// What is known of the section that is being read.
#[derive(Debug, Default)]
pub struct Section {
    pub is_big_endian: bool,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Link,
    clock: Clock,
}

/// A packet of a section.
pub struct Seen<'a> {
    /// The section's interfaces, counted from zero.
    pub interface: u32,
    pub link: Link,
    /// Unknown for a packet in a simple block.
    pub unix_ns: Option<u64>,
    pub has_nanoseconds: bool,
    pub packet: Packet<'a>,
}

impl Section {
    /// The packet with which the data begins, and how long its block is, where it is whole, an enhanced one without
    /// options, and nothing about it is wrong.
    #[inline]
    pub fn plain_packet<'a>(&self, data: &'a [u8]) -> Option<(Seen<'a>, usize)> {
        const ENHANCED_PACKET: u32 = 6;
        const HEADER_BYTES: usize = 28;
        let words: &[u8; HEADER_BYTES] = data.first_chunk()?;
        let word = |at| word(words, at, self.is_big_endian);
        let (block_bytes, interface, captured_bytes) = (word(4) as usize, word(8), word(20) as usize);
        let body_bytes = captured_bytes.checked_next_multiple_of(4)?;
        if word(0) != ENHANCED_PACKET || block_bytes != HEADER_BYTES + body_bytes + 4 {
            return None;
        }
        let bytes = data.get(HEADER_BYTES..)?.get(..captured_bytes)?;
        // The length once more.
        if data.get(HEADER_BYTES + body_bytes..)?.first_chunk::<4>()? != &words[4..8] {
            return None;
        }
        let ticks = u64::from(word(12)) << 32 | u64::from(word(16));
        let seen = self.seen(interface, Some(ticks), bytes, word(24)).ok()?;
        Some((seen, block_bytes))
    }

    /// Takes a block in; a packet comes back where it holds one.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn take<'a>(&mut self, block: &Block<'a>) -> Result<Option<Seen<'a>>, &'static str> {
        match block {
            Block::SectionHeader(header) => {
                *self = Self { is_big_endian: header.big_endian(), interfaces: Vec::new() };
            }
            Block::InterfaceDescription(description) => {
                // A link type has sixteen bits in this format.
                let interface =
                    Interface { link: Link::new(description.linktype.0 as u16), clock: self.clock(description) };
                self.interfaces.push(interface);
            }
            Block::EnhancedPacket(block) => {
                let bytes = block.data.get(..block.caplen as usize).ok_or(TOO_LONG)?;
                let ticks = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                return self.seen(block.if_id, Some(ticks), bytes, block.origlen).map(Some);
            }
            Block::SimplePacket(block) => {
                let captured = block.data.len().min(block.origlen as usize);
                return self.seen(0, None, &block.data[..captured], block.origlen).map(Some);
            }
            Block::Unknown(block) if OBSOLETE_PACKET.contains(&block.block_type) => {
                return self.obsolete_packet(block.data).map(Some);
            }
            // Names, statistics, secrets and what others have added: no packets.
            Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::DecryptionSecrets(_)
            | Block::ProcessInformation(_)
            | Block::Custom(_)
            | Block::Unknown(_) => {}
        }
        Ok(None)
    }

    fn seen<'a>(
        &self,
        interface: u32,
        ticks: Option<u64>,
        bytes: &'a [u8],
        wire_bytes: u32,
    ) -> Result<Seen<'a>, &'static str> {
        let Interface { link, clock } = *self.interfaces.get(interface as usize).ok_or(NO_INTERFACE)?;
        let unix_ns = ticks.map(|ticks| clock.unix_ns(ticks));
        let has_nanoseconds = clock.has_nanoseconds();
        Ok(Seen { interface, link, unix_ns, has_nanoseconds, packet: Packet::new(bytes, wire_bytes) })
    }

    /// Read from the options themselves: the library knows no powers of two, and takes offsets for little-endian.
    fn clock(&self, description: &InterfaceDescriptionBlock<'_>) -> Clock {
        let option = |code| description.options.iter().find(|option| option.code == code);
        let if_tsresol = option(OptionCode::IfTsresol).and_then(|option| option.value().first().copied());
        let if_tsoffset = option(OptionCode::IfTsoffset).and_then(|option| option.value().first_chunk().copied());
        let offset_seconds = if_tsoffset.map_or(0, |bytes: [u8; 8]| {
            if self.is_big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) }
        });
        Clock::new(if_tsresol.unwrap_or(Clock::DEFAULT_TSRESOL), offset_seconds)
    }

    fn obsolete_packet<'a>(&self, block: &'a [u8]) -> Result<Seen<'a>, &'static str> {
        let (header, data) = block.split_at_checked(OBSOLETE_HEADER_BYTES).ok_or("it is shorter than its header")?;
        let word = |at: usize| {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        // The interface's number is followed by a count of drops, sixteen bits each.
        let interface = if self.is_big_endian { word(0) >> 16 } else { word(0) & 0xffff };
        let ticks = u64::from(word(4)) << 32 | u64::from(word(8));
        let bytes = data.get(..word(12) as usize).ok_or(TOO_LONG)?;
        self.seen(interface, Some(ticks), bytes, word(16))
    }
}
