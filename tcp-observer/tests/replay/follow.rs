//! `replay --follow`: what is shown of each exchange, and what is not.
//!
//! The texts in `followed/` are whole outputs, each line compared by hand with the exchange as it is written out in
//! `examples.rs`. What the sources of the exchanges say themselves is in a test of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    command::text,
    examples,
    packets::{ACK, FIN, MICROSECOND, PSH, RST, SECOND, START, SYN, Talk, append, file, pcap_header},
};

fn run(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-observer"));
    command.args(["replay", "--follow"]).arg(path).args(arguments).output().expect("our program")
}

/// What is printed of a sound capture.
fn follow(content: &[u8], arguments: &[&str]) -> String {
    let path = file(content);
    let output = run(&path, arguments);
    fs::remove_file(&path).unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    text(&output.stdout)
}

/// What stands behind the bars.
fn deeds(talk: &Talk) -> Vec<String> {
    let lines = follow(&talk.pcap(), &[]);
    lines.lines().filter_map(|line| Some(line.split_once(" | ")?.1.to_owned())).collect()
}

fn opened() -> Talk {
    let mut talk = Talk::between("192.0.2.1:40000", "198.51.100.2:443");
    talk.client(0, SYN, 99, 0, 0).server(MICROSECOND, SYN | ACK, 499, 100, 0).client(3 * MICROSECOND, ACK, 100, 500, 0);
    talk
}

#[test]
fn worked_examples_are_shown_state_by_state() {
    for (name, expected) in [
        ("1-handshake", include_str!("followed/1-handshake.txt")),
        ("2-loopback", include_str!("followed/2-loopback.txt")),
        ("3-four-way-close", include_str!("followed/3-four-way-close.txt")),
        ("4-lost-synack", include_str!("followed/4-lost-synack.txt")),
        ("5-stale-syn", include_str!("followed/5-stale-syn.txt")),
        ("6-lost-last-ack", include_str!("followed/6-lost-last-ack.txt")),
        ("7-half-close", include_str!("followed/7-half-close.txt")),
        ("8-keepalive", include_str!("followed/8-keepalive.txt")),
        ("8-heartbeat", include_str!("followed/8-heartbeat.txt")),
        ("9-accept-queue", include_str!("followed/9-accept-queue.txt")),
    ] {
        assert_eq!(follow(&examples::pcap(name), &[]), expected, "{name}");
    }
}

/// The numbers, times and states that the worked examples give, in their order.
#[test]
fn figures_of_the_sources_are_found_line_by_line() {
    for (name, figures) in [
        (
            "1-handshake",
            &[
                "192.168.1.116.3337 > 192.168.1.123.7788: Flags [S], seq 3626544836,",
                "192.168.1.123.7788 > 192.168.1.116.3337: Flags [S.], seq 1739326486, ack 3626544837,",
                "192.168.1.116.3337 > 192.168.1.123.7788: Flags [.], ack 1,",
            ][..],
        ),
        (
            "2-loopback",
            &[
                "14:12:45.104687 127.0.0.1.39870 > 127.0.0.1.9502: Flags [S], seq 2927179378,",
                "14:12:45.104701 127.0.0.1.9502 > 127.0.0.1.39870: Flags [S.], seq 1721825043, ack 2927179379,",
                "handshake 24 µs = 14 µs + 10 µs",
            ],
        ),
        (
            "3-four-way-close",
            &[
                "[F.], seq 2445, ack 558, length 0 | originator established → close_wait, responder established → fin_wait_1",
                "[.], ack 2446, length 0 | responder fin_wait_1 → fin_wait_2",
                "[F.], seq 558, ack 2446, length 0 | originator close_wait → last_ack, responder fin_wait_2 → time_wait",
                "[.], ack 559, length 0 | originator last_ack → closed",
            ],
        ),
        ("4-lost-synack", &["| synack_retransmitted", "09:00:31", "(silence)", "outcome: timed_out"]),
        ("5-stale-syn", &["seq 1000000,", "time_wait → closed", "seq 1000000,", "[R]", "stale_syn", "outcome: reset"]),
        ("6-lost-last-ack", &["→ last_ack", "09:00:01.32", "last_ack_lost", "09:00:01.34", "09:01:01.34", "(silence)"]),
        ("7-half-close", &["phase closing → half_closed", "half_close_data", "half_close_data", "→ last_ack"]),
        ("8-keepalive", &["11:00:00.022000", "keepalive", "13:00:00.042000", "13:01:15.042000", "13:10:00.042000"]),
        ("8-heartbeat", &["09:02:00", "heartbeat", "09:02:30", "heartbeat"]),
        (
            "9-accept-queue",
            &["half_open → established", "[S.], seq 5000000, ack 1000001, length 0 | synack_after_data"],
        ),
    ] {
        let shown = follow(&examples::pcap(name), &[]);
        let mut rest = shown.as_str();
        for figure in figures {
            let at = rest.find(figure).unwrap_or_else(|| panic!("{name}: no `{figure}` in\n{rest}"));
            rest = &rest[at + figure.len()..];
        }
    }
}

