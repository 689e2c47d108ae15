//! What is typed, and what is understood.

use clap::{CommandFactory as _, error::ErrorKind};
use tcp_observer_common::conn::{Locality, Note, Phase};

use super::*;
use crate::{output::verify::Shown, replay::Input, selection::Selection, snapshot::ConnState, verify::Tries};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

fn selection(flags: &str) -> Selection {
    match parse(&format!("tcp-observer dump {flags}")).unwrap().command {
        Command::Dump(args) => args.select.into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_of_the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn run_without_flags_has_the_documented_defaults() {
    let Command::Run(args) = parse("tcp-observer run").unwrap().command else { panic!() };
    let options = agent::Options::from(args);
    assert_eq!(options.interfaces, [""; 0]);
    assert_eq!(options.ingress, Ingress::Auto);
    assert_eq!(options.listen.to_string(), "127.0.0.1:9477");
    assert_eq!(options.pin_dir.to_str(), Some("/sys/fs/bpf/tcp-observer"));
    assert_eq!(options.remote_time_wait, Duration::from_secs(60));
    assert_eq!(options.self_check, Some(Duration::from_secs(60)));
}

#[test]
fn run_takes_what_it_is_told() {
    let line = "tcp-observer run -i eth0 --interface veth* --ingress xdp-generic --port 443,80 --port 22 \
                --max-flows 1000 --listen [::1]:1 --remote-time-wait 4m --self-check off --log-level info,tcp_observer::agent=debug";
    let Command::Run(args) = parse(line).unwrap().command else { panic!() };
    let options = agent::Options::from(args);
    assert_eq!(options.interfaces, ["eth0", "veth*"]);
    assert_eq!(options.ingress, Ingress::XdpGeneric);
    assert_eq!(options.ports, [443, 80, 22]);
    assert_eq!(options.max_flows, 1000);
    assert_eq!(options.remote_time_wait, Duration::from_secs(240));
    assert_eq!(options.self_check, None);
}

#[test]
fn notes_and_conn_states_go_by_their_labels_and_a_wrong_one_is_answered_with_the_right_ones() {
    let filter = selection("--note keepalive,zero-window --note tuple_reused --conn-state sf,S0").filter;
    assert_eq!(filter.notes, [Note::Keepalive, Note::ZeroWindow, Note::TupleReused]);
    assert_eq!(filter.conn_states, [ConnState::Sf, ConnState::S0]);
    let error = parse("tcp-observer dump --note keepalve").unwrap_err().to_string();
    assert!(error.contains("keepalive, heartbeat, zero_window") && error.contains("a similar value exists"), "{error}");
    let error = parse("tcp-observer dump --conn-state S9").unwrap_err().to_string();
    assert!(error.contains("S0, S1, SF, REJ"), "{error}");
    for ordinary in ["nothing", "completed", "syn_answered"] {
        assert!(parse(&format!("tcp-observer dump --note {ordinary}")).is_err(), "{ordinary}");
    }
}

#[test]
fn filters_repeat_and_take_lists() {
    let selection = selection(
        "--state estab,syn-recv --state time_wait --phase half-open --phase time_wait --role client,server --port 80 \
         --port 443 --addr 192.0.2.0/24,2001:db8::1 --interface eth0 --older-than 5m --sort bytes --limit 10",
    );
    let filter = selection.filter;
    assert_eq!(filter.states.len(), 3);
    assert_eq!(filter.phases, [Phase::HalfOpen, Phase::TimeWait]);
    assert_eq!(filter.roles, [Locality::Client, Locality::Server]);
    assert_eq!(filter.ports, [80, 443]);
    assert_eq!(filter.addrs.len(), 2);
    assert_eq!(filter.interfaces, ["eth0"]);
    assert_eq!(filter.older_than, Some(Duration::from_secs(300)));
    assert_eq!(selection.limit, Some(10));
}

#[test]
fn verify_takes_five_tries_over_a_second_unless_told_otherwise() {
    let verify = |flags: &str| match parse(&format!("tcp-observer verify{flags}")).unwrap().command {
        Command::Verify(args) => args,
        other => panic!("{other:?}"),
    };
    let plain = verify("");
    assert_eq!(plain.tries(), Tries { count: 5, interval: Duration::from_millis(250) });
    assert_eq!(plain.shown(), Shown { excepted: false, limit: None });
    assert_eq!(plain.pins.pin_dir.to_str(), Some("/sys/fs/bpf/tcp-observer"));
    let told =
        verify(" --tries 2 --interval 1s --all --limit 3 --state estab,close-wait --port 443 --addr ::1 -o json");
    assert_eq!(told.tries(), Tries { count: 2, interval: Duration::from_secs(1) });
    assert_eq!(told.shown(), Shown { excepted: true, limit: Some(3) });
    assert_eq!(told.output, output::verify::Format::Json);
    let filter = told.filter();
    assert_eq!((filter.states.len(), filter.ports, filter.addrs.len()), (2, vec![443], 1));
}

#[test]
fn replay_takes_files_and_standard_input_in_the_order_given() {
    let replay = |line: &str| match parse(&format!("tcp-observer replay {line}")).unwrap().command {
        Command::Replay(args) => args,
        other => panic!("{other:?}"),
    };
    let file = |name: &str| Input::File(name.into());
    assert_eq!(replay("b.pcap - a.pcap").inputs().unwrap(), [file("b.pcap"), Input::Stdin, file("a.pcap")]);
    assert!(replay("- a.pcap -").inputs().is_err());
    for (line, one_at_a_time) in
        [("a", true), ("a --port 80 --limit 3", true), ("a --sort first-seen", false), ("a --older-than 5s", false)]
    {
        assert_eq!(replay(line).select.takes_one_at_a_time(), one_at_a_time, "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for flags in [
        "dump --state open",
        "dump --phase begun",
        "dump --role peer",
        "dump --addr 192.0.2",
        "dump --addr 192.0.2.1/33",
        "dump --port 65536",
        "dump --port -1",
        "dump --older-than 5",
        "dump --older-than soon",
        "dump --sort colour",
        "dump --limit many",
        "dump -o xml",
        "summary -o csv",
        "replay",
        "replay a.pcap --summary --sort bytes",
        "run --max-flows 0",
        "run --listen 9477",
        "run --log-level info=loud",
        "run --log-level verbose",
        "run --log-level info,,",
        "run --ingress sideways",
        "run --self-check often",
        "run --self-check 0s",
        "verify --tries 0",
        "verify --interval soon",
        "verify --state open",
        "verify -o csv",
        "verify --sort bytes",
        "dump extra",
        "dance",
    ] {
        let error = parse(&format!("tcp-observer {flags}")).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{flags}: {error}");
        assert!(!matches!(error.kind(), ErrorKind::DisplayHelp), "{flags}");
    }
}

#[test]
fn an_error_names_the_value_and_what_would_do() {
    let error = parse("tcp-observer dump --state open").unwrap_err().to_string();
    assert!(error.contains("'open'") && error.contains("established") && error.contains("synchronized"), "{error}");
}
