//! The tutorial's and the README's commands on the example captures print what the text says they print.

use std::{fs, process::Command};

use crate::{
    command::text,
    examples::{NAMES, root},
};

/// The commands in a text's console blocks, each with the output below it.
fn commands(document: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut is_console = false;
    for line in document.lines() {
        if line.starts_with("```") {
            is_console = line == "```console";
        } else if !is_console {
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), String::new()));
        } else if let Some((_, output)) = commands.last_mut() {
            *output += line;
            *output += "\n";
        }
    }
    commands
}

fn check(document: &str, (command, expected): (String, String)) {
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("tcp-observer"), "{document}: {command}");
    let output = Command::new(env!("CARGO_BIN_EXE_tcp-observer")).args(words).current_dir(root()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{document}: {command}");
    assert_eq!(text(&output.stdout), expected, "{document}: {command}");
}

#[test]
fn every_command_of_the_tutorial_prints_what_stands_below_it() {
    let tutorial = fs::read_to_string(root().join("docs/tutorial.md")).unwrap();
    let commands = commands(&tutorial);
    for name in NAMES {
        let follow = format!("tcp-observer replay --follow docs/examples/{name}.pcap");
        assert!(commands.iter().any(|(command, _)| *command == follow), "the tutorial does not show {name}");
    }
    commands.into_iter().for_each(|command| check("tutorial.md", command));
}

#[test]
fn the_readmes_examples_print_what_stands_below_them() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let commands: Vec<_> =
        commands(&readme).into_iter().filter(|(command, _)| command.contains(" docs/examples/")).collect();
    assert!(!commands.is_empty());
    commands.into_iter().for_each(|command| check("README.md", command));
}
