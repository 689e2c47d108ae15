//! A flood of SYNs: frames made in the kernel (`BPF_F_TEST_XDP_LIVE_FRAMES`) by a program that writes another source
//! address and port into each and redirects it into a veth pair. At the other end hangs the agent, its tables at their
//! default size, or an empty program in the same hook. Generator and receiver share one CPU.

use std::{os::fd::OwnedFd, time::Instant};

use integration_tests::{
    asm::{self, NEXT},
    bpf::{self, Attachment, Hook as Place, Neighbour, ProgramKind},
    cpu,
    frames::SYN,
    interface,
    pair::{Family, Pair, WIRE},
    test_run,
};

use crate::{
    arguments::Arguments,
    effort::{self, Effort},
    figure::{Figure, Unit},
    packet::{self, Direction, Hook, Order, Subject, Then},
    progress,
};

pub const PART: &str = "flood";
const MAX_FLOWS: u32 = 262_144;
const MAX_HALF_OPEN: u32 = 65_536;
/// Connections that the flood must not push out.
const ESTABLISHED: u32 = 10_000;
/// Where all of it happens, counted modulo those there are: where most else of this benchmark does not.
const CPU: usize = 1;

pub fn measure(arguments: &Arguments) -> Vec<Figure> {
    let (rounds, frames) = if arguments.short { (5, 500_000) } else { (9, 2_000_000) };
    [Hook::XdpIngress, Hook::TcIngress].into_iter().flat_map(|hook| flood(hook, rounds, frames)).collect()
}

fn flood(hook: Hook, rounds: usize, frames: u32) -> Vec<Figure> {
    let [ours, bare] = [Pair::new(), Pair::new()];
    let subject = Subject::start(&ours.server, hook, MAX_FLOWS, MAX_HALF_OPEN);
    packet::establish(&subject, Family::V4, packet::ESTABLISHED, ESTABLISHED);
    let before = established(&subject);
    let _empty = Empty::attach(&bare, hook);
    let lanes = [&ours, &bare].map(Flood::new);
    let [mut rates, mut of_cpu] = [const { [Vec::new(), Vec::new()] }; 2];
    for round in 0..rounds {
        progress::show(&format!("flood: {}, round {} of {rounds}", hook.program(), round + 1));
        for (lane, (rates, of_cpu)) in lanes.iter().zip(rates.iter_mut().zip(&mut of_cpu)) {
            let arrival = lane.send(frames);
            rates.push(arrival.count / arrival.effort.time.as_secs_f64());
            of_cpu.push(arrival.count / arrival.effort.cpu.as_secs_f64());
        }
    }
    progress::done();
    let after = established(&subject);
    let figure = |name, unit, rounds| Figure::of(PART, format!("{name}, {}", hook.program()), unit, rounds);
    let ([rate, rate_empty], [of_cpu, of_cpu_empty]) = (rates, of_cpu);
    vec![
        figure("SYNs that arrive", Unit::PerSecond, rate).beside("empty", rate_empty),
        figure("SYNs that arrive in a second of CPU", Unit::PerSecond, of_cpu).beside("empty", of_cpu_empty),
        figure("established flows kept", Unit::Flows, vec![after]).beside("before", vec![before]),
    ]
}

fn established(subject: &Subject<'_>) -> f64 {
    subject.agent.dump(&["--phase", "established"]).len() as f64
}

/// What stands where the agent's programs do.
enum Empty {
    Xdp(#[expect(dead_code, reason = "held for what dropping it does")] Attachment),
    Tc(#[expect(dead_code, reason = "held for what dropping it does")] Neighbour),
}

impl Empty {
    fn attach(pair: &Pair, hook: Hook) -> Self {
        match hook {
            Hook::XdpIngress => {
                let program = bpf::load(ProgramKind::Xdp, &asm::empty(packet::verdict(ProgramKind::Xdp)));
                Self::Xdp(Attachment::xdp(&pair.server, WIRE, &program))
            }
            Hook::TcIngress | Hook::TcEgress => {
                Self::Tc(Neighbour::attach(&pair.server, WIRE, Place::Ingress, &asm::empty(NEXT)))
            }
        }
    }
}

/// What came of a round.
struct Arrival {
    count: f64,
    /// Of sending and receiving.
    effort: Effort,
}

/// A generator into one pair's wire.
struct Flood<'n> {
    pair: &'n Pair,
    program: OwnedFd,
    frame: Vec<u8>,
}

impl<'n> Flood<'n> {
    fn new(pair: &'n Pair) -> Self {
        // A veth takes redirected frames where its peer polls: with XDP, or with GRO.
        interface::receive_in_batches(&pair.server, WIRE);
        let then = Then::Redirect(interface::index(&pair.client, WIRE));
        let state = packet::new_state();
        let what = (ProgramKind::Xdp, Family::V4, Direction::FromClient);
        let program = bpf::load(ProgramKind::Xdp, &packet::generator(what, Order::Any, &state, &then));
        Self { pair, program, frame: packet::flood_frame(Family::V4, SYN).bytes() }
    }

    /// Sends so many frames, and counts those that arrive.
    fn send(&self, frames: u32) -> Arrival {
        let received = interface::received(&self.pair.server, WIRE);
        let softirq = effort::softirq_thread(CPU);
        let effort = self.pair.client.within(|| {
            cpu::stay_on(CPU);
            let cpu_time = || effort::cpu_of_this_thread() + effort::cpu_of(softirq);
            let (begun, cpu) = (Instant::now(), cpu_time());
            test_run::send_live(&self.program, &self.frame, frames).expect("frames can be sent");
            Effort { time: begun.elapsed(), cpu: cpu_time() - cpu }
        });
        Arrival { count: (interface::received(&self.pair.server, WIRE) - received) as f64, effort }
    }
}
