//! The kernel programs: their object is opened whole, with its maps at the sizes that were asked for; each program is
//! loaded when it is first needed, so that one which this kernel refuses costs nothing where it is not used.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    ptr,
};

use anyhow::{Context, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, ProgramArray},
    programs::{Program, ProgramError, ProgramInfo, SchedClassifier, Xdp},
};
use tcp_observer_common::{
    abi::{GEOMETRY, Geometry, InterfaceName, LAYOUT_HASH, Layout, Ports, map, program},
    counters::PORT_SLOTS,
    limits::Limits,
    table::{self, SECRETS},
};

use super::{clock, listeners, maps::PinnedMap, pin, sockets};
use crate::agent::Options;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcp-observer-ebpf"));

/// The object with its maps and programs.
pub struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    /// Opens the object and makes its maps.
    ///
    /// # Errors
    /// When the binary carries no object, or the kernel refuses a map.
    pub fn open(options: &Options) -> anyhow::Result<Self> {
        if !is_built() {
            bail!("this binary was built without its kernel programs; build it with `cargo xtask build`");
        }
        let geometry = geometry(options.max_flows, options.max_half_open);
        let ebpf =
            with_geometry(&mut EbpfLoader::new(), &geometry).load(OBJECT).context("cannot create the kernel maps")?;
        Ok(Self { ebpf })
    }

    /// Writes what the programs and other processes read: who made the maps, and the ports worth a counter.
    ///
    /// # Errors
    /// When a map is missing or of another layout.
    pub fn fill(&self, options: &Options) -> anyhow::Result<()> {
        // An orphan in FIN_WAIT_2 is told from a live half-close by whether its socket is there, if that can be asked.
        let fin_wait_2_ns = match sockets::listeners() {
            Ok(_) => Limits::DEFAULT.established_ns,
            Err(_) => Limits::DEFAULT.fin_wait_2_ns,
        };
        let limits = Limits {
            fin_wait_2_ns,
            remote_time_wait_ns: u64::try_from(options.remote_time_wait.as_nanos()).unwrap_or(u64::MAX),
            ..Limits::DEFAULT
        };
        let layout = Layout {
            hash: LAYOUT_HASH,
            seed: random(),
            max_flows: options.max_flows,
            max_half_open: options.max_half_open,
            agent_pid: std::process::id(),
            _reserved: 0,
            started_ns: clock::monotonic_ns(),
            limits,
        };
        // The agent's own listener is nobody's service.
        let listening = listeners::listening_ports().into_iter().filter(|&port| port != options.listen.port());
        let ports = ports(&options.ports, listening, listeners::first_ephemeral_port());
        let layout_map = PinnedMap::<u32, Layout>::new(map::LAYOUT, self.map(map::LAYOUT)?)?;
        layout_map.table.update(&0, &layout).context("cannot write map `LAYOUT`")?;
        let ports_map = PinnedMap::<u32, Ports>::new(map::PORTS, self.map(map::PORTS)?)?;
        ports_map.table.update(&0, &ports).context("cannot write map `PORTS`")
    }

    /// Notes what an interface is called, for whoever reads the maps later or from another network namespace.
    ///
    /// # Errors
    /// When the map is missing or full.
    pub fn note_interface(&self, index: u32, name: &str) -> anyhow::Result<()> {
        let mut padded = InterfaceName::default();
        padded.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        let names = PinnedMap::<u32, InterfaceName>::new(map::INTERFACES, self.map(map::INTERFACES)?)?;
        names.table.update(&index, &padded).with_context(|| format!("cannot note the name of interface `{name}`"))
    }

    /// Pins every map but the layout.
    ///
    /// # Errors
    /// When a pin is refused.
    pub fn pin(&self, pin_dir: &Path) -> anyhow::Result<()> {
        pin::PINNED.iter().filter(|&&name| name != map::LAYOUT).try_for_each(|name| self.pin_one(pin_dir, name))
    }

    /// Pins the layout: from now on other processes find the agent.
    ///
    /// # Errors
    /// When the pin is refused.
    pub fn announce(&self, pin_dir: &Path) -> anyhow::Result<()> {
        self.pin_one(pin_dir, map::LAYOUT)
    }

    fn pin_one(&self, pin_dir: &Path, name: &str) -> anyhow::Result<()> {
        let path = pin_dir.join(name);
        self.map(name)?.pin(&path).with_context(|| format!("cannot pin `{}`", path.display()))
    }

    fn map(&self, name: &str) -> anyhow::Result<&MapData> {
        match self.ebpf.map(name) {
            Some(Map::Array(data) | Map::PerCpuArray(data) | Map::HashMap(data)) => Ok(data),
            Some(_) => {
                bail!("map `{name}` of the kernel programs is of another type; rebuild with `cargo xtask build`")
            }
            None => bail!("the kernel programs have no map `{name}`; rebuild with `cargo xtask build`"),
        }
    }

    /// A tc program, loaded.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn tc(&mut self, name: &'static str) -> anyhow::Result<&mut SchedClassifier> {
        load(&mut self.ebpf, name)?;
        Ok(program_of(&mut self.ebpf, name)?.try_into()?)
    }

    /// An XDP program, loaded.
    ///
    /// # Errors
    /// When the kernel refuses it: before 5.18, for the buffer's length (`bpf_xdp_get_buff_len`) and multi-buffer support.
    pub fn xdp(&mut self, name: &'static str) -> anyhow::Result<&mut Xdp> {
        load(&mut self.ebpf, name)?;
        Ok(program_of(&mut self.ebpf, name)?.try_into()?)
    }

    /// The sweep, loaded: a descriptor that outlives this value.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn sweep(&mut self) -> anyhow::Result<OwnedFd> {
        let program = self.tc(program::SWEEP)?;
        program.fd()?.as_fd().try_clone_to_owned().context("cannot keep program `sweep` open")
    }

    /// What the kernel says of each loaded program.
    pub fn infos(&self) -> BTreeMap<String, ProgramInfo> {
        let programs = self.ebpf.programs();
        programs.filter_map(|(name, program)| Some((name.to_owned(), program.info().ok()?))).collect()
    }

    /// The log of the kernel programs, if they have one.
    pub fn logger(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        aya_log::EbpfLogger::init(&mut self.ebpf)
            .inspect_err(|error| tracing::debug!("the kernel programs keep no log: {error}"))
            .ok()
    }
}

