//! Where a capture's bytes come from: a file or standard input, packed with gzip or not.
//!
//! What is packed is told by its first bytes and unpacked on the way, all members of it
//! (<https://www.rfc-editor.org/rfc/rfc1952>). A stream that is torn or damaged gives all that it still gives, then an
//! error; where that was, in bytes of the packed file, is kept beside it.

use std::{
    cell::OnceCell,
    fmt, fs,
    io::{self, BufRead as _, BufReader, Cursor, Read},
    path::PathBuf,
    rc::Rc,
};

use anyhow::Context as _;
use flate2::{Crc, Decompress, FlushDecompress, Status, bufread::GzDecoder};

use super::{fault::Problem, progress::Progress};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// What is read of a packed file at once.
const PACKED_BYTES: usize = 64 * 1024;
/// How far back what is packed may refer (<https://www.rfc-editor.org/rfc/rfc1951#section-2>).
const WINDOW_BYTES: usize = 32 * 1024;

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Stdin,
    File(PathBuf),
    /// Bytes in memory, of which at most `piece` come at once.
    #[cfg(any(test, feature = "fuzzing"))]
    Bytes {
        bytes: std::sync::Arc<[u8]>,
        piece: usize,
    },
}

impl Input {
    /// As it is typed: `-` is standard input.
    pub fn typed(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::File(path) }
    }

    /// How long it is; `None` where only the end will tell.
    pub fn bytes(&self) -> Option<u64> {
        let Self::File(path) = self else { return None };
        fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len())
    }

    /// Opens it; how far it was read is told to `progress`.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn open(&self, progress: &Rc<Progress>) -> anyhow::Result<Opened> {
        let reader: Box<dyn Read> = match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File(path) => Box::new(fs::File::open(path).with_context(|| format!("cannot open {self}"))?),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Bytes { bytes, piece } => Box::new(Pieces { bytes: bytes.clone(), at: 0, piece: *piece }),
        };
        let mut counted = Counted { reader, bytes: 0, progress: progress.clone() };
        let mut magic = Vec::new();
        let limit = GZIP_MAGIC.len() as u64;
        counted.by_ref().take(limit).read_to_end(&mut magic).with_context(|| format!("cannot read {self}"))?;
        let is_packed = magic == GZIP_MAGIC;
        let whole = Cursor::new(magic).chain(counted);
        let damage = Damage::default();
        let reader: Box<dyn Read> = if is_packed {
            let packed = BufReader::with_capacity(PACKED_BYTES, whole);
            // So that it is never asked for less than a window.
            Box::new(BufReader::with_capacity(WINDOW_BYTES, Unpacked::new(packed, damage.clone())))
        } else {
            Box::new(whole)
        };
        Ok(Opened { reader, damage })
    }
}

/// As messages name it.
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => write!(f, "`{}`", path.display()),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Bytes { .. } => f.write_str("bytes in memory"),
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
struct Pieces {
    bytes: std::sync::Arc<[u8]>,
    at: usize,
    piece: usize,
}

#[cfg(any(test, feature = "fuzzing"))]
impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.at..];
        let bytes = rest.len().min(buffer.len()).min(self.piece);
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        self.at += bytes;
        Ok(bytes)
    }
}

/// An input that was opened.
pub struct Opened {
    pub reader: Box<dyn Read>,
    pub damage: Damage,
}

/// Why unpacking came to an end before the input did; empty where nothing is wrong.
pub type Damage = Rc<OnceCell<Problem>>;

/// Counts what is read.
struct Counted {
    reader: Box<dyn Read>,
    bytes: u64,
    progress: Rc<Progress>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.bytes += bytes as u64;
        self.progress.advance(bytes as u64);
        Ok(bytes)
    }
}

type Packed = BufReader<io::Chain<Cursor<Vec<u8>>, Counted>>;

/// All members of a packed file, one after another. `flate2`'s own reader of them forgets what it has unpacked in the
/// step in which it comes upon damage; here that is handed out before the damage is told.
struct Unpacked {
    packed: Packed,
    inflate: Decompress,
    /// Of what the member has given.
    crc: Crc,
    part: Part,
    damage: Damage,
}

/// What comes next in the packed file.
enum Part {
    /// A member's header, or the end.
    Header,
    Body,
    Trailer,
    /// Nothing that makes sense.
    Broken(Problem),
}

impl Unpacked {
    fn new(packed: Packed, damage: Damage) -> Self {
        Self { packed, inflate: Decompress::new(false), crc: Crc::new(), part: Part::Header, damage }
    }

    /// How many bytes of the packed file have been used.
    fn offset(&self) -> u64 {
        let (_, counted) = self.packed.get_ref().get_ref();
        counted.bytes.saturating_sub(self.packed.buffer().len() as u64)
    }

    fn read_header(&mut self) -> io::Result<()> {
        // The library's decoder reads the header as it is made, and says what is wrong with it when it is read.
        let _nothing = GzDecoder::new(&mut self.packed).read(&mut [])?;
        self.inflate.reset(false);
        self.crc.reset();
        self.part = Part::Body;
        Ok(())
    }

