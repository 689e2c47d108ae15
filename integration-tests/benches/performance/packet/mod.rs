//! What a packet costs: the kernel's own `duration` of test runs, in nanoseconds above an empty program of the same
//! kind, which runs the same frames behind the same generator.
//!
//! The programs are those of agents that were started as anybody starts them and stand still meanwhile (SIGSTOP). Flows
//! get into their tables as frames; no table is touched otherwise. Rounds of all cases alternate, pinned to one CPU.

mod apart;
mod case;
mod cases;
mod connection;
mod reference;
mod scene;
mod side;
mod size;

pub use self::{
    case::Case,
    case::Three,
    cases::{at_random, new_flows},
    side::Side,
    size::Size,
};

use integration_tests::{cpu, pair::Pair};

use self::scene::Scene;
use crate::{arguments::Arguments, figure::Figure, progress};

pub const PART: &str = "packet";

pub fn measure(arguments: &Arguments) -> Vec<Figure> {
    cpu::stay_on(0);
    let sizes: &[Size] = if arguments.short { &Size::SHORT } else { &Size::ALL };
    let mut figures = Vec::new();
    for size in sizes {
        let pairs = [Pair::new(), Pair::new()];
        let mut scene = Scene::new(&pairs, size);
        for round in 0..size.rounds {
            progress::show(&format!("packet: {} flows, round {} of {}", size.flows, round + 1, size.rounds));
            scene.round();
        }
        scene.fill_half_open();
        for _ in 0..size.rounds {
            scene.full_round();
        }
        progress::done();
        scene.check();
        figures.extend(scene.figures());
    }
    cpu::stay_anywhere();
    figures
}