/// Tables that so many flows fit into, whose keys are hashed with a secret that was drawn for them.
pub fn geometry(max_flows: u32, max_half_open: u32) -> Geometry {
    let mut secrets = [0; SECRETS];
    secrets.fill_with(random);
    Geometry {
        secrets,
        flows_buckets: table::buckets_for(max_flows),
        half_open_buckets: table::buckets_for(max_half_open),
    }
}

/// A loader that makes the tables so large, and tells the programs.
pub fn with_geometry<'l, 'g>(loader: &'l mut EbpfLoader<'g>, geometry: &'g Geometry) -> &'l mut EbpfLoader<'g> {
    loader
        .override_global(GEOMETRY, geometry_words(geometry), true)
        .map_max_entries(map::FLOWS_IPV4, geometry.flows_buckets)
        .map_max_entries(map::FLOWS_IPV4_TAGS, geometry.flows_buckets)
        .map_max_entries(map::FLOWS_IPV6, geometry.flows_buckets)
        .map_max_entries(map::FLOWS_IPV6_TAGS, geometry.flows_buckets)
        .map_max_entries(map::HALF_OPEN_IPV4, geometry.half_open_buckets)
        .map_max_entries(map::HALF_OPEN_IPV4_TAGS, geometry.half_open_buckets)
        .map_max_entries(map::HALF_OPEN_IPV6, geometry.half_open_buckets)
        .map_max_entries(map::HALF_OPEN_IPV6_TAGS, geometry.half_open_buckets)
}

fn geometry_words(geometry: &Geometry) -> &[u64; size_of::<Geometry>() / 8] {
    // SAFETY: `repr(C)`, made of integers without padding, and aligned to eight.
    unsafe { &*ptr::from_ref(geometry).cast() }
}

