//! Commands that come to an end: run with a limit of time, their output kept for the message of a failure.

use std::{
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::wait::patience;

/// What a command may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    pub command: String,
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started or does not end in time.
#[track_caller]
pub fn finish(command: &mut Command) -> Finished {
    finish_within(LIMIT, command)
}

/// The same with a limit of its own.
#[track_caller]
pub fn finish_within(limit: Duration, command: &mut Command) -> Finished {
    let words = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {words}: {error}"));
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let (limit, started) = (patience(limit), Instant::now());
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if started.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{words} has not ended after {limit:?}");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Finished { command: words, code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs a command that has to succeed; gives what it wrote.
#[track_caller]
pub fn success(command: &mut Command) -> String {
    let finished = finish(command);
    assert!(finished.code == Some(0), "failed: {finished:#?}");
    finished.stdout
}

/// Reads a stream to its end beside the caller.
pub fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