#[test]
fn lines_are_tcpdumps_but_for_what_it_says_of_windows_and_options() {
    let Ok(_) = Command::new("tcpdump").arg("--version").output() else { return };
    for name in examples::NAMES {
        let tcpdump = Command::new("tcpdump").args(["-nn", "-r"]).arg(examples::path(name)).env("TZ", "UTC").output();
        let tcpdump = text(&tcpdump.unwrap().stdout).replace(" IP ", " ");
        let without_window = |line: &str| {
            let (before, after) = line.split_once(", win ").unwrap_or((line, ", "));
            format!("{before}, {}", &after[after.find("length").unwrap_or(0)..])
        };
        let known: Vec<_> = tcpdump.lines().map(without_window).collect();
        let ours = follow(&examples::pcap(name), &[]);
        for line in ours.lines().filter_map(|line| line.split(" | ").next()).skip(1) {
            // tcpdump adds what it takes port 80's payload for.
            let is_known = known.iter().any(|known| known.starts_with(line));
            assert!(is_known || line.ends_with("(silence)"), "{name}: {line} is not in\n{tcpdump}");
        }
    }
}

#[test]
fn json_has_an_object_for_each_event() {
    let mut talk = opened();
    talk.client(SECOND, RST, 100, 0, 0);
    let lines = follow(&talk.pcap(), &["-o", "json", "--local", "192.0.2.1"]);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let expected = concat!(
        r#"{"time":"2026-01-01T00:00:00.000003000Z","kind":"segment","originator":{"addr":"192.0.2.1","port":40000},"#,
        r#""responder":{"addr":"198.51.100.2","port":443},"role":"client","vlans":[],"sender":"originator","#,
        r#""flags":".","seq":1,"ack":1,"seq_raw":100,"ack_raw":500,"length":0,"#,
        r#""before":{"originator":"syn_sent","responder":"syn_received","phase":"half_open"},"#,
        r#""after":{"originator":"established","responder":"established","phase":"established"},"#,
        r#""phase":"established","notes":[],"outcome":"completed","#,
        r#""handshake":{"syn_to_synack_seconds":0.000001,"synack_to_ack_seconds":0.000002,"total_seconds":0.000003},"#,
        r#""close":null,"unreachable":null}"#,
    );
    assert_eq!(lines[2], expected);
    let first: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!((&first["before"], &first["ack"], &first["seq"]), (&Value::Null, &Value::Null, &99.into()));
    let last: Value = serde_json::from_str(lines[3]).unwrap();
    assert_eq!((&last["notes"][0], &last["close"]["how"]), (&"abortive_close".into(), &"rst".into()));
}

