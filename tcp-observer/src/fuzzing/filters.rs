//! What might be typed: arguments of `replay` and of `run`, a word on each line, and each word as every kind of value
//! that a flag takes.

use std::net::IpAddr;

use clap::Parser as _;
use ipnet::IpNet;
use tcp_observer_common::conn::{Locality, State};

use crate::{
    cli::{self, Cli, Command},
    filter::{Filter, Prefix, StateSet},
    selection::Selection,
    snapshot::{FlowRecord, Snapshot, fixture},
};

/// # Panics
/// Where a word means something else than it says, or a selection shows what it excludes.
pub fn filters(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let words: Vec<_> = text.split('\n').take(12).collect();
    words.iter().for_each(|word| values(word));
    let typed = ["tcp-observer", "replay", "a.pcap"].iter().chain(&words);
    if let Ok(Cli { command: Command::Replay(args) }) = Cli::try_parse_from(typed) {
        // Refusals are errors, not panics.
        let _ = (args.inputs(), args.summary_format(), args.follow_format());
        select(args.select.into());
    }
    if let Err(error) = Cli::try_parse_from(["tcp-observer", "run"].iter().chain(&words)) {
        assert!(!error.to_string().is_empty());
    }
}

/// One word as a state, an address, a level.
fn values(word: &str) {
    if let Ok(set) = word.parse::<StateSet>() {
        // However it is spelt.
        let others = [word.to_ascii_uppercase(), word.to_ascii_lowercase(), word.replace('_', "-")];
        for other in others {
            assert_eq!(other.parse(), Ok(set), "{word:?} and {other:?}");
        }
    }
    if let Ok(Prefix(prefix)) = word.parse::<Prefix>() {
        assert_eq!(prefix.to_string().parse(), Ok(Prefix(prefix)), "{word:?}");
        for flow in flows() {
            let ends = [&flow.originator, &flow.responder].map(|end| end.addr);
            let filter = Filter { addrs: vec![Prefix(prefix)], ..Filter::default() };
            let expected = ends.iter().any(|&addr| is_in(addr, prefix));
            assert_eq!(filter.matches(&flow, fixture::TAKEN_UNIX_NS), expected, "{word:?} and {ends:?}");
        }
    }
    let _ = cli::log_targets(word);
}

/// By the bits.
fn is_in(addr: IpAddr, prefix: IpNet) -> bool {
    let bits = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => (32, u128::from(addr.to_bits())),
        IpAddr::V6(addr) => (128, addr.to_bits()),
    };
    let ((width, addr), (other_width, net)) = (bits(addr), bits(prefix.addr()));
    let shift = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
    width == other_width && (shift == 128 || addr >> shift == net >> shift)
}

/// A flow in each state, and one of which a side is not known.
fn flows() -> Vec<FlowRecord> {
    let mut flows = Vec::new();
    let roles = [Some(Locality::Client), Some(Locality::Server), Some(Locality::Loopback), None];
    for (n, &state) in State::ALL.iter().enumerate() {
        let (originator, responder) = if n % 2 == 0 {
            (format!("198.51.100.{n}:{}", 40_000 + n), "192.0.2.1:443".to_owned())
        } else {
            (format!("[2001:db8::{n}]:{}", 40_000 + n), "[2001:db8:1::1]:22".to_owned())
        };
        let mut flow = fixture::flow(&originator, &responder, roles[n % 4]);
        flow.originator.state = (state != State::Unknown).then_some(state);
        flow.originator.bytes = (n as u64) << (n * 4);
        flows.push(flow);
    }
    flows
}

/// What is shown is asked for, what is not shown is not, and a limit cuts the end off.
fn select(selection: Selection) {
    let snapshot = Snapshot { flows: flows(), ..fixture::empty() };
    let now_unix_ns = snapshot.taken_unix_ns;
    let shown = selection.of(&snapshot);
    let matching = snapshot.flows.iter().filter(|flow| selection.filter.matches(flow, now_unix_ns)).count();
    assert_eq!(shown.len(), matching.min(selection.limit.unwrap_or(usize::MAX)));
    assert!(shown.iter().all(|flow| selection.filter.matches(flow, now_unix_ns)));
    let all = Selection { limit: None, ..selection.clone() };
    let all = all.of(&snapshot);
    assert!(all.iter().zip(&shown).all(|(one, other)| std::ptr::eq(*one, *other)), "a limit changes the order");
}
