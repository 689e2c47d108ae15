//! The flags that say which flows are shown: shared by the commands that show any.

use std::time::Duration;

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use tcp_observer_common::conn::{Locality, Note, Phase};

use crate::{
    filter::{Filter, Prefix, StateSet},
    order::Order,
    selection::Selection,
    snapshot::{ConnState, notable},
};

/// The flags by the names that clap knows them by: for a command that shows flows or something else.
pub const FLAGS: [&str; 11] = [
    "states",
    "phases",
    "roles",
    "ports",
    "addrs",
    "interfaces",
    "notes",
    "conn_states",
    "older_than",
    "sort",
    "limit",
];

/// Those that go by what a flow is at one moment, or by all flows: nothing that happens to a flow can be chosen so.
pub const FLAGS_OF_A_MOMENT: [&str; 5] = ["states", "phases", "interfaces", "older_than", "sort"];

/// Values of one flag are alternatives, flags combine with and.
#[derive(Args, Debug)]
#[command(next_help_heading = "Which flows")]
pub struct SelectArgs {
    /// State of the local endpoint (of either, where neither or both are local): established, time_wait, …, or ss's
    /// names and groups: estab, syn-recv, connected, synchronized, bucket, big
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    states: Vec<StateSet>,

    /// Where the whole flow stands
    #[arg(long = "phase", value_name = "PHASE", value_delimiter = ',', value_parser = words(Phase::ALL.iter().copied(), Phase::label))]
    phases: Vec<Phase>,

    /// What this host is to the flow
    #[arg(
        long = "role",
        value_name = "ROLE",
        value_delimiter = ',',
        value_parser = words(Locality::ALL.iter().copied(), Locality::label)
    )]
    roles: Vec<Locality>,

    /// Port of either endpoint
    #[arg(long = "port", value_name = "PORT", value_delimiter = ',')]
    ports: Vec<u16>,

    /// Address of either endpoint, or a prefix that it is in
    #[arg(long = "addr", value_name = "CIDR", value_delimiter = ',')]
    addrs: Vec<Prefix>,

    /// Interface that first saw the flow
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,

    /// Recognised in the flow: keepalive, zero_window, time_wait_reused, … (a wrong one is answered with all of them)
    #[arg(
        long = "note",
        value_name = "LABEL",
        value_delimiter = ',',
        hide_possible_values = true,
        value_parser = words(notable(), Note::label)
    )]
    notes: Vec<Note>,

    /// How the connection went, in Zeek's words
    #[arg(
        long = "conn-state",
        value_name = "STATE",
        value_delimiter = ',',
        ignore_case = true,
        value_parser = words(ConnState::ALL, ConnState::label)
    )]
    conn_states: Vec<ConnState>,

    /// First seen at least so long ago: 90s, 5m, 2h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,

    /// What comes first. Default: first-seen
    #[arg(long, value_enum)]
    sort: Option<Order>,

    /// Show at most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl SelectArgs {
    /// Whether a flow can be shown without knowing those that end after it: in no order, and whatever time it is then.
    pub fn takes_one_at_a_time(&self) -> bool {
        self.sort.is_none() && self.older_than.is_none()
    }
}

impl From<SelectArgs> for Selection {
    fn from(args: SelectArgs) -> Self {
        let filter = Filter {
            states: args.states,
            phases: args.phases,
            roles: args.roles,
            ports: args.ports,
            addrs: args.addrs,
            interfaces: args.interfaces,
            notes: args.notes,
            conn_states: args.conn_states,
            older_than: args.older_than,
        };
        Self { filter, order: args.sort.unwrap_or_default(), limit: args.limit }
    }
}

/// Takes one of the words that records use for these values, with hyphens if one prefers.
fn words<T: Copy + Send + Sync + 'static>(
    all: impl IntoIterator<Item = T>,
    label: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let all: Vec<_> = all.into_iter().collect();
    let word = |&value: &T| PossibleValue::new(label(value)).alias(label(value).replace('_', "-"));
    PossibleValuesParser::new(all.iter().map(word).collect::<Vec<_>>()).try_map(move |typed| {
        // Whether case matters has been seen to.
        let meant = typed.replace('-', "_");
        all.iter().copied().find(|&value| label(value).eq_ignore_ascii_case(&meant)).ok_or("no such value")
    })
}
