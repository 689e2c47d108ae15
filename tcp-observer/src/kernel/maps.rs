//! The maps of a running agent, opened through their pins: by the agent itself and by every other command.
//!
//! [`PinnedMaps::open`] says in one sentence why it cannot: no agent, no privilege, an agent of another version, or
//! pins that a dead agent left. After that, [`Source::snapshot`](crate::source::Source) is all that outputs need.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use aya::{
    maps::{MapData, MapError},
    sys::SyscallError,
};
use tcp_observer_common::{
    abi::{InterfaceName, LAYOUT_HASH, Layout, Ports, map},
    counters::Counters,
    flow::{Ipv4, Ipv6},
    histogram::Histogram,
};

use super::{
    bpf::{Plain, Table},
    lock,
    mapped::{Mapped, MappedTable},
};
use crate::exit::Failure;

/// A pinned map, and how many entries it can hold.
#[derive(Debug)]
pub struct PinnedMap<K, V> {
    pub(super) table: Table<OwnedFd, K, V>,
    pub(super) capacity: u32,
}

/// All maps of one agent.
#[derive(Debug)]
pub struct PinnedMaps {
    /// What the agent said of itself when it started.
    pub layout: Layout,
    pub(super) flows_ipv4: MappedTable<Ipv4>,
    pub(super) flows_ipv6: MappedTable<Ipv6>,
    pub(super) half_open_ipv4: MappedTable<Ipv4>,
    pub(super) half_open_ipv6: MappedTable<Ipv6>,
    pub(super) counters: PinnedMap<u32, Counters>,
    pub(super) handshakes: PinnedMap<u32, Histogram>,
    pub(super) ports: PinnedMap<u32, Ports>,
    pub(super) interfaces: PinnedMap<u32, InterfaceName>,
    pub(super) cpus: usize,
}

impl PinnedMaps {
    /// Opens the maps that an agent has pinned under `pin_dir`; `mapped` says how the tables' entries are.
    ///
    /// # Errors
    /// With [`Failure::Unavailable`] when no agent is running there, when it is of another version, or when the
    /// privilege is missing.
    pub fn open(pin_dir: &Path, mapped: Mapped) -> anyhow::Result<Self> {
        check_presence(pin_dir)?;
        if let lock::Holder::Gone(pid) = lock::holder(pin_dir) {
            return Err(Failure::unavailable(format!(
                "no agent is running: what is pinned under `{}` was left by process {pid}, which is gone; \
                 start one with `tcp-observer run`, or remove it with `tcp-observer detach`",
                pin_dir.display()
            )));
        }
        // Through the layout first: with another version's maps, opening the others would only say less.
        let pins = Pins { pin_dir };
        let layout = read_layout(pin_dir, &pins.open_unchecked(map::LAYOUT)?)?;
        pins.open_all(layout, mapped)
    }
}

impl PinnedMaps {
    /// How many buckets the largest table has, and the largest one of half-open flows.
    pub(super) fn most_buckets(&self) -> u32 {
        self.flows_ipv4.buckets().max(self.flows_ipv6.buckets()).max(self.most_half_open_buckets())
    }

    pub(super) fn most_half_open_buckets(&self) -> u32 {
        self.half_open_ipv4.buckets().max(self.half_open_ipv6.buckets())
    }
}

/// A pin directory whose maps are this version's.
pub(super) struct Pins<'a> {
    pub(super) pin_dir: &'a Path,
}

