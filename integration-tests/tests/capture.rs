//! Handshake times against the timestamps of a capture that was taken at the same time on the same interface.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use integration_tests::{pair::WIRE, prelude::*, run, ss, traffic::connect, wait::patience};

const COUNT: usize = 200;
const PORT: u16 = 8080;

/// tcpdump on the wire, writing a file.
struct Capture {
    child: Child,
    path: std::path::PathBuf,
}

impl Capture {
    #[track_caller]
    fn start(namespace: &Namespace) -> Self {
        let path = std::env::temp_dir().join(integration_tests::bounds::unique_name());
        File::create(&path).unwrap();
        let mut child = namespace
            .command("tcpdump")
            .args(["-i", WIRE, "--immediate-mode", "-U", "-s", "96", "-Z", "root", "-w"])
            .arg(&path)
            .arg(format!("tcp port {PORT}"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cannot run tcpdump");
        let (listening, says) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(listening.send(line))));
        let first = says.recv_timeout(patience(Duration::from_secs(10))).expect("tcpdump says that it listens");
        assert!(first.contains("listening"), "{first}");
        Self { child, path }
    }

    /// When each client's SYN, SYN-ACK and the ACK after it were captured, in seconds.
    #[track_caller]
    fn handshakes(mut self) -> BTreeMap<SocketAddr, [f64; 3]> {
        // SAFETY: kill has no memory to misuse.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        self.child.wait().unwrap();
        let mut command = std::process::Command::new("tshark");
        command.arg("-r").arg(&self.path).args(["-T", "fields", "-E", "separator= "]);
        for field in ["frame.time_epoch", "ip.src", "tcp.srcport", "tcp.dstport", "tcp.flags.syn", "tcp.flags.ack"] {
            command.args(["-e", field]);
        }
        let text = run::success(&mut command);
        std::fs::remove_file(&self.path).unwrap();
        let mut times: BTreeMap<SocketAddr, Vec<f64>> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [time, _, source, destination, _, _] = words[..] else { panic!("tshark says {line}") };
            let port = if source == PORT.to_string() { destination } else { source };
            let client = SocketAddr::new(Family::V4.host(1), port.parse().unwrap());
            times.entry(client).or_default().push(time.parse().unwrap());
        }
        // Nothing is lost or sent again on this wire, so that the first three segments are the handshake.
        times.into_iter().map(|(client, times)| (client, [times[0], times[1], times[2]])).collect()
    }
}

#[test]
fn handshake_times_are_those_of_a_capture() {
    let _bound = bounded();
    for scene in [IngressMode::Tc, IngressMode::XdpGeneric].map(|mode| Scene { side: Side::Server, mode }) {
        let pair = Pair::new();
        let agent = scene.observe(&pair);
        let capture = Capture::start(&pair.server);
        let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, PORT));
        let mut held = Vec::new();
        for _ in 0..COUNT {
            held.push((connect(&pair.client, listener.addr()).unwrap(), listener.accept()));
        }
        ss::agree(&agent, SOON, |_| true);
        let records = agent.flows_of_port(PORT);
        let captured = capture.handshakes();
        assert_eq!((records.len(), captured.len()), (COUNT, COUNT));
        let mut differences = Vec::new();
        for record in &records {
            let [syn, synack, ack] = captured[&ss::addr(&record["originator"])];
            for (field, expected) in [("syn_to_synack_seconds", synack - syn), ("synack_to_ack_seconds", ack - synack)]
            {
                let seen = record["handshake"][field].as_f64().unwrap_or_else(|| panic!("{field}: {record}"));
                differences.push((seen - expected).abs());
            }
        }
        differences.sort_by(f64::total_cmp);
        let at = |share: f64| differences[(differences.len() as f64 * share) as usize] * 1e6;
        println!("{scene}: differs from the capture by {:.1} µs (median), {:.1} µs (nine in ten)", at(0.5), at(0.9));
        // Generous, since both share two cores with other tests; a wrong segment or clock is off by far more.
        assert!(at(0.5) < 5_000.0, "median difference {} µs", at(0.5));
        agent.stop();
    }
}
