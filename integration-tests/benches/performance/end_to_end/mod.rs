//! What users of a host notice: real connections between two namespaces, with the agent running on the server's, or
//! with empty programs in the same hooks. Rounds alternate.

mod load;

use integration_tests::{
    agent::Agent,
    pair::{Family, Pair, WIRE},
    synthetic::Hook,
};

use self::load::Done;
pub use self::load::Load;
use crate::{
    arguments::Arguments,
    empty::Empty,
    figure::{Figure, Unit},
    progress,
};

pub const PART: &str = "end-to-end";
/// Room for what is in TIME_WAIT after all rounds.
const MAX_FLOWS: &str = "1000000";

/// The addresses of the connections, and where the agent sees what comes in.
const WAYS: [(Family, Hook); 3] =
    [(Family::V4, Hook::TcIngress), (Family::V6, Hook::TcIngress), (Family::V4, Hook::XdpIngress)];

pub fn measure(arguments: &Arguments) -> Vec<Figure> {
    WAYS.iter().flat_map(|&way| measure_one(arguments, way)).collect()
}

fn measure_one(arguments: &Arguments, (family, ingress): (Family, Hook)) -> Vec<Figure> {
    let rounds = if arguments.short { 5 } else { 11 };
    let (way, flag) = match (family, ingress) {
        (Family::V6, _) => (", IPv6", "tc"),
        (Family::V4, Hook::XdpIngress) => (", XDP", "xdp"),
        (Family::V4, Hook::TcIngress | Hook::TcEgress) => ("", "tc"),
    };
    let [observed, bare] = [Pair::new(), Pair::new()];
    let agent = Agent::start(&observed.server, &["--interface", WIRE, "--ingress", flag, "--max-flows", MAX_FLOWS]);
    let _empty = [ingress, Hook::TcEgress].map(|hook| Empty::attach(&bare, hook));
    let loads = [&observed, &bare].map(|pair| Load::new(pair, family));
    let agents = [Some(agent.pid()), None];
    let [mut short, mut bulk] = [const { [Vec::new(), Vec::new()] }; 2];
    for round in 0..rounds {
        progress::show(&format!("end to end{way}: round {} of {rounds}", round + 1));
        // Who comes first has the caches of the other: each is first in every second round.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for one in order {
            let agent = agents[one];
            short[one].push(load::effort(agent, || loads[one].connect()));
        }
        for one in order {
            let agent = agents[one];
            bulk[one].push(load::effort(agent, || loads[one].send()));
        }
    }
    progress::done();
    let metrics = agent.metrics();
    let attempts = metrics.count("connection_attempts_total", &[("outcome", "completed")]);
    eprintln!("end to end{way}: the agent has counted {attempts} connections, and skipped {:?}", metrics.skipped());
    let figure = |name, unit, done: &[Vec<Done>; 2], value: &dyn Fn(&Done) -> f64| {
        let [ours, empty] = [0, 1].map(|who| done[who].iter().map(value).collect());
        Figure::of(PART, format!("{name}{way}"), unit, ours).beside("empty", empty)
    };
    let rate = |done: &Done| done.amount / done.effort.time.as_secs_f64();
    let micros = |done: &Done| done.effort.cpu.as_secs_f64() * 1e6 / done.amount;
    let millis = |done: &Done| done.effort.cpu.as_secs_f64() * 1e3 / done.amount;
    vec![
        figure("connections", Unit::PerSecond, &short, &rate),
        figure("CPU for a connection, both ends and the agent", Unit::Microseconds, &short, &micros),
        figure("bulk, one connection", Unit::GigabitsPerSecond, &bulk, &rate),
        figure("CPU for a gigabit, both ends and the agent", Unit::Milliseconds, &bulk, &millis),
    ]
}
