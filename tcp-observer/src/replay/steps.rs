//! What replay does with a capture, step by step, for whoever wants to do the same to another observer: each packet as
//! it was captured, what the link layer has found in it, the time that it is taken in at, and the sweeps between.
//!
//! Clock and sweeps are those of [`Replayer`](super::host::Replayer), in its order.

use std::{io, rc::Rc};

use tcp_observer_common::{counters::Skip, wire::Network};

use super::{
    capture::{Capture, Captured, Packet},
    fault::Fault,
    host::{EPOCH_NS, named_interface},
    input::Input,
    link::{self, LinkType},
    progress::Progress,
    schedule::{Due, Schedule},
};

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A round of the sweep, through all tables or the half-open ones only.
    Sweep {
        now_ns: u64,
        all: bool,
    },
    Packet(Shown<'a>),
}

/// One packet. Times are those of replay's own clock, which is one nanosecond ahead of the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub now_ns: u64,
    /// As captured, and how long it was on the wire.
    pub frame: &'a [u8],
    pub frame_bytes: usize,
    pub is_ethernet: bool,
    /// The interface that it is counted for, above zero.
    pub interface: u32,
    pub network: Result<Found<'a>, Skip>,
}

/// What is behind the link layer.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub version: Network,
    /// From the IP header on, and how long that was on the wire.
    pub packet: &'a [u8],
    pub packet_bytes: usize,
    tags: link::Tags,
}

impl Found<'_> {
    /// The VLANs that it was in, the outer one first.
    pub fn vlans(&self) -> Vec<u16> {
        self.tags.ids().to_vec()
    }
}

/// Shows a capture's steps. What is wrong with it comes back, as from [`stream`](super::stream()).
///
/// # Errors
/// When the input cannot be read or is no capture.
pub fn steps(input: &Input, mut show: impl FnMut(Step<'_>)) -> anyhow::Result<Option<Fault>> {
    let capture = Capture::open(input, &Rc::new(Progress::hidden()))?;
    let (mut clock_ns, mut schedule) = (0, Schedule::default());
    let problems = capture.read(|captured| {
        clock_ns = captured.unix_ns.map_or(clock_ns, |ns| ns.saturating_add_signed(EPOCH_NS));
        while let Some(Due { now_ns, all }) = schedule.due(clock_ns) {
            show(Step::Sweep { now_ns, all });
        }
        show(Step::Packet(shown(captured, clock_ns)));
        io::Result::Ok(())
    })?;
    Ok((!problems.is_empty()).then(|| Fault { input: input.clone(), problems }))
}

fn shown(captured: Captured<'_>, now_ns: u64) -> Shown<'_> {
    const ETHERNET: u16 = 1;
    let Packet { bytes, wire_bytes } = captured.packet;
    let located = captured.link.ok_or(Skip::NotIp).and_then(|link| link::network(link, captured.packet));
    let named = located.as_ref().ok().and_then(|located| located.interface);
    Shown {
        now_ns,
        frame: bytes,
        frame_bytes: wire_bytes,
        is_ethernet: captured.link.is_some() && captured.link == LinkType::of(ETHERNET),
        interface: named.map_or(captured.interface, named_interface),
        network: located.map(|located| Found {
            version: located.network,
            packet: located.packet.bytes,
            packet_bytes: located.packet.wire_bytes,
            tags: located.tags,
        }),
    }
}
