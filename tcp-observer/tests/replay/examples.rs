//! The tutorial's captures, `docs/examples/*.pcap`: exchanges written out by hand.
//!
//! They are committed, so that a reader can run every command, and a test holds them to what is built here.
//! `UPDATE_EXAMPLES=1 cargo test -p tcp-observer --test replay examples` writes them anew.

use std::{env, fs, path::PathBuf};

use crate::packets::{ACK, FIN, MICROSECOND, PSH, RST, SECOND, SYN, Talk};

const MILLISECOND: u64 = 1_000 * MICROSECOND;
const HOUR: u64 = 3_600 * SECOND;
const CLIENT: &str = "192.0.2.10:40000";
/// The client's next connection.
const CLIENT_AGAIN: &str = "192.0.2.10:40001";
const SERVER: &str = "198.51.100.20:80";
/// The initial sequence numbers of both, where nothing else is said.
const C: u32 = 1_000_000;
const S: u32 = 5_000_000;
const NINE: u64 = 9 * HOUR;

pub const NAMES: [&str; 10] = [
    "1-handshake",
    "2-loopback",
    "3-four-way-close",
    "4-lost-synack",
    "5-stale-syn",
    "6-lost-last-ack",
    "7-half-close",
    "8-keepalive",
    "8-heartbeat",
    "9-accept-queue",
];

/// The talks of an example, all times from midnight on.
fn talks(name: &str) -> Vec<Talk> {
    match name {
        "1-handshake" => vec![handshake()],
        "2-loopback" => vec![loopback()],
        "3-four-way-close" => vec![four_way_close()],
        "4-lost-synack" => vec![lost_synack(), opened(NINE + 70 * SECOND, CLIENT_AGAIN)],
        "5-stale-syn" => vec![stale_syn()],
        "6-lost-last-ack" => vec![lost_last_ack(), opened(NINE + 70 * SECOND, CLIENT_AGAIN)],
        "7-half-close" => vec![half_close()],
        "8-keepalive" => vec![keepalive()],
        "8-heartbeat" => vec![heartbeat()],
        "9-accept-queue" => vec![accept_queue()],
        _ => panic!("no example {name}"),
    }
}

fn handshake() -> Talk {
    let (client, server) = (3_626_544_836, 1_739_326_486);
    let mut talk = Talk::between("192.168.1.116:3337", "192.168.1.123:7788");
    talk.client(NINE, SYN, client, 0, 0);
    talk.server(NINE + 350 * MICROSECOND, SYN | ACK, server, client + 1, 0);
    talk.client(NINE + 480 * MICROSECOND, ACK, client + 1, server + 1, 0);
    talk
}

fn loopback() -> Talk {
    let (client, server) = (2_927_179_378, 1_721_825_043);
    let at = |minute: u64, second: u64, micros: u64| 14 * HOUR + (minute * 60 + second) * SECOND + micros * MICROSECOND;
    let mut talk = Talk::between("127.0.0.1:39870", "127.0.0.1:9502");
    talk.client(at(12, 45, 104_687), SYN, client, 0, 0);
    talk.server(at(12, 45, 104_701), SYN | ACK, server, client + 1, 0);
    talk.client(at(12, 45, 104_711), ACK, client + 1, server + 1, 0);
    talk.client(at(13, 1, 415_407), PSH | ACK, client + 1, server + 1, 7);
    talk.server(at(13, 1, 415_432), ACK, server + 1, client + 8, 0);
    talk.server(at(13, 1, 415_747), PSH | ACK, server + 1, client + 8, 18);
    talk.client(at(13, 1, 415_757), ACK, client + 8, server + 19, 0);
    talk
}

/// A handshake of 20 ms, of which the server takes 40 µs: captured at the server.
fn opened(at: u64, client: &str) -> Talk {
    let mut talk = Talk::between(client, SERVER);
    talk.client(at, SYN, C, 0, 0);
    talk.server(at + 40 * MICROSECOND, SYN | ACK, S, C + 1, 0);
    talk.client(at + 20 * MILLISECOND, ACK, C + 1, S + 1, 0);
    talk
}

fn four_way_close() -> Talk {
    let mut talk = Talk::between("192.0.2.10:55389", SERVER);
    talk.client(NINE, SYN, C, 0, 0).server(NINE + 40 * MICROSECOND, SYN | ACK, S, C + 1, 0);
    let at = |millis: u64| NINE + millis * MILLISECOND;
    talk.client(at(20), ACK, C + 1, S + 1, 0).client(at(21), PSH | ACK, C + 1, S + 1, 557);
    talk.server(at(22), ACK, S + 1, C + 558, 1460).server(at(22) + 9 * MICROSECOND, PSH | ACK, S + 1461, C + 558, 984);
    talk.client(at(42), ACK, C + 558, S + 2445, 0);
    talk.server(at(1000), FIN | ACK, S + 2445, C + 558, 0).client(at(1020), ACK, C + 558, S + 2446, 0);
    talk.client(at(1500), FIN | ACK, C + 558, S + 2446, 0);
    talk.server(at(1500) + 30 * MICROSECOND, ACK, S + 2446, C + 559, 0);
    talk
}

fn lost_synack() -> Talk {
    let mut talk = Talk::between(CLIENT, SERVER);
    talk.client(NINE, SYN, C, 0, 0);
    for seconds in [0, 1, 3, 7, 15, 31] {
        talk.server(NINE + seconds * SECOND + 40 * MICROSECOND, SYN | ACK, S, C + 1, 0);
    }
    talk
}

