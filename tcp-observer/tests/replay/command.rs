//! `tcp-observer replay` from outside: what it prints, and with which code it ends.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::packets::{ACK, PSH, SYN, Talk, file};

fn talk() -> Talk {
    let mut talk = Talk::between("192.0.2.1:40000", "198.51.100.2:443");
    talk.client(0, SYN, 100, 0, 0).server(14_000, SYN | ACK, 500, 101, 0).client(24_000, ACK, 101, 501, 0);
    talk.client(30_000, PSH | ACK, 101, 501, 9);
    talk
}

fn replay(content: &[u8], arguments: &[&str]) -> Output {
    let path = file(content);
    let output = run(&path, arguments);
    fs::remove_file(&path).unwrap();
    output
}

fn run(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-observer"));
    command.arg("replay").arg(path).args(arguments).output().expect("the program that was just built")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn flows_are_printed_in_every_format_and_the_code_is_0() {
    let capture = talk().pcap();
    for (format, expected) in [
        ("table", "192.0.2.1:40000"),
        ("wide", "14 µs"),
        ("json", "\"syn_to_synack_seconds\":0.000014"),
        ("csv", "192.0.2.1"),
    ] {
        let output = replay(&capture, &["-o", format]);
        assert_eq!(output.status.code(), Some(0), "{format}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(expected), "{format}: {}", text(&output.stdout));
        assert!(output.stderr.is_empty(), "{format}");
    }
}

#[test]
fn role_is_known_when_it_is_said_what_is_local() {
    let capture = talk().pcap();
    for (local, role) in [
        (&[][..], "\"role\":null"),
        (&["--local", "192.0.2.0/24"], "\"role\":\"client\""),
        (&["--local", "198.51.100.2"], "\"role\":\"server\""),
        (&["--local", "192.0.2.1,198.51.100.2"], "\"role\":\"loopback\""),
        (&["--local", "2001:db8::/32"], "\"role\":\"forwarded\""),
    ] {
        let output = replay(&capture, &[&["-o", "json"], local].concat());
        assert!(text(&output.stdout).contains(role), "{local:?}: {}", text(&output.stdout));
    }
}

#[test]
fn summary_tells_of_the_whole_capture() {
    let capture = talk().pcap();
    let output = replay(&capture, &["--summary"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("completed"), "{}", text(&output.stdout));
    let json = replay(&capture, &["--summary", "-o", "json"]);
    assert!(text(&json.stdout).starts_with('{'), "{}", text(&json.stdout));
    for wrong in [&["--summary", "-o", "csv"][..], &["--summary", "--port", "80"]] {
        assert_eq!(replay(&capture, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn filters_choose_among_the_flows() {
    let output = replay(&talk().pcap(), &["-o", "json", "--port", "80"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()));
}

#[test]
fn torn_captures_are_shown_as_far_as_they_go_and_the_code_is_1() {
    let capture = talk().pcap();
    let last = capture.len() - 54 - 9 - 16;
    let output = replay(&capture[..capture.len() - 1], &["-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("\"outcome\":\"completed\""), "{}", text(&output.stdout));
    let stderr = text(&output.stderr);
    assert!(stderr.contains(&format!("ends within the record at byte {last}")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn what_is_no_capture_is_named_with_what_to_do_and_the_code_is_1() {
    for (content, remark) in [
        (&b""[..], "it is empty"),
        (b"abc", "too short"),
        (b"hello, world", "68 65 6c 6c"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip stream is cut off at byte 8"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff\xff", "gzip stream is corrupt"),
        (b"\x28\xb5\x2f\xfd\0\0\0", "zstd -d"),
        (b"\x0a\x0d\x0d\x0a\0\0", "file header"),
        (b"\xd4\xc3\xb2\xa1\x02\0", "file header"),
    ] {
        let output = replay(content, &[]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(remark) && stderr.contains(".pcap`"), "{stderr}");
        assert_eq!((stderr.lines().count(), output.stdout.len()), (1, 0), "{stderr}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named_and_the_code_is_1() {
    let missing = Path::new(env!("CARGO_TARGET_TMPDIR")).join("missing.pcap");
    for (path, remark) in [(missing.as_path(), "No such file"), (Path::new(env!("CARGO_TARGET_TMPDIR")), "directory")] {
        let output = run(path, &[]);
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{stderr}");
        assert!(stderr.contains(&*path.to_string_lossy()) && stderr.contains(remark), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn a_capture_without_packets_is_an_empty_table() {
    let output = replay(&Talk::between("192.0.2.1:1", "192.0.2.2:2").pcap(), &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("ORIGINATOR") && text(&output.stdout).lines().count() == 1);
}
