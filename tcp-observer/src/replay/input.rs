//! Where a capture's bytes come from: a file or standard input, packed with gzip or not.
//!
//! What is packed is told by its first bytes and unpacked on the way, all members of it
//! (<https://www.rfc-editor.org/rfc/rfc1952>). A stream that is torn or damaged gives all that it still gives, then an
//! error; where that was, in bytes of the packed file, is kept beside it.

use std::{
    cell::OnceCell,
    fmt, fs,
    io::{self, BufReader, Cursor, Read},
    path::PathBuf,
    rc::Rc,
};

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;

use super::{fault::Problem, progress::Progress};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// What is read of a packed file at once.
const PACKED_BYTES: usize = 64 * 1024;

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
            let decoder = MultiGzDecoder::new(BufReader::with_capacity(PACKED_BYTES, whole));
            Box::new(Unpacked { decoder, damage: damage.clone() })
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

struct Unpacked {
    decoder: MultiGzDecoder<Packed>,
    damage: Damage,
}

impl Unpacked {
    /// How many bytes of the packed file have been used.
    fn offset(&self) -> u64 {
        let packed = self.decoder.get_ref();
        let (_, counted) = packed.get_ref().get_ref();
        counted.bytes.saturating_sub(packed.buffer().len() as u64)
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.damage.get().is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.decoder.read(buffer).inspect_err(|error| {
            let offset = self.offset();
            let problem = match error.kind() {
                io::ErrorKind::UnexpectedEof => Problem::TornGzip { offset },
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Problem::CorruptGzip { offset },
                // Of the file itself; an interruption is none at all.
                _ => return,
            };
            let _ = self.damage.set(problem);
        })
    }
}
