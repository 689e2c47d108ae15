//! Ratios that were measured before, in `recorded.json` beside this file: what is much worse has a reason.
//!
//! Compared are packets' costs as ratios to the reference of the same run, by the lower quartile of the rounds, and only
//! twice the recorded one is too much. What disturbs the machine may outlast a run, and what is cached with what depends on
//! the tables' seed and pages: so a ratio that is too much is measured again, up to five times in all, by new agents with
//! new tables, and the best counts.
//! The output is that of a test binary, which `cargo xtask test` counts.

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode};

use serde_json::{Value, json};

use crate::{figure::Figure, machine::Machine, packet};

const TIMES: usize = 5;
const TOLERATED: f64 = 2.0;

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/performance/recorded.json"))
}

/// Of what is compared.
fn ratios(figures: &[Figure], ratio: impl Fn(&Figure) -> Option<f64>) -> BTreeMap<String, f64> {
    let packets = figures.iter().filter(|figure| figure.part == packet::PART);
    packets.filter_map(|figure| Some((figure.key(), ratio(figure)?))).collect()
}

/// Writes this run's ratios down, over those that were there.
pub fn write(machine: &Machine, figures: &[Figure]) -> ExitCode {
    let rounded = |ratio: f64| (ratio * 100.0).round() / 100.0;
    let ratios = ratios(figures, |figure| figure.ratio().map(rounded));
    let text = format!("{:#}\n", json!({ "measured_on": machine.kind(), "ratios": ratios }));
    fs::write(path(), text).expect("the recorded ratios can be written");
    ExitCode::SUCCESS
}

/// Holds this run's ratios against the recorded ones; `again` measures once more.
pub fn compare(figures: &[Figure], mut again: impl FnMut() -> Vec<Figure>) -> ExitCode {
    let text = fs::read_to_string(path()).expect("the recorded ratios are there");
    let recorded: Value = serde_json::from_str(&text).expect("the recorded ratios are JSON");
    println!("held against ratios measured on {}", recorded["measured_on"].as_str().unwrap_or("?"));
    let recorded: BTreeMap<String, f64> =
        serde_json::from_value(recorded["ratios"].clone()).expect("the recorded ratios are numbers");
    let is_too_much = |key: &str, ratio: f64| recorded.get(key).is_some_and(|before| ratio > before * TOLERATED);
    // What is recorded and not measured is too much as well.
    let mut best: BTreeMap<_, _> = recorded.keys().map(|key| (key.clone(), f64::INFINITY)).collect();
    let mut take = |figures: &[Figure]| -> Vec<String> {
        for (key, ratio) in ratios(figures, Figure::low_ratio) {
            best.entry(key).and_modify(|best| *best = best.min(ratio)).or_insert(ratio);
        }
        best.iter().filter(|(key, ratio)| is_too_much(key, **ratio)).map(|(key, _)| key.clone()).collect()
    };
    let mut too_much = take(figures);
    for time in 2..=TIMES {
        if too_much.is_empty() {
            break;
        }
        println!("too much, and measured again, {time} of {TIMES}: {}", too_much.join("; "));
        too_much = take(&again());
    }
    let (mut passed, mut failed) = (0, 0);
    for (key, ratio) in &best {
        let before =
            recorded.get(key).map_or("never; run it with --record".to_owned(), |before| format!("{before:.2}"));
        let is_within = recorded.contains_key(key) && !too_much.contains(key);
        let (verdict, count) = if is_within { ("ok", &mut passed) } else { ("FAILED", &mut failed) };
        *count += 1;
        println!("test {key} ... {verdict}: ratio {ratio:.2}, recorded {before}");
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
