//! Kernel programs run on frames of ours, attached or not (`BPF_PROG_TEST_RUN`): also those of a running agent, with
//! its own tables behind them, however those are laid out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::programs::loaded_programs;

const BPF_PROG_TEST_RUN: i64 = 10;
/// Frames as a driver would have received them, which go where the verdict says (since 5.18).
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// Where `union bpf_attr` has things for a test run, in 32-bit words (include/uapi/linux/bpf.h).
const DATA_SIZE: usize = 2;
const DATA: usize = 4;
const REPEAT: usize = 8;
const DURATION: usize = 9;
const FLAGS: usize = 16;
const BATCH: usize = 18;

/// The programs that a process holds, by their names in the kernel (of 15 characters at most).
///
/// # Panics
/// When the process or its programs cannot be looked at.
#[track_caller]
pub fn programs_of(pid: u32) -> BTreeMap<String, OwnedFd> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("a process shows its descriptors");
    let infos = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let id = |info: String| info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    let ids: BTreeSet<u32> = infos.filter_map(id).collect();
    // Somebody else's may vanish while they are listed.
    let programs = loaded_programs().filter_map(Result::ok).filter(|program| ids.contains(&program.id()));
    let named = |program: aya::programs::ProgramInfo| {
        let fd = program.fd().and_then(|fd| Ok(fd.as_fd().try_clone_to_owned()?)).expect("a program can be opened");
        (program.name_as_str().unwrap_or_default().to_owned(), fd)
    };
    programs.map(named).collect()
}

/// The mean duration of one of so many runs on a frame, in nanoseconds, as the kernel measures it.
///
/// # Panics
/// When the kernel refuses.
#[track_caller]
pub fn mean_ns(program: &OwnedFd, frame: &[u8], repeat: u32) -> f64 {
    let ran = run(program, frame, |attributes| attributes[REPEAT] = repeat);
    f64::from(ran.unwrap_or_else(|error| panic!("a test run is refused: {error}")))
}

/// Sends a frame so many times where the verdict of an XDP program says, in batches.
///
/// # Errors
/// When the kernel refuses.
pub fn send_live(program: &OwnedFd, frame: &[u8], times: u32) -> io::Result<()> {
    let live = |attributes: &mut [u32; 20]| {
        attributes[REPEAT] = times;
        attributes[FLAGS] = BPF_F_TEST_XDP_LIVE_FRAMES;
        attributes[BATCH] = 64;
    };
    run(program, frame, live).map(drop)
}

fn run(program: &OwnedFd, frame: &[u8], how: impl FnOnce(&mut [u32; 20])) -> io::Result<u32> {
    let address = frame.as_ptr().expose_provenance() as u64;
    let mut attributes = [0_u32; 20];
    attributes[0] = program.as_raw_fd() as u32;
    attributes[DATA_SIZE] = frame.len() as u32;
    attributes[DATA] = address as u32;
    attributes[DATA + 1] = (address >> 32) as u32;
    how(&mut attributes);
    // SAFETY: the attributes are valid for their size, and the frame outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, attributes.as_mut_ptr(), size_of_val(&attributes)) };
    if result == 0 { Ok(attributes[DURATION]) } else { Err(io::Error::last_os_error()) }
}
