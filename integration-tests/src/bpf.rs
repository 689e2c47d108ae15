//! What is attached to the interfaces of a namespace, and programs of our own attached beside the observer's.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use aya::{
    maps::{Array, MapData},
    programs::{SchedClassifier, TcAttachType},
};

use crate::{asm::Insn, namespace::Namespace, run};

/// Commands, types and places from include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: i64 = 0;
const BPF_MAP_UPDATE_ELEM: i64 = 2;
const BPF_PROG_LOAD: i64 = 5;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const BPF_XDP: u32 = 37;
const BPF_LINK_CREATE: i64 = 28;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// What programs of our own are called in the kernel, "neighbour", as the words of a program's name.
const NEIGHBOUR: [u32; 3] =
    [u32::from_ne_bytes(*b"neig"), u32::from_ne_bytes(*b"hbou"), u32::from_ne_bytes([b'r', 0, 0, 0])];

/// What a program is loaded as (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProgramKind {
    Tc = 3,
    Xdp = 6,
}

/// Where a program hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Ingress,
    Egress,
}

/// A tc program of the test's own at the end of an interface's TCX chain, for as long as this is held.
pub struct Neighbour {
    _link: OwnedFd,
}

impl Neighbour {
    #[track_caller]
    pub fn attach(namespace: &Namespace, interface: &str, hook: Hook, insns: &[Insn]) -> Self {
        let program = load(ProgramKind::Tc, insns);
        let interface = std::ffi::CString::new(interface).expect("an interface name has no zero byte");
        let link = namespace.within(|| {
            // SAFETY: the name ends with a zero byte.
            let index = unsafe { libc::if_nametoindex(interface.as_ptr()) };
            let place = if hook == Hook::Ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS };
            let program = u32::try_from(program.as_raw_fd()).expect("a descriptor is not negative");
            bpf(BPF_LINK_CREATE, &[program, index, place, 0, 0, 0, 0, 0])
        });
        Self { _link: link.unwrap_or_else(|error| panic!("cannot attach to {interface:?} {hook:?}: {error}")) }
    }
}

/// A counter that a program of ours can add to.
pub struct Count(Array<MapData, u64>);

impl Count {
    #[expect(clippy::new_without_default, reason = "it makes something outside this process")]
    pub fn new() -> Self {
        Self(Array::create(1, 0).expect("cannot create a map"))
    }

    /// The descriptor of its map.
    pub fn map(&self) -> i32 {
        use aya::maps::IterableMap as _;
        self.0.map().fd().as_fd().as_raw_fd()
    }

    pub fn value(&self) -> u64 {
        self.0.get(&0, 0).expect("cannot read a map")
    }
}

/// Loads a program of this kind.
#[track_caller]
pub fn load(kind: ProgramKind, insns: &[Insn]) -> OwnedFd {
    const LICENSE: &std::ffi::CStr = c"GPL";
    let mut log = vec![0_u8; 1 << 16];
    let wide = |address: usize| [address as u32, (address as u64 >> 32) as u32];
    let [insns_low, insns_high] = wide(insns.as_ptr().addr());
    let [license_low, license_high] = wide(LICENSE.as_ptr().addr());
    let [log_low, log_high] = wide(log.as_mut_ptr().expose_provenance());
    // Programs that call each other must agree in both; the observer's takes packets in several buffers.
    let (flags, attach_type) = if kind == ProgramKind::Xdp { (BPF_F_XDP_HAS_FRAGS, BPF_XDP) } else { (0, 0) };
    let attributes = [
        kind as u32,
        insns.len() as u32,
        insns_low,
        insns_high,
        license_low,
        license_high,
        1,
        log.len() as u32,
        log_low,
        log_high,
        0,
        flags,
        NEIGHBOUR[0],
        NEIGHBOUR[1],
        NEIGHBOUR[2],
        0,
        0,
        attach_type,
    ];
    bpf(BPF_PROG_LOAD, &attributes).unwrap_or_else(|error| {
        let log = String::from_utf8_lossy(&log);
        panic!("cannot load the program: {error}\n{}", log.trim_end_matches('\0'))
    })
}

/// A bpf system call that gives a descriptor; `attributes` are `union bpf_attr` as 32-bit words (little endian).
fn bpf(command: i64, attributes: &[u32]) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are valid for their size, and what they point to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// An array for one program, to be called from another one.
pub struct ProgramArray(OwnedFd);

impl ProgramArray {
    #[expect(clippy::new_without_default, reason = "it makes something outside this process")]
    pub fn new() -> Self {
        // Type, size of key and value, number of entries.
        Self(bpf(BPF_MAP_CREATE, &[BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1]).expect("cannot create a map"))
    }

    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Puts a program in, of the kind of the one that has been loaded with this array.
    #[track_caller]
    pub fn set(&self, program: &OwnedFd) {
        let (key, value) = (0_u32, program.as_raw_fd());
        let wide = |address: usize| [address as u32, (address as u64 >> 32) as u32];
        let [key_low, key_high] = wide((&raw const key).expose_provenance());
        let [value_low, value_high] = wide((&raw const value).expose_provenance());
        let attributes = [self.fd() as u32, 0, key_low, key_high, value_low, value_high, 0, 0];
        // SAFETY: the attributes are valid for their size, and key and value outlive the call.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_ELEM, attributes.as_ptr(), size_of_val(&attributes)) };
        assert!(result == 0, "cannot put a program into an array: {}", io::Error::last_os_error());
    }
}

/// Every BPF program but our own that is attached to an interface of a namespace, in words: TCX, XDP and filters of a
/// qdisc.
#[track_caller]
pub fn attached(namespace: &Namespace) -> Vec<String> {
    let mut found = Vec::new();
    let links: serde_json::Value = serde_json::from_str(&namespace.ip("-j -d link show")).expect("`ip -j` writes JSON");
    for link in links.as_array().into_iter().flatten() {
        let name = link["ifname"].as_str().unwrap_or_default();
        if !link["xdp"].is_null() {
            found.push(format!("{name}: xdp {}", link["xdp"]));
        }
        for (place, word) in [(TcAttachType::Ingress, "ingress"), (TcAttachType::Egress, "egress")] {
            let programs = namespace.within(|| SchedClassifier::query_tcx(name, place)).map(|(_, programs)| programs);
            let programs = programs.unwrap_or_default();
            let names = programs.iter().map(|program| program.name_as_str().unwrap_or("?"));
            found.extend(
                names.filter(|&name| name != "neighbour").map(|program| format!("{name}: tcx {word} {program}")),
            );
            let filters = run::finish(namespace.command("tc").args(["filter", "show", "dev", name, word]));
            found.extend(filters.stdout.lines().map(|line| format!("{name}: tc {word} {line}")));
        }
    }
    found
}
