//! What is attached to the interfaces of a namespace, and programs of our own attached beside the observer's.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
};

use aya::{
    maps::{Array, MapData},
    programs::{SchedClassifier, TcAttachType},
};

use crate::{
    asm::Insn,
    bounds::{BPFFS, unique_name},
    interface, kernel,
    namespace::Namespace,
    run,
};

/// Commands, types and places from include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: i64 = 0;
const BPF_MAP_UPDATE_ELEM: i64 = 2;
const BPF_PROG_LOAD: i64 = 5;
const BPF_OBJ_PIN: i64 = 6;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const BPF_XDP: u32 = 37;
const BPF_LINK_CREATE: i64 = 28;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
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

/// A tc program of the test's own at the end of an interface's TCX chain, for as long as this is held. Before Linux
/// 6.6 it is a filter under `clsact`, in the same place: on ingress after the observer's, on egress before the last
/// one, which is the observer's.
pub struct Neighbour {
    #[expect(dead_code, reason = "held for what dropping it does")]
    held: Held,
}

/// Detaches when dropped.
#[expect(dead_code, reason = "held for what dropping it does")]
enum Held {
    Link(OwnedFd),
    Filter(NeighbourFilter),
}

/// A filter under a `clsact` qdisc.
struct NeighbourFilter {
    namespace: String,
    interface: String,
    hook: Hook,
    priority: u16,
}

/// Priorities of neighbours' filters, in the order in which they are attached.
const NEIGHBOURS: std::ops::Range<u16> = 60_000..65_000;

impl Hook {
    /// The word of `tc` for it.
    fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl NeighbourFilter {
    #[track_caller]
    fn attach(namespace: &Namespace, interface: &str, hook: Hook, program: &OwnedFd) -> Self {
        static NEXT_PRIORITY: AtomicU16 = AtomicU16::new(NEIGHBOURS.start);
        let priority = NEXT_PRIORITY.fetch_add(1, Ordering::Relaxed);
        assert!(NEIGHBOURS.contains(&priority), "too many neighbours for one process");
        // The agent may have made it, or an earlier neighbour.
        run::finish(namespace.command("tc").args(["qdisc", "add", "dev", interface, "clsact"]));
        let pinned = Path::new(BPFFS).join(unique_name());
        pin(program, &pinned);
        let mut command = namespace.command("tc");
        command.args(["filter", "add", "dev", interface, hook.word(), "protocol", "all", "pref"]);
        command.arg(priority.to_string()).args(["bpf", "direct-action", "object-pinned"]).arg(&pinned);
        let finished = run::finish(&mut command);
        fs::remove_file(&pinned).expect("what was pinned can be removed");
        assert!(finished.code == Some(0), "cannot attach: {finished:#?}");
        Self { namespace: namespace.name().to_owned(), interface: interface.to_owned(), hook, priority }
    }

    /// Whether a line of `tc filter show` is about one of these.
    fn is_meant_by(line: &str) -> bool {
        let priority = line.split_once(" pref ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        priority.is_some_and(|priority| NEIGHBOURS.contains(&priority))
    }
}

impl Drop for NeighbourFilter {
    fn drop(&mut self) {
        let Self { namespace, interface, hook, priority } = self;
        let mut command = Command::new("tc");
        command.args(["-n", namespace, "filter", "del", "dev", interface, hook.word(), "pref"]);
        let _ = command.arg(priority.to_string()).output();
    }
}

impl Neighbour {
    #[track_caller]
    pub fn attach(namespace: &Namespace, interface: &str, hook: Hook, insns: &[Insn]) -> Self {
        let program = load(ProgramKind::Tc, insns);
        if !kernel::has_tcx() {
            let filter = NeighbourFilter::attach(namespace, interface, hook, &program);
            return Self { held: Held::Filter(filter) };
        }
        let index = interface::index(namespace, interface);
        let link = namespace.within(|| {
            let place = if hook == Hook::Ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS };
            let program = u32::try_from(program.as_raw_fd()).expect("a descriptor is not negative");
            bpf(BPF_LINK_CREATE, &[program, index, place, 0, 0, 0, 0, 0])
        });
        let link = link.unwrap_or_else(|error| panic!("cannot attach to {interface:?} {hook:?}: {error}"));
        Self { held: Held::Link(link) }
    }
}

/// An XDP program of ours on an interface whose driver takes it, for as long as this is held.
pub struct Attachment(#[expect(dead_code, reason = "held for what dropping it does")] OwnedFd);

impl Attachment {
    #[track_caller]
    pub fn xdp(namespace: &Namespace, interface: &str, program: &OwnedFd) -> Self {
        let index = interface::index(namespace, interface);
        let program = u32::try_from(program.as_raw_fd()).expect("a descriptor is not negative");
        let attributes = [program, index, BPF_XDP, XDP_FLAGS_DRV_MODE, 0, 0, 0, 0];
        let link = namespace.within(|| bpf(BPF_LINK_CREATE, &attributes));
        Self(link.unwrap_or_else(|error| panic!("cannot attach XDP to {interface:?}: {error}")))
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

/// Gives a program a name in the BPF file system.
#[track_caller]
fn pin(program: &OwnedFd, path: &Path) {
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("a path has no zero byte");
    let address = name.as_ptr().expose_provenance() as u64;
    let attributes = [address as u32, (address >> 32) as u32, program.as_raw_fd() as u32, 0];
    // SAFETY: the attributes are valid for their size, and the path that they point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_PIN, attributes.as_ptr(), size_of_val(&attributes)) };
    assert!(result == 0, "cannot pin to `{}`: {}", path.display(), io::Error::last_os_error());
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
            let filters = filters.stdout.lines().filter(|line| !NeighbourFilter::is_meant_by(line));
            found.extend(filters.map(|line| format!("{name}: tc {word} {line}")));
        }
    }
    found
}
