//! What network interfaces there are, which carry a default route, and which addresses are this host's own: one
//! [`Inventory`] of the network namespace that the process is in, and word of when it may have changed.
//!
//! Everything is read whole, each time: a few system calls, and no way for a missed message to leave a stale view.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    pin::pin,
};

use anyhow::Context;
use futures_util::{FutureExt, Stream, StreamExt};
use rtnetlink::{
    MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
        route::{RouteAttribute, RouteMessage, RouteType},
        tc::TcAttribute,
    },
};

use super::preflight::{TCX_KERNEL, kernel_is_at_least};

/// How packets lie in the buffers of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// With an Ethernet header (also `lo`).
    Ethernet,
    /// IP without a header before it: tun, ipip, sit, gre, wireguard, ppp.
    Ip,
    /// Neither: nothing for a TCP observer.
    Other,
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub framing: Framing,
    pub is_up: bool,
    pub is_loopback: bool,
    /// `veth`, `bridge`, `vlan`…; `None` for devices that drivers made.
    pub kind: Option<String>,
    /// The bus of the device behind it, such as `pci` or `virtio`; `None` where there is no device.
    pub bus: Option<String>,
    /// Somebody's XDP program is attached already.
    pub has_xdp: bool,
    pub has_default_route: bool,
    /// It has the older `ingress` qdisc in the place of `clsact`. Only asked on kernels that attach under these.
    pub has_ingress_qdisc: bool,
}

/// All interfaces and local addresses of the network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub links: Vec<Link>,
    /// Each with the index of an interface that has it.
    pub addresses: BTreeMap<IpAddr, u32>,
}

/// A conversation with the kernel about them.
pub struct Netlink {
    handle: rtnetlink::Handle,
    changes: Box<dyn Stream<Item = ()> + Send + Unpin>,
}

impl Netlink {
    /// Opens the conversation; to be called within a tokio runtime.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn open() -> anyhow::Result<Self> {
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .context("cannot open a route netlink socket")?;
        tokio::spawn(connection);
        let changes = messages.filter_map(|(message, _)| std::future::ready(matters(&message).then_some(())));
        Ok(Self { handle, changes: Box::new(changes) })
    }

    pub fn handle(&self) -> &rtnetlink::Handle {
        &self.handle
    }

    /// Waits until something may have changed; for ever once the kernel has ended the conversation.
    pub async fn changed(&mut self) {
        if self.changes.next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Drops word of changes that a reading after this will see anyway.
    pub fn forget_changes(&mut self) {
        while let Some(Some(())) = self.changes.next().now_or_never() {}
    }

    /// # Errors
    /// When the kernel does not answer.
    pub async fn inventory(&self) -> anyhow::Result<Inventory> {
        let routed = self.default_routed().await.context("cannot list the routes")?;
        let with_ingress = if kernel_is_at_least(TCX_KERNEL) {
            BTreeSet::new()
        } else {
            self.with_ingress_qdisc().await.context("cannot list the qdiscs")?
        };
        let mut inventory = Inventory::default();
        let mut links = pin!(self.handle.link().get().execute());
        while let Some(message) = links.next().await {
            let mut link = Link::from(message.context("cannot list the network interfaces")?);
            link.has_default_route = routed.contains(&link.index);
            link.has_ingress_qdisc = with_ingress.contains(&link.index);
            inventory.links.push(link);
        }
        let mut addresses = pin!(self.handle.address().get().execute());
        while let Some(message) = addresses.next().await {
            let message = message.context("cannot list the network addresses")?;
            inventory.addresses.extend(address(&message).map(|address| (address, message.header.index)));
        }
        inventory.links.sort_by_key(|link| link.index);
        Ok(inventory)
    }

    async fn default_routed(&self) -> Result<BTreeSet<u32>, rtnetlink::Error> {
        let mut indexes = BTreeSet::new();
        let ipv4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let ipv6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        for question in [ipv4, ipv6] {
            let mut routes = pin!(self.handle.route().get(question).execute());
            while let Some(message) = routes.next().await {
                indexes.extend(default_route(&message?));
            }
        }
        Ok(indexes)
    }
}