    /// Unpacks as much as there is room for and input at hand; nothing only at the body's end or at damage.
    fn unpack(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What the decoder still has in its window when it fails is lost: there is always room up to where the window
        // wraps around.
        debug_assert!(buffer.len() >= WINDOW_BYTES, "{} bytes are less than a window", buffer.len());
        let beyond = (self.inflate.total_out() + buffer.len() as u64) % WINDOW_BYTES as u64;
        let room = buffer.len() - beyond as usize;
        loop {
            let packed = self.packed.fill_buf()?;
            let is_end = packed.is_empty();
            let flush = if is_end { FlushDecompress::Finish } else { FlushDecompress::None };
            let (used, given) = (self.inflate.total_in(), self.inflate.total_out());
            let result = self.inflate.decompress(packed, &mut buffer[..room], flush);
            self.packed.consume((self.inflate.total_in() - used) as usize);
            let bytes = (self.inflate.total_out() - given) as usize;
            self.crc.update(&buffer[..bytes]);
            match result {
                Ok(Status::StreamEnd) => self.part = Part::Trailer,
                Err(_) => self.part = Part::Broken(Problem::CorruptGzip { offset: self.offset() }),
                Ok(Status::Ok | Status::BufError) if bytes > 0 => {}
                Ok(Status::Ok | Status::BufError) if is_end => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Status::Ok | Status::BufError) => continue,
            }
            return Ok(bytes);
        }
    }

    /// Holds what was unpacked to the checksum and the length behind it.
    fn read_trailer(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        self.packed.read_exact(&mut trailer)?;
        if u64::from_le_bytes(trailer) != u64::from(self.crc.amount()) << 32 | u64::from(self.crc.sum()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.part = Part::Header;
        Ok(())
    }

    /// What an error says of the packed file.
    ///
    /// # Errors
    /// That of the file itself; an interruption is none at all.
    fn problem(&self, error: io::Error) -> io::Result<Problem> {
        let offset = self.offset();
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(Problem::TornGzip { offset }),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Ok(Problem::CorruptGzip { offset }),
            _ => Err(error),
        }
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let step = match &self.part {
                Part::Header if self.packed.fill_buf()?.is_empty() => return Ok(0),
                Part::Header => self.read_header().map(|()| 0),
                Part::Body => self.unpack(buffer),
                Part::Trailer => self.read_trailer().map(|()| 0),
                Part::Broken(problem) => {
                    let _ = self.damage.set(problem.clone());
                    return Err(io::ErrorKind::InvalidData.into());
                }
            };
            match step {
                Ok(0) => {}
                Ok(bytes) => return Ok(bytes),
                Err(error) => self.part = Part::Broken(self.problem(error)?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, GzBuilder, write::GzEncoder};

    use super::*;

    /// With the last a step begins within one of the decoder's windows and fails in the next, further on than the
    /// buffer reaches.
    const PIECES: [usize; 6] = [usize::MAX, 1, 5, 100, 20_000, 45_000];

    /// All that a file gives that comes in such pieces, read so much at once; and what is wrong with it.
    fn unpacked(file: &[u8], piece: usize, at_once: usize) -> (Vec<u8>, Option<Problem>) {
        let input = Input::Bytes { bytes: file.into(), piece };
        let Opened { mut reader, damage } = input.open(&Rc::new(Progress::hidden())).unwrap();
        let (mut all, mut buffer) = (Vec::new(), vec![0; at_once]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(bytes) => all.extend(&buffer[..bytes]),
                Err(_) => {
                    assert!(damage.get().is_some(), "there is nothing but damage to fail for");
                    break;
                }
            }
        }
        (all, damage.get().cloned())
    }

    /// Bytes that can be packed, but not well.
    fn content(bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & 0x7f
        };
        (0..bytes).map(next).collect()
    }

    #[test]
    fn all_that_comes_before_damage_is_handed_out_however_it_is_read() {
        for (bytes, level) in [(0, 6), (9, 6), (300, 0), (300, 6), (150_000, 0), (150_000, 6), (150_000, 1)] {
            let content = content(bytes);
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(&content).unwrap();
            // What is flushed ends with a whole byte; the next block is of the type that is none.
            encoder.flush().unwrap();
            let damaged = [encoder.get_ref(), &[0b111][..], &[0; 70_000]].concat();
            let offset = encoder.get_ref().len() as u64 + 1;
            for (piece, at_once) in PIECES.into_iter().flat_map(|piece| [(piece, 24), (piece, 64 * 1024)]) {
                let (given, problem) = unpacked(&damaged, piece, at_once);
                assert!(given == content, "{} of {bytes}, level {level}, pieces of {piece}", given.len());
                assert_eq!(
                    problem,
                    Some(Problem::CorruptGzip { offset }),
                    "{bytes} at level {level}, pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn members_follow_each_other_whatever_their_headers_hold() {
        let content = content(100_000);
        let parts = content.split_at(70_000);
        let mut named = GzBuilder::new().filename("a.pcap").comment("one").extra([1; 300]).mtime(7);
        let mut file = Vec::new();
        for part in [parts.0, &[], parts.1] {
            let mut encoder = std::mem::take(&mut named).write(file, Compression::default());
            encoder.write_all(part).unwrap();
            file = encoder.finish().unwrap();
        }
        for piece in PIECES {
            let (given, problem) = unpacked(&file, piece, 1000);
            assert!(given == content, "{} in pieces of {piece}", given.len());
            assert_eq!(problem, None);
        }
    }

    #[test]
    fn checksum_and_length_are_held_against_what_was_unpacked() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"ten bytes!").unwrap();
        let file = encoder.finish().unwrap();
        for at in file.len() - 8..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            let expected = (b"ten bytes!".to_vec(), Some(Problem::CorruptGzip { offset: file.len() as u64 }));
            assert_eq!(unpacked(&damaged, usize::MAX, 100), expected, "byte {at}");
        }
    }
}
