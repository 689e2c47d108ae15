//! Memory: what the tables will take, and what they take.

use aya::maps::{MapInfo, loaded_maps};
use integration_tests::{process::map_bytes, synthetic::Subject};
use tcp_observer_common::abi::map;

use super::PART;
use crate::{
    figure::{Figure, Unit},
    packet::Size,
};

/// Roughly, of a flow in the tables of both families, and in those of the reference; each is made for as many.
const BYTES_OF_A_FLOW: u64 = 2 * 350 + 2 * 180;
/// For everything else.
const SPARE: u64 = 2 << 30;

pub fn needed(size: &Size) -> u64 {
    u64::from(size.max_flows + size.max_half_open) * BYTES_OF_A_FLOW + SPARE
}

/// What the kernel says that the table of IPv4 flows takes, its entries and tags, for each flow that it was asked to hold and for each place.
pub fn of_tables(subject: &Subject<'_>, size: &Size) -> Vec<Figure> {
    let maps = map_bytes(subject.agent.pid());
    let is_the_tables =
        |info: &MapInfo| [map::FLOWS_IPV4, map::FLOWS_IPV4_TAGS].map(Some).contains(&info.name_as_str());
    let infos = loaded_maps().filter_map(Result::ok).filter(is_the_tables);
    let bytes: Vec<_> = infos.filter_map(|info| maps.get(&info.id())).collect();
    assert_eq!(bytes.len(), 2, "the agent has a table of IPv4 flows");
    let bytes = bytes.into_iter().sum::<u64>() as f64;
    let places = subject.agent.metrics().count("table_capacity", &[("table", "flows_ipv4")]) as f64;
    let all = maps.values().sum::<u64>() as f64;
    let figure = |name: &str, unit, value| Figure::of(PART, name, unit, vec![value]).with_flows(size.flows.into());
    vec![
        figure("table of IPv4 flows, for each that it is made for", Unit::Bytes, bytes / f64::from(size.max_flows)),
        figure("table of IPv4 flows, for each place", Unit::Bytes, bytes / places),
        figure("all maps of the agent", Unit::Mebibytes, all / 1024.0 / 1024.0),
    ]
}
