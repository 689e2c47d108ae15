//! One round: an agent at one end of a wire, a few thousand connections, and the comparison of all accounts of them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    net::{IpAddr, SocketAddr, TcpListener},
    ops::AddAssign,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use integration_tests::{
    agent::Agent,
    capture::Capture,
    cpu,
    link::Quality,
    pair::{Family, WIRE},
    random::Random,
    scene::Side,
    set_state::Account,
    traffic::set_tcp_option,
};

use serde_json::Value;

use crate::{
    compare,
    kinds::{KINDS, Kind, Wants},
    live::{Dumps, Id},
    replayed,
    verified::Verified,
    visit::{Expected, Made, Visit, limit_accepting},
    world::{SERVER_PORTS, World},
};

/// How many scripts run at a time.
const WORKERS: u16 = 64;
/// What repetitions may take after the last script has ended.
const SETTLING: Duration = Duration::from_secs(30);
/// From here on the first may be over, a moment less than the observer's.
const TIME_WAIT: Duration = Duration::from_secs(58);
/// How much of what is wrong a message shows.
const SHOWN: usize = 12;

#[derive(Clone, Copy, Debug)]
pub enum Wire {
    /// A veth pair: what is sent has arrived.
    Near,
    /// Segments are under way for a while.
    Long(Quality),
    /// And some do not arrive, or twice, or late.
    Bad(Quality),
}

pub struct Round {
    pub wire: Wire,
    /// Where the agent is.
    pub side: Side,
    pub connections: usize,
    /// Which CPU carries the traffic.
    pub cpu: usize,
    pub seed: u64,
}

/// What was compared.
#[derive(Default)]
pub struct Found {
    kinds: BTreeMap<&'static str, usize>,
    /// Differences between handshake times, agent's and capture's, in seconds.
    spans: Vec<f64>,
    /// How often a socket said that it changed its state.
    changes: usize,
    /// What packets cannot tell, by what it was.
    exceptions: BTreeMap<&'static str, usize>,
    verified: Verified,
    /// What does not agree, and is no exception.
    disagreements: usize,
}

impl AddAssign for Found {
    fn add_assign(&mut self, other: Self) {
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.spans.extend(other.spans);
        self.changes += other.changes;
        self.verified += other.verified;
        self.disagreements += other.disagreements;
        for (exception, count) in other.exceptions {
            *self.exceptions.entry(exception).or_default() += count;
        }
    }
}

impl Found {
    /// The difference that so large a share of them does not exceed, in seconds.
    fn span_of(&self, share: f64) -> Option<f64> {
        let mut spans = self.spans.clone();
        spans.sort_by(f64::total_cmp);
        spans.get((spans.len() as f64 * share) as usize).copied()
    }

    /// How many records differ as two CPUs in one direction make them differ, of how many.
    pub fn met_on_two_cpus(&self) -> (usize, usize) {
        let met = self.exceptions.get(compare::ONE_DIRECTION_ON_TWO_CPUS).copied().unwrap_or(0);
        (met, self.kinds.values().sum())
    }

    pub const fn disagreements(&self) -> usize {
        self.disagreements
    }

    pub fn median_span(&self) -> Option<Duration> {
        self.span_of(0.5).map(Duration::from_secs_f64)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |share| self.span_of(share).unwrap_or_default() * 1e6;
        let connections: usize = self.kinds.values().sum();
        write!(f, "{connections} connections, {} changes of state, ", self.changes)?;
        write!(f, "{} disagreements; ", self.disagreements)?;
        writeln!(
            f,
            "{} handshake times differ by {:.1} µs (median), {:.1} µs (95 %)",
            self.spans.len(),
            at(0.5),
            at(0.95)
        )?;
        self.kinds.iter().try_for_each(|(kind, count)| writeln!(f, "  {count:6} {kind}"))?;
        self.exceptions.iter().try_for_each(|(exception, count)| writeln!(f, "  {count:6} exceptions: {exception}"))?;
        writeln!(f, "  {} comparisons with the socket table, of {} ends", self.verified.runs, self.verified.compared)?;
        let excepted = self.verified.excepted.iter().filter(|&(_, &count)| count > 0);
        excepted.into_iter().try_for_each(|(why, count)| writeln!(f, "  {count:6} of them differed: {why}"))
    }
}

