//! A capture file as a stream of packets: pcap in micro- and nanoseconds and either byte order, and pcapng.
//!
//! What is a record and what it says is the business of `pcap-parser`, which reads through a buffer; here the buffer
//! grows for a record that is larger, the end of the file is told apart from a torn record, and a record that cannot
//! be whole is told apart from one that has not been read yet. Nothing in a file makes this allocate more than the
//! file holds, or [`MAX_RECORD_BYTES`].
//!
//! Nearly all records are packets written in the plainest way, and whole in the buffer. Those are taken where they lie;
//! the library is asked for all others, and for what is wrong.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read as _},
    rc::Rc,
};

use anyhow::{Context as _, bail};
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError, PcapHeader, PcapNGReader, traits::PcapReaderIterator};
use tcp_observer_common::frame::Frame;

use super::{
    fault::Problem,
    input::{Damage, Input},
    link::LinkType,
    pcapng::{Section, Seen},
    progress::Progress,
    timestamp,
};

/// What is read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Larger records are taken for corrupt ones, as Wireshark takes them.
const MAX_RECORD_BYTES: u64 = 16 * 1024 * 1024;
/// The first bytes of a pcapng section, the same in both byte orders.
const SECTION_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// A packet's bytes as far as they were captured, and its length on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub bytes: &'a [u8],
    pub wire_bytes: usize,
}

impl<'a> Packet<'a> {
    /// A packet is never shorter than what was captured of it.
    pub fn new(bytes: &'a [u8], wire_bytes: u32) -> Self {
        Self { bytes, wire_bytes: bytes.len().max(wire_bytes as usize) }
    }

    /// The packet without its first bytes.
    #[inline]
    pub fn from(self, offset: usize) -> Self {
        Self { bytes: self.bytes.get(offset..).unwrap_or_default(), wire_bytes: self.wire_bytes.saturating_sub(offset) }
    }
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.load(offset)
    }

    #[inline(always)]
    fn load_words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        self.bytes.load_words(offset)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.wire_bytes
    }
}

/// A packet and what the capture says about it.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// `None` where there is no time stamp.
    pub unix_ns: Option<u64>,
    /// Whether time stamps are finer than microseconds.
    pub has_nanoseconds: bool,
    /// The file's interfaces, counted from one.
    pub interface: u32,
    /// `None` for one that cannot be read.
    pub link: Option<LinkType>,
    pub packet: Packet<'a>,
}

/// A capture that has been opened.
pub struct Capture {
    records: Box<dyn PcapReaderIterator>,
    damage: Damage,
    format: Format,
    unknown: Unknown,
}

enum Format {
    Pcap(Pcap),
    PcapNg(Section),
}

/// What the header of a pcap file says of its records.
struct Pcap {
    is_big_endian: bool,
    has_nanoseconds: bool,
    record_header_bytes: usize,
    link: Link,
}

impl From<&PcapHeader> for Pcap {
    fn from(header: &PcapHeader) -> Self {
        Self {
            is_big_endian: header.is_bigendian(),
            has_nanoseconds: header.is_nanosecond_precision(),
            record_header_bytes: if header.is_modified_format() { 24 } else { 16 },
            // The upper bits hold the length of the frame check sequence.
            link: Link::new(header.network.0 as u16),
        }
    }
}

impl Pcap {
    /// The record with which the data begins, and how long it is; `None` where it is not whole.
    #[inline]
    fn record<'a>(&self, data: &'a [u8]) -> Option<(Seen<'a>, usize)> {
        let words: &[u8; 16] = data.first_chunk()?;
        let captured_bytes = word(words, 8, self.is_big_endian) as usize;
        let bytes = data.get(self.record_header_bytes..)?.get(..captured_bytes)?;
        let seen = self.seen(
            word(words, 0, self.is_big_endian),
            word(words, 4, self.is_big_endian),
            Packet::new(bytes, word(words, 12, self.is_big_endian)),
        );
        Some((seen, self.record_header_bytes + captured_bytes))
    }

    #[inline]
    fn seen<'a>(&self, seconds: u32, fraction: u32, packet: Packet<'a>) -> Seen<'a> {
        let unix_ns = Some(timestamp::unix_ns(seconds, fraction, self.has_nanoseconds));
        Seen { interface: 0, link: self.link, unix_ns, has_nanoseconds: self.has_nanoseconds, packet }
    }
}

/// Four bytes as a number.
#[inline(always)]
pub(super) fn word<const N: usize>(bytes: &[u8; N], at: usize, is_big_endian: bool) -> u32 {
    let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

/// A link type's number, and what it is where it can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    number: u16,
    known: Option<LinkType>,
}

impl Link {
    pub fn new(number: u16) -> Self {
        Self { number, known: LinkType::of(number) }
    }
}

/// Why reading has ended early.
enum Stop {
    /// Something is wrong with the capture.
    Broken(Problem),
    /// Whoever takes the packets takes no more.
    Refused(io::Error),
}