#[test]
fn silence_is_shown_at_its_time_and_in_its_place() {
    let mut talk = Talk::between("192.0.2.1:40000", "198.51.100.2:443");
    talk.client(0, SYN, 1, 0, 0);
    // One that lives on meanwhile, and a packet between the limit and the next sweep.
    let mut other = Talk::between("192.0.2.1:40001", "198.51.100.2:443");
    other.client(SECOND, SYN, 1, 0, 0).server(SECOND + 1, SYN | ACK, 9, 2, 0).client(SECOND + 2, ACK, 2, 10, 0);
    other.client(64 * SECOND + SECOND / 2 + 10, FIN | ACK, 2, 10, 0);
    talk.segments.extend(other.segments);
    let lines = follow(&talk.pcap(), &["-o", "json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["segment", "segment", "segment", "segment", "silence", "segment"]);
    assert_eq!(
        (&lines[4]["time"], &lines[4]["outcome"]),
        (&"2026-01-01T00:01:04.500000000Z".into(), &"timed_out".into())
    );
    assert!(lines[4]["sender"].is_null() && lines[4]["seq"].is_null());
}

#[test]
fn a_long_silence_ends_what_it_has_to_at_its_time() {
    let mut talk = opened();
    talk.client(SECOND, FIN | ACK, 100, 500, 0).server(SECOND + 1, FIN | ACK, 500, 101, 0);
    talk.client(SECOND + 2, ACK, 101, 501, 0).silence_until(86_400 * SECOND);
    let lines = follow(&talk.pcap(), &[]);
    let expected = "00:01:01.000000002 192.0.2.1.40000 > 198.51.100.2.443: (silence) | originator time_wait → closed; \
                    phase time_wait → closed\n2026-01-02 (UTC)\n00:00:00.000000000 203.0.113.1.1 > ";
    assert!(lines.contains(expected), "{lines}");
}

#[test]
fn ordinary_data_and_acknowledgements_are_not_shown() {
    let mut talk = opened();
    for number in 0..50 {
        talk.client(SECOND + u64::from(number) * 2, PSH | ACK, 100 + number, 500, 1);
        talk.server(SECOND + u64::from(number) * 2 + 1, ACK, 500, 101 + number, 0);
    }
    assert_eq!(deeds(&talk).len(), 3);
}

#[test]
fn what_is_unusual_is_shown_though_no_state_changes() {
    let mut talk = opened();
    talk.client(SECOND, PSH | ACK, 100, 500, 10).client(2 * SECOND, PSH | ACK, 100, 500, 10);
    talk.server(2 * SECOND + 1, ACK, 500, 110, 0).client(3 * SECOND, ACK, 109, 500, 0);
    talk.server(4 * SECOND, RST, 4_000_000_000, 0, 0).client(5 * SECOND, SYN, 7_777_777, 0, 0);
    assert_eq!(deeds(&talk)[3..], ["data_retransmitted", "keepalive", "rst_out_of_window", "syn_in_connection"]);
}

#[test]
fn an_attempt_that_another_one_replaces_is_over() {
    let mut talk = Talk::between("192.0.2.1:40000", "198.51.100.2:443");
    talk.client(0, SYN, 100, 0, 0).client(2 * SECOND, SYN, 70_000, 0, 0);
    let lines = follow(&talk.pcap(), &[]);
    let expected = "2026-01-01 (UTC)\n\
        00:00:00.000000000 192.0.2.1.40000 > 198.51.100.2.443: Flags [S], seq 100, length 0 | \
        originator → syn_sent, responder → listen; phase → half_open\n\
        00:00:02.000000000 192.0.2.1.40000 > 198.51.100.2.443: (replaced) | \
        originator syn_sent → closed, responder listen → closed; phase half_open → closed; outcome: abandoned\n\
        00:00:02.000000000 192.0.2.1.40000 > 198.51.100.2.443: Flags [S], seq 70000, length 0 | \
        originator → syn_sent, responder → listen; phase → half_open; tuple_reused\n";
    assert_eq!(lines, expected);
}

#[test]
fn a_repeated_syn_keeps_the_waiting_apart() {
    let mut talk = Talk::between("192.0.2.1:40000", "198.51.100.2:443");
    talk.client(0, SYN, 100, 0, 0).client(SECOND, SYN, 100, 0, 0);
    talk.server(SECOND + 14_000, SYN | ACK, 500, 101, 0).client(SECOND + 24_000, ACK, 101, 501, 0);
    let deeds = deeds(&talk);
    assert_eq!(deeds[1], "syn_retransmitted");
    assert!(deeds[3].ends_with("; handshake 1 s, of which SYN to SYN-ACK 14 µs, SYN-ACK to ACK 10 µs"), "{deeds:#?}");
}

#[test]
fn an_icmp_error_ends_an_attempt() {
    let mut talk = Talk::between("192.0.2.1:40000", "198.51.100.2:443");
    talk.client(0, SYN, 100, 0, 0);
    let mut capture = talk.pcap();
    let syn = talk.segments[0].1.packet();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let bytes = (20 + 8 + syn.len()) as u16;
    frame.extend([0x45, 0]);
    frame.extend(bytes.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 254, 192, 0, 2, 1]);
    // Destination unreachable, host.
    frame.extend([3, 1, 0, 0, 0, 0, 0, 0]);
    frame.extend(&syn);
    append(&mut capture, START + 5, &frame);
    let lines = follow(&capture, &[]);
    let expected = "00:00:00.000000005 192.0.2.1.40000 > 198.51.100.2.443: (ICMP error: host) | originator syn_sent → \
                    closed, responder listen → closed; phase half_open → closed; outcome: unreachable\n";
    assert!(lines.ends_with(expected), "{lines}");
    let json = follow(&capture, &["-o", "json"]);
    assert!(json.contains(r#""kind":"icmp""#) && json.contains(r#""unreachable":"host""#), "{json}");
}

#[test]
fn filters_choose_among_the_events() {
    let mut talk = opened();
    talk.silence_until(SECOND);
    let capture = talk.pcap();
    let count = |arguments: &[&str]| {
        let path = file(&capture);
        let output = run(&path, &[&["-o", "json"], arguments].concat());
        fs::remove_file(&path).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        (text(&output.stdout).lines().count(), text(&output.stderr))
    };
    let none = || "tcp-observer: no flow matches\n".to_owned();
    for (arguments, expected) in [
        (&[][..], (4, String::new())),
        (&["--port", "443"], (3, String::new())),
        (&["--addr", "203.0.113.0/24"], (1, String::new())),
        (&["--addr", "203.0.113.0/24", "--port", "443"], (0, none())),
        (&["--role", "client", "--local", "192.0.2.0/24"], (3, String::new())),
        (&["--role", "client"], (0, none())),
        (&["--limit", "2"], (2, String::new())),
    ] {
        assert_eq!(count(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn flags_that_go_by_a_moment_are_refused() {
    let path = file(&opened().pcap());
    for arguments in [
        &["--state", "established"][..],
        &["--phase", "closed"],
        &["--interface", "eth0"],
        &["--older-than", "1s"],
        &["--sort", "bytes"],
        &["--summary"],
        &["-o", "csv"],
    ] {
        let output = run(&path, arguments);
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(stderr.contains("--follow") || stderr.contains("events are written as text"), "{stderr}");
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn times_have_the_captures_digits_and_the_date_where_it_is_asked_for() {
    let nanoseconds = follow(&opened().pcap(), &["-o", "wide"]);
    assert!(nanoseconds.starts_with("2026-01-01 00:00:00.000000000 192.0.2.1.40000 > "), "{nanoseconds}");
    let microseconds = follow(&examples::pcap("2-loopback"), &["-o", "wide"]);
    assert!(microseconds.starts_with("2026-01-01 14:12:45.104687 127.0.0.1.39870 > "), "{microseconds}");
}

#[test]
fn endpoints_and_flags_are_written_as_tcpdump_writes_them() {
    const URG: u8 = 0x20;
    const ECE: u8 = 0x40;
    const CWR: u8 = 0x80;
    for (flags, letters) in [
        (SYN | ECE | CWR, "[SEW]"),
        (SYN | ACK | ECE, "[S.E]"),
        (FIN | PSH | ACK, "[FP.]"),
        (RST | ACK, "[R.]"),
        (PSH | ACK | URG, "[P.U]"),
        (0, "[none]"),
    ] {
        let mut talk = Talk::between("[2001:db8::1]:40000", "[2001:db8::2]:443");
        talk.client(0, flags, 7, 9, 0);
        let lines = follow(&talk.pcap(), &[]);
        let expected = format!("2001:db8::1.40000 > 2001:db8::2.443: Flags {letters}");
        assert!(lines.contains(&expected), "{lines}");
    }
}

#[test]
fn vlans_are_named() {
    let mut talk = opened();
    talk.segments.iter_mut().for_each(|(_, segment)| segment.vlans = vec![50, 51]);
    assert!(deeds(&talk).iter().all(|deed| deed.ends_with("; vlan 50.51") || deed.contains("vlan 50.51")));
}

#[test]
fn what_comes_before_a_fault_is_shown_and_the_code_is_1() {
    let capture = opened().pcap();
    let whole = follow(&capture, &[]);
    let path = file(&capture[..capture.len() - 1]);
    let output = run(&path, &[]);
    fs::remove_file(&path).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown: Vec<_> = whole.lines().take(3).collect();
    assert_eq!(text(&output.stdout).lines().collect::<Vec<_>>(), shown);
    assert!(text(&output.stderr).contains("ends within the record at byte"), "{}", text(&output.stderr));
}

#[test]
fn events_of_standard_input_are_shown_before_it_ends() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-observer"));
    let mut child =
        command.args(["replay", "--follow", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    stdin.write_all(&pcap_header(1)).unwrap();
    for (number, (at_ns, segment)) in opened().segments.into_iter().enumerate() {
        let mut record = Vec::new();
        append(&mut record, at_ns, &segment.frame());
        stdin.write_all(&record).unwrap();
        if number == 0 {
            assert_eq!(lines.next().unwrap().unwrap(), "2026-01-01 (UTC)");
        }
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains("Flags [") && line.contains(" | "), "{line}");
    }
    drop(stdin);
    assert!(lines.next().is_none() && child.wait().unwrap().success());
}

#[test]
fn whoever_has_read_enough_ends_it_without_a_complaint() {
    let mut talk = Talk::between("192.0.2.1:40000", "198.51.100.2:443");
    (0..20_000).for_each(|number| _ = talk.client(u64::from(number) * SECOND, SYN, number * 10, 0, 0));
    let path = file(&talk.pcap());
    for format in ["table", "json"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-observer"));
        command.args(["replay", "--follow", "-o", format]).arg(&path);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{format}");
    }
    fs::remove_file(&path).unwrap();
}
