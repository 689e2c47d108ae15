//! What goes on while a flood does: connections over the same wire, scrapes, the agent itself; and whether each frame of
//! it was counted.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use integration_tests::{
    cpu, interface,
    metrics::Metrics,
    pair::{Family, Pair, WIRE},
    process::Held,
    synthetic::{Flood, Hook, Kind, Subject},
    traffic::{Connection, Listener},
    untouched::Untouched,
};

use super::{CPU, Load, figure};
use crate::{
    effort,
    figure::{Figure, Unit},
    progress,
};

/// Connections of real sockets that keep silent.
const HELD: usize = 100;
const PORT: u16 = 7_200;
/// Frames that are sent in one go.
const TOGETHER: u32 = 100_000;
const BETWEEN_SCRAPES: Duration = Duration::from_secs(1);
const HALF_OPEN: (&str, &str) = ("table", "half_open_ipv4");

/// A moment of the agent and of the wire.
struct Moment {
    metrics: Metrics,
    held: Held,
    received: u64,
    carried: u64,
}

impl Moment {
    /// When the interface keeps still, or nearly.
    fn of(subject: &Subject<'_>, pair: &Pair) -> Self {
        for _ in 0..50 {
            let moment = Self::now(subject, pair);
            thread::sleep(Duration::from_millis(100));
            if interface::carried(&pair.server, WIRE) == moment.carried {
                return moment;
            }
        }
        panic!("the interface never keeps still")
    }

    fn now(subject: &Subject<'_>, pair: &Pair) -> Self {
        let (received, carried) = (interface::received(&pair.server, WIRE), interface::carried(&pair.server, WIRE));
        Self { metrics: subject.agent.metrics(), held: Held::by(subject.agent.pid()), received, carried }
    }
}

/// What a scrape in the middle of it took and said.
struct Scrape {
    time: Duration,
    cpu: Duration,
    half_open: u64,
}

pub fn measure(
    what: (Kind, Hook),
    subject: &Subject<'_>,
    pair: &Pair,
    flood: &Flood<'_>,
    time: Duration,
) -> Vec<Figure> {
    progress::show(&format!("{} at {} for {time:?}", what.0.name(), what.1.program()));
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
    let _held = Connection::open_many(&pair.client, &listener, HELD);
    let held = || Untouched::established(&subject.agent, &[PORT]);
    let load = Load::new(pair, Family::V4);
    let held_before = held();
    let before = Moment::of(subject, pair);
    let over = AtomicBool::new(false);
    let is_over = || over.load(Ordering::Relaxed);
    let (took, cpu, connections, scrapes) = thread::scope(|scope| {
        let scraping = scope.spawn(|| {
            let mut scrapes = Vec::new();
            while !is_over() {
                scrapes.push(scrape(subject));
                thread::sleep(BETWEEN_SCRAPES);
            }
            scrapes
        });
        let connecting = scope.spawn(|| {
            let mut count = 0.0;
            while !is_over() {
                count += load.connect();
            }
            count
        });
        let (begun, cpu) = (Instant::now(), effort::cpu_of(subject.agent.pid()));
        let flooding = scope.spawn(move || {
            flood.within(|send| {
                cpu::stay_on(CPU);
                while begun.elapsed() < time {
                    send(TOGETHER);
                }
            });
        });
        // Whatever fails there, the others have to end.
        let flooded = flooding.join();
        let (took, cpu) = (begun.elapsed(), effort::cpu_of(subject.agent.pid()) - cpu);
        over.store(true, Ordering::Relaxed);
        flooded.expect("the flood goes on to its end");
        let connections = connecting.join().expect("connections are made");
        (took, cpu, connections, scraping.join().expect("the page is answered"))
    });
    let after = Moment::of(subject, pair);
    progress::done();
    let mut figures = of_the_flood(what, &before, &after, took);
    figures.extend(of_others(what, &before, &after, connections));
    let held_after = held();
    let kept = held_before.count() - held_before.lost(&held_after).len() - held_before.changed(&held_after).len();
    let kept = figure(what, "real connections kept unchanged", Unit::Flows, vec![kept as f64]);
    figures.push(kept.beside("before", vec![HELD as f64]));
    figures.extend(of_the_agent(what, &before, &after, cpu.as_secs_f64() / took.as_secs_f64(), &scrapes));
    figures
}