fn stale_syn() -> Talk {
    let mut talk = opened(NINE, CLIENT);
    let at = |millis: u64| NINE + millis * MILLISECOND;
    talk.client(at(21), PSH | ACK, C + 1, S + 1, 10).server(at(22), ACK, S + 1, C + 11, 0);
    talk.client(at(100), FIN | ACK, C + 11, S + 1, 0);
    talk.server(at(101), FIN | ACK, S + 1, C + 12, 0).client(at(121), ACK, C + 12, S + 2, 0);
    // The client's TIME-WAIT is over; the SYN that it had sent first has been under way all the time.
    let late = NINE + 62 * SECOND;
    talk.client(late, SYN, C, 0, 0).server(late + 40 * MICROSECOND, SYN | ACK, S + 777_777, C + 1, 0);
    talk.client(late + 20 * MILLISECOND, RST, C + 1, 0, 0);
    talk
}

fn lost_last_ack() -> Talk {
    let mut talk = opened(NINE, CLIENT);
    let at = |millis: u64| NINE + millis * MILLISECOND;
    talk.client(at(1000), FIN | ACK, C + 1, S + 1, 0).server(at(1000) + 30 * MICROSECOND, ACK, S + 1, C + 2, 0);
    talk.server(at(1100), FIN | ACK, S + 1, C + 2, 0);
    // Captured at the server, which the client's ACK does not reach.
    talk.server(at(1320), FIN | ACK, S + 1, C + 2, 0).client(at(1340), ACK, C + 2, S + 2, 0);
    talk
}

fn half_close() -> Talk {
    let mut talk = opened(NINE, CLIENT);
    let at = |millis: u64| NINE + millis * MILLISECOND;
    talk.client(at(21), PSH | ACK, C + 1, S + 1, 40).client(at(22), FIN | ACK, C + 41, S + 1, 0);
    talk.server(at(22) + 30 * MICROSECOND, ACK, S + 1, C + 42, 0);
    for round in 0..3_u32 {
        let (then, sent) = (at(1000 + 100 * u64::from(round)), S + 1 + 100 * round);
        talk.server(then, PSH | ACK, sent, C + 42, 100).client(then + 20 * MILLISECOND, ACK, C + 42, sent + 100, 0);
    }
    talk.server(at(1300), FIN | ACK, S + 301, C + 42, 0).client(at(1320), ACK, C + 42, S + 302, 0);
    talk
}

fn keepalive() -> Talk {
    let mut talk = opened(NINE, CLIENT);
    let at = |millis: u64| NINE + millis * MILLISECOND;
    talk.client(at(21), PSH | ACK, C + 1, S + 1, 10).server(at(22), ACK, S + 1, C + 11, 0);
    // Two hours later the server asks, and the client is there.
    let first = at(22) + 2 * HOUR;
    talk.server(first, ACK, S, C + 11, 0).client(first + 20 * MILLISECOND, ACK, C + 11, S + 1, 0);
    // After another two hours it is not.
    let second = first + 20 * MILLISECOND + 2 * HOUR;
    for probe in 0..9 {
        talk.server(second + probe * 75 * SECOND, ACK, S, C + 11, 0);
    }
    talk.server(second + 9 * 75 * SECOND, RST | ACK, S + 1, C + 11, 0);
    talk
}

fn heartbeat() -> Talk {
    let mut talk = opened(NINE, CLIENT);
    for beat in 0..6_u32 {
        let (then, sent, answered) = (NINE + u64::from(beat + 1) * 30 * SECOND, C + 1 + 4 * beat, S + 1 + 4 * beat);
        talk.client(then, PSH | ACK, sent, answered, 4);
        talk.server(then + MILLISECOND, PSH | ACK, answered, sent + 4, 4);
        talk.client(then + 21 * MILLISECOND, ACK, sent + 4, answered + 4, 0);
    }
    talk
}

fn accept_queue() -> Talk {
    let mut talk = opened(NINE, CLIENT);
    let at = |millis: u64| NINE + millis * MILLISECOND;
    // The server has dropped the ACK: it does not know of the connection to which this belongs, either.
    talk.client(at(21), PSH | ACK, C + 1, S + 1, 120).client(at(241), PSH | ACK, C + 1, S + 1, 120);
    talk.client(at(661), PSH | ACK, C + 1, S + 1, 120);
    talk.server(at(1040), SYN | ACK, S, C + 1, 0).client(at(1060), ACK, C + 121, S + 1, 0);
    // By now there is room.
    talk.client(at(1501), PSH | ACK, C + 1, S + 1, 120).server(at(1502), ACK, S + 1, C + 121, 0);
    talk
}

/// The file: pcap in microseconds.
pub fn pcap(name: &str) -> Vec<u8> {
    let mut segments: Vec<_> = talks(name).into_iter().flat_map(|talk| talk.segments).collect();
    segments.sort_by_key(|(at_ns, _)| *at_ns);
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
    for (at_ns, segment) in segments {
        let frame = segment.frame();
        let length = frame.len() as u32;
        for word in [(at_ns / SECOND) as u32, (at_ns % SECOND / MICROSECOND) as u32, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// Where the repository is.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

pub fn path(name: &str) -> PathBuf {
    root().join("docs/examples").join(format!("{name}.pcap"))
}

#[test]
fn the_committed_captures_are_those_built_here() {
    let is_update = env::var_os("UPDATE_EXAMPLES").is_some();
    for name in NAMES {
        let (path, built) = (path(name), pcap(name));
        if is_update {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &built).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap_or_default(), built, "{}", path.display());
    }
    let committed = fs::read_dir(root().join("docs/examples")).unwrap().count();
    assert_eq!(committed, NAMES.len(), "a capture that nothing here builds");
}
