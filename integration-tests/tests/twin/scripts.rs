//! What a fuzzer throws at the core ([`proofs::fuzzing`]), thrown at the kernel programs as well: the same flows after
//! every act, and the same counts.
//!
//! The inputs that fuzzers have found worth keeping, and bytes at random.

use std::{collections::BTreeMap, time::Duration};

use integration_tests::{bounds::bounded_by, random::Random};
use proofs::{
    amount::amount,
    fuzzing::{Act, Asked, Packet, Script, Setting, Stage, corpus},
    memory::AnyKey,
};
use tcp_observer_common::{
    abi::{Adopted, Gone, request},
    conn::Flow,
    counters::{Counters, HookDirection, Skip},
    wire::Link,
};

use crate::{
    Hook, L3_IN, L3_OUT, TC_IN, TC_OUT, XDP,
    captures::{difference, summed, with_interfaces},
    hostile,
    kernel::{FIRST_EPHEMERAL, Kernel},
    records::Observer as _,
    state::State,
};

const USUAL_SCRIPTS: u64 = 400;
/// Enough for all acts that a script may have.
const SCRIPT_BYTES: usize = 600;
/// More than a script has, so that none makes room.
const FLOWS: u32 = 64;
/// The interfaces that scripts know: `lo`, the first wires, and as many that lie elsewhere.
const INTERFACES: usize = 13;

/// The kernel's side of a play: one that begins flows as live ones do, and one that keeps all.
struct Kernels([Kernel; 2]);

#[derive(Default)]
struct Played {
    scripts: u64,
    acts: u64,
    flows: u64,
}

impl Kernels {
    #[track_caller]
    fn new() -> Self {
        Self([false, true].map(|keeps_all| Kernel::with_room(keeps_all, FLOWS)))
    }

    #[track_caller]
    fn play(&mut self, script: &Script, name: &str, played: &mut Played) {
        let kernel = &mut self.0[usize::from(script.keeps_all)];
        let mut stage = Stage::new(script, Setting { is_v6: script.is_v6, ..Setting::default() });
        stage.memory.first_ephemeral = FIRST_EPHEMERAL as u32;
        kernel.begin_anew(&stage.local(script));
        let before = kernel.counters();
        for (number, Act { after_ns, what }) in script.acts.iter().enumerate() {
            stage.wait(*after_ns);
            kernel.set_clock(stage.now_ns());
            let asked = stage.asked(what);
            // What the kernel itself refuses, before any program runs, nobody is shown.
            if let Asked::Packet(packet) = &asked
                && !hostile::runs(hook(script, packet), &packet.bytes)
            {
                continue;
            }
            ask(kernel, script, &asked);
            stage.answer(&asked);
            let (own, there) = (flows(kernel.flows()), flows(stage.memory.all_flows()));
            let told = || format!("{name}: act {number}, {what:?}, of {script:?}");
            assert!(own == there, "{}:\nthe kernel has {own:#?}\nand the core in memory {there:#?}", told());
            played.acts += 1;
            played.flows += own.len() as u64;
        }
        let counted = difference(&kernel.counters(), &before);
        assert_eq!(counted.skipped[Skip::Contended.index()], 0, "{name}");
        let expected: Counters = stage.memory.counters.borrow().clone();
        assert_eq!(summed(&counted), summed(&expected), "{name}: what the kernel has counted of {script:?}");
        played.scripts += 1;
    }
}

/// The hook that stands for where a packet was seen. XDP takes in what comes by `lo`, as test runs have it, in every other
/// script.
fn hook(script: &Script, packet: &Packet) -> Hook {
    match (packet.link, packet.tap.direction()) {
        (Link::Ethernet, HookDirection::Ingress) if packet.tap.interface() == 1 && script.seed & 1 == 0 => XDP,
        (Link::Ethernet, HookDirection::Ingress) => TC_IN,
        (Link::Ethernet, HookDirection::Egress) => TC_OUT,
        (Link::Ip, HookDirection::Ingress) => L3_IN,
        (Link::Ip, HookDirection::Egress) => L3_OUT,
    }
}

#[track_caller]
fn ask(kernel: &mut Kernel, script: &Script, asked: &Asked) {
    match asked {
        Asked::Packet(packet) => kernel.run(hook(script, packet).program, &packet.bytes, packet.tap.interface()),
        Asked::Sweep => kernel.sweep(true),
        Asked::Adopt(key, flow) => {
            let flow = Flow::clone(flow);
            let frame = match *key {
                AnyKey::V4(key) => request::frame(request::ADOPT_IPV4, &Adopted { flow, key }),
                AnyKey::V6(key) => request::frame(request::ADOPT_IPV6, &Adopted { flow, key }),
            };
            assert_eq!(kernel.ask(&frame), request::ADOPTED);
        }
        Asked::Lose(key) => {
            let flow = kernel.find(key).expect("the kernel knows what the core in memory knows");
            let (word, last_seen_ns) = (flow.word.load().0, flow.last_seen_ns());
            kernel.ask(&match *key {
                AnyKey::V4(key) => request::frame(request::GONE_IPV4, &Gone { word, last_seen_ns, key }),
                AnyKey::V6(key) => request::frame(request::GONE_IPV6, &Gone { word, last_seen_ns, key }),
            });
        }
        Asked::Nothing => {}
    }
}

/// In a form in which they can be compared. A flow that is in both tables is there twice.
fn flows(flows: Vec<(AnyKey, Flow)>) -> BTreeMap<String, Vec<String>> {
    let mut told = BTreeMap::<_, Vec<_>>::new();
    for (key, flow) in flows {
        told.entry(format!("{key:?}")).or_default().push(State::flow(&flow));
    }
    told
}

/// Plays in a namespace that has the interfaces.
#[track_caller]
fn play_all<'a>(scripts: impl Iterator<Item = (String, &'a [u8])> + Send) -> Played {
    with_interfaces(INTERFACES).within(|| {
        let (mut kernels, mut played) = (Kernels::new(), Played::default());
        for (name, bytes) in scripts {
            kernels.play(&Script::read(bytes), &name, &mut played);
        }
        played
    })
}

#[test]
fn what_fuzzers_have_found_leaves_the_same() {
    let _bound = bounded_by(Duration::from_secs(300));
    let inputs = corpus();
    let Played { scripts, acts, flows } =
        play_all(inputs.iter().map(|(name, bytes)| (name.clone(), &bytes[..bytes.len() - 1])));
    println!("{scripts} scripts, {acts} acts, {flows} flows compared");
    assert!(scripts > 10 && acts > 10 * scripts && flows > acts, "{scripts} scripts, {acts} acts, {flows} flows");
}

#[test]
fn bytes_at_random_leave_the_same() {
    let count = amount("twin", USUAL_SCRIPTS);
    let _bound = bounded_by(Duration::from_secs(120 + count / 10));
    let mut random = Random::new(11);
    let mut script = || (0..SCRIPT_BYTES).map(|_| random.word() as u8).collect::<Vec<_>>();
    let inputs: Vec<_> = (0..count).map(|_| script()).collect();
    let named = inputs.iter().enumerate().map(|(number, bytes)| (format!("script {number}"), &bytes[..]));
    let Played { scripts, acts, flows } = play_all(named);
    println!("{scripts} scripts, {acts} acts, {flows} flows compared");
    assert!(scripts == count && acts > 10 * scripts && flows > acts, "{scripts} scripts, {acts} acts, {flows} flows");
}
