//! The bpf system call, as far as aya has no wrapper that fits: elements and batches of plain values, and test runs.
//!
//! Keys and values are [`Plain`]: the kernel copies bytes, and any bytes are a value. What a caller can get wrong is
//! the size, so a [`Table`] compares the kernel's own description of the map with its types when it is opened, and a
//! map of another layout is an error there, not a wild read later.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr,
};

use tcp_observer_common::{
    abi::{Layout, Ports},
    conn::Flow,
    counters::Counters,
    flow::{FlowKey4, FlowKey6},
    histogram::Histogram,
};

/// A type that bytes from the kernel may be copied into, and from.
///
/// # Safety
/// Every bit pattern is a value, there is no padding, and the alignment is at most eight.
pub unsafe trait Plain: Sized {
    /// All zero.
    fn zeroed() -> Self {
        // SAFETY: every bit pattern is a value of a plain type.
        unsafe { std::mem::zeroed() }
    }
}

// SAFETY: integers.
unsafe impl Plain for u8 {}
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}
// SAFETY: an array has the alignment of its elements and no padding beyond theirs.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

macro_rules! plain {
    ($($name:ty),+) => {$(
        // SAFETY: `repr(C)`, made of integers (some in cells) only, its size asserted or of equal words.
        unsafe impl Plain for $name {}
    )+};
}
plain!(FlowKey4, FlowKey6, Flow, Counters, Histogram, Ports, Layout);

const LOOKUP_ELEM: libc::c_long = 1;
const UPDATE_ELEM: libc::c_long = 2;
const DELETE_ELEM: libc::c_long = 3;
const NEXT_KEY: libc::c_long = 4;
const TEST_RUN: libc::c_long = 10;
const LOOKUP_BATCH: libc::c_long = 24;

#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    _pad: u32,
    key: u64,
    /// For `NEXT_KEY` the next key.
    value: u64,
    flags: u64,
}

#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    program_fd: u32,
    return_value: u32,
    data_in_bytes: u32,
    data_out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
}

/// # Safety
/// The pointers in `attr` are valid for what `command` reads and writes through them.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes of `attr`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<u8>().addr() as u64
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Runs a program once on a frame; what it returned. A signal that interrupts it begins it anew.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    let mut attr = TestRunAttr {
        program_fd: number(program),
        data_in_bytes: frame.len() as u32,
        data_in: address(frame.as_ptr()),
        repeat: 1,
        ..TestRunAttr::default()
    };
    loop {
        // SAFETY: the kernel reads `data_in_bytes` bytes at `data_in`, and writes nothing since `data_out` is null.
        match unsafe { bpf(TEST_RUN, &mut attr) } {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(|()| attr.return_value),
        }
    }
}

/// A map with keys `K` and values `V`, whose sizes have been compared with the kernel's.
#[derive(Debug)]
pub struct Table<F, K, V> {
    fd: F,
    _types: PhantomData<fn() -> (K, V)>,
}

impl<F: AsFd, K: Plain, V: Plain> Table<F, K, V> {
    /// # Errors
    /// When the map's sizes (as the kernel states them) are not those of the types.
    pub fn new(fd: F, name: &str, key_bytes: u32, value_bytes: u32) -> anyhow::Result<Self> {
        let expected = (size_of::<K>(), size_of::<V>());
        let got = (key_bytes as usize, value_bytes as usize);
        anyhow::ensure!(
            expected == got,
            "map `{name}` has keys and values of {got:?} bytes where this version has {expected:?}; restart the agent"
        );
        Ok(Self { fd, _types: PhantomData })
    }

    fn element(&self, command: libc::c_long, key: Option<&K>, value: *mut u8) -> io::Result<()> {
        let key = key.map_or(0, |key| address(ptr::from_ref(key)));
        let mut attr = ElementAttr { map_fd: number(self.fd.as_fd()), _pad: 0, key, value: address(value), flags: 0 };
        // SAFETY: `key` is null or a whole key; each caller passes a `value` with room for what its command writes.
        unsafe { bpf(command, &mut attr) }
    }

    /// The value of one key.
    pub fn lookup(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::zeroed();
        absent_is_none(self.element(LOOKUP_ELEM, Some(key), ptr::from_mut(&mut value).cast()).map(|()| value))
    }

    /// One value for each possible CPU.
    pub fn lookup_per_cpu(&self, key: &K, cpus: usize) -> io::Result<Vec<V>> {
        // The kernel rounds each value up to eight bytes.
        const { assert!(size_of::<V>().is_multiple_of(8)) };
        let mut values: Vec<V> = (0..cpus).map(|_| V::zeroed()).collect();
        self.element(LOOKUP_ELEM, Some(key), values.as_mut_ptr().cast())?;
        Ok(values)
    }

