//! Tells the kernel programs which addresses are this host's own. Loopback they know by value.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::Path,
};

use anyhow::Context;
use tcp_observer_common::{
    abi::map,
    flow::{Address, Ipv4, Ipv6, ipv4_word, ipv6_words},
};

use super::{
    bpf::Plain,
    maps::{PinnedMap, Pins},
};

/// The maps of local addresses, and what is in them.
pub struct LocalAddresses {
    ipv4: PinnedMap<Ipv4, u8>,
    ipv6: PinnedMap<Ipv6, u8>,
    present: BTreeSet<IpAddr>,
    full: bool,
}

impl LocalAddresses {
    /// # Errors
    /// When nothing is pinned there.
    pub fn open(pin_dir: &Path) -> anyhow::Result<Self> {
        let pins = Pins { pin_dir };
        let (ipv4, ipv6) = (pins.open(map::LOCAL_IPV4)?, pins.open(map::LOCAL_IPV6)?);
        Ok(Self { ipv4, ipv6, present: BTreeSet::new(), full: false })
    }

    /// Makes the maps say these addresses and no others; whether there are new ones.
    ///
    /// # Errors
    /// When a map cannot be written for another reason than being full, which is a warning.
    pub fn keep(&mut self, addresses: &BTreeMap<IpAddr, u32>) -> anyhow::Result<bool> {
        let addresses: BTreeSet<IpAddr> = addresses.keys().copied().collect();
        let (gone, came): (Vec<_>, Vec<_>) = (
            self.present.difference(&addresses).copied().collect(),
            addresses.difference(&self.present).copied().collect(),
        );
        for address in gone {
            self.change(address, false).with_context(|| format!("cannot forget local address {address}"))?;
            self.present.remove(&address);
            self.full = false;
        }
        let has_new = !came.is_empty();
        for address in came {
            match self.change(address, true) {
                Ok(()) => drop(self.present.insert(address)),
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) => self.warn_full(address),
                Err(error) => return Err(error).with_context(|| format!("cannot note local address {address}")),
            }
        }
        Ok(has_new)
    }

    fn change(&self, address: IpAddr, is_local: bool) -> io::Result<()> {
        match address {
            IpAddr::V4(address) => write(&self.ipv4, ipv4_word(address), is_local),
            IpAddr::V6(address) => write(&self.ipv6, ipv6_words(address), is_local),
        }
    }

    fn warn_full(&mut self, address: IpAddr) {
        if !self.full {
            tracing::warn!("too many local addresses: {address} and others will be taken for remote ones");
        }
        self.full = true;
    }
}

fn write<A: Address + Plain>(map: &PinnedMap<A, u8>, key: A, is_local: bool) -> io::Result<()> {
    if key.is_loopback() {
        return Ok(());
    }
    if is_local { map.table.update(&key, &1) } else { map.table.delete(&key).map(drop) }
}
