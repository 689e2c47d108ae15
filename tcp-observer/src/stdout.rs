//! What is written to stdout, and what became of it.

use std::{
    env,
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write},
};

use anyhow::Context as _;
use tcp_observer::{
    output::{self, Format},
    selection::Selection,
    snapshot::Snapshot,
};

/// Stdout for much to be written.
pub fn buffered() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(64 * 1024, io::stdout().lock())
}

pub fn show(write: impl FnOnce(&mut BufWriter<StdoutLock<'static>>) -> io::Result<()>) -> anyhow::Result<()> {
    let mut out = buffered();
    let result = write(&mut out);
    written(result.and_then(|()| out.flush()))
}

pub fn show_flows(snapshot: &Snapshot, selection: &Selection, format: Format) -> anyhow::Result<()> {
    let flows = selection.of(snapshot);
    let bold_header = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    show(|out| output::write_flows(&flows, snapshot.taken_unix_ns, format, bold_header, out))?;
    if flows.is_empty() {
        remark_on_nothing(!snapshot.flows.is_empty());
    }
    Ok(())
}

/// Says why there are no flows to be seen.
pub fn remark_on_nothing(is_any_known: bool) {
    let remark = if is_any_known { "no flow matches" } else { "no flow is known" };
    let _ = writeln!(io::stderr(), "tcp-observer: {remark}");
}

/// What became of the output. Whoever reads it may have seen enough: `tcp-observer dump | head` is no failure.
pub fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}