impl Pins<'_> {
    fn open_all(&self, layout: Layout, mapped: Mapped) -> anyhow::Result<PinnedMaps> {
        Ok(PinnedMaps {
            layout,
            flows_ipv4: self.table(map::FLOWS_IPV4, mapped)?,
            flows_ipv6: self.table(map::FLOWS_IPV6, mapped)?,
            half_open_ipv4: self.table(map::HALF_OPEN_IPV4, mapped)?,
            half_open_ipv6: self.table(map::HALF_OPEN_IPV6, mapped)?,
            counters: self.open(map::COUNTERS)?,
            handshakes: self.open(map::HANDSHAKES)?,
            ports: self.open(map::PORTS)?,
            interfaces: self.open(map::INTERFACES)?,
            cpus: aya::util::nr_cpus().map_err(|(path, error)| anyhow!("cannot read `{path}`: {error}"))?,
        })
    }

    pub(super) fn open<K: Plain, V: Plain>(&self, name: &str) -> anyhow::Result<PinnedMap<K, V>> {
        PinnedMap::new(name, &self.open_unchecked(name)?)
    }

    fn table<A>(&self, name: &str, mapped: Mapped) -> anyhow::Result<MappedTable<A>> {
        let tags = format!("{name}{}", map::TAGS);
        MappedTable::new(name, &self.open_unchecked(&tags)?, &self.open_unchecked(name)?, mapped)
    }

    fn open_unchecked(&self, name: &str) -> anyhow::Result<MapData> {
        let path = self.pin_dir.join(name);
        MapData::from_pin(&path).map_err(|error| unavailable(&path, error))
    }
}

impl<K: Plain, V: Plain> PinnedMap<K, V> {
    /// The map, once the kernel's description of it fits the types.
    pub(super) fn new(name: &str, data: &MapData) -> anyhow::Result<Self> {
        let info = data.info().with_context(|| format!("cannot describe map `{name}`"))?;
        let fd = data.fd().as_fd().try_clone_to_owned().with_context(|| format!("cannot open map `{name}`"))?;
        let table = Table::new(fd, name, info.key_size(), info.value_size())?;
        Ok(Self { table, capacity: info.max_entries() })
    }
}

fn check_presence(pin_dir: &Path) -> anyhow::Result<()> {
    let path = pin_dir.join(map::LAYOUT);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::unavailable(format!(
            "no agent is running (nothing pinned under `{}`); start one with `tcp-observer run`",
            pin_dir.display()
        ))),
        Err(error) => Err(denied(&path, &error)),
    }
}

/// The layout, if it is this version's.
fn read_layout(pin_dir: &Path, data: &MapData) -> anyhow::Result<Layout> {
    let of_another_version = |agents: String| {
        Failure::unavailable(format!(
            "the agent that pinned `{}` is of another version (its maps: {agents}, this program: {LAYOUT_HASH:016x}); \
             restart it with this version",
            pin_dir.display()
        ))
    };
    let map =
        PinnedMap::<u32, Layout>::new(map::LAYOUT, data).map_err(|_| of_another_version("another size".into()))?;
    let layout = map.table.lookup(&0).with_context(|| format!("cannot read map `{}`", map::LAYOUT))?;
    let layout = layout.ok_or_else(|| anyhow!("map `{}` is empty", map::LAYOUT))?;
    if layout.hash != LAYOUT_HASH {
        return Err(of_another_version(format!("{:016x}", layout.hash)));
    }
    Ok(layout)
}

fn unavailable(path: &Path, error: MapError) -> anyhow::Error {
    match &error {
        MapError::SyscallError(SyscallError { io_error, .. }) => denied(path, io_error),
        _ => anyhow::Error::new(error).context(format!("cannot open `{}`", path.display())),
    }
}

fn denied(path: &Path, error: &io::Error) -> anyhow::Error {
    let path: PathBuf = path.into();
    Failure::unavailable(match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!(
            "not enough privilege to open `{}`; run this as root (sudo) or with CAP_BPF and access to the pins",
            path.display()
        ),
        _ => format!("cannot open `{}`: {error}; is the agent stopping?", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_pins_the_error_says_how_to_start_an_agent() {
        let error = PinnedMaps::open(Path::new("/nonexistent/tcp-observer"), Mapped::OnDemand).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Failure::Unavailable(_))), "{error:#}");
        assert_eq!(
            error.to_string(),
            "no agent is running (nothing pinned under `/nonexistent/tcp-observer`); \
             start one with `tcp-observer run`"
        );
    }

    #[test]
    fn missing_privilege_names_the_pin_and_the_remedy() {
        let error = denied(Path::new("/sys/fs/bpf/x/LAYOUT"), &io::Error::from_raw_os_error(libc::EACCES));
        assert!(error.to_string().contains("`/sys/fs/bpf/x/LAYOUT`; run this as root"), "{error}");
    }
}