    /// Puts a value in place, whether or not there was one.
    pub fn update(&self, key: &K, value: &V) -> io::Result<()> {
        self.element(UPDATE_ELEM, Some(key), ptr::from_ref(value).cast_mut().cast())
    }

    /// Removes a key; says whether it was there.
    pub fn delete(&self, key: &K) -> io::Result<bool> {
        absent_is_none(self.element(DELETE_ELEM, Some(key), ptr::null_mut())).map(|found| found.is_some())
    }

    /// The key after `key`, or the first one.
    pub fn next_key(&self, key: Option<&K>) -> io::Result<Option<K>> {
        let mut next = K::zeroed();
        absent_is_none(self.element(NEXT_KEY, key, ptr::from_mut(&mut next).cast()).map(|()| next))
    }

    /// Shows every entry of a hash map to `visit`: in batches, or one by one where the kernel has none.
    ///
    /// While other CPUs insert and delete, an entry may be missed or shown twice, as with any walk of a live table.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) -> io::Result<()> {
        match self.for_each_batch(&mut visit) {
            // Before the first batch, so nothing has been shown yet.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)) => {
                self.for_each_one_by_one(visit)
            }
            result => result,
        }
    }

    fn for_each_batch(&self, visit: &mut impl FnMut(&K, &V)) -> io::Result<()> {
        // What stays in a second-level cache between the kernel's copy and ours.
        let mut capacity: usize = 4096;
        let mut keys: Vec<K> = Vec::new();
        let mut values: Vec<V> = Vec::new();
        // The kernel's token is a bucket number today; room for a key, which other map types use.
        let (mut token, mut next_token) = ([0_u64; 8], [0_u64; 8]);
        let mut begun = false;
        loop {
            keys.resize_with(capacity, K::zeroed);
            values.resize_with(capacity, V::zeroed);
            let mut attr = BatchAttr {
                in_batch: if begun { address(token.as_ptr()) } else { 0 },
                out_batch: address(next_token.as_mut_ptr()),
                keys: address(keys.as_mut_ptr()),
                values: address(values.as_mut_ptr()),
                count: capacity as u32,
                map_fd: number(self.fd.as_fd()),
                element_flags: 0,
                flags: 0,
            };
            // SAFETY: keys and values have room for `count` elements of the sizes that `new` has compared, and the
            // tokens for the four bytes of a hash map's bucket number.
            let result = unsafe { bpf(LOOKUP_BATCH, &mut attr) };
            let ended = match result {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // One bucket holds more than fits.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && capacity < 1 << 24 => {
                    capacity *= 4;
                    continue;
                }
                Err(error) => return Err(error),
            };
            keys.iter().zip(&values).take(attr.count as usize).for_each(|(key, value)| visit(key, value));
            if ended {
                return Ok(());
            }
            token = next_token;
            begun = true;
        }
    }

    fn for_each_one_by_one(&self, mut visit: impl FnMut(&K, &V)) -> io::Result<()> {
        let mut key = self.next_key(None)?;
        while let Some(this) = key {
            if let Some(value) = self.lookup(&this)? {
                visit(&this, &value);
            }
            key = self.next_key(Some(&this))?;
        }
        Ok(())
    }
}

/// The kernel's own number for "not supported", which is not among libc's.
const ENOTSUPP: i32 = 524;

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_map_of_other_sizes_is_refused() {
        let open = || File::open("/dev/null").unwrap();
        assert!(Table::<_, FlowKey4, Flow>::new(open(), "FLOWS_IPV4", 12, 240).is_ok());
        let error = Table::<_, FlowKey4, Flow>::new(open(), "FLOWS_IPV4", 12, 144).unwrap_err();
        assert!(error.to_string().contains("FLOWS_IPV4"), "{error}");
    }

    #[test]
    fn attributes_have_the_kernels_layout() {
        // include/uapi/linux/bpf.h: the parts of union bpf_attr that are used here.
        assert_eq!(size_of::<ElementAttr>(), 32);
        assert_eq!(size_of::<BatchAttr>(), 56);
        assert_eq!(std::mem::offset_of!(BatchAttr, count), 32);
        assert_eq!(std::mem::offset_of!(TestRunAttr, data_in), 16);
        assert_eq!(std::mem::offset_of!(TestRunAttr, repeat), 32);
    }
}
