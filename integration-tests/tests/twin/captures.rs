//! Captures through the kernel programs, the core in memory, and the replay: the same records, field by field, and the
//! same counts.
//!
//! Those of the repository and of the directory that `PROVE_CAPTURES` names, and runs of the simulation. The programs
//! are shown Ethernet frames as they are, through XDP or tc, and of everything else the IP packet that replay's link
//! layer has found; all at the time that the capture says, with replay's sweeps between. VLANs belong to a flow's
//! identity in captures only: each gets a run of its own, of which replay's flows of that VLAN are the measure.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use integration_tests::{bounds::bounded_by, namespace::Namespace};
use proofs::{
    amount::amount,
    simulation::{self, Frame},
};
use tcp_observer::replay::{self, Input, Options, Progress, steps};
use tcp_observer_common::counters::{Counters, Skip};

use crate::{
    kernel::Kernel,
    records::{self, Observer, Script},
    replica::Replica,
    state,
};

const USUAL_RUNS: u64 = 300;
/// Interfaces of the namespace that packets are said to have come from: `lo` and wires.
const INTERFACES: usize = 9;

/// What has been compared.
#[derive(Default)]
struct Compared {
    captures: u64,
    packets: u64,
    ethernet: u64,
    records: u64,
}

/// What has not, and why.
type Left = Option<String>;

struct Observers {
    kernel: Kernel,
    replica: Replica,
}

impl Observers {
    #[track_caller]
    fn new() -> Self {
        Self { kernel: Kernel::load(true), replica: Replica::new(true) }
    }

    /// Shows a capture to all; says why it cannot be compared, if so.
    fn compare(&mut self, path: &Path, is_bare: bool, compared: &mut Compared) -> Left {
        let input = Input::File(path.to_owned());
        let mut script = Script::default();
        match steps::steps(&input, |step| script.add(step, is_bare)) {
            Ok(_) => {}
            Err(error) => return Some(format!("no capture: {error:#}")),
        }
        if script.cut > 0 {
            return Some(format!("{} packets end within their TCP headers", script.cut));
        }
        if script.interfaces() > INTERFACES {
            return Some(format!("packets of {} interfaces", script.interfaces()));
        }
        if script.longest() > Kernel::LONGEST {
            return Some(format!("a packet of {} bytes", script.longest()));
        }
        let mut lines = Vec::new();
        let outcome = replay::stream(&[input], &Options::default(), Progress::hidden(), |finished| {
            lines.push(records::json_line(&finished.record));
            Ok(())
        });
        let expected = normal(&outcome.expect("nothing is refused").totals.counters, &script);
        lines.sort();
        for (name, observer) in self.each() {
            let before = observer.counters();
            let own = observer.records(&script);
            let counted = observer.counters();
            assert_alike(path, name, &own, &lines);
            let counted = difference(&counted, &before);
            assert_eq!(summed(&counted), summed(&expected), "`{}`: what {name} has counted", path.display());
        }
        compared.captures += 1;
        compared.packets += script.packets();
        compared.ethernet += script.ethernet;
        compared.records += lines.len() as u64;
        None
    }

    fn each(&mut self) -> [(&'static str, &mut dyn Records); 2] {
        [("the kernel programs", &mut self.kernel), ("the core in memory", &mut self.replica)]
    }
}

/// An observer of either kind.
trait Records {
    fn records(&mut self, script: &Script) -> Vec<String>;
    fn counters(&self) -> Counters;
}

impl<O: Observer> Records for O {
    fn records(&mut self, script: &Script) -> Vec<String> {
        records::records(self, script)
    }

    fn counters(&self) -> Counters {
        Observer::counters(self)
    }
}

#[track_caller]
fn assert_alike(path: &Path, name: &str, own: &[String], replayed: &[String]) {
    if own == replayed {
        return;
    }
    let lacking = |all: &[String], of: &[String]| -> String {
        all.iter().filter(|line| !of.contains(line)).take(3).cloned().collect()
    };
    let (only_own, only_replayed) = (lacking(own, replayed), lacking(replayed, own));
    panic!("`{}`: {name} has\n{only_own}and replay has\n{only_replayed}", path.display());
}

/// What replay has counted, without the packets that are handed to nobody else.
fn normal(counters: &Counters, script: &Script) -> Counters {
    let mut counters = counters.clone();
    for (&reason, &count) in &script.without_ip {
        counters.skipped[reason] -= count;
    }
    counters
}

pub fn difference(after: &Counters, before: &Counters) -> Counters {
    let mut difference = after.clone();
    for (count, before) in difference.words_mut().iter_mut().zip(before.words()) {
        *count -= before;
    }
    difference
}

/// Attempts of all ports together: which have counters of their own depends on what came before.
pub fn summed(counters: &Counters) -> Counters {
    let mut sum = Counters { attempts: Counters::ZERO.attempts, ..counters.clone() };
    for port in &counters.attempts {
        for (sum, of_port) in sum.attempts[0].iter_mut().flatten().zip(port.iter().flatten()) {
            *sum += of_port;
        }
    }
    sum
}

/// Every capture there is, with the way in which its packets are handed over.
fn captures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for directory in [root.join("docs"), root.join("tcp-observer/tests")] {
        collect(&directory, &mut found);
    }
    if let Some(directory) = env::var_os("PROVE_CAPTURES").filter(|name| !name.is_empty()) {
        collect(Path::new(&directory), &mut found);
    }
    found.sort();
    found
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("cannot read {directory:?}: {error}"));
    for path in entries.map(|entry| entry.expect("an entry can be read").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, found);
        } else if [".pcap", ".pcapng", ".cap"].iter().any(|kind| name.contains(kind)) {
            found.push(path);
        }
    }
}

