//! Captures that nobody here has made, compared stream by stream with what tshark says of them.
//!
//! They lie beside the checkout, in `../shared/traces`; without them this is skipped. What differs is listed with its
//! reason, and a difference that has gone must leave the list.

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

/// Streams that are not what tshark makes of them: file, stream, reason.
const EXCEPTIONS: &[(&str, usize, &str)] = &[
    ("zeek--tcp--single-rst.pcap", 0, "a lone RST begins no flow"),
    ("tcpdump--tcp_rst_data.pcap", 0, "a lone RST begins no flow, even with data"),
    ("zeek--tcp--syn-then-ack-then-rst.pcap", 0, "a challenge ACK in answer to a SYN is stale: counted, but not here"),
    ("tcpdump--tfo-5c1fa7f9ae91.pcap", 2, "a FIN behind data on a SYN that was not answered is taken for stale"),
    ("zeek--tcp--retransmit-timeout.pcapng", 0, "five minutes of silence end a flow that was never confirmed"),
    ("zeek--ldap--gap-data-missing.pcapng", 0, "one VLAN each way: tags belong to the identity"),
    (
        "tcpdump--timestamp_invalid_nano.pcap",
        0,
        "fractions of more than a second: tshark takes them for negative times",
    ),
];

#[derive(Deserialize)]
struct Expected {
    file: String,
    tshark: Vec<Stream>,
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
}

fn traces() -> PathBuf {
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

/// What differs between a stream and the records of its endpoints.
fn differences(stream: &Stream, flows: &[FlowRecord]) -> Vec<String> {
    let (client, server) = (address(&stream.client), address(&stream.server));
    let found: Vec<_> = flows.iter().filter(|flow| ends(flow) == BTreeSet::from([client, server])).collect();
    let [flow] = found[..] else {
        return vec![format!("{} records", found.len())];
    };
    let mut differences = Vec::new();
    let mut check = |name: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
        let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
        if ours != theirs {
            differences.push(format!("{name}: {ours} here, {theirs} there"));
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
    differences
}

#[test]
fn every_stream_is_what_tshark_makes_of_it() {
    let Ok(expected) = fs::read_to_string(traces().join("expected.jsonl")) else {
        eprintln!("skipped: there are no captures in ../shared/traces beside this checkout");
        return;
    };
    let mut wrong = Vec::new();
    let mut compared = 0;
    for line in expected.lines() {
        let Expected { file, tshark } = serde_json::from_str(line).expect("a line for each file");
        let replay = replay::read(&traces().join(&file), &Options::default()).expect("a capture");
        let flows = replay.into_snapshot().flows;
        for flow in &flows {
            let ends = ends(flow);
            let is_there = tshark.iter().any(|s| BTreeSet::from([address(&s.client), address(&s.server)]) == ends);
            assert!(is_there, "{file}: tshark has no stream between {ends:?}");
        }
        for (index, stream) in tshark.iter().enumerate() {
            compared += 1;
            let differences = differences(stream, &flows);
            let excepted = EXCEPTIONS.iter().any(|&(of, number, _)| (of, number) == (file.as_str(), index));
            if excepted == differences.is_empty() {
                let remark = if excepted { "differs no more".to_owned() } else { differences.join(", ") };
                wrong.push(format!("{file} stream {index}: {remark}"));
            }
        }
    }
    assert!(compared >= 40, "{compared} streams");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
