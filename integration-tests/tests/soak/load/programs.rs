//! Load by programs that know nothing of the observer: nginx and wrk, iperf3, nmap, curl.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use integration_tests::{
    agent,
    bounds::unique_name,
    namespace::Namespace,
    pair::Family,
    run,
    wait::{SOON, wait_until},
};

use super::{Clock, Ledger};
use crate::stage::{Stage, scan_host};

/// What a page of nginx has.
const PAGE_BYTES: usize = 20_000;

/// No master, whose death would leave workers behind.
const NGINX: &str = "
daemon off;
master_process off;
pid FOLDER/nginx.pid;
error_log stderr crit;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    client_header_timeout 4s;
    keepalive_timeout 2s;
    keepalive_requests 100;
    server {
        listen 80 backlog=4096;
        listen [::]:80 backlog=4096;
        root FOLDER;
    }
}
";

/// How long a program runs that can be told; `SECONDS` stands for it among the arguments.
const RUN: Duration = Duration::from_secs(5);

/// wrk asks as fast as it is answered, unless a script makes it wait.
const WRK_DELAY: &str = "function delay() return 40 end\n";

/// A folder for what programs read and write, removed in the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let folder = std::env::temp_dir().join(unique_name());
        fs::create_dir(&folder).expect("the folder for temporary files takes another");
        let name = folder.to_str().expect("the folder's name is text");
        for (file, content) in [
            ("nginx.conf", NGINX.replace("FOLDER", name)),
            ("delay.lua", WRK_DELAY.to_owned()),
            ("index.html", ".".repeat(PAGE_BYTES)),
        ] {
            fs::write(folder.join(file), content).expect("a file can be written");
        }
        // nginx reads the page as another user.
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that runs for as long as this is held.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn nginx(host: &Namespace, folder: &Folder) -> Server {
    let mut command = host.command("nginx");
    command.arg("-p").arg(&folder.0).arg("-c").arg(folder.path("nginx.conf"));
    serve(host, &mut command, 80)
}

pub fn iperf3_server(client: &Namespace) -> Server {
    serve(client, client.command("iperf3").arg("-s"), 5201)
}

#[track_caller]
fn serve(namespace: &Namespace, command: &mut Command, port: u16) -> Server {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let server = Server(command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")));
    let wanted = format!("sport = :{port}");
    wait_until("a server to listen", SOON, || {
        let listening = run::success(namespace.command("ss").args(["-Htln", &wanted]));
        if listening.trim().is_empty() { Err(format!("nobody listens on port {port}")) } else { Ok(()) }
    });
    server
}

/// A program that is run again and again.
pub struct Program<'s> {
    namespace: &'s Namespace,
    program: &'static str,
    /// What it is told, each in its turn, and what that is called.
    turns: Vec<(String, Vec<String>)>,
    pause: Duration,
}

impl Program<'_> {
    pub fn repeat(&self, clock: Clock, ledger: &Ledger) {
        for (name, arguments) in self.turns.iter().cycle() {
            let Some(left) = clock.left() else { return };
            let seconds = RUN.min(left).as_secs().max(1).to_string();
            let arguments = arguments.iter().map(|argument| argument.replace("SECONDS", &seconds));
            let finished = run::finish(self.namespace.command(self.program).args(arguments));
            let result = if finished.code == Some(0) { Ok(()) } else { Err(format!("{finished:?}")) };
            ledger.note(name, result);
            clock.pause(self.pause);
        }
    }
}

pub fn all<'s>(stage: &'s Stage, folder: &Folder) -> Vec<Program<'s>> {
    let mut programs = vec![scrape(stage), bulk(stage)];
    for family in Family::BOTH {
        programs.extend(requests(stage, folder, family));
        programs.push(scans(stage, family));
    }
    programs
}

/// Every second, as a Prometheus would.
fn scrape(stage: &Stage) -> Program<'_> {
    let page = format!("http://127.0.0.1:{}/metrics", agent::PORT);
    let turns = vec![turn("curl /metrics", &["-sSf", "-m", "5", "-o", "/dev/null", &page])];
    Program { namespace: &stage.host, program: "curl", turns, pause: Duration::from_secs(1) }
}

/// Requests on connections that are kept, and on one connection each.
fn requests<'s>(stage: &'s Stage, folder: &Folder, family: Family) -> [Program<'s>; 2] {
    // With the port: wrk would ask /etc/services, which not every machine has.
    let page = format!("http://{}:80/index.html", in_brackets(family.host(2)));
    let script = folder.path("delay.lua");
    let script = script.to_str().expect("the folder's name is text");
    let wrk = |name: &str, more: &[&str]| {
        let arguments = [&["-t1", "-c4", "-dSECONDSs", "-s", script], more, &[page.as_str()]].concat();
        let turns = vec![turn(&format!("{name}/{family:?}"), &arguments)];
        Program { namespace: &stage.client, program: "wrk", turns, pause: Duration::from_secs(1) }
    };
    [wrk("wrk", &[]), wrk("wrk, Connection: close", &["-H", "Connection: close"])]
}

/// Short bursts of data in both directions, one at a time, since that is what the server takes. It may wait for ever
/// for a word that the other end has not said.
fn bulk(stage: &Stage) -> Program<'_> {
    let mut turns = Vec::new();
    for family in Family::BOTH {
        let client = family.host(1).to_string();
        let burst = ["12", "iperf3", "-c", &client, "-b", "400M", "-n", "8M"];
        turns.push(turn(&format!("iperf3/{family:?}"), &burst));
        turns.push(turn(&format!("iperf3 -R/{family:?}"), &[&burst[..], &["-R"]].concat()));
    }
    Program { namespace: &stage.host, program: "timeout", turns, pause: Duration::from_secs(1) }
}

/// Scans from another namespace: half-open, connecting, and with flags that no connection begins with.
fn scans(stage: &Stage, family: Family) -> Program<'_> {
    let host = scan_host(family, 2).to_string();
    let scan = |kind: &str| {
        let ports = if kind == "-sU" { "5350-5355" } else { "1-60,80,7000-7002,8080-8089" };
        let mut arguments = vec![kind, "-n", "-Pn", "--max-retries", "1", "--max-rate", "100"];
        arguments.extend(["--host-timeout", "12s", "-p", ports, &host]);
        if family == Family::V6 {
            arguments.push("-6");
        }
        turn(&format!("nmap {kind}/{family:?}"), &arguments)
    };
    let turns = ["-sS", "-sT", "-sF", "-sN", "-sX", "-sA", "-sM", "-sU"].map(scan).into();
    Program { namespace: &stage.scanner, program: "nmap", turns, pause: Duration::from_secs(1) }
}

fn turn(name: &str, arguments: &[&str]) -> (String, Vec<String>) {
    (name.to_owned(), arguments.iter().map(|&argument| argument.to_owned()).collect())
}

/// An address as URLs have it.
fn in_brackets(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
