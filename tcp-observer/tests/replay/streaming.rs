//! Flows are handed over as they end: memory holds those that are alive, and no others.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    thread,
};

use tcp_observer::replay::{self, Input, Options, Progress};

use crate::{
    command::text,
    packets::{ACK, FIN, MICROSECOND, RST, SECOND, START, SYN, Segment, Talk, append, file, pcap_header},
};

/// The record of a connection that is over at once: three packets, of which the last is a RST.
fn append_short_flow(capture: &mut Vec<u8>, number: u32) {
    let [_, a, b, c] = number.to_be_bytes();
    let (client, server) = (format!("10.{a}.{b}.{c}:40000"), "192.0.2.1:443".to_owned());
    let mut talk = Talk::between(&client, &server);
    let after = u64::from(number) * 10_000 * MICROSECOND;
    talk.client(after, SYN, 1, 0, 0).server(after + MICROSECOND, SYN | ACK, 9, 2, 0);
    talk.client(after + 2 * MICROSECOND, ACK, 2, 10, 0).client(after + 3 * MICROSECOND, RST | ACK, 2, 10, 0);
    for (at_ns, segment) in talk.segments {
        append(capture, at_ns, &segment.frame());
    }
}

#[test]
fn two_hundred_thousand_flows_are_handed_over_while_the_capture_is_read() {
    const FLOWS: u32 = 200_000;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-observer"));
    command.args(["replay", "-", "-o", "csv"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("our program");
    let mut stdin = child.stdin.take().unwrap();
    let pid = child.id();
    let writer = thread::spawn(move || {
        stdin.write_all(&pcap_header(1)).unwrap();
        let mut peak_kib = 0;
        for thousand in 0..FLOWS / 1_000 {
            let mut records = Vec::new();
            (0..1_000).for_each(|number| append_short_flow(&mut records, thousand * 1_000 + number));
            stdin.write_all(&records).unwrap();
            peak_kib = peak_kib.max(resident_kib(pid));
        }
        peak_kib
    });
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().count();
    let peak_kib = writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(lines, FLOWS as usize + 1);
    // As records they would take 60 MB.
    assert!(peak_kib < 40_000, "{peak_kib} KiB");
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_flow_is_handed_over_when_it_has_ended_and_those_alive_at_the_end_by_their_first_packets() {
    let mut capture = pcap_header(1);
    (0..50_000).for_each(|number| append_short_flow(&mut capture, number));
    let path = file(&capture);
    let mut handed_over = Vec::new();
    let sink = |finished: replay::Finished| {
        handed_over.push((finished.now_unix_ns, finished.record.first_seen_unix_ns));
        Ok(())
    };
    let outcome = replay::stream(&[Input::File(path.clone())], &Options::default(), Progress::hidden(), sink).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!((handed_over.len(), outcome.captures, outcome.faults.len()), (50_000, 1, 0));
    let late = handed_over.iter().filter(|(now, first_seen)| now - first_seen > 30 * SECOND).count();
    assert_eq!(late, 0, "what was closed lingers for some seconds");
    let left: Vec<_> = handed_over.iter().filter(|(now, _)| *now == outcome.taken_unix_ns).collect();
    assert!(left.len() < 5_000 && left.is_sorted(), "{}", left.len());
}

#[test]
fn what_is_streamed_is_what_is_collected() {
    let mut capture = pcap_header(1);
    for number in 0..3_000 {
        append_short_flow(&mut capture, number);
    }
    let mut talk = Talk::between("192.0.2.7:1", "192.0.2.8:22");
    talk.client(40 * SECOND, SYN, 1, 0, 0).server(41 * SECOND, SYN | ACK, 9, 2, 0).client(
        42 * SECOND,
        FIN | ACK,
        2,
        10,
        0,
    );
    talk.segments.into_iter().for_each(|(at_ns, segment)| append(&mut capture, at_ns, &segment.frame()));
    let path = file(&capture);
    let lines = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-observer"));
        let output = command.arg("replay").arg(&path).args(arguments).output().expect("our program");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut lines: Vec<_> = text(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for format in ["json", "csv"] {
        for filter in [&[][..], &["--port", "22"], &["--addr", "10.0.5.0/24"], &["--phase", "closed"]] {
            let streamed = lines(&[&["-o", format][..], filter].concat());
            let sorted = lines(&[&["-o", format, "--sort", "first-seen"][..], filter].concat());
            assert_eq!(streamed, sorted, "{format} {filter:?}");
            assert!(!streamed.is_empty());
        }
        let limited = lines(&["-o", format, "--limit", "7"]);
        assert_eq!(limited.len(), if format == "csv" { 8 } else { 7 });
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn whoever_has_read_enough_ends_the_replay_without_a_complaint() {
    let mut capture = pcap_header(1);
    (0..20_000).for_each(|number| append_short_flow(&mut capture, number));
    let path = file(&capture);
    for arguments in [&["-o", "json"][..], &["-o", "csv"], &["-o", "json", "--sort", "bytes"], &["-o", "table"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-observer"));
        command.arg("replay").arg(&path).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("our program");
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn vlans_go_with_the_flows_that_were_in_them() {
    let mut capture = pcap_header(1);
    for (port, vlans) in [(1, vec![]), (2, vec![50]), (3, vec![50, 51, 0xe000 | 52])] {
        let segment = Segment {
            from: format!("192.0.2.1:{port}").parse().unwrap(),
            to: "192.0.2.2:80".parse().unwrap(),
            flags: SYN,
            seq: 1,
            ack: 0,
            payload: 0,
            vlans,
        };
        append(&mut capture, START, &segment.frame());
    }
    let path = file(&capture);
    let mut found = Vec::new();
    let sink = |finished: replay::Finished| {
        found.push((finished.record.originator.port, finished.vlans().to_vec()));
        Ok(())
    };
    replay::stream(&[Input::File(path.clone())], &Options::default(), Progress::hidden(), sink).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(found, [(1, vec![]), (2, vec![50]), (3, vec![50, 51, 52])]);
}
