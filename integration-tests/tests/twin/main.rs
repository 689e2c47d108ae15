//! Twins: the same frames through the kernel programs (`BPF_PROG_TEST_RUN`) and through the core in userspace leave
//! the same tables, counters and histograms, field by field. The time is injected on both sides.

mod captures;
mod hostile;
mod kernel;
mod records;
mod replica;
mod scenarios;
mod scripts;
mod state;
mod wrapping;

use std::net::{IpAddr, SocketAddr};

use integration_tests::{frames::Frame, pair::Family, prelude::bounded};
use kernel::Kernel;
use replica::Replica;
use scenarios::{Exchange, Shown, Who};
use state::State;
use tcp_observer_common::{
    abi::program,
    conn::Note,
    counters::HookDirection::{self, Egress, Ingress},
    wire::Link,
};

/// Prime, so that no time is a round number by accident.
const STEP_NS: u64 = 1_000_003;

/// A program, and what it is to the core.
#[derive(Clone, Copy, Debug)]
struct Hook {
    program: &'static str,
    link: Link,
    direction: HookDirection,
}

const XDP: Hook = Hook { program: program::XDP_INGRESS, link: Link::Ethernet, direction: Ingress };
const XDP_GENERIC: Hook = Hook { program: program::XDP_INGRESS_GENERIC, ..XDP };
const TC_IN: Hook = Hook { program: program::TC_INGRESS, link: Link::Ethernet, direction: Ingress };
const TC_OUT: Hook = Hook { program: program::TC_EGRESS, link: Link::Ethernet, direction: Egress };
const L3_IN: Hook = Hook { program: program::TC_INGRESS_L3, link: Link::Ip, direction: Ingress };
const L3_OUT: Hook = Hook { program: program::TC_EGRESS_L3, link: Link::Ip, direction: Egress };

impl Hook {
    fn bytes(self, frame: &Frame) -> Vec<u8> {
        match self.link {
            Link::Ethernet => frame.bytes(),
            Link::Ip => frame.packet(),
        }
    }
}

/// Both observers, and a clock for them.
struct Twins {
    kernel: Kernel,
    replica: Replica,
    now_ns: u64,
}

impl Twins {
    #[track_caller]
    fn new(local: &[IpAddr]) -> Self {
        Self::with(local, false)
    }

    /// The same; with `keeps_all`, flows begin with any segment.
    #[track_caller]
    fn with(local: &[IpAddr], keeps_all: bool) -> Self {
        let (kernel, replica) = (Kernel::load(keeps_all), Replica::new(keeps_all));
        // Not so early that a time could be taken for "never".
        let mut twins = Self { kernel, replica, now_ns: 5_000_000_000 };
        twins.pass(0);
        twins.begin_anew(local);
        twins
    }

    /// Forgets all flows, but nothing that was counted; these addresses are local from now on.
    #[track_caller]
    fn begin_anew(&mut self, local: &[IpAddr]) {
        self.kernel.begin_anew(local);
        self.replica.begin_anew(local);
    }

    fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        self.kernel.set_clock(self.now_ns);
        self.replica.set_clock(self.now_ns);
    }

    /// The same bytes to both. The kernel's verdict and the packet after it are checked on the way.
    #[track_caller]
    fn take(&mut self, hook: Hook, bytes: &[u8], wire_segments: u32) {
        self.pass(STEP_NS);
        self.kernel.take(hook, bytes, wire_segments);
        self.replica.take(hook, bytes, wire_segments);
    }

    #[track_caller]
    fn assert_alike(&self, after: &str) {
        let (kernel, replica) = (self.kernel.state(), self.replica.state());
        assert!(kernel == replica, "after {after}:\n{}", State::difference(&kernel, &replica));
    }
}

/// Who talks in the scenarios.
fn ends(family: Family, n: u16) -> (SocketAddr, SocketAddr) {
    (SocketAddr::new(family.host(1), 40_000 + n), SocketAddr::new(family.host(2), 443))
}

/// Every scenario through one pair of hooks, wrapped in one way: what `inside` sends goes out, the rest comes in.
#[track_caller]
fn play(twins: &mut Twins, hooks: [Hook; 2], inside: Who, family: Family, wrap: fn(Frame) -> Frame) {
    let [ingress, egress] = hooks;
    for (n, Exchange { name, segments, .. }) in scenarios::all().into_iter().enumerate() {
        let (client, server) = ends(family, n as u16);
        for Shown { from, after_ns, frame } in scenarios::frames(&segments, client, server) {
            let hook = if from == inside { egress } else { ingress };
            twins.pass(after_ns);
            twins.take(hook, &hook.bytes(&wrap(frame)), 1);
        }
        twins.assert_alike(&format!("`{name}` through {hooks:?} from inside {inside:?} over {family:?}"));
    }
}

#[test]
fn every_scenario_leaves_the_same_through_every_program() {
    let _bound = bounded();
    for hooks in [[XDP, TC_OUT], [XDP_GENERIC, TC_OUT], [TC_IN, TC_OUT], [L3_IN, L3_OUT]] {
        let mut twins = Twins::new(&[]);
        for inside in [Who::Client, Who::Server] {
            for local in [vec![], vec![1], vec![2], vec![1, 2]] {
                let both = |n: &u8| Family::BOTH.map(|family| family.host(*n));
                twins.begin_anew(&local.iter().flat_map(both).collect::<Vec<_>>());
                for family in Family::BOTH {
                    play(&mut twins, hooks, inside, family, |frame| frame);
                }
            }
        }
    }
}

