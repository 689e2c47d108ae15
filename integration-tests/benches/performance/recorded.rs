//! Ratios that were measured before, in `recorded.json` beside this file: what is much worse has a reason.
//!
//! Compared are packets' costs as ratios to the reference of the same run, the best of five, and only twice the recorded one is a failure:
//! no noise does that. The output is that of a test binary, which `cargo xtask test` counts.

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode};

use serde_json::{Value, json};

use crate::{figure::Figure, machine::Machine, packet};

const PARTS: usize = 5;
const TOLERATED: f64 = 2.0;

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/performance/recorded.json"))
}

/// Writes this run's ratios down, over those that were there.
pub fn write(machine: &Machine, figures: &[Figure]) -> ExitCode {
    let ratio = |figure: &Figure| Some((figure.key(), rounded(figure.ratio()?)));
    let packets = figures.iter().filter(|figure| figure.part == packet::PART);
    let ratios: BTreeMap<_, _> = packets.filter_map(ratio).collect();
    let text = format!("{:#}\n", json!({ "measured_on": machine.kind(), "ratios": ratios }));
    fs::write(path(), text).expect("the recorded ratios can be written");
    ExitCode::SUCCESS
}

fn rounded(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

/// Holds this run's ratios against the recorded ones.
pub fn compare(figures: &[Figure]) -> ExitCode {
    let text = fs::read_to_string(path()).expect("the recorded ratios are there");
    let recorded: Value = serde_json::from_str(&text).expect("the recorded ratios are JSON");
    println!("held against ratios measured on {}", recorded["measured_on"].as_str().unwrap_or("?"));
    let (mut passed, mut failed) = (0, 0);
    for figure in figures.iter().filter(|figure| figure.part == packet::PART) {
        let Some(ratio) = figure.best_ratio(PARTS) else { continue };
        let key = figure.key();
        let Some(before) = recorded["ratios"][&key].as_f64() else {
            println!("test {key} ... FAILED: no ratio is recorded; run it with --record");
            failed += 1;
            continue;
        };
        let is_worse = if figure.unit.is_rate() { ratio * TOLERATED < before } else { ratio > before * TOLERATED };
        let verdict = if is_worse { "FAILED" } else { "ok" };
        println!("test {key} ... {verdict}: ratio {ratio:.2}, recorded {before:.2}");
        if is_worse {
            failed += 1;
        } else {
            passed += 1;
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
