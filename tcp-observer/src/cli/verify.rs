//! The arguments of `verify`.

use std::time::Duration;

use clap::Args;

use super::PinArgs;
use crate::{
    filter::{Filter, Prefix, StateSet},
    output::verify::{Format, Shown},
    verify::Tries,
};

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// How the comparison is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,

    /// How often a difference has to be found, each time the same, before it counts
    #[arg(long, value_name = "N", default_value_t = Tries::default().count, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,

    /// The time from one try to the next
    #[arg(long, value_name = "DURATION", default_value = "250ms", value_parser = humantime::parse_duration)]
    interval: Duration,

    /// Show the ends that differ for a known reason, too
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    pub pins: PinArgs,

    // Last, since its heading holds for what follows.
    #[command(flatten)]
    ends: EndArgs,
}

/// Values of one flag are alternatives, flags combine with and.
#[derive(Args, Debug)]
#[command(next_help_heading = "Which local ends")]
struct EndArgs {
    /// State of the socket, or of the flow's end: established, time_wait, …, or ss's names and groups
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    states: Vec<StateSet>,

    /// Port of either end
    #[arg(long = "port", value_name = "PORT", value_delimiter = ',')]
    ports: Vec<u16>,

    /// Address of either end, or a prefix that it is in
    #[arg(long = "addr", value_name = "CIDR", value_delimiter = ',')]
    addrs: Vec<Prefix>,

    /// Show at most so many; the counts are of all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl VerifyArgs {
    pub fn tries(&self) -> Tries {
        Tries { count: self.tries, interval: self.interval }
    }

    pub fn shown(&self) -> Shown {
        Shown { excepted: self.all, limit: self.ends.limit }
    }

    pub fn filter(&self) -> Filter {
        Filter {
            states: self.ends.states.clone(),
            ports: self.ends.ports.clone(),
            addrs: self.ends.addrs.clone(),
            ..Filter::default()
        }
    }
}
