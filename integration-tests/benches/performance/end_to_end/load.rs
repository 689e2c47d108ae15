//! Servers in one namespace, clients in the other: short connections one after the other, or one that sends all it can.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use integration_tests::pair::{Family, Pair};

use crate::effort::{self, Effort};

const ROUND: Duration = Duration::from_millis(1_500);
/// Request and answer of a short connection.
const MESSAGE: [u8; 64] = [b'x'; 64];
const BULK: usize = 256 * 1024;
/// Ends of each kind: as many as there are CPUs, on the machines that this is made for.
const THREADS: u16 = 2;
const FIRST_PORT: u16 = 7_000;
const BULK_PORT: u16 = 7_100;

/// What came of a round.
pub struct Done {
    pub amount: f64,
    pub effort: Effort,
}

/// Does something; what it takes of this process, where both ends live, and of an agent.
pub fn effort(agent: Option<u32>, what: impl FnOnce() -> f64) -> Done {
    let cpu_time = || effort::cpu_of_this_process() + agent.map_or(Duration::ZERO, effort::cpu_of);
    let (begun, cpu) = (Instant::now(), cpu_time());
    let amount = what();
    Done { amount, effort: Effort { time: begun.elapsed(), cpu: cpu_time() - cpu } }
}

/// Servers that wait for a load as long as this lives.
pub struct Load<'n> {
    pair: &'n Pair,
    family: Family,
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    servers: Vec<JoinHandle<()>>,
}

impl<'n> Load<'n> {
    pub fn new(pair: &'n Pair, family: Family) -> Self {
        // The client closes first: its ports have to be free again before TIME_WAIT is over.
        pair.client.sysctl("ipv4/tcp_tw_reuse", "1");
        pair.client.sysctl("ipv4/ip_local_port_range", "10000 65000");
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut load = Self { pair, family, stop, received, servers: Vec::new() };
        for port in load.ports() {
            let listener = load.listen(port);
            let stop = Arc::clone(&load.stop);
            load.servers.push(thread::spawn(move || answer(&listener, &stop)));
        }
        let (listener, stop, received) = (load.listen(BULK_PORT), Arc::clone(&load.stop), Arc::clone(&load.received));
        load.servers.push(thread::spawn(move || swallow(&listener, &stop, &received)));
        load
    }

    fn ports(&self) -> std::ops::Range<u16> {
        FIRST_PORT..FIRST_PORT + THREADS
    }

    fn listen(&self, port: u16) -> TcpListener {
        let addr = self.pair.server_addr(self.family, port);
        self.pair.server.within(|| TcpListener::bind(addr)).expect("a server can listen")
    }

    /// Short connections for the length of a round; how many.
    pub fn connect(&self) -> f64 {
        let addrs: Vec<_> = self.ports().map(|port| self.pair.server_addr(self.family, port)).collect();
        let count = self.pair.client.within(|| {
            thread::scope(|scope| {
                let clients: Vec<_> = addrs.iter().map(|&addr| scope.spawn(move || connect(addr))).collect();
                clients.into_iter().map(|client| client.join().expect("a client ends well")).sum::<u64>()
            })
        });
        count as f64
    }

    /// One connection that sends for the length of a round; how many gigabits arrive.
    pub fn send(&self) -> f64 {
        let addr = self.pair.server_addr(self.family, BULK_PORT);
        let before = self.received.load(Ordering::Relaxed);
        self.pair.client.within(|| {
            let mut stream = TcpStream::connect(addr).expect("the server is there");
            let (data, begun) = (vec![b'x'; BULK], Instant::now());
            while begun.elapsed() < ROUND {
                stream.write_all(&data).expect("the server reads");
            }
        });
        (self.received.load(Ordering::Relaxed) - before) as f64 * 8.0 / 1e9
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for port in self.ports().chain([BULK_PORT]) {
            // A last connection, which they wait for.
            let addr = self.pair.server_addr(self.family, port);
            let _ = self.pair.client.within(|| TcpStream::connect_timeout(&addr, ROUND));
        }
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
    }
}

/// Short connections for the length of a round; how many.
fn connect(addr: SocketAddr) -> u64 {
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < ROUND {
        let mut stream = TcpStream::connect(addr).expect("the server is there");
        stream.write_all(&MESSAGE).expect("the server reads");
        let mut answer = [0; MESSAGE.len()];
        stream.read_exact(&mut answer).expect("the server answers");
        count += 1;
    }
    count
}

/// A server of short connections.
fn answer(listener: &TcpListener, stop: &AtomicBool) {
    while let Ok((mut stream, _)) = listener.accept() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut request = [0; MESSAGE.len()];
        // Whoever goes away meanwhile has its own reasons.
        let _ = stream.read_exact(&mut request).and_then(|()| stream.write_all(&MESSAGE));
        // The client closes first.
        let _ = stream.read(&mut request);
    }
}

/// A server that reads all there is.
fn swallow(listener: &TcpListener, stop: &AtomicBool, received: &AtomicU64) {
    let mut buffer = vec![0; BULK];
    while let Ok((mut stream, _)) = listener.accept() {
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            received.fetch_add(length as u64, Ordering::Relaxed);
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}
