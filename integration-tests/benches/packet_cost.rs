//! What a packet costs in each program, in nanoseconds above an empty program of the same kind:
//! `cargo bench -p integration-tests` as root, after `cargo xtask build --release`.
//!
//! The kernel's own `BPF_PROG_TEST_RUN` measures (mean of many runs of one frame). Rounds of all cases and of the
//! empty programs alternate, pinned to one CPU, and the middle half of the rounds is averaged: what else the machine
//! does then hits all alike. Absolute figures drift from machine to machine; compare within one run.
//!
//! With `BASELINE_OBJECT`, the path of another build's object, each of its cases runs beside ours, and the last column
//! is how much of its cost ours takes.

use std::{
    env, fs, io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    programs::{Program, SchedClassifier, Xdp},
};
use integration_tests::{
    asm::{self, NEXT},
    bpf::{self, ProgramArray, ProgramKind},
    frames::Frame,
    object,
};
use tcp_observer::kernel::load;
use tcp_observer_common::abi::program;

const ROUNDS: usize = 41;
const REPEAT: u32 = 200_000;
const PAYLOAD: u32 = 1_000;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const XDP_PASS: i32 = 2;
/// Where a context has the packet's start and end (include/uapi/linux/bpf.h).
const XDP_MD_DATA: [i16; 2] = [0, 4];
const SKB_DATA: [i16; 2] = [76, 80];

/// One line of the table.
struct Case {
    name: String,
    /// Of this build, and of the baseline.
    programs: Vec<Measured>,
    empty: OwnedFd,
    frame: Vec<u8>,
    /// Where the frame has its sequence number, if that moves by the payload from run to run.
    moving: Option<usize>,
    /// What a [`asm::advancing`] program hands over to.
    _arrays: Vec<ProgramArray>,
}

impl Case {
    /// After a round: the sender goes on where it was.
    fn advance(&mut self) {
        if let Some(at) = self.moving {
            let seq: &mut [u8; 4] = (&mut self.frame[at..at + 4]).try_into().expect("four bytes");
            *seq = u32::from_be_bytes(*seq).wrapping_add(REPEAT.wrapping_mul(PAYLOAD)).to_be_bytes();
        }
    }
}

/// A program, and what it cost above an empty one, round by round.
struct Measured {
    program: OwnedFd,
    rounds: Vec<f64>,
}

impl Measured {
    /// The least, the mean of the middle half, and the most.
    fn cost(&self) -> [f64; 3] {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        let middle = &rounds[ROUNDS / 4..ROUNDS - ROUNDS / 4];
        [rounds[0], middle.iter().sum::<f64>() / middle.len() as f64, rounds[ROUNDS - 1]]
    }
}

fn main() {
    pin_to_first_cpu();
    let baseline = env::var_os("BASELINE_OBJECT").map(|path| fs::read(path).expect("the baseline can be read"));
    let objects: Vec<_> = [Some(object::bytes()), baseline].into_iter().flatten().collect();
    let mut cases = Vec::new();
    for (family, client, server) in
        [("IPv4", "192.0.2.1:40000", "192.0.2.2:443"), ("IPv6", "[2001:db8::1]:40000", "[2001:db8::2]:443")]
    {
        let (client, server): (SocketAddr, SocketAddr) = (client.parse().unwrap(), server.parse().unwrap());
        for name in [program::XDP_INGRESS, program::TC_INGRESS] {
            cases.extend(cases_of(&objects, name, family, client, server));
        }
    }
    for _ in 0..ROUNDS {
        for case in &mut cases {
            let empty = run(&case.empty, &case.frame, REPEAT).expect("the empty program runs");
            for measured in &mut case.programs {
                let full = run(&measured.program, &case.frame, REPEAT).expect("the program runs");
                measured.rounds.push(f64::from(full) - f64::from(empty));
            }
            case.advance();
        }
    }
    println!("{:<44} {:>8} {:>8} {:>8}   ns above an empty program", "", "min", "middle", "max");
    for case in &cases {
        let costs: Vec<_> = case.programs.iter().map(Measured::cost).collect();
        let [least, middle, most] = costs[0];
        print!("{:<44} {least:>8.1} {middle:>8.1} {most:>8.1}", case.name);
        if let Some([least_before, middle_before, _]) = costs.get(1) {
            print!("   baseline {least_before:>7.1} {middle_before:>7.1}");
            print!("   ratio {:.2} {:.2}", least / least_before, middle / middle_before);
        }
        println!();
    }
}

