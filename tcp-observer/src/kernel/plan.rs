//! Which programs go where on one interface: a pure function of what is known about it and what was asked for.
//!
//! The one place that weighs the hooks against each other. Native XDP is the cheapest hook on a NIC that has a driver
//! for it, and the dearest on virtual devices: there it turns segmentation offloads off and halves bulk throughput,
//! whatever the program does. tc works everywhere and changes nothing.

use anyhow::bail;
use tcp_observer_common::abi::program;

use super::links::{Framing, Link};
use crate::agent::Ingress;

/// Where on an interface a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    XdpNative,
    XdpGeneric,
    TcIngress,
    TcEgress,
}

impl Hook {
    /// The words for it in messages; an attachment adds how it was made.
    pub const fn label(self) -> &'static str {
        match self {
            Self::XdpNative | Self::XdpGeneric => "XDP ingress",
            Self::TcIngress => "tc ingress",
            Self::TcEgress => "tc egress",
        }
    }

    /// The kernel program for this hook.
    pub const fn program(self, framing: Framing) -> &'static str {
        match (self, framing) {
            (Self::XdpNative, _) => program::XDP_INGRESS,
            (Self::XdpGeneric, _) => program::XDP_INGRESS_GENERIC,
            (Self::TcIngress, Framing::Ip) => program::TC_INGRESS_L3,
            (Self::TcEgress, Framing::Ip) => program::TC_EGRESS_L3,
            (Self::TcIngress, _) => program::TC_INGRESS,
            (Self::TcEgress, _) => program::TC_EGRESS,
        }
    }
}

/// The hooks of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// To be tried in this order until one works.
    pub ingress: &'static [Hook],
    pub egress: Option<Hook>,
    /// Why it is these.
    pub why: &'static str,
}

/// # Errors
/// When what was asked for cannot work on this interface, with what can.
pub fn plan(link: &Link, asked: Ingress) -> anyhow::Result<Plan> {
    let name = &link.name;
    match link.framing {
        Framing::Other => bail!("`{name}` carries neither Ethernet nor IP: there is nothing to observe on it"),
        Framing::Ip if matches!(asked, Ingress::Xdp | Ingress::XdpGeneric) => {
            bail!("cannot attach XDP to `{name}`: its packets have no Ethernet header; try `--ingress tc`")
        }
        Framing::Ip | Framing::Ethernet => {}
    }
    if link.is_loopback && asked == Ingress::Xdp {
        bail!("cannot attach XDP to `{name}` in driver mode: loopback has no driver; try `--ingress tc`");
    }
    let (ingress, why): (&[Hook], _) = match asked {
        Ingress::Xdp => (&[Hook::XdpNative], "as asked"),
        Ingress::XdpGeneric => (&[Hook::XdpGeneric], "as asked"),
        Ingress::Tc => (&[Hook::TcIngress], "as asked"),
        Ingress::Auto => cheapest(link),
    };
    // Each segment on loopback passes ingress once, whoever sent it: a second hook would count it again.
    let egress = (!link.is_loopback).then_some(Hook::TcEgress);
    Ok(Plan { ingress, egress, why })
}

fn cheapest(link: &Link) -> (&'static [Hook], &'static str) {
    let tc: &[Hook] = &[Hook::TcIngress];
    if link.is_loopback {
        return (tc, "loopback has no driver");
    }
    if link.framing == Framing::Ip {
        return (tc, "its packets have no Ethernet header");
    }
    if link.has_xdp {
        return (tc, "another XDP program is attached");
    }
    match (link.kind.as_deref(), link.bus.as_deref()) {
        (Some(_), _) | (None, None) => (tc, "native XDP costs a virtual device its offloads"),
        (None, Some("virtio" | "vmbus" | "xen")) => (tc, "native XDP costs a paravirtual NIC its offloads"),
        (None, Some(_)) => (&[Hook::XdpNative, Hook::TcIngress], "native XDP is the cheap path of a physical NIC"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> Link {
        Link {
            index: 2,
            name: name.into(),
            framing: Framing::Ethernet,
            is_up: true,
            is_loopback: false,
            kind: None,
            bus: Some("pci".into()),
            has_xdp: false,
            has_default_route: true,
            has_ingress_qdisc: false,
        }
    }

    fn auto(link: &Link) -> &'static [Hook] {
        plan(link, Ingress::Auto).unwrap().ingress
    }

    #[test]
    fn a_physical_nic_gets_native_xdp_with_tc_to_fall_back_to() {
        assert_eq!(auto(&link("eth0")), [Hook::XdpNative, Hook::TcIngress]);
        assert_eq!(plan(&link("eth0"), Ingress::Xdp).unwrap().ingress, [Hook::XdpNative]);
    }

    #[test]
    fn virtual_and_paravirtual_devices_get_tc() {
        for (kind, bus) in [(Some("veth"), None), (None, None), (Some("vlan"), None), (None, Some("virtio"))] {
            let link = Link { kind: kind.map(Into::into), bus: bus.map(Into::into), ..link("x") };
            assert_eq!(auto(&link), [Hook::TcIngress], "{kind:?} {bus:?}");
        }
    }

    #[test]
    fn an_attached_xdp_program_is_left_alone() {
        assert_eq!(auto(&Link { has_xdp: true, ..link("eth0") }), [Hook::TcIngress]);
    }

    #[test]
    fn loopback_gets_exactly_one_hook() {
        let lo = Link { is_loopback: true, bus: None, ..link("lo") };
        for asked in [Ingress::Auto, Ingress::Tc] {
            assert_eq!(plan(&lo, asked).unwrap().ingress, [Hook::TcIngress]);
        }
        assert_eq!(plan(&lo, Ingress::XdpGeneric).unwrap().ingress, [Hook::XdpGeneric]);
        assert!(plan(&lo, Ingress::Auto).unwrap().egress.is_none());
        assert!(plan(&lo, Ingress::Xdp).is_err());
    }

    #[test]
    fn devices_without_ethernet_get_the_programs_for_bare_ip_and_no_xdp() {
        let tun = Link { framing: Framing::Ip, kind: Some("tun".into()), bus: None, ..link("tun0") };
        assert_eq!(auto(&tun), [Hook::TcIngress]);
        assert_eq!(Hook::TcIngress.program(tun.framing), "tc_ingress_l3");
        assert_eq!(Hook::TcEgress.program(tun.framing), "tc_egress_l3");
        let error = plan(&tun, Ingress::XdpGeneric).unwrap_err().to_string();
        assert!(error.ends_with("try `--ingress tc`"), "{error}");
    }

    #[test]
    fn what_carries_no_ip_is_refused() {
        assert!(plan(&Link { framing: Framing::Other, ..link("can0") }, Ingress::Auto).is_err());
    }
}
