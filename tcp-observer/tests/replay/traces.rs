//! Captures that nobody here has made, compared stream by stream with what tshark and Zeek say of them.
//!
//! They lie beside the checkout, in `../shared/traces`, or where `TCP_OBSERVER_TRACES` says; without them this is
//! skipped. What differs is listed with its reason, and a difference that has gone must leave the list.
//!
//! Of Zeek's history are left out what takes reassembly or checksums (`g`, `c`), what its scripts add (`x`), and its
//! change of roles (`^`): ours are what they are from the beginning. Where several of Zeek's tests read one capture,
//! with other scripts and other ends, one of their rows has to be ours.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tcp_observer::{
    replay::{self, Options},
    snapshot::{Endpoint, FlowRecord},
};
use tcp_observer_common::conn::{How, Initiator};

/// What is not as it is there: file, tshark's number of the stream, what differs, and why.
const EXCEPTIONS: &[(&str, usize, &str, &str)] = &[
    ("zeek--tcp--single-rst.pcap", 0, "completeness", ONLY),
    ("tcpdump--tcp_rst_data.pcap", 0, "completeness", ONLY),
    ("tcpdump--gso-ipv6.pcap", 0, "completeness", ONLY),
    ("zeek--ftp--ipv6.pcap", 1, "completeness", FTP),
    ("zeek--ftp--ipv6.pcap", 2, "completeness", FTP),
    ("zeek--ftp--ipv6.pcap", 3, "completeness", FTP),
    ("zeek--tcp--syn-then-rst.pcap", 0, "RSTs", SYNS_NUMBER),
    ("zeek--tcp--syn-then-ack-then-rst.pcap", 0, "RSTs", SYNS_NUMBER),
    ("zeek--smtp.pcap", 0, "Zeek", DROPPED),
    ("zeek--smtp.pcap", 2, "Zeek", DROPPED),
    (
        "suricata--smb2-delete.pcap",
        0,
        "initial RTT",
        "the SYN-ACK echoes the timestamp of the first SYN: the time counts from that one, tshark's from the last",
    ),
    (
        "tcpdump--tfo-5c1fa7f9ae91.pcap",
        2,
        "first FIN",
        "an attempt that was given up was no connection yet that somebody could close",
    ),
    (
        "zeek--tcp--retransmit-timeout.pcapng",
        0,
        "records",
        "five minutes of silence end a flow that was never confirmed, as they do in Zeek's default",
    ),
    ("zeek--ldap--gap-data-missing.pcapng", 0, "records", "one VLAN each way: tags belong to the identity"),
    ("tcpdump--timestamp_invalid_nano.pcap", 0, "total", NEGATIVE),
    ("tcpdump--timestamp_invalid_nano.pcap", 0, "SYN-ACK to ACK", NEGATIVE),
    ("tcpdump--timestamp_invalid_nano.pcap", 0, "SYN to SYN-ACK", NEGATIVE),
    ("tcpdump--timestamp_invalid_nano.pcap", 0, "initial RTT", NEGATIVE),
];

const ONLY: &str = "tshark shows the only packet of a stream with what came before it: nothing";
const FTP: &str = "tshark knows of the connection from FTP's control connection, and does not count its SYN";
const DROPPED: &str = "this test of Zeek's drops the packets of connections (NetControl) after the first ones";
const SYNS_NUMBER: &str = "a RST with the SYN's own number, one below what its receiver expects: it is not taken";
const NEGATIVE: &str = "fractions of more than a second: tshark takes them for negative times";

#[derive(Deserialize)]
struct Expected {
    file: String,
    tshark: Vec<Stream>,
    zeek: Vec<Row>,
}

/// A row of Zeek's log of connections. Some of its tests print nothing but how the connection went.
#[derive(Deserialize)]
struct Row {
    #[serde(rename = "id.orig_h")]
    originator_addr: Option<String>,
    #[serde(rename = "id.orig_p")]
    originator_port: Option<String>,
    #[serde(rename = "id.resp_h")]
    responder_addr: Option<String>,
    #[serde(rename = "id.resp_p")]
    responder_port: Option<String>,
    conn_state: String,
    history: String,
}