fn cases_of(
    objects: &[Vec<u8>],
    name: &'static str,
    family: &str,
    client: SocketAddr,
    server: SocketAddr,
) -> Vec<Case> {
    let sender = SocketAddr::new(client.ip(), client.port() + 1);
    let stranger = SocketAddr::new(client.ip(), 50_000);
    let syn = Frame::new(stranger, server, SYN, 7, 0);
    let ack = Frame::new(client, server, ACK, 2_001, 5_001);
    let data = Frame::new(sender, server, ACK, 2_001, 5_001).with_payload(PAYLOAD as usize);
    let opening = |client| {
        [
            Frame::new(client, server, SYN, 1_000, 0),
            Frame::new(server, client, SYN | ACK, 5_000, 1_001),
            Frame::new(client, server, ACK, 1_001, 5_001),
            // What a direction has for the first time may go a longer way.
            Frame::new(client, server, ACK, 1_001, 5_001).with_payload(PAYLOAD as usize),
            Frame::new(client, server, ACK, 2_001, 5_001),
        ]
    };
    let first: Vec<_> = opening(client).into_iter().chain(opening(sender)).chain([syn.clone()]).collect();
    let programs: Vec<_> = objects
        .iter()
        .map(|bytes| {
            let mut object = EbpfLoader::new().load(bytes).expect("the object loads");
            let program = load(&mut object, name);
            first.iter().for_each(|frame| run_once(&mut object, name, &frame.bytes()));
            (object, program)
        })
        .collect();
    let (kind, verdict, context) = if name == program::XDP_INGRESS {
        (ProgramKind::Xdp, XDP_PASS, XDP_MD_DATA)
    } else {
        (ProgramKind::Tc, NEXT, SKB_DATA)
    };
    let measured = |program| Measured { program, rounds: Vec::new() };
    let plain = |what, frame: Frame| Case {
        name: format!("{name} {family} {what}"),
        programs: programs.iter().map(|(_, fd)| measured(fd.try_clone().expect("a descriptor to spare"))).collect(),
        empty: bpf::load(kind, &asm::empty(verdict)),
        frame: frame.bytes(),
        moving: None,
        _arrays: Vec::new(),
    };
    let mut cases = vec![
        plain("ACK of an established flow", ack),
        plain("SYN repeated", syn),
        plain("RST of no flow", Frame::new(stranger, client, RST, 7, 0)),
    ];
    // Data in order is never the same twice: a program before ours moves its number on.
    let seq_offset = if client.is_ipv4() { 38 } else { 58 };
    let moving = |behind: &OwnedFd| {
        let array = ProgramArray::new();
        let insns = asm::advancing(context, seq_offset, PAYLOAD as i32, array.fd(), verdict);
        let program = bpf::load(kind, &insns);
        array.set(behind);
        (program, array)
    };
    let (empty, empty_array) = moving(&bpf::load(kind, &asm::empty(verdict)));
    let (moved, mut arrays): (Vec<_>, Vec<_>) = programs.iter().map(|(_, program)| moving(program)).unzip();
    arrays.push(empty_array);
    cases.push(Case {
        name: format!("{name} {family} data of an established flow"),
        programs: moved.into_iter().map(measured).collect(),
        empty,
        frame: Frame { seq: data.seq.wrapping_sub(PAYLOAD), ..data }.bytes(),
        moving: Some(seq_offset as usize),
        _arrays: arrays,
    });
    // An array of programs is emptied when its last descriptor is closed: what an entry hands over to has to stay.
    std::mem::forget(programs);
    cases
}

/// A program of any build's object, loaded with what it hands over to, if it does.
fn load(object: &mut Ebpf, name: &str) -> OwnedFd {
    if object.program(program::XDP_UNSTEADY).is_some() {
        load::load(object, name).expect("the program loads");
    } else {
        let loaded = match object.program_mut(name).expect("the program is there") {
            Program::Xdp(xdp) => xdp.load(),
            Program::SchedClassifier(tc) => tc.load(),
            other => panic!("unexpected kind: {other:?}"),
        };
        loaded.expect("the program loads");
    }
    let program = object.program(name).expect("the program is there");
    program.fd().expect("just loaded").as_fd().try_clone_to_owned().expect("a descriptor to spare")
}

fn run_once(object: &mut Ebpf, name: &str, frame: &[u8]) {
    let program = object.program_mut(name).expect("the program is there");
    let options = TestRunOptions { data_in: Some(frame), ..Default::default() };
    let result = match program {
        Program::Xdp(_) => <&mut Xdp>::try_from(program).expect("just seen").test_run(options),
        _ => <&mut SchedClassifier>::try_from(program).expect("the other kind").test_run(options),
    };
    result.expect("the program runs");
}

/// The mean duration of one run, in nanoseconds, as the kernel measures it.
fn run(program: &OwnedFd, frame: &[u8], repeat: u32) -> io::Result<u32> {
    const BPF_PROG_TEST_RUN: i64 = 10;
    const DURATION: usize = 9;
    let address = frame.as_ptr().expose_provenance() as u64;
    let mut attributes = [0_u32; 20];
    attributes[0] = program.as_raw_fd() as u32;
    attributes[2] = frame.len() as u32;
    attributes[4] = address as u32;
    attributes[5] = (address >> 32) as u32;
    attributes[8] = repeat;
    // SAFETY: the attributes are valid for their size, and the frame outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, attributes.as_mut_ptr(), size_of_val(&attributes)) };
    if result == 0 { Ok(attributes[DURATION]) } else { Err(io::Error::last_os_error()) }
}

fn pin_to_first_cpu() {
    // SAFETY: a set of CPUs is plain bits, and the call only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}
