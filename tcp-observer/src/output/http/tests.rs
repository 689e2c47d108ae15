//! Raw requests over a real socket.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tokio::{runtime, sync::oneshot};

use super::*;
use crate::{
    output::metrics::{AgentStatus, Attachment, ProgramUsage, SocketCheck},
    snapshot::{Snapshot, fixture},
    source::Source,
};

/// A source that fails from the moment it is told to, and the agent around it.
#[derive(Default)]
struct Agent {
    is_broken: AtomicBool,
}

impl Source for Agent {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        anyhow::ensure!(!self.is_broken.load(Ordering::Relaxed), "the maps are gone");
        Ok(fixture::empty())
    }
}

impl AgentStatus for Agent {
    fn programs(&self) -> Vec<ProgramUsage> {
        Vec::new()
    }

    fn attachments(&self) -> Vec<Attachment> {
        vec![Attachment { interface: "eth0".to_owned(), hook: "xdp_ingress", mode: "native" }]
    }

    fn socket_check(&self) -> Option<SocketCheck> {
        None
    }
}

struct Server {
    addr: SocketAddr,
    agent: Arc<Agent>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let agent = Arc::new(Agent::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (source, status, healthy) = (Arc::clone(&agent), Arc::clone(&agent), Arc::clone(&agent));
        let thread = thread::spawn(move || {
            let exporter = Arc::new(Exporter::new(source, status));
            let health = move || match healthy.is_broken.load(Ordering::Relaxed) {
                false => Health::Ok,
                true => Health::Failing("eth0: not attached".to_owned()),
            };
            runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                serve(listener, exporter, health, async { drop(stopped.await) }).await;
            });
        });
        Self { addr, agent, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends these bytes and returns all that comes back until the server closes.
    fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may have refused and closed before the last byte.
        let _ = stream.write_all(request);
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        String::from_utf8(response).unwrap()
    }

    fn get(&self, path: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or_default()
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn metrics_are_served_as_text_format_0_0_4() {
    let response = Server::start().get("/metrics?any=query");
    assert_eq!(status(&response), "200");
    assert!(response.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{response}");
    assert!(body(&response).starts_with("# HELP tcp_observer_connections "));
    assert!(body(&response).contains("\ntcp_observer_scrape_duration_seconds "));
}

#[test]
fn head_has_the_length_of_the_body_but_not_the_body() {
    let response = Server::start().exchange(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(status(&response), "200");
    assert!(response.contains("content-length: 3\r\n"), "{response}");
    assert_eq!(body(&response), "");
}

#[test]
fn health_is_ok_or_the_reason_why_not() {
    let server = Server::start();
    let response = server.get("/healthz");
    assert_eq!((status(&response), body(&response)), ("200", "ok\n"));
    server.agent.is_broken.store(true, Ordering::Relaxed);
    let response = server.get("/healthz");
    assert_eq!((status(&response), body(&response)), ("503", "eth0: not attached\n"));
}

#[test]
fn a_scrape_that_fails_says_why_and_is_no_success() {
    let server = Server::start();
    server.agent.is_broken.store(true, Ordering::Relaxed);
    let response = server.get("/metrics");
    assert_eq!((status(&response), body(&response)), ("503", "cannot read the tables: the maps are gone\n"));
}

#[test]
fn the_index_page_names_what_is_observed_and_links_on() {
    let response = Server::start().get("/");
    assert_eq!(status(&response), "200");
    for part in ["<td>eth0</td>", "href=\"metrics\"", "href=\"healthz\"", env!("CARGO_PKG_VERSION")] {
        assert!(body(&response).contains(part), "{part} is missing");
    }
}

#[test]
fn what_is_not_there_or_not_allowed_is_refused() {
    let server = Server::start();
    assert_eq!(status(&server.get("/metrics/")), "404");
    assert_eq!(status(&server.get("/../etc/passwd")), "404");
    let refused = server.exchange(b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(status(&refused), "405");
    assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
}

#[test]
fn hostile_requests_are_refused_and_the_next_one_is_answered() {
    let server = Server::start();
    let mut endless = b"GET / HTTP/1.1\r\n".to_vec();
    endless.extend(b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(10_000));
    let mut long_path = b"GET /".to_vec();
    long_path.resize(100_000, b'a');
    for request in [
        &b"\0\x01\x02\xff\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        &endless,
        &long_path,
    ] {
        let response = server.exchange(request);
        let head = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
        assert!(response.is_empty() || status(&response).starts_with('4'), "{head:?}: {response}");
    }
    assert_eq!(status(&server.get("/healthz")), "200");
}

#[test]
fn a_client_that_has_shut_down_its_sending_side_is_answered() {
    let server = Server::start();
    let mut stream = server.connect();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert_eq!(status(&response), "200");
}

#[test]
fn silent_clients_do_not_keep_others_from_being_answered_for_long() {
    let server = Server::start();
    let silent: Vec<_> = (0..MAX_CONNECTIONS + 8).map(|_| server.connect()).collect();
    let started = std::time::Instant::now();
    assert_eq!(status(&server.get("/healthz")), "200");
    assert!(started.elapsed() < HEAD_TIMEOUT * 3, "took {:?}", started.elapsed());
    drop(silent);
}

#[test]
fn stopping_does_not_wait_for_a_client_that_says_nothing() {
    let server = Server::start();
    let stream = server.connect();
    assert_eq!(status(&server.get("/healthz")), "200");
    let started = std::time::Instant::now();
    drop(server);
    assert!(started.elapsed() < STOP_TIMEOUT * 4, "took {:?}", started.elapsed());
    drop(stream);
}