fn scrape(subject: &Subject<'_>) -> Scrape {
    let (begun, cpu) = (Instant::now(), effort::cpu_of(subject.agent.pid()));
    let text = subject.agent.metrics_text();
    let (time, cpu) = (begun.elapsed(), effort::cpu_of(subject.agent.pid()) - cpu);
    Scrape { time, cpu, half_open: Metrics::parse(&text).count("table_entries", &[HALF_OPEN]) }
}

fn of_the_flood(what: (Kind, Hook), before: &Moment, after: &Moment, took: Duration) -> Vec<Figure> {
    let of = |name: &str, unit, value: f64| figure(what, name, unit, vec![value]);
    let arrived = (after.received - before.received) as f64;
    let counted = (after.metrics.packets() - before.metrics.packets()) as f64;
    let mut figures = vec![
        of("meanwhile: packets received", Unit::PerSecond, arrived / took.as_secs_f64()),
        of("meanwhile: packets that were counted", Unit::Count, counted)
            .beside("carried", vec![(after.carried - before.carried) as f64]),
    ];
    let (skipped_before, skipped) = (before.metrics.skipped(), after.metrics.skipped());
    for (reason, count) in skipped {
        let since = count - skipped_before.get(&reason).unwrap_or(&0);
        if since > 0 {
            figures.push(of(&format!("meanwhile: skipped as {reason}"), Unit::Count, since as f64));
        }
    }
    let replaced = ("reason", "replaced");
    let counts =
        [&before.metrics, &after.metrics].map(|metrics| metrics.count("evictions_total", &[HALF_OPEN, replaced]));
    figures.push(of("meanwhile: half-open entries replaced", Unit::Count, (counts[1] - counts[0]) as f64));
    figures
}

fn of_others(what: (Kind, Hook), before: &Moment, after: &Moment, connections: f64) -> Vec<Figure> {
    let attempts = |metrics: &Metrics, outcome| {
        metrics.count("connection_attempts_total", &[("outcome", outcome), ("role", "server")]) as f64
    };
    let measured = |metrics: &Metrics| metrics.handshakes("total", "server") as f64;
    let of = |name: &str, count: &dyn Fn(&Metrics) -> f64| {
        let seen = count(&after.metrics) - count(&before.metrics);
        figure(what, name, Unit::Count, vec![seen]).beside("made", vec![connections])
    };
    vec![
        of("meanwhile: connections counted as completed", &|metrics| attempts(metrics, "completed")),
        of("meanwhile: connections counted as evicted", &|metrics| attempts(metrics, "evicted")),
        of("meanwhile: connections measured", &measured),
    ]
}

fn of_the_agent(what: (Kind, Hook), before: &Moment, after: &Moment, cpu: f64, scrapes: &[Scrape]) -> Vec<Figure> {
    let of = |name: &str, unit, rounds| figure(what, name, unit, rounds);
    let mebibytes = |kib: u64| vec![kib as f64 / 1024.0];
    let millis = |value: fn(&Scrape) -> Duration| -> Vec<f64> {
        scrapes.iter().map(|scrape| value(scrape).as_secs_f64() * 1e3).collect()
    };
    let times = millis(|scrape| scrape.time);
    let worst = times.iter().copied().fold(0.0, f64::max);
    let most = scrapes.iter().map(|scrape| scrape.half_open).max().unwrap_or(0);
    let room = after.metrics.count("table_capacity", &[HALF_OPEN]);
    vec![
        of("meanwhile: agent, a scrape a second", Unit::PercentOfACpu, vec![cpu * 100.0]),
        of("meanwhile: scrape of /metrics", Unit::Milliseconds, times),
        of("meanwhile: scrape of /metrics, CPU", Unit::Milliseconds, millis(|scrape| scrape.cpu)),
        of("meanwhile: scrape of /metrics, the worst", Unit::Milliseconds, vec![worst]),
        of("meanwhile: half-open entries at most", Unit::Flows, vec![most as f64]).beside("room", vec![room as f64]),
        of("agent after it, anonymous memory", Unit::Mebibytes, mebibytes(after.held.anonymous_kib))
            .beside("before", mebibytes(before.held.anonymous_kib)),
        of("maps after it", Unit::Mebibytes, mebibytes(after.held.maps_bytes / 1024))
            .beside("before", mebibytes(before.held.maps_bytes / 1024)),
    ]
}
