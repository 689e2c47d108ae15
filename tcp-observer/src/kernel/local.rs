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
    local,
};

use super::{
    bpf::Plain,
    maps::{PinnedMap, Pins},
};

/// The maps of local addresses, and what is in them.
pub struct LocalAddresses {
    ipv4: OfFamily<Ipv4>,
    ipv6: OfFamily<Ipv6>,
    present: BTreeSet<IpAddr>,
    full: bool,
}

/// One family's: the set of all, and what lies in each place in front of it.
struct OfFamily<A> {
    all: PinnedMap<A, u8>,
    places: PinnedMap<u32, A>,
}

impl LocalAddresses {
    /// # Errors
    /// When nothing is pinned there, or it cannot be written.
    pub fn open(pin_dir: &Path) -> anyhow::Result<Self> {
        let pins = Pins { pin_dir };
        let ipv4 = OfFamily { all: pins.open(map::LOCAL_IPV4)?, places: pins.open(map::LOCAL_IPV4_PLACES)? };
        let ipv6 = OfFamily { all: pins.open(map::LOCAL_IPV6)?, places: pins.open(map::LOCAL_IPV6_PLACES)? };
        for place in 0..local::PLACES {
            let emptied = ipv4.fill(place, None).and_then(|()| ipv6.fill(place, None));
            emptied.context("cannot write the places of local addresses")?;
        }
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

    /// Notes or forgets an address; `others` are those that stay.
    fn change(&self, address: IpAddr, is_local: bool) -> io::Result<()> {
        let others = self.present.iter().filter(|&&other| other != address);
        match address {
            IpAddr::V4(address) => {
                let others = others.filter_map(|other| if let IpAddr::V4(v4) = other { Some(*v4) } else { None });
                self.ipv4.change(ipv4_word(address), is_local, others.map(ipv4_word))
            }
            IpAddr::V6(address) => {
                let others = others.filter_map(|other| if let IpAddr::V6(v6) = other { Some(*v6) } else { None });
                self.ipv6.change(ipv6_words(address), is_local, others.map(ipv6_words))
            }
        }
    }

    fn warn_full(&mut self, address: IpAddr) {
        if !self.full {
            tracing::warn!("too many local addresses: {address} and others will be taken for remote ones");
        }
        self.full = true;
    }
}

impl<const WORDS: usize> OfFamily<[u32; WORDS]>
where
    [u32; WORDS]: Address + Plain,
{
    /// Notes or forgets an address. Its place leaves the question open meanwhile, so that nobody is told the wrong thing.
    fn change(
        &self,
        address: [u32; WORDS],
        is_local: bool,
        mut others: impl Iterator<Item = [u32; WORDS]>,
    ) -> io::Result<()> {
        if address.is_loopback() {
            return Ok(());
        }
        let place = local::place(&address);
        self.fill(place, Some([0; WORDS]))?;
        if is_local {
            self.all.table.update(&address, &1)?;
            return self.fill(place, Some(address));
        }
        self.all.table.delete(&address)?;
        self.fill(place, others.find(|other| !other.is_loopback() && local::place(other) == place))
    }

    /// Lets a place tell of an address, or of nobody.
    fn fill(&self, place: u32, address: Option<[u32; WORDS]>) -> io::Result<()> {
        self.places.table.update(&place, &address.unwrap_or(local::nobody()))
    }
}
