//! A real Prometheus scrapes the agent and answers queries about it.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use integration_tests::{
    agent::{self, fetch},
    bounds::unique_name,
    prelude::*,
    run,
    wait::equal,
};

const PORT: u16 = 9090;

/// A Prometheus server in a namespace, with its storage in a folder of its own.
struct Prometheus<'n> {
    namespace: &'n Namespace,
    child: Child,
    folder: PathBuf,
}

impl<'n> Prometheus<'n> {
    #[track_caller]
    fn start(namespace: &'n Namespace) -> Self {
        let folder = std::env::temp_dir().join(unique_name());
        fs::create_dir(&folder).unwrap();
        let target = agent::PORT;
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: observer, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let child = namespace
            .command("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{PORT}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .expect("cannot run prometheus");
        Self { namespace, child, folder }
    }

    /// The values that a query gives, one for each series.
    fn query(&self, query: &str) -> Result<Vec<f64>, String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let page = format!("/api/v1/query?query={encoded}");
        let answer = self.namespace.within(|| fetch(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), &page));
        let (code, body) = answer.map_err(|error| format!("prometheus: {error}"))?;
        // HTTP/1.0 gets no chunks.
        let json: serde_json::Value = serde_json::from_str(&body).map_err(|error| format!("{code} {error}: {body}"))?;
        let series = json["data"]["result"].as_array().ok_or_else(|| body.clone())?;
        let value = |one: &serde_json::Value| one["value"][1].as_str().and_then(|number| number.parse().ok());
        series.iter().map(value).collect::<Option<_>>().ok_or(body)
    }

    #[track_caller]
    fn answers(&self, query: &str, expected: f64) {
        wait_until(query, Duration::from_secs(20), || equal(query, self.query(query)?, vec![expected]));
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("prometheus said:\n{}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn prometheus_scrapes_and_answers_queries() {
    let _bound = bounded();
    let pair = Pair::new();
    let agent = Scene { side: Side::Server, mode: IngressMode::Tc }.observe(&pair);
    let prometheus = Prometheus::start(&pair.server);
    prometheus.answers("up", 1.0);
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, 8080));
    let held = Connection::open_many(&pair.client, &listener, 20);
    let established = "tcp_observer_connections{state='established',role='server'}";
    prometheus.answers(established, 20.0);
    prometheus.answers("sum(tcp_observer_connection_attempts_total{outcome='completed'})", 20.0);
    prometheus.answers("sum(tcp_observer_handshake_duration_seconds_count{segment='total',role='server'})", 20.0);
    prometheus.answers("sum(tcp_observer_connection_attempts_total{port='8080',outcome='completed'})", 20.0);
    let median = "histogram_quantile(0.5, sum by (le) \
                  (tcp_observer_handshake_duration_seconds_bucket{segment='total',role='server'}))";
    let seconds = prometheus.query(median).unwrap();
    assert!(matches!(seconds[..], [s] if s > 0.0 && s < 5.0), "a handshake between namespaces takes {seconds:?} s");
    drop(held);
    prometheus.answers(established, 0.0);
    prometheus.answers("sum(tcp_observer_time_wait_connections)", 20.0);
    prometheus.answers("up", 1.0);
    drop(prometheus);
    agent.stop();
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let _bound = bounded();
    let pair = Pair::new();
    let agent = Scene { side: Side::Server, mode: IngressMode::Tc }.observe(&pair);
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, 8080));
    let _held = Connection::open_many(&pair.client, &listener, 3);
    let text = agent.metrics_text();
    let path = std::env::temp_dir().join(unique_name());
    fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    let script = format!("promtool check metrics < {}", path.display());
    let finished = run::finish(std::process::Command::new("sh").args(["-c", &script]));
    fs::remove_file(&path).unwrap();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(finished.stdout + &finished.stderr, "", "promtool complains");
    let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert!(series < 2000, "{series} series");
    agent.stop();
}
