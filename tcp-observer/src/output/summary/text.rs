//! The summary for people: short tables, without lines and columns in which nothing has happened.

use std::io::{self, Write};

use super::{ByRole, Closes, Counts, EphemeralPorts, ListenOverflow, Summary, Times, quantile::Quantile};
use crate::output::human::Count;

pub(super) fn write(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let flows = if summary.flows == 1 { "flow" } else { "flows" };
    writeln!(out, "{} {flows} at {}", Count(summary.flows), summary.taken)?;
    section(out, "Connections by state", &by_role("STATE", &summary.connections))?;
    section(out, "Half open, by the time since the first SYN", &half_open(summary))?;
    section(out, "Attempts by outcome", &by_role("OUTCOME", &summary.attempts))?;
    section(out, "Closes by who began and how", &closes(&summary.closes))?;
    let times = handshakes(summary);
    section(out, "Handshake times", &times)?;
    let half_closes = half_closes(summary);
    section(out, "Half-close times", &half_closes)?;
    if times.len() > 1 || half_closes.len() > 1 {
        writeln!(out, "  ~ interpolated: the true value is within the same power of two")?;
    }
    section(out, "CLOSE_WAIT here, by how long", &ages(&summary.close_wait))?;
    section(out, "Recognised", &counts("what", &summary.recognised))?;
    section(out, "Unreachable, by what ICMP says", &counts("code", &summary.unreachable))?;
    section(out, "Listeners that may not keep up", &listen_overflow(&summary.listen_overflow))?;
    section(out, "Local ports in use, most towards one service", &ephemeral_ports(&summary.ephemeral_ports))?;
    section(out, "Busiest remote prefixes", &prefixes(summary))?;
    section(out, "Tables", &tables(summary))?;
    section(out, "Packets that updated no flow", &counts("reason", &summary.skipped_packets))
}

/// Lines of cells, the title's first.
type Grid = Vec<Vec<String>>;

