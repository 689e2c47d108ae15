//! Real sockets: a server that closes first, and clients that come again and again.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use integration_tests::{
    namespace::Namespace,
    netstat,
    pair::{Family, Pair},
    run,
    synthetic::{Hook, Subject},
    traffic,
    wait::{SOON, equal, wait_until},
};

use super::{MAX_HALF_OPEN, PART, costs, waiting};
use crate::{
    effort,
    figure::{Figure, Unit},
    progress,
};

/// A client for each, and the ports that it comes from, each once: a second connection would end the wait of the first.
const PORTS: [u16; 4] = [7_300, 7_301, 7_302, 7_303];
const FIRST_PORT_OF_A_CLIENT: u16 = 10_000;
const PORTS_OF_A_CLIENT: u16 = 50_000;
/// No more time than this to make them: what is measured has to fit into the minute of the first one.
const MADE_WITHIN: Duration = Duration::from_secs(25);
const MAX_FLOWS: u32 = 262_144;

pub fn measure(wanted: u32, rounds: usize) -> Vec<Figure> {
    let pair = Pair::new();
    let room = max_buckets(&pair.server);
    let each = (wanted.min(room) / PORTS.len() as u32).min(PORTS_OF_A_CLIENT.into()) as u16;
    progress::show(&format!("TIME_WAIT: {each} sockets for each of {} clients", PORTS.len()));
    let subject = Subject::start(&pair.server, Hook::TcIngress, MAX_FLOWS, MAX_HALF_OPEN);
    let begun = Instant::now();
    let made = connect_and_close(&pair, each, begun + MADE_WITHIN);
    let took = begun.elapsed();
    let overflow = netstat::tcp_counter(&pair.server, "TCPTimeWaitOverflow");
    eprintln!(
        "TIME_WAIT: {made} connections made in {took:.1?}, of {wanted} wanted; room for {room} sockets, {overflow} found none"
    );
    let (kernel, ours) = wait_until("observer and ss to be asked at one moment", SOON, || {
        let before = in_time_wait(&pair.server);
        let ours = waiting(&subject.agent.metrics());
        equal("sockets in TIME_WAIT", in_time_wait(&pair.server), before)?;
        Ok((before, ours))
    });
    let seen = Figure::of(PART, "sockets in TIME_WAIT", Unit::Flows, vec![ours]);
    let mut figures = vec![seen.beside("ss", vec![kernel as f64])];
    figures.extend(costs(&subject, begun, "sockets in TIME_WAIT", rounds));
    figures.push(listing(&pair, &subject, made, rounds));
    figures.into_iter().map(|figure| figure.with_flows(made)).collect()
}

/// What it takes to list them, of the agent's command beside the kernel's own.
fn listing(pair: &Pair, subject: &Subject<'_>, count: u64, rounds: usize) -> Figure {
    let each = |mut command: Command| {
        let took = effort::of_command(&mut command).expect("the command starts");
        took.cpu.as_secs_f64() * 1e6 / count as f64
    };
    let [mut ours, mut kernels] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        ours.push(each(subject.agent.prepared("dump", &["-o", "json"])));
        let mut ss = pair.server.command("ss");
        ss.arg("-tan");
        kernels.push(each(ss));
    }
    Figure::of(PART, "dump -o json, CPU for each socket in TIME_WAIT", Unit::Microseconds, ours)
        .beside("ss -tan", kernels)
}

/// How many connections were made, each of which the server has closed.
fn connect_and_close(pair: &Pair, each: u16, until: Instant) -> u64 {
    let addrs = PORTS.map(|port| pair.server_addr(Family::V4, port));
    let listeners = addrs.map(|addr| pair.server.within(|| TcpListener::bind(addr)).expect("a server can listen"));
    thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(move || {
                // The last one is from here, to end this.
                while let Ok((stream, peer)) = listener.accept() {
                    drop(stream);
                    if peer.ip() == Family::V4.host(2) {
                        return;
                    }
                }
            });
        }
        let clients = addrs.map(|addr| scope.spawn(move || pair.client.within(|| come_and_go(addr, each, until))));
        let made = clients.map(|client| client.join().expect("a client ends well")).iter().sum();
        // Over the loopback, which is not observed.
        pair.server.within(|| addrs.map(|addr| TcpStream::connect(addr).expect("the server is there")));
        made
    })
}

fn come_and_go(addr: SocketAddr, count: u16, until: Instant) -> u64 {
    let mut made = 0;
    while made < count && Instant::now() < until {
        let own = SocketAddr::new(Family::V4.host(1), FIRST_PORT_OF_A_CLIENT + made);
        let mut stream = traffic::socket_here(true);
        traffic::bind(&stream, own).and_then(|()| traffic::connect_to(&stream, addr)).expect("the server is there");
        // The end of what the server sends, which is nothing.
        assert_eq!(stream.read(&mut [0]).expect("the server closes"), 0);
        made += 1;
    }
    made.into()
}

/// The kernel's own count of what the observer can see.
fn in_time_wait(namespace: &Namespace) -> usize {
    let mut command = namespace.command("ss");
    let text = run::success(command.args(["-Htan", "state", "time-wait"]));
    let clients = Family::V4.host(1).to_string();
    text.lines().filter(|line| line.contains(&clients)).count()
}

/// How many sockets the kernel keeps in TIME_WAIT at most.
fn max_buckets(namespace: &Namespace) -> u32 {
    let path = "/proc/sys/net/ipv4/tcp_max_tw_buckets";
    let text = namespace.within(|| std::fs::read_to_string(path)).expect("the kernel has a limit");
    text.trim().parse().expect("the limit is a number")
}
