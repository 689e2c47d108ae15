//! `replay`: reads captures and shows their flows, all at once or one by one as they end, or a summary of them, or what
//! happens to them.

use std::{
    io::{self, IsTerminal as _},
    mem,
};

use tcp_observer::{
    cli::ReplayArgs,
    output::{Format, follow, stream::Stream, summary},
    replay::{self, Finished, Input, Options, Progress, follow::Event},
    selection::Selection,
};

use crate::{complain, stdout};

/// Why the flows do not tell all that is in the captures.
type Faults = Vec<anyhow::Error>;

pub fn replay(args: ReplayArgs) -> anyhow::Result<()> {
    let (summary_format, follow_format) = (args.summary_format()?, args.follow_format()?);
    let (inputs, options, format) = (args.inputs()?, (&args).into(), args.output);
    let stream = args.select.takes_one_at_a_time().then(|| Stream::new(format, stdout::buffered())).flatten();
    let selection = args.select.into();
    let mut faults = match (summary_format, follow_format, stream) {
        (Some(format), _, _) => summarize(&inputs, &options, format)?,
        (None, Some(format), _) => show_what_happens(&inputs, &options, &selection, format)?,
        (None, None, Some(out)) => show_as_they_end(&inputs, &options, &selection, out)?,
        (None, None, None) => show_all(&inputs, &options, &selection, format)?,
    };
    // Last, so that they are read after what could be analysed nevertheless.
    let last = faults.pop();
    faults.iter().for_each(complain);
    last.map_or(Ok(()), Err)
}

fn show_all(inputs: &[Input], options: &Options, selection: &Selection, format: Format) -> anyhow::Result<Faults> {
    let mut flows = Vec::new();
    let keep = |finished| {
        flows.push(finished);
        Ok(())
    };
    let mut outcome = replay::stream(inputs, options, Progress::on_stderr(inputs), keep)?;
    let faults = mem::take(&mut outcome.faults);
    if outcome.captures > 0 {
        stdout::show_flows(&outcome.snapshot(flows), selection, format)?;
    }
    Ok(faults)
}

fn show_as_they_end(
    inputs: &[Input],
    options: &Options,
    selection: &Selection,
    mut out: Stream<impl io::Write>,
) -> anyhow::Result<Faults> {
    // A bar between lines of output would spoil both.
    let progress = if io::stdout().is_terminal() { Progress::hidden() } else { Progress::on_stderr(inputs) };
    let (mut known, mut shown) = (0_u64, 0);
    let write = |finished: Finished| {
        known += 1;
        let is_asked_for = selection.limit.is_none_or(|limit| shown < limit)
            && selection.filter.matches(&finished.record, finished.now_unix_ns);
        if is_asked_for {
            shown += 1;
            out.add(&finished.record)?;
        }
        Ok(())
    };
    let outcome = match replay::stream(inputs, options, progress, write) {
        Ok(outcome) => outcome,
        Err(error) => return stdout::written(Err(error)).map(|()| Faults::new()),
    };
    if outcome.captures > 0 {
        stdout::written(out.end())?;
        if shown == 0 {
            stdout::remark_on_nothing(known > 0);
        }
    }
    Ok(outcome.faults)
}

fn show_what_happens(
    inputs: &[Input],
    options: &Options,
    selection: &Selection,
    format: follow::Format,
) -> anyhow::Result<Faults> {
    let is_terminal = io::stdout().is_terminal();
    let progress = if is_terminal { Progress::hidden() } else { Progress::on_stderr(inputs) };
    // What comes from another program may come just now, and somebody may be waiting for it.
    let is_live = is_terminal || inputs.contains(&Input::Stdin);
    let mut out = follow::Lines::new(format, stdout::buffered());
    let (mut happened, mut shown) = (false, 0);
    let write = |event: Event| {
        happened = true;
        let endpoints = [event.originator, event.responder].map(|endpoint| (endpoint.ip(), endpoint.port()));
        let is_asked_for =
            selection.limit.is_none_or(|limit| shown < limit) && selection.filter.is_between(endpoints, event.role);
        if !is_asked_for {
            return Ok(());
        }
        shown += 1;
        out.add(&event)?;
        if is_live { out.flush() } else { Ok(()) }
    };
    let outcome = match replay::follow(inputs, options, progress, write) {
        Ok(outcome) => outcome,
        Err(error) => return stdout::written(Err(error)).map(|()| Faults::new()),
    };
    stdout::written(out.flush())?;
    if outcome.captures > 0 && shown == 0 {
        stdout::remark_on_nothing(happened);
    }
    Ok(outcome.faults)
}

fn summarize(inputs: &[Input], options: &Options, format: summary::Format) -> anyhow::Result<Faults> {
    let mut tally = summary::Tally::default();
    let count = |finished: Finished| {
        tally.add(&finished.record, finished.now_unix_ns, None);
        Ok(())
    };
    let mut outcome = replay::stream(inputs, options, Progress::on_stderr(inputs), count)?;
    let faults = mem::take(&mut outcome.faults);
    if outcome.captures > 0 {
        let snapshot = outcome.snapshot(Vec::new());
        stdout::show(|out| summary::write_tally(&tally, &snapshot, format, out))?;
    }
    Ok(faults)
}
