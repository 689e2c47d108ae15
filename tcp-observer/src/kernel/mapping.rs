//! A map's memory in this process: all of it at once, or a table's entries bucket by bucket, as somebody asks for them.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
};

/// A map's memory, for reading.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: memory that is read by atomic loads only, and stays mapped until the last owner is gone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(file: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, of a file's pages that nobody takes for anything but atomic words.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        Self::made(start, bytes)
    }

    /// Addresses for so many bytes, where nothing is yet.
    pub(super) fn reserve(bytes: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        Self::made(start, bytes)
    }

    pub(super) fn made(start: *mut libc::c_void, bytes: usize) -> io::Result<Self> {
        let mapped = if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) };
        Ok(Self { start: mapped.ok_or_else(io::Error::last_os_error)?, bytes })
    }

    /// Maps the pages of a file that hold these bytes where they are reserved. What was mapped there before is the same.
    fn fill(&self, file: BorrowedFd<'_>, bytes: Range<usize>) -> io::Result<()> {
        let page = page_bytes();
        let (from, to) = (bytes.start / page * page, bytes.end.min(self.bytes));
        // SAFETY: within the reserved pages, which nobody reads meanwhile.
        let start = unsafe {
            let at = self.start.as_ptr().add(from).cast();
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            libc::mmap(at, to - from, libc::PROT_READ, flags, file.as_raw_fd(), from as libc::off_t)
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped, which nobody refers to any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

fn page_bytes() -> usize {
    // SAFETY: no memory is involved.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4_096)
}

pub(super) fn cannot_map(name: &str, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot map `{name}`"))
}

/// What is mapped of a table's entries so far.
#[derive(Debug)]
pub(super) struct OnDemand {
    name: String,
    file: OwnedFd,
    bucket_bytes: usize,
    mapped: Vec<bool>,
    /// How many buckets more are mapped one by one, before all that are left are at once.
    pub(super) singly: usize,
}

/// For how many pages of a table one of its buckets is mapped alone: alone it takes the kernel as long as so many pages
/// take in a row, or less.
const PAGES_FOR_ONE: usize = 16;

impl OnDemand {
    /// Nothing of a table of this name, whose entries are in this file.
    pub(super) fn new(name: &str, file: OwnedFd, bucket_bytes: usize, buckets: usize) -> Self {
        let singly = buckets * bucket_bytes / page_bytes() / PAGES_FOR_ONE;
        Self { name: name.to_owned(), file, bucket_bytes, mapped: vec![false; buckets], singly }
    }

    /// Makes sure that a bucket's entries are mapped.
    pub(super) fn map(&mut self, bucket: usize, slots: &Mapping) -> anyhow::Result<()> {
        if self.mapped[bucket] {
            return Ok(());
        }
        let file = self.file.as_fd();
        let filled = if self.singly == 0 {
            self.mapped.fill(true);
            slots.fill(file, 0..slots.bytes)
        } else {
            self.singly -= 1;
            self.mapped[bucket] = true;
            slots.fill(file, bucket * self.bucket_bytes..(bucket + 1) * self.bucket_bytes)
        };
        filled.map_err(|error| cannot_map(&self.name, error))
    }
}