impl Round {
    /// Runs the round, compares, and says at once what disagrees; `None` where there was too little CPU time to ask the
    /// agent often enough.
    pub fn run(&self) -> Option<Found> {
        let begun = Instant::now();
        let world = World::new(self.wire, self.cpu, self.seed);
        let near = world.near(self.side);
        let local: Vec<IpAddr> = Family::BOTH.iter().flat_map(|&family| world.local(self.side, family)).collect();
        let account = Account::begin(SERVER_PORTS);
        let tables = ["--max-flows", "16384", "--max-half-open", "8192"];
        let agent = Agent::start(near, &[&["--interface", WIRE, "--ingress", "tc"], &tables[..]].concat());
        let mut capture = Capture::start(near, WIRE, "tcp or icmp or icmp6");
        let (made, live, verified) = self.connect(&world, &agent);
        let talked = begun.elapsed();
        let metrics = agent.metrics();
        let path = capture.stop().to_owned();
        let mut changes = account.end();
        changes.retain(|change| world.has(change.local.ip()) || world.has(change.remote.ip()));
        agent.stop();

        let Some(live) = live else {
            eprintln!("{self}: the agent was dumped too seldom, for want of CPU time; once more");
            return None;
        };
        let mut wrong = Vec::new();
        let is_lossy = matches!(self.wire, Wire::Bad(_));
        let courses = replayed::courses(&path, &local, self.side);
        let mut exceptions = BTreeMap::new();
        compare::made_and_recorded(&made, &live, &courses, is_lossy, &mut exceptions, &mut wrong);
        let replayed = replayed::records(&path, &local);
        let spans = compare::live_and_replayed(
            &live,
            &replayed,
            world.has_delay(),
            talked > TIME_WAIT,
            &mut exceptions,
            &mut wrong,
        );
        let held_back =
            compare::courses_and_sockets(&courses, &changes, self.side, is_lossy, &mut exceptions, &mut wrong);
        wrong.extend(verified.wrong_but_for(&held_back));
        compare::counted_and_recorded(&metrics, &live, &replayed, self.side, &mut wrong);
        let mut kinds = BTreeMap::new();
        for made in &made {
            *kinds.entry(made.kind).or_default() += made.expected.len();
        }
        let disagreements = wrong.len();
        let found = Found { kinds, spans, changes: changes.len(), exceptions, verified, disagreements };
        let count: usize = found.kinds.values().sum();
        eprintln!(
            "{:?} seen by the {}, seed {}: {count} connections in {talked:.1?}, {:.1?} in all",
            self.wire,
            self.side.role(),
            self.seed,
            begun.elapsed()
        );
        if disagreements > 0 {
            let shown: String = wrong.iter().take(SHOWN).map(|line| format!("{line}\n")).collect();
            eprintln!("{disagreements} of {count} disagree in {self}:\n{shown}");
        }
        Some(found)
    }

