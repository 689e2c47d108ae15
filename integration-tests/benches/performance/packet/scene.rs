//! Tables of one size: two agents, one for each way in, with as many established flows; and all cases on them.

use integration_tests::{
    pair::{Family, Pair},
    synthetic::Hook,
};

use super::{
    case::Case,
    cases,
    connection::Connections,
    side::Side,
    size::{MAX_FLOWS, MAX_HALF_OPEN, Size},
};
use crate::figure::Figure;

pub struct Scene<'n> {
    sides: Vec<Side<'n>>,
    cases: Vec<Case>,
    connections: Vec<Connections>,
    full: Vec<Case>,
}

impl<'n> Scene<'n> {
    pub fn new(pairs: &'n [Pair; 2], size: &Size) -> Self {
        let [xdp, tc] = pairs;
        let sides = vec![Side::start(xdp, Hook::XdpIngress, size), Side::start(tc, Hook::TcIngress, size)];
        let mut scene = Self { sides, cases: Vec::new(), connections: Vec::new(), full: Vec::new() };
        for side in &scene.sides {
            side.subject.stand_still();
            for family in Family::BOTH {
                side.fill(family, size);
                // What leaves is the same with either way in.
                let hooks: &[_] = match side.subject.ingress {
                    Hook::TcIngress => &[Hook::TcIngress, Hook::TcEgress],
                    _ => &[Hook::XdpIngress],
                };
                for &hook in hooks {
                    scene.cases.extend(size.hot.then(|| cases::hot(side, hook, family)).into_iter().flatten());
                    scene.cases.push(cases::at_random(side, hook, family, size));
                }
                if size.new {
                    scene.cases.push(cases::new_flows(side, family, size));
                    scene.full.push(cases::refused(side, family, size));
                    scene.connections.push(Connections::new(side, family, size.flows));
                }
            }
        }
        scene
    }

    pub fn round(&mut self) {
        self.cases.iter_mut().for_each(Case::round);
        self.connections.iter_mut().for_each(Connections::round);
    }

    /// Shows the agents more new flows than their half-open tables take.
    pub fn fill_half_open(&mut self) {
        for case in &mut self.full {
            case.lanes.ours.run(&case.frame, MAX_HALF_OPEN / 4 * 5);
            case.lanes.reference.run(&case.frame, (MAX_FLOWS + MAX_HALF_OPEN) / 4 * 5);
        }
    }

    pub fn full_round(&mut self) {
        self.full.iter_mut().for_each(Case::round);
    }

    /// Whether agents and references have seen what was measured: connections that closed, and nothing that was skipped
    /// but for want of room.
    ///
    /// # Panics
    /// When they have not.
    pub fn check(&self) {
        for side in &self.sides {
            side.subject.go_on();
            side.check(&Family::BOTH);
            let metrics = side.subject.agent.metrics();
            let own = self.connections.iter().filter(|one| one.ingress() == side.subject.ingress);
            let closed = metrics.count("closes_total", &[("how", "fin")]);
            assert_eq!(closed, own.map(Connections::count).sum::<u64>(), "connections closed");
        }
    }

    pub fn figures(&self) -> Vec<Figure> {
        let mut figures: Vec<_> = self.cases.iter().chain(&self.full).map(Case::figure).collect();
        figures.extend(self.connections.iter().flat_map(Connections::figures));
        figures
    }
}
