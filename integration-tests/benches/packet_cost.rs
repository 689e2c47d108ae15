//! What a packet costs in each program, in nanoseconds above an empty program of the same kind:
//! `cargo bench -p integration-tests` as root, after `cargo xtask build --release`.
//!
//! The kernel's own `BPF_PROG_TEST_RUN` measures (mean of many runs of one frame). Rounds of all cases and of the
//! empty programs alternate, pinned to one CPU, and the middle half of the rounds is averaged: what else the machine
//! does then hits all alike. Absolute figures drift from machine to machine; compare within one run.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    programs::{Program, SchedClassifier, Xdp},
};
use integration_tests::{
    asm::{self, NEXT},
    bpf::{self, ProgramKind},
    frames::Frame,
    object,
};
use tcp_observer_common::abi::program;

const ROUNDS: usize = 41;
const REPEAT: u32 = 200_000;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const XDP_PASS: i32 = 2;

/// One line of the table.
struct Case {
    name: String,
    program: OwnedFd,
    empty: OwnedFd,
    frame: Vec<u8>,
    rounds: Vec<f64>,
}

fn main() {
    pin_to_first_cpu();
    let mut cases = Vec::new();
    for (family, client, server) in
        [("IPv4", "192.0.2.1:40000", "192.0.2.2:443"), ("IPv6", "[2001:db8::1]:40000", "[2001:db8::2]:443")]
    {
        let (client, server): (SocketAddr, SocketAddr) = (client.parse().unwrap(), server.parse().unwrap());
        for name in [program::XDP_INGRESS, program::TC_INGRESS] {
            cases.extend(cases_of(name, family, client, server));
        }
    }
    for _ in 0..ROUNDS {
        for case in &mut cases {
            let empty = run(&case.empty, &case.frame, REPEAT).expect("the empty program runs");
            let full = run(&case.program, &case.frame, REPEAT).expect("the program runs");
            case.rounds.push(f64::from(full) - f64::from(empty));
        }
    }
    println!("{:<44} {:>8} {:>8} {:>8}   ns above an empty program", "", "min", "middle", "max");
    for case in &mut cases {
        case.rounds.sort_by(f64::total_cmp);
        let middle = &case.rounds[ROUNDS / 4..ROUNDS - ROUNDS / 4];
        let mean = middle.iter().sum::<f64>() / middle.len() as f64;
        let (min, max) = (case.rounds[0], case.rounds[ROUNDS - 1]);
        println!("{:<44} {min:>8.1} {mean:>8.1} {max:>8.1}", case.name);
    }
}

fn cases_of(name: &'static str, family: &str, client: SocketAddr, server: SocketAddr) -> Vec<Case> {
    let mut object = EbpfLoader::new().load(&object::bytes()).expect("the object loads");
    let fd = load(&mut object, name);
    let handshake = [
        Frame::new(client, server, SYN, 1_000, 0),
        Frame::new(server, client, SYN | ACK, 5_000, 1_001),
        Frame::new(client, server, ACK, 1_001, 5_001),
    ];
    for frame in handshake {
        run_once(&mut object, name, &frame.bytes());
    }
    let stranger = SocketAddr::new(client.ip(), 50_000);
    let frames = [
        ("ACK of an established flow", Frame::new(client, server, ACK, 1_001, 5_001).bytes()),
        ("data of an established flow", Frame::new(client, server, ACK, 1_001, 5_001).with_payload(1_000).bytes()),
        ("SYN repeated", {
            let syn = Frame::new(stranger, server, SYN, 7, 0).bytes();
            run_once(&mut object, name, &syn);
            syn
        }),
        ("RST of no flow", Frame::new(stranger, client, RST, 7, 0).bytes()),
    ];
    let (kind, verdict) =
        if name == program::XDP_INGRESS { (ProgramKind::Xdp, XDP_PASS) } else { (ProgramKind::Tc, NEXT) };
    frames
        .into_iter()
        .map(|(what, frame)| Case {
            name: format!("{name} {family} {what}"),
            program: fd.try_clone().expect("a descriptor to spare"),
            empty: bpf::load(kind, &asm::empty(verdict)),
            frame,
            rounds: Vec::new(),
        })
        .collect()
}

fn load(object: &mut Ebpf, name: &str) -> OwnedFd {
    let program = object.program_mut(name).expect("the program is there");
    let fd = match program {
        Program::Xdp(xdp) => xdp.load().and_then(|()| xdp.fd()),
        Program::SchedClassifier(tc) => tc.load().and_then(|()| tc.fd()),
        other => panic!("unexpected kind: {other:?}"),
    };
    fd.expect("the program loads").as_fd().try_clone_to_owned().expect("a descriptor to spare")
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