    /// Runs all scripts: what they have made, what the agent says of it, and whether the socket table says the same.
    fn connect(&self, world: &World, agent: &Agent<'_>) -> (Vec<Made>, Option<BTreeMap<Id, Value>>, Verified) {
        let dumps = Dumps::default();
        let visits = Mutex::new(self.visits());
        let made = Mutex::new(Vec::new());
        let over = AtomicBool::new(false);
        let (live, verified) = thread::scope(|scope| {
            let verifying = scope.spawn(|| {
                cpu::stay_on(self.cpu + 1);
                Verified::until(&over, agent)
            });
            let dumping = scope.spawn(|| {
                cpu::stay_on(self.cpu + 1);
                dumps.collect(agent)
            });
            let workers: Vec<_> = (0..WORKERS)
                .map(|number| {
                    let (visits, made, dumps) = (&visits, &made, &dumps);
                    scope.spawn(move || self.work(world, number, dumps, visits, made))
                })
                .collect();
            for worker in workers {
                worker.join().unwrap_or_else(|panic| {
                    dumps.stop();
                    over.store(true, Ordering::Relaxed);
                    std::panic::resume_unwind(panic)
                });
            }
            let settling = Instant::now();
            while !world.alive().is_empty() && settling.elapsed() < SETTLING {
                thread::sleep(Duration::from_millis(100));
            }
            let alive = world.alive();
            assert!(alive.is_empty() || matches!(self.wire, Wire::Bad(_)), "still there: {alive:#?}");
            over.store(true, Ordering::Relaxed);
            let verified = verifying.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            dumps.stop();
            (dumping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), verified)
        });
        let live = Some(live).filter(|_| !dumps.came_too_seldom());
        (made.into_inner().expect("no worker has failed"), live, verified)
    }

    /// Which scripts run, in which order: those that take long first, the others mixed.
    fn visits(&self) -> VecDeque<(&'static Kind, Family)> {
        let has_delay = !matches!(self.wire, Wire::Near);
        let kinds: Vec<_> = KINDS.iter().filter(|kind| has_delay || kind.wants == Wants::Anything).collect();
        let weights: usize = kinds.iter().map(|kind| kind.weight).sum();
        let mut visits = Vec::new();
        for kind in kinds {
            let count = (self.connections * kind.weight).div_ceil(weights).max(2);
            visits.extend((0..count).map(|n| (kind, Family::BOTH[n % 2])));
        }
        let slow = visits.iter().take_while(|(kind, _)| kind.name != "whim").count();
        let mut random = Random::new(self.seed);
        random.shuffle(&mut visits[..slow]);
        random.shuffle(&mut visits[slow..]);
        visits.into()
    }

    fn work(
        &self,
        world: &World,
        number: u16,
        dumps: &Dumps,
        visits: &Mutex<VecDeque<(&'static Kind, Family)>>,
        made: &Mutex<Vec<Made>>,
    ) {
        cpu::stay_on(self.cpu);
        let listeners = Family::BOTH.map(|family| {
            let addr = SocketAddr::new(world.server_ip(family), SERVER_PORTS.start() + number);
            let listener = world.server.within(|| TcpListener::bind(addr)).expect("the port is free");
            set_tcp_option(&listener, libc::TCP_FASTOPEN, 64);
            limit_accepting(&listener);
            listener
        });
        world.client.move_in();
        let mut random = Random::new(self.seed << 16 | u64::from(number));
        loop {
            let Some((kind, family)) = visits.lock().expect("no worker has failed").pop_front() else { return };
            let listener = &listeners[usize::from(family == Family::V6)];
            let random = Random::new(random.word());
            let made_here = Vec::new();
            let mut visit =
                Visit { world, dumps, side: self.side, family, listener, random, kind: kind.name, made: made_here };
            let result: io::Result<()> = (kind.script)(&mut visit);
            let Visit { made: mut made_here, .. } = visit;
            match (result, self.wire) {
                (Ok(()), Wire::Near | Wire::Long(_)) => {}
                (Err(error), Wire::Near | Wire::Long(_)) => panic!("{}: {error}; {made_here:?}", kind.name),
                // What was lost may have changed the course of things.
                (_, Wire::Bad(_)) => {
                    made_here.iter_mut().for_each(|made| made.expected.fill(Expected::UNSURE));
                }
            }
            made.lock().expect("no worker has failed").extend(made_here);
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} seen by the {} with seed {}", self.wire, self.side.role(), self.seed)
    }
}
