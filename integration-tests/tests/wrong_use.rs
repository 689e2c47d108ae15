//! What goes wrong before, while and after an agent runs: it says so with the right exit code, and leaves nothing.

use std::{io::Read as _, net::TcpListener};

use integration_tests::{
    agent::{PORT, binary, run_command, unused_pin_dir},
    bpf, kernel,
    pair::WIRE,
    prelude::*,
    run::{self, Finished},
    wait::equal,
};

/// `run` with these arguments, which has to end by itself with this code and a message about this.
#[track_caller]
fn fails(namespace: &Namespace, arguments: &[&str], code: i32, about: &str) {
    let pin_dir = unused_pin_dir();
    says(&run::finish(&mut run_command(namespace, &pin_dir, arguments)), code, about);
    assert!(!pin_dir.exists(), "`{}` was left", pin_dir.display());
    assert_eq!(bpf::attached(namespace), Vec::<String>::new());
}

#[track_caller]
fn says(finished: &Finished, code: i32, about: &str) {
    assert_eq!(finished.code, Some(code), "{finished:#?}");
    assert!(finished.stderr.contains(about), "it does not speak of `{about}`: {finished:#?}");
    assert!(!finished.stderr.contains("panicked"), "{finished:#?}");
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let _bound = bounded();
    let namespace = Namespace::new();
    fails(&namespace, &["--interface", "lo", "--max-flows", "0"], 2, "max-flows");
    fails(&namespace, &["--interface", "lo", "--max-half-open", "0"], 2, "max-half-open");
    fails(&namespace, &["--interface", "lo", "--max-flows", "99999999999999"], 2, "max-flows");
    fails(&namespace, &["--interface", "lo", "--max-flows", "many"], 2, "max-flows");
    fails(&namespace, &["--interface", "lo", "--ingress", "pigeon"], 2, "pigeon");
    for (arguments, about) in [
        (["run", "--listen", "not-an-address"], "not-an-address"),
        (["run", "--listen", "127.0.0.1:99999"], "99999"),
        (["dump", "--state", "asleep"], "asleep"),
        (["dump", "--addr", "192.0.2.0/40"], "192.0.2.0/40"),
        (["dump", "--port", "70000"], "70000"),
    ] {
        says(&run::finish(namespace.command(binary()).args(arguments)), 2, about);
    }
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let _bound = bounded();
    let namespace = Namespace::new();
    let finished =
        run::finish(&mut run_command(&namespace, &unused_pin_dir(), &["--interface", "nowhere0", "--ingress", "tc"]));
    assert!(matches!(finished.code, Some(1 | 2)), "{finished:#?}");
    assert!(finished.stderr.contains("nowhere0"), "{finished:#?}");
    assert_eq!(bpf::attached(&namespace), Vec::<String>::new());
}

#[test]
fn reading_commands_say_that_no_agent_runs() {
    let _bound = bounded();
    let namespace = Namespace::new();
    let pin_dir = unused_pin_dir();
    for subcommand in ["dump", "summary"] {
        let finished = run::finish(namespace.command(binary()).arg(subcommand).arg("--pin-dir").arg(&pin_dir));
        says(&finished, 3, "agent");
    }
}

#[test]
fn without_privilege_it_says_so() {
    let _bound = bounded();
    let namespace = Namespace::new();
    let mut command = namespace.command("setpriv");
    // Still root, so that the program can be read wherever it lies, but with none of root's capabilities.
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(binary());
    command.args(["run", "--interface", "lo", "--pin-dir"]).arg(unused_pin_dir());
    says(&run::finish(&mut command), 3, "privilege");
}

#[test]
fn a_second_agent_leaves_the_first_one_alone() {
    let _bound = bounded();
    let pair = Pair::new();
    let agent = Agent::start(&pair.server, &["--interface", WIRE, "--ingress", "tc"]);
    let mut second = pair.client.command(binary());
    second.arg("run").arg("--pin-dir").arg(agent.pin_dir()).args(["--interface", WIRE, "--ingress", "tc"]);
    let finished = run::finish(&mut second);
    assert!(matches!(finished.code, Some(1..=3)), "{finished:#?}");
    assert_eq!(bpf::attached(&pair.client), Vec::<String>::new());
    let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, 8080));
    let _connection = Connection::open(&pair.client, &listener);
    assert_eq!(ss::agree(&agent, SOON, |_| true).len(), 1);
    agent.stop();
}

#[test]
fn a_port_in_use_is_an_error_that_leaves_nothing() {
    let _bound = bounded();
    let namespace = Namespace::new();
    let _taken = namespace.within(|| TcpListener::bind(("127.0.0.1", PORT))).unwrap();
    fails(&namespace, &["--interface", "lo", "--ingress", "tc"], 1, &PORT.to_string());
}

#[test]
fn either_signal_ends_it_and_nothing_is_left() {
    let _bound = bounded();
    for scene in Scene::all() {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let pair = Pair::new();
            let agent = scene.observe(&pair);
            assert!(!bpf::attached(scene.namespace(&pair)).is_empty(), "the witness sees what is attached");
            assert!(agent.pin_dir().exists());
            agent.stop_by(signal);
        }
    }
}

#[test]
fn an_agent_outlives_its_interface() {
    let _bound = bounded();
    for mode in IngressMode::ALL {
        let pair = Pair::new();
        pair.server.ip("link add spare0 type veth peer name spare1");
        pair.server.ip("link set spare0 up");
        pair.server.ip("link set spare1 up");
        let arguments = ["--interface", WIRE, "--interface", "spare0", "--ingress", mode.word()];
        let mut agent = Agent::start(&pair.server, &arguments);
        let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, 8080));
        let _before = Connection::open(&pair.client, &listener);
        pair.server.ip("link del spare0");
        let _after = Connection::open(&pair.client, &listener);
        assert_eq!(ss::agree(&agent, SOON, |_| true).len(), 2);
        assert!(agent.is_running());
        agent.metrics();
        agent.stop();
    }
}

/// Killed without a chance to clean up: the kernel detaches, and the next agent with this pin directory begins anew.
/// Before TCX the kernel does not detach filters: they let all pass, until the next agent puts its own in their place.
#[test]
fn what_a_killed_agent_left_does_not_stop_the_next_one() {
    let _bound = bounded();
    for mode in IngressMode::ALL {
        let pair = Pair::new();
        let arguments = ["--interface", WIRE, "--ingress", mode.word()];
        let mut killed = Agent::start(&pair.server, &arguments);
        let listener = Listener::new(&pair.server, pair.server_addr(Family::V4, 8080));
        let before = Connection::open(&pair.client, &listener);
        assert_eq!(ss::agree(&killed, SOON, |_| true).len(), 1);
        let places = bpf::attached(&pair.server).len();
        killed.kill();
        // The client closes first and keeps the TIME-WAIT: the server waits for its FIN.
        let Connection { client, mut server } = before;
        drop(client);
        assert_eq!(server.read(&mut [0]).expect("the client's FIN arrives"), 0);
        drop(server);
        wait_until("the kernel to detach", SOON, || {
            let mut attached = bpf::attached(&pair.server);
            attached.retain(|place| kernel::has_tcx() || !place.contains(": tc "));
            equal("attached", attached, vec![])
        });
        let next = Agent::start_at(&pair.server, &arguments, killed.pin_dir().to_owned());
        let _after = Connection::open(&pair.client, &listener);
        assert_eq!(ss::agree(&next, SOON, |_| true).len(), 1, "the old agent's flows are gone with it");
        assert_eq!(bpf::attached(&pair.server).len(), places, "{:?}", bpf::attached(&pair.server));
        next.stop();
    }
}
