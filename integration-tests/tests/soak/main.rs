//! A soak: everything at once for a minute in each run of the tests, or for as long as `cargo xtask soak` is told. What
//! the observer has counted is then what the kernel has, its view of the sockets is the kernel's, and it holds no more
//! than it did before.

mod counts;
mod kept;
mod load;
mod stage;
mod watch;

use std::time::Duration;

use counts::Counts;
use integration_tests::{
    agent::Agent,
    bounds::bounded_by,
    process::Held,
    ss,
    wait::{SOON, wait_until},
};
use kept::Kept;
use load::{Clock, Ledger};
use proofs::amount::amount;
use stage::{SCAN, Stage};
use watch::{Views, Watch, entries};

/// From here on a soak is long: TIME_WAIT comes and goes within it, and its end is waited for.
const LONG: Duration = Duration::from_secs(180);
/// What the agent's memory may differ by between two moments at which it does nothing: buffers below a megabyte that the
/// allocator keeps, by the thread.
const SPREAD_KIB: u64 = 2048;
/// The longest that an entry lives on when nothing happens any more: unconfirmed for 120 s, lingering for 5 s, and the
/// sweep that comes by every 5 s.
const ALL_OVER: Duration = Duration::from_secs(150);

#[test]
fn under_mixed_load_the_observer_counts_what_its_kernel_counts_and_does_not_grow() {
    let load_time = Duration::from_secs(amount("soak", 60));
    let _bound = bounded_by(load_time + Duration::from_secs(400));
    let stage = Stage::new();
    let interfaces = ["wire0", SCAN, "guest*", "lo"].map(|name| ["--interface", name]);
    let tables = ["--ingress", "tc", "--max-flows", "65536", "--max-half-open", "16384"];
    let agent = Agent::start(&stage.host, &[interfaces.as_flattened(), &tables].concat());
    let mut kept = Kept::open(&stage);
    let before = Counts::still(&stage, &agent);
    let held_before = Held::by(agent.pid());

    let ledger = Ledger::default();
    let clock = Clock::lasting(load_time);
    let mut watch = Watch::new();
    load::run(&stage, &agent, clock, &ledger, || watch.until(clock, &stage, &agent));
    println!("done: {:?}", ledger.done());
    println!("otherwise than wanted: {:?}", ledger.failed());
    ledger.assert_all_done();

    let after = assert_counts_agree(&stage, &agent, &before, &ledger);
    println!("the kernel counted {:?}", after.kernel);
    kept.begin_moments(&stage);
    assert_views_agree(&stage, &agent);
    watch.look(&stage, &agent);
    assert!(watch.lasting.is_empty(), "differences that lasted:\n{:#?}", watch.lasting);
    drop(kept);
    if load_time >= LONG {
        wait_until("the tables to be empty", ALL_OVER, || match entries(&agent)[..] {
            [0, 0, 0, 0] => Ok(()),
            ref entries => Err(format!("entries: {entries:?}")),
        });
        watch.look(&stage, &agent);
    }
    assert_no_growth(&held_before, &watch, load_time);
    agent.stop();
}

/// Waits for what the sweep counts late; gives what was counted.
fn assert_counts_agree(stage: &Stage, agent: &Agent<'_>, before: &Counts, ledger: &Ledger) -> Counts {
    let counted = wait_until("the observer's counters to be the kernel's", 2 * SOON, || {
        let counts = Counts::still(stage, agent).since(before);
        let comparisons = counts::compare(&counts, ledger);
        let text: String = comparisons.iter().map(|comparison| format!("{comparison}\n")).collect();
        if comparisons.iter().all(counts::Comparison::holds) { Ok((counts, text)) } else { Err(text) }
    });
    println!("{}", counted.1);
    counted.0
}

/// All local endpoints are the kernel's sockets, address by address and state by state, and no handshake hangs.
fn assert_views_agree(stage: &Stage, agent: &Agent<'_>) {
    wait_until("the observer and ss to agree", 2 * SOON, || {
        let Views { observer, kernel, .. } = Views::take(stage, agent);
        for state in ["syn_sent", "syn_received", "established", "fin_wait_1", "fin_wait_2", "close_wait", "last_ack"] {
            if !kernel.iter().any(|socket| socket.state == state) {
                return Err(format!("no socket in {state}"));
            }
        }
        if observer == kernel { Ok(()) } else { Err(ss::difference(&observer, &kernel)) }
    });
}

/// What is open at the end was open before the load. Memory and threads are no more than since the warm-up.
fn assert_no_growth(before: &Held, watch: &Watch, load_time: Duration) {
    // Until the agent has served a few scrapes of a filled table.
    let warm_up = (load_time / 3).min(Duration::from_secs(90));
    let (cold, warm): (Vec<_>, Vec<_>) = watch.rows.iter().partition(|row| row.at < warm_up);
    let (last, warm) = warm.split_last().expect("there were looks after it");
    // A look in the middle of a scrape finds a snapshot in the agent's memory.
    let least = warm.iter().map(|row| row.held.anonymous_kib).min().expect("more than one");
    println!(
        "before: {before:?}\nafter the warm-up: {:?}\nat the end, with {} flows: {:?}",
        warm[0], last.flows, last.held
    );
    let constant = |held: &Held| (held.descriptors, held.bpf, held.maps_bytes);
    assert_eq!(constant(&last.held), constant(before), "descriptors, BPF objects, bytes of maps");
    let threads = cold.iter().chain(&warm[..1]).map(|row| row.held.threads).max();
    assert!(Some(last.held.threads) <= threads, "{} threads, and {threads:?} before", last.held.threads);
    let (is, most) = (last.held.anonymous_kib, least + SPREAD_KIB);
    assert!(is <= most, "{is} KiB of memory, at most {most} were expected");
}
