//! Floods of segments that belong to no connection, towards a host whose agent has its tables at their default size, or
//! an empty program in the same hook. How many arrive, and what becomes of everything else meanwhile. Generator and
//! receiver share one CPU.

mod meanwhile;
mod rates;

use std::time::Duration;

use integration_tests::{
    pair::{Family, Pair},
    synthetic::{Flood, Hook, Kind, Subject, flows},
    untouched::Untouched,
};

use crate::{
    arguments::Arguments,
    end_to_end::Load,
    figure::{Figure, Unit},
};

pub const PART: &str = "flood";
const MAX_FLOWS: u32 = 262_144;
const MAX_HALF_OPEN: u32 = 65_536;
/// Where all of it happens, counted modulo those there are: where most else of this benchmark does not.
const CPU: usize = 1;
/// SYNs meet both ways in; what the others meet behind them is the same.
const FLOODS: [(Kind, Hook); 6] = [
    (Kind::Syn, Hook::XdpIngress),
    (Kind::Syn, Hook::TcIngress),
    (Kind::Rst, Hook::TcIngress),
    (Kind::Ack, Hook::TcIngress),
    (Kind::Fin, Hook::TcIngress),
    (Kind::Data, Hook::TcIngress),
];

struct Size {
    rounds: usize,
    /// Of each round.
    frames: u32,
    /// Connections that the flood must not push out.
    established: u32,
    /// How long it goes on without a break, with real connections beside it.
    meanwhile: Option<Duration>,
}

const SHORT: Size = Size { rounds: 5, frames: 500_000, established: 10_000, meanwhile: None };
const LONG: Size =
    Size { rounds: 9, frames: 2_000_000, established: 100_000, meanwhile: Some(Duration::from_secs(30)) };

pub fn measure(arguments: &Arguments) -> Vec<Figure> {
    let (floods, size) = if arguments.short { (&FLOODS[..2], SHORT) } else { (&FLOODS[..], LONG) };
    floods.iter().flat_map(|&(kind, hook)| flood(kind, hook, &size)).collect()
}

fn flood(kind: Kind, hook: Hook, size: &Size) -> Vec<Figure> {
    let [ours, bare] = [Pair::new(), Pair::new()];
    let subject = Subject::start(&ours.server, hook, MAX_FLOWS, MAX_HALF_OPEN);
    flows::establish(&subject, Family::V4, flows::ESTABLISHED, size.established);
    let established = || Untouched::established(&subject.agent, &[flows::ESTABLISHED]);
    let before = established();
    let floods = [&ours, &bare].map(|pair| Flood::new(pair, kind));
    let mut figures = rates::measure((kind, hook), [&ours, &bare], &floods, size);
    if let Some(time) = size.meanwhile {
        figures.extend(meanwhile::measure((kind, hook), &subject, &ours, &floods[0], time));
    }
    let after = established();
    let figure = |what, count| figure((kind, hook), what, Unit::Flows, vec![count as f64]);
    figures.push(
        figure("established flows kept", before.count() - before.lost(&after).len())
            .beside("before", vec![before.count() as f64]),
    );
    figures.push(figure("established flows whose record has changed", before.changed(&after).len()));
    figures
}

/// A figure of one flood. Those of SYNs have the names that they have always had.
fn figure((kind, hook): (Kind, Hook), what: &str, unit: Unit, rounds: Vec<f64>) -> Figure {
    let of = if kind == Kind::Syn { String::new() } else { format!(", {}", kind.name()) };
    Figure::of(PART, format!("{what}{of}, {}", hook.program()), unit, rounds)
}
