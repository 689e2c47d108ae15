//! Two threads, each on a CPU of its own, that take one scenario's two lanes at the same moment, tuple after tuple.

use std::{
    hint,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Release},
    },
    thread,
};

use integration_tests::{frames::Frame, pair::Family};
use proofs::races::{Act, CLIENT_PORT, End, SERVER_PORT, Scenario};
use tcp_observer::kernel::clock;
use tcp_observer_common::segment::Flags;

use crate::arena;

/// Who takes what.
pub struct Programs {
    pub ingress: OwnedFd,
    pub egress: OwnedFd,
    pub sweep: OwnedFd,
}

/// A program and the frame that it is to be run on.
struct Call<'a> {
    program: &'a OwnedFd,
    frame: Vec<u8>,
}

/// What came of racing one tuple.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raced {
    /// Whether a system call of the one lane and one of the other were under way at the same time.
    pub calls_overlap: bool,
    /// What a program of either lane took, in nanoseconds, at most.
    pub longest_ns: u32,
}

type Spans = Vec<(u64, u64)>;

/// Races a scenario on many tuples, one after the other.
#[track_caller]
pub fn race(programs: &Programs, scenario: &Scenario, family: Family, tuples: u16, seed: u64) -> Vec<Raced> {
    let calls = |acts: &[Act], number| -> Vec<Call<'_>> {
        acts.iter().map(|&act| programs.call(act, family, number)).collect()
    };
    let all = |acts: &[Act]| -> Vec<Vec<Call<'_>>> { (0..tuples).map(|number| calls(acts, number)).collect() };
    let [one, other] = [&scenario.lanes[0], &scenario.lanes[1]].map(|lane| all(lane));
    let (setup, after) = (all(&scenario.setup), all(&scenario.after));
    let (ready, met, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let cpus = two_cpus();
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| {
            pin(cpus[0]);
            let mut dice = seed | 1;
            let perform = |calls: &[Call<'_>]| {
                for call in calls {
                    call.run();
                }
            };
            let mut spans = Vec::new();
            for number in 0..usize::from(tuples) {
                let turn = number as u32 + 1;
                perform(&setup[number]);
                ready.store(turn, Release);
                wait_for(&met, turn);
                dawdle(&mut dice);
                spans.push(timed(&one[number]));
                wait_for(&done, turn);
                perform(&after[number]);
            }
            spans
        });
        let second = scope.spawn(|| {
            pin(cpus[1]);
            let mut dice = seed.rotate_left(32) | 1;
            let mut spans = Vec::new();
            for (turn, calls) in (1..).zip(&other) {
                wait_for(&ready, turn);
                met.store(turn, Release);
                dawdle(&mut dice);
                spans.push(timed(calls));
                done.store(turn, Release);
            }
            spans
        });
        (first.join().expect("the first lane ends"), second.join().expect("the second lane ends"))
    });
    first.into_iter().zip(second).map(|(one, other)| raced(&one, &other)).collect()
}

fn raced((one, one_ns): &(Spans, u32), (other, other_ns): &(Spans, u32)) -> Raced {
    let calls_overlap = one.iter().any(|a| other.iter().any(|b| a.0 < b.1 && b.0 < a.1));
    Raced { calls_overlap, longest_ns: *one_ns.max(other_ns) }
}

fn timed(calls: &[Call<'_>]) -> (Spans, u32) {
    let mut longest_ns = 0;
    let span = |call: &Call<'_>| {
        let begun_ns = clock::monotonic_ns();
        longest_ns = longest_ns.max(call.run());
        (begun_ns, clock::monotonic_ns())
    };
    (calls.iter().map(span).collect(), longest_ns)
}

impl Call<'_> {
    fn run(&self) -> u32 {
        arena::run(self.program, &self.frame)
    }
}

impl Programs {
    /// Takes one act in.
    pub fn run(&self, act: Act, family: Family, number: u16) {
        self.call(act, family, number).run();
    }

    fn call(&self, act: Act, family: Family, number: u16) -> Call<'_> {
        let client = SocketAddr::new(family.host(1), CLIENT_PORT + number);
        let server = SocketAddr::new(family.host(2), SERVER_PORT);
        match act {
            Act::Segment { from, flags, seq, ack, payload } => {
                let (program, source, destination) = match from {
                    End::Client => (&self.egress, client, server),
                    End::Server => (&self.ingress, server, client),
                };
                let frame = Frame::new(source, destination, flags, seq, ack).with_payload(payload.into());
                Call { program, frame: frame.bytes() }
            }
            Act::Error { seq } => {
                // Host unreachable (RFC 792), address unreachable (RFC 4443).
                let quoted = Some(if family == Family::V4 { (3, 1) } else { (1, 3) });
                let frame = Frame { quoted, ..Frame::new(client, server, Flags::SYN, seq, 0) };
                Call { program: &self.ingress, frame: frame.bytes() }
            }
            Act::Sweep => Call { program: &self.sweep, frame: arena::sweep_request() },
        }
    }
}

/// Waits until the other thread is as far. It may have lost its CPU to somebody else.
fn wait_for(turn: &AtomicU32, at: u32) {
    let mut spins = 0_u32;
    while turn.load(Acquire) < at {
        spins += 1;
        if spins.is_multiple_of(4096) {
            thread::yield_now();
        }
        hint::spin_loop();
    }
}

/// Begins now or a little later, so that in time each place of one lane meets each place of the other.
fn dawdle(dice: &mut u64) {
    // Xorshift (Marsaglia 2003).
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    for _ in 0..*dice % 128 {
        hint::spin_loop();
    }
}

/// The first two CPUs that this process may use.
#[track_caller]
fn two_cpus() -> [usize; 2] {
    // SAFETY: a set of CPUs is integers only.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as large as is said.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    assert_eq!(result, 0, "cannot tell which CPUs there are");
    // SAFETY: the number is below the set's size.
    let cpus: Vec<usize> = (0..1024).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).take(2).collect();
    cpus.try_into().expect("races need two CPUs: run this on a machine with two, or give the process another")
}

fn pin(cpu: usize) {
    // SAFETY: as above.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is below the set's size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is as large as is said; zero is this thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    assert_eq!(result, 0, "cannot stay on CPU {cpu}");
    // Where others want the CPUs too, one lane would wait for the other most of the time.
    // SAFETY: no preconditions; zero is this thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
}