/// Whether this binary carries its kernel programs.
pub fn is_built() -> bool {
    !OBJECT.is_empty()
}

/// Loads a program of the object unless it is loaded, and with an entry the program that it hands over to.
///
/// # Errors
/// When the kernel refuses one of them.
pub fn load(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<()> {
    let program = program_of(ebpf, name)?;
    if program.fd().is_ok() {
        return Ok(());
    }
    match program {
        Program::Xdp(xdp) => xdp.load(),
        Program::SchedClassifier(tc) => tc.load(),
        _ => bail!("kernel program `{name}` is of another kind; rebuild with `cargo xtask build`"),
    }
    .map_err(|error| refusal(name, error))?;
    // An array of programs takes its kind from the first program that uses it: the entry is loaded by now.
    let Some((array, unsteady)) = longer_way(name) else {
        return Ok(());
    };
    load(ebpf, unsteady)?;
    let fd = program_of(ebpf, unsteady)?.fd()?.try_clone()?;
    let map = ebpf.map_mut(array).with_context(|| format!("the kernel programs have no map `{array}`"))?;
    ProgramArray::try_from(map)?.set(0, &fd, 0).with_context(|| format!("cannot put `{unsteady}` into map `{array}`"))
}

fn program_of<'e>(ebpf: &'e mut Ebpf, name: &str) -> anyhow::Result<&'e mut Program> {
    ebpf.program_mut(name)
        .ok_or_else(|| anyhow!("there is no kernel program `{name}`; rebuild with `cargo xtask build`"))
}

/// The array and the program through which an entry hands over what is off the shortest path.
fn longer_way(entry: &str) -> Option<(&'static str, &'static str)> {
    match entry {
        program::XDP_INGRESS => Some((map::UNSTEADY_XDP, program::XDP_UNSTEADY)),
        program::XDP_INGRESS_GENERIC => Some((map::UNSTEADY_XDP_GENERIC, program::XDP_UNSTEADY_GENERIC)),
        program::TC_INGRESS | program::TC_EGRESS | program::TC_INGRESS_L3 | program::TC_EGRESS_L3 => {
            Some((map::UNSTEADY_TC, program::TC_UNSTEADY))
        }
        _ => None,
    }
}

/// The verifier's last lines say why; the thousands before them go to the debug log.
fn refusal(name: &str, error: ProgramError) -> anyhow::Error {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return anyhow::Error::new(error).context(format!("cannot load kernel program `{name}`"));
    };
    let log = verifier_log.to_string();
    tracing::debug!("the verifier on `{name}`:\n{log}");
    let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join("; ");
    anyhow!("cannot load kernel program `{name}`: {io_error}; the verifier ends with: {last}")
}

/// The slots of ports: those asked for, then those listened on; the rest is left for the kernel to fill.
fn ports(asked: &[u16], listening: impl IntoIterator<Item = u16>, first_ephemeral: u16) -> Ports {
    let mut ports = Ports { slots: [0; PORT_SLOTS], first_ephemeral: first_ephemeral.into() };
    let mut taken = 0;
    for port in asked.iter().copied().chain(listening) {
        let port = u64::from(port);
        if port == 0 || ports.slots.contains(&port) {
            continue;
        }
        match ports.slots.get_mut(taken) {
            Some(slot) => *slot = port,
            None => break,
        }
        taken += 1;
    }
    ports
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: the buffer has the bytes that it is said to have.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if filled == 8 { u64::from_ne_bytes(bytes) } else { clock::monotonic_ns() }
}

/// Whether the kernel measures what programs cost (`kernel.bpf_stats_enabled`).
pub fn measures_programs() -> bool {
    fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|value| value.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_ports_come_first_then_listeners_each_once() {
        let ports = ports(&[443, 80, 443], [22, 80, 8080], 32768);
        assert_eq!(ports.slots, [443, 80, 22, 8080, 0, 0, 0, 0]);
        assert_eq!(ports.first_ephemeral, 32768);
    }

    #[test]
    fn what_does_not_fit_has_no_slot() {
        let ports = ports(&[1, 2, 3], 4..20, 32768);
        assert_eq!(ports.slots, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