impl Netlink {
    async fn with_ingress_qdisc(&self) -> Result<BTreeSet<u32>, rtnetlink::Error> {
        let mut indexes = BTreeSet::new();
        let mut qdiscs = pin!(self.handle.qdisc().get().execute());
        while let Some(message) = qdiscs.next().await {
            let message = message?;
            let is_ingress =
                |attribute: &TcAttribute| matches!(attribute, TcAttribute::Kind(kind) if kind == "ingress");
            if message.attributes.iter().any(is_ingress) {
                indexes.extend(u32::try_from(message.header.index).ok());
            }
        }
        Ok(indexes)
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let LinkMessage { header, attributes, .. } = message;
        let mut link = Self {
            index: header.index,
            name: String::new(),
            framing: framing(header.link_layer_type),
            is_up: header.flags.contains(LinkFlags::Up),
            is_loopback: header.flags.contains(LinkFlags::Loopback),
            kind: None,
            bus: None,
            has_xdp: false,
            has_default_route: false,
            has_ingress_qdisc: false,
        };
        for attribute in attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::ParentDevBusName(bus) => link.bus = Some(bus),
                LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind),
                LinkAttribute::Xdp(xdp) => {
                    link.has_xdp =
                        xdp.iter().any(|xdp| matches!(xdp, LinkXdp::Attached(mode) if *mode != XdpAttached::None));
                }
                _ => {}
            }
        }
        link
    }
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn framing(layer: LinkLayerType) -> Framing {
    use LinkLayerType as Layer;
    match layer {
        Layer::Ether | Layer::Loopback => Framing::Ethernet,
        Layer::None
        | Layer::Rawip
        | Layer::Ppp
        | Layer::Tunnel
        | Layer::Tunnel6
        | Layer::Sit
        | Layer::Ipgre
        | Layer::Ip6gre => Framing::Ip,
        _ => Framing::Other,
    }
}

/// Whether a message may change an inventory: of routes, which a router changes all the time, only default ones do.
fn matters(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)) => {
            !default_route(route).is_empty()
        }
        _ => true,
    }
}

/// The interfaces that a route leads to, if it is a default route.
fn default_route(message: &RouteMessage) -> Vec<u32> {
    if message.header.destination_prefix_length != 0 || message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut indexes = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => indexes.push(*index),
            RouteAttribute::MultiPath(hops) => indexes.extend(hops.iter().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    indexes
}

/// The host's own address. Of a point-to-point interface's two, `Local` is ours and `Address` the peer's.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_to_point_interfaces_own_address_is_the_local_one() {
        let mut message = AddressMessage::default();
        message.attributes.push(AddressAttribute::Address([10, 0, 0, 2].into()));
        assert_eq!(address(&message), Some([10, 0, 0, 2].into()));
        message.attributes.push(AddressAttribute::Local([10, 0, 0, 1].into()));
        assert_eq!(address(&message), Some([10, 0, 0, 1].into()));
    }

    #[test]
    fn only_unicast_routes_to_everywhere_are_default_routes() {
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unicast;
        route.attributes.push(RouteAttribute::Oif(7));
        assert_eq!(default_route(&route), [7]);
        route.header.destination_prefix_length = 8;
        assert!(default_route(&route).is_empty());
        route.header.destination_prefix_length = 0;
        route.header.kind = RouteType::Unreachable;
        assert!(default_route(&route).is_empty());
    }

    #[tokio::test]
    async fn every_network_namespace_has_a_loopback_interface() {
        let inventory = Netlink::open().unwrap().inventory().await.unwrap();
        let lo = inventory.links.iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.is_loopback);
        assert_eq!((lo.index, lo.framing, lo.bus.as_deref()), (1, Framing::Ethernet, None));
    }
}
