//! Where captures come from: several files as one, standard input, gzip; and what is said when one of them is broken.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use flate2::{Compression, write::GzEncoder};

use crate::{
    command::text,
    packets::{ACK, PSH, SECOND, SYN, Talk, file},
};

/// Half a connection each: the handshake, and what follows it.
fn halves() -> [Vec<u8>; 2] {
    let mut handshake = Talk::between("192.0.2.1:40000", "198.51.100.2:443");
    handshake.client(0, SYN, 100, 0, 0).server(14_000, SYN | ACK, 500, 101, 0).client(24_000, ACK, 101, 501, 0);
    let mut data = Talk::between("192.0.2.1:40000", "198.51.100.2:443");
    data.client(SECOND, PSH | ACK, 101, 501, 9).server(2 * SECOND, PSH | ACK, 501, 110, 5);
    [handshake.pcap(), data.pcap()]
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A pcapng section with an Ethernet interface and nothing else.
fn empty_pcapng() -> Vec<u8> {
    let words = [0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28, 1, 20, 1, 0, 20];
    words.map(u32::to_le_bytes).concat()
}

/// Replays files with these contents, `-` for none, with this on standard input. Files are named `{0}` and so on where
/// messages are compared.
fn replay(contents: &[Option<&[u8]>], stdin: &[u8], arguments: &[&str]) -> (Output, String) {
    let paths: Vec<_> = contents.iter().map(|content| content.map_or_else(|| PathBuf::from("-"), file)).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-observer"));
    command.arg("replay").args(&paths).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("our program");
    // Small enough for the pipe to hold all of it.
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    let mut stderr = text(&output.stderr);
    for (index, path) in paths.iter().enumerate().filter(|(_, path)| path.as_os_str() != "-") {
        stderr = stderr.replace(&path.display().to_string(), &format!("{{{index}}}"));
        let _ = fs::remove_file(path);
    }
    (output, stderr)
}

/// All of the connection and nothing else.
fn assert_is_whole(output: &Output) {
    let stdout = text(&output.stdout);
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    for field in ["\"outcome\":\"completed\"", "\"syn_to_synack_seconds\":0.000014", "\"bytes\":9", "\"bytes\":5"] {
        assert!(stdout.contains(field), "{field} in {stdout}");
    }
}

#[test]
fn several_files_are_read_as_one_capture_in_the_order_given() {
    let [handshake, data] = halves();
    let (output, stderr) = replay(&[Some(&handshake), Some(&data)], b"", &["-o", "json"]);
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    assert_is_whole(&output);
    // Formats and packing may differ, and a file may be empty.
    let packed = gzip(&data);
    let (output, stderr) =
        replay(&[Some(&handshake), Some(&empty_pcapng()), Some(&packed)], b"", &["-o", "json", "--sort", "bytes"]);
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    assert_is_whole(&output);
}

#[test]
fn standard_input_is_an_input_among_others_packed_or_not() {
    let [handshake, data] = halves();
    for stdin in [data.clone(), gzip(&data)] {
        let (output, stderr) = replay(&[Some(&handshake), None], &stdin, &["-o", "json"]);
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
        assert_is_whole(&output);
    }
    let (output, stderr) = replay(&[None], b"hello, world", &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(stderr.contains("standard input is no pcap"), "{stderr}");
    assert_eq!(replay(&[None, None], b"", &[]).0.status.code(), Some(2));
    let (output, stderr) = replay(&[None], &handshake[..handshake.len() - 1], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("standard input: the file ends within the record at byte 164"), "{stderr}");
}

#[test]
fn all_members_of_a_packed_file_are_read() {
    let [handshake, data] = halves();
    let joined = [&handshake[..], &data[24..]].concat();
    let members: Vec<u8> = joined.chunks(33).flat_map(gzip).collect();
    let (output, stderr) = replay(&[Some(&members)], b"", &["-o", "json"]);
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    assert_is_whole(&output);
}

#[test]
fn torn_gzip_is_analysed_up_to_the_fault_and_the_next_file_is_read() {
    let [handshake, data] = halves();
    let mut torn = gzip(&handshake);
    // The checksum is missing: all of the packets are there.
    torn.truncate(torn.len() - 8);
    let (output, stderr) = replay(&[Some(&torn), Some(&data)], b"", &["-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let remark = format!("`{{0}}`: its gzip stream is cut off at byte {}; what came before it", torn.len());
    assert!(stderr.contains(&remark), "{stderr}");
    assert_is_whole(&output);
}

#[test]
fn every_prefix_of_a_packed_capture_is_named_as_torn_and_none_is_lost_before_that() {
    let [handshake, _] = halves();
    // One member for each record, so that it shows what was read.
    let mut members = gzip(&handshake[..24]);
    let record_bytes = (handshake.len() - 24) / 3;
    let mut ends = Vec::new();
    for record in handshake[24..].chunks(record_bytes) {
        members.extend(gzip(record));
        ends.push(members.len());
    }
    for length in (gzip(&handshake[..24]).len() + 1..members.len()).step_by(7) {
        let (output, stderr) = replay(&[Some(&members[..length])], b"", &["-o", "json"]);
        let stdout = text(&output.stdout);
        let is_torn = !ends.contains(&length);
        assert_eq!(output.status.code(), Some(i32::from(is_torn)), "{length}: {stderr}");
        assert_eq!(stderr.contains("is cut off at byte"), is_torn, "{length}: {stderr}");
        // All but the checksum and the length, of four bytes each, is enough for the packet.
        assert_eq!(stdout.contains("\"packets\":1"), ends[0] <= length + 8, "{length}: {stdout} {stderr}");
    }
}

#[test]
fn damaged_gzip_is_named_with_its_offset() {
    let [handshake, _] = halves();
    let mut damaged = [gzip(&handshake), b"this is no member of it".to_vec()].concat();
    let (output, stderr) = replay(&[Some(&damaged)], b"", &["-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("`{0}`: its gzip stream is corrupt at byte"), "{stderr}");
    assert!(text(&output.stdout).contains("\"outcome\":\"completed\""));
    // Its checksum.
    let end = gzip(&handshake).len();
    damaged.truncate(end);
    damaged[end - 5] ^= 1;
    let (output, stderr) = replay(&[Some(&damaged)], b"", &["-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("its gzip stream is corrupt"), "{stderr}");
}

#[test]
fn corrupt_file_between_others_is_named_and_the_others_are_read() {
    let [handshake, data] = halves();
    let mut corrupt = Talk::between("192.0.2.9:1", "192.0.2.9:2").pcap();
    corrupt.extend([0; 8]);
    corrupt.extend([0xff; 8]);
    for format in ["json", "table", "csv"] {
        let (output, stderr) = replay(&[Some(&handshake), Some(&corrupt), Some(&data)], b"", &["-o", format]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains("`{1}`: the record at byte 24 is corrupt"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        if format == "json" {
            assert_is_whole(&output);
        }
    }
}

#[test]
fn every_file_that_cannot_be_read_is_named_and_the_rest_is_shown() {
    let [handshake, data] = halves();
    let (output, stderr) = replay(
        &[Some(&handshake), Some(b"hello, world"), Some(&data), Some(&data[..data.len() - 1])],
        b"",
        &["-o", "json", "missing.pcap"],
    );
    assert_eq!(output.status.code(), Some(1));
    let remarks: Vec<_> = stderr.lines().collect();
    assert!(remarks[0].contains("`{1}` is no pcap or pcapng capture"), "{stderr}");
    assert!(remarks[1].contains("`{3}`: the file ends within the record"), "{stderr}");
    assert!(remarks[2].contains("cannot open `missing.pcap`: No such file"), "{stderr}");
    assert_eq!(remarks.len(), 3, "{stderr}");
    assert!(text(&output.stdout).contains("\"outcome\":\"completed\""));
}

#[test]
fn where_nothing_can_be_read_nothing_is_written() {
    for format in ["table", "csv", "json"] {
        let (output, stderr) = replay(&[Some(b"hello, world"), Some(b"")], b"", &["-o", format]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{format}");
        assert_eq!(stderr.lines().count(), 2, "{stderr}");
    }
    let (output, _) = replay(&[Some(b"")], b"", &["--summary"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

#[test]
fn no_progress_is_shown_where_stderr_is_no_terminal() {
    // A second and more goes by before the capture comes.
    let [handshake, _] = halves();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-observer"));
    command.args(["replay", "-", "-o", "json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("our program");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&handshake[..30]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    stdin.write_all(&handshake[30..]).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert!(text(&output.stdout).contains("\"outcome\":\"completed\""));
}
