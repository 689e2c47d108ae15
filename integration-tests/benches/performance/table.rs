//! Figures for people.

use crate::{figure::Figure, spread::Spread};

/// A part's table as text: each figure's middle and quartiles, the reference's, and ours to it.
pub fn text(part: &str, figures: &[Figure]) -> String {
    let mut text = format!("\n{part:<58} {:>8} {:>10} {:>21}  reference\n", "flows", "ours", "quartiles");
    for figure in figures {
        let Spread { low, middle, high } = figure.spread();
        let flows = figure.flows.map(count).unwrap_or_default();
        let quartiles = format!("{} – {}", number(low), number(high));
        let unit = figure.unit.label();
        text += &format!("{:<58} {flows:>8} {:>10} {quartiles:>21}", figure.name, number(middle));
        if let Some((name, rounds)) = &figure.reference {
            text += &format!("  {:>10} {name}", number(Spread::of(rounds).middle));
        }
        if let Some(ratio) = figure.ratio() {
            text += &format!(", ratio {ratio:.2}");
        }
        text += &format!("  [{unit}]\n");
    }
    text
}

/// Three digits that say something, and no more.
pub fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 1e6 => format!("{:.2} M", value / 1e6),
        magnitude if magnitude >= 1e4 => format!("{:.1} k", value / 1e3),
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub fn count(flows: u64) -> String {
    match flows {
        1.. if flows.is_multiple_of(1_000_000) => format!("{} M", flows / 1_000_000),
        1.. if flows.is_multiple_of(1_000) => format!("{} k", flows / 1_000),
        _ => flows.to_string(),
    }
}