/// A namespace with so many interfaces, an odd number: `lo` and wires.
pub fn with_interfaces(count: usize) -> Namespace {
    let namespace = Namespace::new();
    for wire in 0..count / 2 {
        namespace.ip(&format!("link add a{wire} type veth peer name b{wire}"));
    }
    namespace
}

#[test]
fn captures_leave_the_same_records_in_the_kernel_in_memory_and_in_replay() {
    let _bound = bounded_by(Duration::from_secs(900));
    let (compared, left) = with_interfaces(INTERFACES).within(|| {
        let mut observers = Observers::new();
        let (mut compared, mut left) = (Compared::default(), Vec::new());
        for path in captures() {
            for is_bare in [false, true] {
                if let Some(reason) = observers.compare(&path, is_bare, &mut compared) {
                    left.push(format!("{}: {reason}", path.file_name().unwrap_or_default().to_string_lossy()));
                    break;
                }
            }
        }
        (compared, left)
    });
    let Compared { captures, packets, ethernet, records } = compared;
    println!(
        "{captures} captures compared, each as it is and as bare IP: {packets} packets ({ethernet} as Ethernet frames), {records} records"
    );
    left.iter().for_each(|text| println!("not compared: {text}"));
    assert!(captures >= 20, "the repository has at least ten captures");
}

#[test]
fn simulated_runs_leave_the_same_records_in_the_kernel_in_memory_and_in_replay() {
    const FIRST_NS: u64 = 1_700_000_000_000_000_000;
    let runs = amount("twin", USUAL_RUNS);
    let _bound = bounded_by(Duration::from_secs(150 + runs / 4));
    let mut observers = Observers::new();
    let mut compared = Compared::default();
    let path = env::temp_dir().join(format!("twin-{}.pcap", std::process::id()));
    for seed in 0..runs {
        let is_ethernet = seed % 2 == 0;
        fs::write(&path, pcap(&simulation::trace(seed), FIRST_NS, is_ethernet)).expect("a capture can be written");
        let left = observers.compare(&path, false, &mut compared);
        assert_eq!(left, None, "run {seed}");
    }
    let _ = fs::remove_file(&path);
    let Compared { captures, packets, ethernet, records } = compared;
    println!("{captures} runs compared: {packets} packets ({ethernet} as Ethernet frames), {records} records");
    assert_eq!(captures, runs);
}

/// A capture in nanoseconds (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-03.html>).
fn pcap(frames: &[Frame], first_ns: u64, is_ethernet: bool) -> Vec<u8> {
    const MAGIC_NS: u32 = 0xa1b2_3c4d;
    const ETHERNET: u32 = 1;
    const RAW: u32 = 101;
    let link = if is_ethernet { ETHERNET } else { RAW };
    let mut file: Vec<u8> =
        [MAGIC_NS, 4 << 16 | 2, 0, 0, 65_535, link].iter().flat_map(|word| word.to_le_bytes()).collect();
    for frame in frames {
        let bytes = if is_ethernet { frame.ethernet() } else { frame.bytes.clone() };
        let at_ns = first_ns + frame.time_ns;
        let (seconds, ns) = ((at_ns / 1_000_000_000) as u32, (at_ns % 1_000_000_000) as u32);
        for word in [seconds, ns, bytes.len() as u32, bytes.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(bytes);
    }
    file
}

/// That a difference is seen: one packet less than the capture has.
#[test]
fn a_packet_that_one_of_them_lacks_is_noticed() {
    let _bound = bounded_by(Duration::from_secs(120));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/3-four-way-close.pcap");
    let mut whole = Script::default();
    let mut lacking = Script::default();
    let mut packets = 0;
    let all = |step: steps::Step<'_>| {
        whole.add(step, false);
        packets += u32::from(matches!(step, steps::Step::Packet(_)));
        if packets != 2 || !matches!(step, steps::Step::Packet(_)) {
            lacking.add(step, false);
        }
    };
    steps::steps(&Input::File(path), all).expect("an example can be read");
    let mut replica = Replica::new(true);
    let of_all = records::records(&mut replica, &whole);
    let before = replica.counters();
    let of_fewer = records::records(&mut replica, &lacking);
    assert_ne!(of_all, of_fewer);
    let counted = difference(&replica.counters(), &before);
    assert_eq!(state::packets(&counted) + 1, whole.packets());
    assert_eq!(counted.skipped[Skip::Contended.index()], 0);
}