impl Capture {
    /// # Errors
    /// When the input cannot be read or is no capture.
    pub fn open(input: &Input, progress: &Rc<Progress>) -> anyhow::Result<Self> {
        let mut opened = input.open(progress)?;
        let mut head = Vec::new();
        let read = read_head(&mut opened.reader, &mut head);
        if opened.damage.get().is_none() {
            read.with_context(|| format!("cannot read {input}"))?;
        }
        if let Some(remark) = foreign(&head) {
            match opened.damage.get() {
                Some(damage) => bail!("{input} cannot be unpacked: {damage}"),
                None => bail!("{input} is no pcap or pcapng capture: {remark}"),
            }
        }
        let is_pcapng = head.starts_with(&SECTION_MAGIC);
        let reader = Cursor::new(head).chain(opened.reader);
        let broken = |_| anyhow::anyhow!("{input} begins like a capture, but its file header is cut off or corrupt");
        let (records, format): (Box<dyn PcapReaderIterator>, _) = if is_pcapng {
            let records = PcapNGReader::new(BUFFER_BYTES, reader).map_err(broken)?;
            (Box::new(records), Format::PcapNg(Section::default()))
        } else {
            let records = LegacyPcapReader::new(BUFFER_BYTES, reader).map_err(broken)?;
            (Box::new(records), Format::Pcap((&PcapHeader::default()).into()))
        };
        Ok(Self { records, damage: opened.damage, format, unknown: BTreeMap::new() })
    }