/// Writes a grid under its heading; words to the left, numbers to the right. One with nothing but titles is left out.
fn section(out: &mut impl Write, heading: &str, grid: &Grid) -> io::Result<()> {
    let [titles, lines @ ..] = grid.as_slice() else { return Ok(()) };
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{heading}")?;
    let width = |column: usize| {
        grid.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let is_word = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).all(|cell| cell.starts_with(|c: char| c.is_alphabetic()))
            || column == 0
    };
    let columns: Vec<_> = (0..titles.len()).map(|column| (width(column), is_word(column))).collect();
    for line in grid {
        let mut text = String::new();
        for (cell, &(width, is_word)) in line.iter().zip(&columns) {
            text += "  ";
            text += &if is_word { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn titles<'a>(words: impl IntoIterator<Item = &'a str>) -> Grid {
    vec![words.into_iter().map(str::to_uppercase).collect()]
}

/// One line for each word that counts anything, one column for each role that does.
fn by_role(title: &str, rows: &[ByRole]) -> Grid {
    let columns: Vec<_> = rows.iter().filter(|row| row.counts.iter().any(|&(_, count)| count > 0)).collect();
    let mut grid = titles([title].into_iter().chain(columns.iter().map(|row| row.role.unwrap_or("count"))));
    let words = columns.first().map_or(0, |row| row.counts.len());
    for index in 0..words {
        if columns.iter().any(|row| row.counts[index].1 > 0) {
            let counts = columns.iter().map(|row| Count(row.counts[index].1).to_string());
            grid.push([columns[0].counts[index].0.to_owned()].into_iter().chain(counts).collect());
        }
    }
    grid
}

fn half_open(summary: &Summary) -> Grid {
    let rows = || summary.half_open.iter().filter(|row| row.ages.iter().any(|&(_, count)| count > 0));
    let ages = summary.half_open.first().map_or(&[][..], |row| &row.ages);
    let mut grid = titles(["kind", "role"]);
    // Ages are words of their own, not titles to shout.
    grid[0].extend(ages.iter().map(|&(age, _)| age.replace("gt_", "> ")));
    for row in rows() {
        let counts = row.ages.iter().map(|&(_, count)| Count(count).to_string());
        grid.push([row.kind, row.role.unwrap_or("-")].map(str::to_owned).into_iter().chain(counts).collect());
    }
    grid
}

fn closes(rows: &[Closes]) -> Grid {
    let ways = rows.first().map_or(&[][..], |row| &row.how);
    let mut grid = titles(["by"].into_iter().chain(ways.iter().map(|&(how, _)| how)));
    for row in rows.iter().filter(|row| row.how.iter().any(|&(_, count)| count > 0)) {
        let counts = row.how.iter().map(|&(_, count)| Count(count).to_string());
        grid.push([row.initiator.to_owned()].into_iter().chain(counts).collect());
    }
    grid
}

/// All parts by role; by port only the total, which is what the user waited.
fn handshakes(summary: &Summary) -> Grid {
    let mut grid = titles(["port", "role", "segment", "count", "p50", "p90", "p99", "max"]);
    for row in summary.handshakes.iter().filter(|row| row.port.is_none() || row.segment == "total") {
        let words = [row.port.as_deref().unwrap_or("all"), row.role.unwrap_or("-"), row.segment].map(str::to_owned);
        grid.push(words.into_iter().chain(spread(&row.times)).collect());
    }
    grid
}

/// How many, three quantiles and the longest.
fn spread(times: &Times) -> [String; 5] {
    let text = |quantile: Option<Quantile>| quantile.map_or(String::new(), |it| it.text());
    let longest = times.max.map_or(String::new(), |max| max.bound_text());
    [Count(times.count).to_string(), text(times.p50), text(times.p90), text(times.p99), longest]
}

fn prefixes(summary: &Summary) -> Grid {
    let mut grid = titles(["prefix", "flows", "half open"]);
    for busy in &summary.busiest_prefixes {
        grid.push(vec![busy.prefix.to_string(), Count(busy.flows).to_string(), Count(busy.half_open).to_string()]);
    }
    grid
}

fn tables(summary: &Summary) -> Grid {
    let mut grid = titles(["table", "entries", "capacity", "full"]);
    for table in &summary.tables {
        let percent = 100.0 * table.entries as f64 / table.capacity.max(1) as f64;
        grid.push(vec![
            table.table.to_owned(),
            Count(table.entries).to_string(),
            Count(table.capacity).to_string(),
            format!("{percent:.1}%"),
        ]);
    }
    grid
}

fn counts(title: &str, counts: &Counts) -> Grid {
    let mut grid = titles([title, "count"]);
    grid.extend(counts.iter().map(|&(word, count)| vec![word.to_owned(), Count(count).to_string()]));
    grid
}

/// One line for all of them, if there are any.
fn ages(counts: &Counts) -> Grid {
    let mut grid = vec![counts.iter().map(|&(age, _)| age.replace("gt_", "> ")).collect::<Vec<_>>()];
    if counts.iter().any(|&(_, count)| count > 0) {
        grid.push(counts.iter().map(|&(_, count)| Count(count).to_string()).collect());
    }
    grid
}

fn half_closes(summary: &Summary) -> Grid {
    let mut grid = titles(["role", "count", "p50", "p90", "p99", "max"]);
    for row in &summary.half_closes {
        grid.push([row.role.unwrap_or("-").to_owned()].into_iter().chain(spread(&row.times)).collect());
    }
    grid
}

/// Only what speaks for an overflow.
fn listen_overflow(overflow: &ListenOverflow) -> Grid {
    let mut grid = titles(["evidence", "port", "count"]);
    let mut line = |evidence: &str, port: Option<u16>, count: u64| {
        if count > 0 {
            let port = port.map_or_else(|| "-".to_owned(), |port| port.to_string());
            grid.push(vec![evidence.to_owned(), port, Count(count).to_string()]);
        }
    };
    for (&port, &count) in overflow.unanswered_syns.iter().flatten() {
        line("SYNs waiting for more than a second", Some(port), count);
    }
    line("SYN-ACKs again after the ACK", None, overflow.synack_after_ack);
    line("SYN-ACKs again after data", None, overflow.synack_after_data);
    line("full accept queues", None, overflow.overflowing_listeners.unwrap_or(0));
    grid
}

fn ephemeral_ports(rows: &[EphemeralPorts]) -> Grid {
    let mut grid = titles(["from", "to", "in use", "available"]);
    for row in rows {
        let available = row.available.map_or_else(|| "-".to_owned(), |ports| Count(ports).to_string());
        grid.push(vec![row.local.to_string(), row.remote.to_string(), Count(row.in_use).to_string(), available]);
    }
    grid
}