/// What a conversation is about is noted, as the conversation's author says.
#[test]
fn every_scenario_is_noted_for_what_it_is() {
    let _bound = bounded();
    let mut twins = Twins::new(&[]);
    let mut missing = Vec::new();
    for family in Family::BOTH {
        for (n, Exchange { name, segments, notes }) in scenarios::all().into_iter().enumerate() {
            let (client, server) = ends(family, n as u16);
            let before = twins.kernel.counters();
            for Shown { from, after_ns, frame } in scenarios::frames(&segments, client, server) {
                twins.pass(after_ns);
                twins.take(if from == Who::Client { TC_OUT } else { TC_IN }, &frame.bytes(), 1);
            }
            let after = twins.kernel.counters();
            let counted = |note: &Note| after.notes[*note as usize] - before.notes[*note as usize];
            let lacking: Vec<_> = notes.iter().filter(|note| counted(note) == 0).collect();
            if !lacking.is_empty() {
                let noted: Vec<_> = Note::ALL.iter().filter(|note| counted(note) > 0).collect();
                missing.push(format!("`{name}` over {family:?} lacks {lacking:?}, has {noted:?}"));
            }
            let is_unreachable = notes.contains(&Note::Unreachable);
            let unreachable = after.unreachable.iter().sum::<u64>() - before.unreachable.iter().sum::<u64>();
            if (unreachable > 0) != is_unreachable {
                missing.push(format!("`{name}` over {family:?} is unreachable {unreachable} times"));
            }
        }
    }
    twins.assert_alike("all");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// As in the replay of a capture: flows begin with any segment.
#[test]
fn an_observer_that_keeps_all_leaves_the_same() {
    let _bound = bounded();
    for hooks in [[XDP, TC_OUT], [TC_IN, TC_OUT], [L3_IN, L3_OUT]] {
        let mut twins = Twins::with(&[], true);
        for inside in [Who::Client, Who::Server] {
            twins.begin_anew(&Family::BOTH.map(|family| family.host(1)));
            for family in Family::BOTH {
                play(&mut twins, hooks, inside, family, |frame| frame);
            }
        }
        let (client, server) = ends(Family::V4, 1_000);
        let frame = Frame::new(client, server, integration_tests::frames::RST, 5, 0);
        let before = twins.kernel.state().flows.len();
        twins.take(hooks[0], &hooks[0].bytes(&frame), 1);
        twins.assert_alike("a RST alone");
        assert_eq!(twins.kernel.state().flows.len(), before + 1, "a RST begins a flow");
    }
}

#[test]
fn every_wrapping_leaves_the_same() {
    let _bound = bounded();
    for ingress in [XDP, TC_IN] {
        let local = Family::BOTH.map(|family| family.host(1));
        let mut twins = Twins::new(&local);
        for (name, wrap) in wrapping::ALL {
            println!("{name}");
            twins.begin_anew(&local);
            for family in Family::BOTH {
                play(&mut twins, [ingress, TC_OUT], Who::Client, family, wrap);
            }
        }
    }
}

#[test]
fn what_silence_ends_is_ended_alike() {
    let _bound = bounded();
    let mut twins = Twins::new(&[Family::V4.host(1), Family::V6.host(1)]);
    for family in Family::BOTH {
        play(&mut twins, [TC_IN, TC_OUT], Who::Client, family, |frame| frame);
    }
    // Past each limit in turn: linger, half open, TIME-WAIT, unconfirmed, and last the five days of established.
    for seconds in [1, 6, 33, 25, 2, 7, 60, 6, 130, 6, 6 * 86_400, 6] {
        twins.pass(seconds * 1_000_000_000);
        twins.kernel.sweep(true);
        twins.replica.sweep();
        twins.assert_alike(&format!("a sweep {seconds} s later"));
    }
    assert_eq!(twins.kernel.state().flows.len(), 0, "{:#?}", twins.kernel.state().flows);
}

/// A copy of each segment at another hook: skipped as such on both sides.
#[test]
fn copies_at_another_hook_are_told_alike() {
    let _bound = bounded();
    let mut twins = Twins::new(&[]);
    for inside in [Who::Client, Who::Server] {
        twins.begin_anew(&[Family::V4.host(1)]);
        for (n, Exchange { name, segments, .. }) in scenarios::all().into_iter().enumerate() {
            let (client, server) = ends(Family::V4, n as u16);
            for Shown { from, after_ns, frame } in scenarios::frames(&segments, client, server) {
                twins.pass(after_ns);
                let hooks = if from == inside { [TC_OUT, TC_IN] } else { [TC_IN, TC_OUT] };
                for hook in hooks {
                    twins.take(hook, &frame.bytes(), 1);
                }
            }
            twins.assert_alike(&format!("`{name}` with copies"));
        }
    }
}

#[test]
fn super_packets_count_as_many_segments() {
    let _bound = bounded();
    let (client, server) = ends(Family::V4, 0);
    let mut twins = Twins::new(&[client.ip()]);
    let opening = &scenarios::all()[0].segments;
    for Shown { from, frame, .. } in scenarios::frames(opening, client, server) {
        twins.take(if from == Who::Client { TC_OUT } else { TC_IN }, &frame.bytes(), 1);
    }
    let before = state::packets(&twins.kernel.counters());
    let frame = scenarios::data_after_opening(client, server, 1400);
    for wire_segments in [1, 2, 45] {
        twins.take(TC_OUT, &frame.bytes(), wire_segments);
    }
    twins.assert_alike("super-packets");
    assert_eq!(state::packets(&twins.kernel.counters()) - before, 48);
}
