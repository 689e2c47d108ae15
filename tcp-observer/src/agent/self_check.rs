//! The agent's own comparison with the kernel's sockets, now and then, on a thread of its own.
//!
//! What it finds is exported; a line is logged when differences begin that last, and one when they have ended. It takes
//! what it takes: the pause after a comparison is so long that comparing never takes more than half a percent of a CPU.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;

use super::status::Status;
use crate::{
    filter::Filter,
    kernel::{PinnedMaps, clock, sight::Sight},
    output::metrics::SocketCheck,
    verify::{self, Difference, Kind, Live, Report, Tries},
};

/// A pause is at least so many times what the comparison before it took of a CPU: half a percent.
const SHARE: u32 = 200;
/// How often a socket table is tried again that is not there, or not for us.
const REFUSED: Duration = Duration::from_secs(300);

/// What the comparison needs of the agent.
pub struct Subject {
    pub maps: Arc<PinnedMaps>,
    /// What the agent sees at this time.
    pub sight: Arc<Mutex<Sight>>,
    pub status: Arc<Status>,
}

/// The comparing thread. Dropping it ends the thread, after the look that it is in.
pub struct SelfCheck {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SelfCheck {
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(every: Duration, subject: Subject) -> anyhow::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("self-check".into())
            .spawn(move || check_until(&stopped, every, &subject))
            .context("cannot start the thread that compares with the kernel's sockets")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for SelfCheck {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

fn check_until(stopped: &mpsc::Receiver<()>, every: Duration, subject: &Subject) {
    let waits = |pause| matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout));
    let mut log = Log::default();
    let mut comparisons = 0;
    let mut pause = every;
    while waits(pause) {
        let sight = subject.sight.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (begun, cpu) = (Instant::now(), clock::thread_cpu());
        let mut paused = Duration::ZERO;
        let rest = |pause| {
            paused += pause;
            waits(pause)
        };
        let live = Live { maps: &subject.maps, sight: &sight };
        match verify::compare_pausing(&live, Tries::default(), &Filter::default(), rest) {
            Ok(Some(report)) => {
                let took = begun.elapsed().saturating_sub(paused);
                comparisons += 1;
                log.note(&report);
                subject.status.set_socket_check(Some(SocketCheck::new(&report, comparisons, took)));
                pause = next_pause(every, clock::thread_cpu() - cpu);
            }
            Ok(None) => return,
            Err(error) => {
                // What was true once would be taken for true now.
                subject.status.set_socket_check(None);
                log.fail(&error);
                pause =
                    if is_refusal(&error) { every.max(REFUSED) } else { next_pause(every, clock::thread_cpu() - cpu) };
            }
        }
    }
}

fn next_pause(every: Duration, cpu: Duration) -> Duration {
    every.max(cpu.saturating_mul(SHARE))
}

fn is_refusal(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::Unsupported) || error.downcast_ref::<crate::exit::Failure>().is_some()
}

/// Says what is new, once.
#[derive(Default)]
struct Log {
    differs: bool,
    fails: bool,
}

impl Log {
    fn note(&mut self, report: &Report) {
        if self.fails {
            tracing::info!("the kernel's sockets can be read again");
        }
        self.fails = false;
        match (self.differs, report.differing.first()) {
            (false, Some(first)) => tracing::warn!("{}", summary(report, first)),
            (true, None) => tracing::info!("the local ends agree with the kernel's sockets again"),
            (true, Some(_)) | (false, None) => {}
        }
        self.differs = !report.differing.is_empty();
    }

    fn fail(&mut self, error: &anyhow::Error) {
        if !self.fails {
            tracing::warn!("cannot compare the flows with the kernel's sockets: {error:#}");
        }
        self.fails = true;
    }
}

fn summary(report: &Report, first: &Difference) -> String {
    let kinds = Kind::ALL.map(|kind| format!("{} {}", report.differing_in(kind), kind.label()));
    format!(
        "local ends differ from the kernel's sockets ({}), such as {} to {}: socket {}, flow {}; `tcp-observer verify` \
         shows them all",
        kinds.join(", "),
        first.local,
        first.remote,
        first.socket().map_or("none", |socket| socket.state.label()),
        first.state().map_or("none", |state| state.label()),
    )
}

#[cfg(test)]
mod tests {
    use tcp_observer_common::conn::State;

    use super::*;
    use crate::{kernel::sockets::Socket, verify::Views};

    #[test]
    fn a_comparison_that_takes_long_comes_rarely() {
        let minute = Duration::from_secs(60);
        assert_eq!(next_pause(minute, Duration::from_millis(20)), minute);
        // A second is half a percent of 200 s.
        assert_eq!(next_pause(minute, Duration::from_secs(1)), Duration::from_secs(200));
        assert_eq!(next_pause(minute, Duration::MAX), Duration::MAX);
    }

    #[test]
    fn differences_are_told_when_they_begin_and_when_they_end() {
        let socket = Socket::fixture("192.0.2.1:443", "198.51.100.1:40000", State::CloseWait);
        let (local, remote) = (socket.local, socket.remote);
        let views = Views::SocketOnly(socket);
        let differing = Report {
            differing: vec![Difference { local, remote, views, seen_unix_ns: 0, exception: None }],
            ..Report::default()
        };
        let mut log = Log::default();
        log.note(&Report::default());
        assert!(!log.differs);
        log.note(&differing);
        assert!(log.differs);
        assert!(summary(&differing, &differing.differing[0]).starts_with(
            "local ends differ from the kernel's sockets (0 state, 1 no_flow, 0 no_socket), such as 192.0.2.1:443 to \
             198.51.100.1:40000: socket close_wait, flow none; "
        ));
        log.note(&Report::default());
        assert!(!log.differs);
    }

    #[test]
    fn a_table_that_is_not_there_is_no_failure_of_the_moment() {
        let failed = |kind: io::ErrorKind| anyhow::Error::new(io::Error::from(kind));
        assert!(is_refusal(&failed(io::ErrorKind::Unsupported)));
        assert!(is_refusal(&crate::exit::Failure::unavailable("not for us")));
        assert!(!is_refusal(&failed(io::ErrorKind::Interrupted)));
    }
}