impl Row {
    /// Originator and responder.
    fn ends(&self) -> Option<[SocketAddr; 2]> {
        let end = |addr: &Option<String>, port: &Option<String>| {
            Some(address(&format!("{}#{}", addr.as_ref()?, port.as_ref()?)))
        };
        Some([end(&self.originator_addr, &self.originator_port)?, end(&self.responder_addr, &self.responder_port)?])
    }

    /// Whether it can be of the stream between these two.
    fn is_between(&self, ends: &BTreeSet<SocketAddr>) -> bool {
        self.ends().is_none_or(|row| BTreeSet::from(row) == *ends)
    }

    /// The row as our record would have it.
    fn text(&self, originator: SocketAddr) -> String {
        let history: String = self.history.chars().filter(|letter| !"^CcGgXx".contains(*letter)).collect();
        let originator = self.ends().map_or(originator, |[originator, _]| originator);
        format!("{originator} {} {history}", self.conn_state)
    }
}

/// What tshark says of a stream. `t_*` are seconds after its first packet.
#[derive(Deserialize)]
struct Stream {
    client: String,
    server: String,
    client_known: bool,
    pkts_c2s: u64,
    pkts_s2c: u64,
    payload_c2s: u64,
    payload_s2c: u64,
    first_ts: String,
    initial_rtt: Option<f64>,
    syn_retrans: u8,
    synack_retrans: u8,
    synack_pkts: u64,
    t_syn: Option<f64>,
    t_synack: Option<f64>,
    t_first_ack: Option<f64>,
    first_fin_sender: Option<String>,
    fin_both: bool,
    rst_senders: Vec<String>,
    completeness: u8,
}

fn traces() -> PathBuf {
    if let Some(path) = std::env::var_os("TCP_OBSERVER_TRACES") {
        return path.into();
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces")
}

fn address(text: &str) -> SocketAddr {
    let (addr, port) = text.split_once('#').expect("address#port");
    SocketAddr::new(addr.parse::<IpAddr>().expect("an address"), port.parse().expect("a port"))
}

fn at(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr, endpoint.port)
}

fn ends(flow: &FlowRecord) -> BTreeSet<SocketAddr> {
    BTreeSet::from([at(&flow.originator), at(&flow.responder)])
}

/// Nanoseconds, of a decimal number of seconds.
fn nanoseconds(seconds: &str) -> u64 {
    let (whole, fraction) = seconds.split_once('.').expect("a decimal point");
    format!("{whole}{fraction:0<9}").parse().expect("digits")
}

/// The same of a difference that JSON has as a binary fraction.
fn is_near(ns: Option<u64>, seconds: f64) -> bool {
    ns.is_some_and(|ns| (ns as f64 - seconds * 1e9).abs() < 2.0)
}