    /// Reads all packets; what is wrong with the capture comes back.
    ///
    /// # Errors
    /// When `take` takes no more.
    pub fn read(mut self, mut take: impl FnMut(Captured<'_>) -> io::Result<()>) -> io::Result<Vec<Problem>> {
        let broken = match self.read_records(&mut take) {
            Ok(()) => None,
            Err(Stop::Broken(problem)) => Some(problem),
            Err(Stop::Refused(error)) => return Err(error),
        };
        let unknown = self.unknown.into_iter().map(|(link, packets)| Problem::UnknownLink { link, packets });
        Ok(unknown.chain(broken).collect())
    }

    fn read_records(&mut self, take: &mut impl FnMut(Captured<'_>) -> io::Result<()>) -> Result<(), Stop> {
        loop {
            self.take_plain(take)?;
            let offset = self.records.consumed() as u64;
            let corrupt = |reason| Stop::Broken(Problem::Corrupt { offset, reason });
            let is_short = match self.records.next() {
                Ok((size, block)) => {
                    if let Some(seen) = self.format.take(block).map_err(corrupt)? {
                        show(seen, &mut self.unknown, take)?;
                    }
                    self.records.consume_noshift(size);
                    continue;
                }
                Err(PcapError::Eof) => return Ok(()),
                Err(PcapError::BufferTooSmall) => true,
                Err(PcapError::Incomplete(_)) => false,
                Err(PcapError::UnexpectedEof) => {
                    if self.records.data().is_empty() {
                        return Ok(());
                    }
                    self.plausible().map_err(corrupt)?;
                    return Err(Stop::Broken(Problem::Truncated { offset }));
                }
                Err(PcapError::ReadError) => return Err(self.unreadable(offset)),
                Err(PcapError::HeaderNotRecognized | PcapError::NomError(..) | PcapError::OwnedNomError(..)) => {
                    return Err(corrupt("its fields do not fit each other"));
                }
            };
            self.plausible().map_err(corrupt)?;
            if is_short {
                // By no more than what has been read: what a record says of its length is not believed.
                let size = self.records.data().len().max(BUFFER_BYTES) * 2;
                self.records.grow(size);
            }
            if self.records.refill().is_err() {
                return Err(self.unreadable(offset));
            }
        }
    }

    /// Takes the plain packets that come next in the buffer.
    fn take_plain(&mut self, take: &mut impl FnMut(Captured<'_>) -> io::Result<()>) -> Result<(), Stop> {
        // The file's header comes first.
        if self.records.consumed() == 0 {
            return Ok(());
        }
        let (data, unknown) = (self.records.data(), &mut self.unknown);
        let taken = match &self.format {
            Format::Pcap(pcap) => take_while(data, |data| pcap.record(data), unknown, take),
            Format::PcapNg(section) => take_while(data, |data| section.plain_packet(data), unknown, take),
        }?;
        self.records.consume_noshift(taken);
        Ok(())
    }

    fn unreadable(&self, offset: u64) -> Stop {
        Stop::Broken(self.damage.get().cloned().unwrap_or(Problem::Unreadable { offset }))
    }

    /// Whether the record of which the parser wants to see more can be there and not read yet.
    fn plausible(&self) -> Result<(), &'static str> {
        let data = self.records.data();
        match self.format.record_bytes(data) {
            Some(claimed) if claimed > MAX_RECORD_BYTES => Err("it claims to be larger than 16 MiB"),
            Some(claimed) if claimed <= data.len() as u64 => Err("what it holds is longer than itself"),
            Some(_) | None => Ok(()),
        }
    }
}

/// Packets of link types that cannot be read, by the types' numbers.
type Unknown = BTreeMap<u16, u64>;

/// Shows packets as long as the data begins with one, and says how far that went.
#[inline(always)]
fn take_while<'a>(
    data: &'a [u8],
    packet: impl Fn(&'a [u8]) -> Option<(Seen<'a>, usize)>,
    unknown: &mut Unknown,
    take: &mut impl FnMut(Captured<'_>) -> io::Result<()>,
) -> Result<usize, Stop> {
    let mut left = data;
    while let Some((seen, bytes)) = packet(left) {
        show(seen, unknown, take)?;
        left = left.get(bytes..).unwrap_or_default();
    }
    Ok(data.len() - left.len())
}

#[inline(always)]
fn show(
    seen: Seen<'_>,
    unknown: &mut Unknown,
    take: &mut impl FnMut(Captured<'_>) -> io::Result<()>,
) -> Result<(), Stop> {
    let Seen { interface, link, unix_ns, has_nanoseconds, packet } = seen;
    if link.known.is_none() {
        *unknown.entry(link.number).or_default() += 1;
    }
    let interface = interface.saturating_add(1);
    take(Captured { unix_ns, has_nanoseconds, interface, link: link.known, packet }).map_err(Stop::Refused)
}

impl Format {
    fn take<'a>(&mut self, block: PcapBlockOwned<'a>) -> Result<Option<Seen<'a>>, &'static str> {
        match (self, block) {
            (Self::Pcap(pcap), PcapBlockOwned::LegacyHeader(header)) => *pcap = (&header).into(),
            (Self::Pcap(pcap), PcapBlockOwned::Legacy(record)) => {
                let packet = Packet::new(record.data, record.origlen);
                return Ok(Some(pcap.seen(record.ts_sec, record.ts_usec, packet)));
            }
            (Self::PcapNg(section), PcapBlockOwned::NG(block)) => return section.take(&block),
            (Self::Pcap(_), PcapBlockOwned::NG(_))
            | (Self::PcapNg(_), PcapBlockOwned::LegacyHeader(_) | PcapBlockOwned::Legacy(_)) => {}
        }
        Ok(None)
    }

    /// How long the record is by what it says itself; `None` where too little of it is there.
    fn record_bytes(&self, data: &[u8]) -> Option<u64> {
        let word = |at: usize, is_big_endian| {
            let bytes: &[u8; 4] = data.get(at..)?.first_chunk()?;
            Some(word(bytes, 0, is_big_endian))
        };
        match self {
            Self::Pcap(pcap) => Some(u64::from(word(8, pcap.is_big_endian)?) + pcap.record_header_bytes as u64),
            Self::PcapNg(section) => {
                let is_big_endian = if data.starts_with(&SECTION_MAGIC) {
                    word(8, true)? == BYTE_ORDER_MAGIC
                } else {
                    section.is_big_endian
                };
                word(4, is_big_endian).map(u64::from)
            }
        }
    }
}

/// Reads the file header or the first block, and no more: what another program writes as it captures must not wait for
/// what comes after.
fn read_head(reader: &mut impl io::Read, head: &mut Vec<u8>) -> io::Result<()> {
    const PCAP_HEADER_BYTES: u64 = 24;
    reader.take(PCAP_HEADER_BYTES).read_to_end(head)?;
    if head.starts_with(&SECTION_MAGIC)
        && let Some(bytes) = Format::PcapNg(Section::default()).record_bytes(head)
    {
        let rest = bytes.min(BUFFER_BYTES as u64).saturating_sub(head.len() as u64);
        reader.take(rest).read_to_end(head)?;
    }
    Ok(())
}

/// What a file is that is no capture, and what to do about it; `None` where it begins like a capture.
fn foreign(head: &[u8]) -> Option<String> {
    const PCAP_MAGICS: [u32; 5] = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xd4c3_b2a1, 0x4d3c_b2a1, 0xa1b2_cd34];
    let Some(magic) = head.first_chunk::<4>() else {
        return Some(if head.is_empty() { "it is empty".to_owned() } else { "it is too short for one".to_owned() });
    };
    if *magic == SECTION_MAGIC || PCAP_MAGICS.contains(&u32::from_le_bytes(*magic)) {
        return None;
    }
    let packed = match magic {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd] => Some("zstd"),
        [0xfd, b'7', b'z', b'X'] => Some("xz"),
        [0x04, 0x22, 0x4d, 0x18] => Some("lz4"),
        [b'B', b'Z', b'h', _] => Some("bzip2"),
        _ => None,
    };
    Some(match packed {
        Some(packer) => format!("it is packed; unpack it with `{packer} -d` first"),
        None => format!(
            "it begins with {}; `editcap` turns what Wireshark can read into one",
            magic.map(|byte| format!("{byte:02x}")).join(" ")
        ),
    })
}
