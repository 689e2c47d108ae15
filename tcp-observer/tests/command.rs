//! The program from outside: what it says, and with which code it ends.

use std::process::{Command, Output};

fn tcp_observer(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tcp-observer")).args(arguments).output().expect("the program that was just built")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_an_agent_the_code_is_3_and_one_line_says_what_to_do() {
    for command in ["dump", "summary"] {
        let output = tcp_observer(&[command, "--pin-dir", env!("CARGO_TARGET_TMPDIR")]);
        assert_eq!(output.status.code(), Some(3), "{command}");
        let stderr = stderr(&output);
        assert!(stderr.starts_with("tcp-observer: no agent is running"), "{stderr}");
        assert!(stderr.contains("tcp-observer run"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn wrong_usage_is_code_2() {
    for arguments in [&["dump", "--state", "open"][..], &["dump", "--addr", "192.0.2"], &["dance"], &[]] {
        let output = tcp_observer(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let version = tcp_observer(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(text.starts_with(concat!("tcp-observer ", env!("CARGO_PKG_VERSION"), " (")), "{text}");
    assert_eq!(tcp_observer(&["dump", "--help"]).status.code(), Some(0));
}