/// What differs between a stream and the records of its endpoints, each by its name.
fn differences(stream: &Stream, rows: &[Row], flows: &[FlowRecord]) -> Vec<(&'static str, String)> {
    let (client, server) = (address(&stream.client), address(&stream.server));
    let found: Vec<_> = flows.iter().filter(|flow| ends(flow) == BTreeSet::from([client, server])).collect();
    let [flow] = found[..] else {
        let words: Vec<_> =
            found.iter().map(|flow| format!("{} {}", flow.conn_state().label(), flow.history)).collect();
        return vec![("records", format!("{} here: {}", found.len(), words.join(", ")))];
    };
    let mut differences = Vec::new();
    let mut check = |name: &'static str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
        let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
        if ours != theirs {
            differences.push((name, format!("{ours} here, {theirs} there")));
        }
    };
    let end = |of: SocketAddr| if at(&flow.originator) == of { &flow.originator } else { &flow.responder };
    if stream.client_known {
        check("originator", &at(&flow.originator), &client);
    }
    check("packets", &[end(client).packets, end(server).packets], &[stream.pkts_c2s, stream.pkts_s2c]);
    check("bytes", &[end(client).bytes, end(server).bytes], &[stream.payload_c2s, stream.payload_s2c]);
    check("first seen", &flow.first_seen_unix_ns, &nanoseconds(&stream.first_ts));
    check(
        "repetitions",
        &[flow.originator.syn_retransmits, flow.responder.syn_retransmits],
        &[stream.syn_retrans, stream.synack_retrans],
    );
    if let (Some(syn), Some(synack), Some(ack)) = (stream.t_syn, stream.t_synack, stream.t_first_ack) {
        let handshake = &flow.handshake;
        check("total", &is_near(handshake.total_ns, ack - syn), &true);
        check("SYN-ACK to ACK", &is_near(handshake.synack_to_ack_ns, ack - synack), &true);
        if stream.syn_retrans == 0 && stream.synack_pkts == 1 {
            check("SYN to SYN-ACK", &is_near(handshake.syn_to_synack_ns, synack - syn), &true);
        }
        // From the last SYN on.
        if let Some(rtt) = stream.initial_rtt {
            let from_last = handshake.syn_to_synack_ns.zip(handshake.synack_to_ack_ns).map(|(a, b)| a + b);
            check("initial RTT", &is_near(from_last, rtt), &true);
        }
    }
    if let Some(sender) = &stream.first_fin_sender {
        let sender = address(sender);
        check("first FIN was seen", &end(sender).fin, &true);
        let initiator = match flow.close.initiator {
            Some(Initiator::Originator) => Some(at(&flow.originator)),
            Some(Initiator::Responder) => Some(at(&flow.responder)),
            // Whoever was first by a hair.
            Some(Initiator::Both) if flow.close.how == Some(How::Simultaneous) => Some(sender),
            _ => None,
        };
        check("first FIN", &initiator, &Some(sender));
    }
    check("both FINs", &(flow.originator.fin && flow.responder.fin), &stream.fin_both);
    let resets = [&flow.originator, &flow.responder].into_iter().filter(|end| end.rst).map(at);
    check(
        "RSTs",
        &resets.collect::<BTreeSet<_>>(),
        &stream.rst_senders.iter().map(|sender| address(sender)).collect::<BTreeSet<_>>(),
    );
    check("completeness", &flow.completeness, &stream.completeness);
    let originator = at(&flow.originator);
    let ours = format!("{originator} {} {}", flow.conn_state().label(), flow.history);
    let theirs: BTreeSet<_> =
        rows.iter().filter(|row| row.is_between(&ends(flow))).map(|row| row.text(originator)).collect();
    if !theirs.is_empty() && !theirs.contains(&ours) {
        check("Zeek", &ours, &theirs);
    }
    differences
}

#[test]
fn every_stream_is_what_tshark_and_zeek_make_of_it() {
    let Ok(expected) = fs::read_to_string(traces().join("expected.jsonl")) else {
        eprintln!("skipped: there are no captures in ../shared/traces beside this checkout");
        return;
    };
    let mut wrong = Vec::new();
    let (mut compared, mut with_zeek) = (0, 0);
    for line in expected.lines() {
        let Expected { file, tshark, zeek } = serde_json::from_str(line).expect("a line for each file");
        let replay = replay::read(&traces().join(&file), &Options::default()).expect("a capture");
        let flows = replay.into_snapshot().flows;
        let streams: Vec<_> = tshark.iter().map(|s| BTreeSet::from([address(&s.client), address(&s.server)])).collect();
        for flow in &flows {
            assert!(streams.contains(&ends(flow)), "{file}: tshark has no stream between {:?}", ends(flow));
        }
        for row in &zeek {
            let is_there = streams.iter().any(|ends| row.is_between(ends));
            assert!(is_there, "{file}: tshark has no stream of Zeek's {:?}", row.ends());
            assert!(row.ends().is_some() || streams.len() == 1, "{file}: a row without addresses is of any stream");
        }
        for (index, stream) in tshark.iter().enumerate() {
            compared += 1;
            with_zeek += usize::from(zeek.iter().any(|row| row.is_between(&streams[index])));
            let differences = differences(stream, &zeek, &flows);
            let excepted: Vec<_> = (EXCEPTIONS.iter())
                .filter(|&&(of, number, _, _)| (of, number) == (file.as_str(), index))
                .map(|&(_, _, what, _)| what)
                .collect();
            for (what, how) in &differences {
                if !excepted.contains(what) {
                    wrong.push(format!("{file} stream {index}: {what}: {how}"));
                }
            }
            for what in excepted {
                if !differences.iter().any(|&(name, _)| name == what) {
                    wrong.push(format!("{file} stream {index}: {what}: differs no more"));
                }
            }
        }
    }
    assert!(compared >= 40 && with_zeek >= 20, "{compared} streams, {with_zeek} of them with Zeek's word");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
