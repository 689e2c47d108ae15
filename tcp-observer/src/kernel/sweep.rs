//! Ends in the tables what silence has ended, by running a kernel program over them from time to time.
//!
//! Readers do not depend on it ([`settled_at`](tcp_observer_common::conn::Flow::settled_at) shows them the same), but
//! counters of timeouts and the room in the tables do. The half-open tables are small and turn over fast; the others
//! can be swept more rarely. Between two sweeps the quiet flows are compared with the kernel's sockets
//! ([`reconcile`]). It runs on a thread of its own, since a sweep of a full table keeps it busy for a while.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use tcp_observer_common::abi::request;

use super::{
    bpf,
    maps::PinnedMaps,
    reconcile::{self, Looks, Which},
};

const HALF_OPEN_EVERY: Duration = Duration::from_secs(1);
/// Every so many of those, all tables.
const ALL_EVERY: u32 = 5;

/// The sweeping thread. Dropping it ends the thread, after the sweep that it is in.
pub struct Sweeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(program: OwnedFd, maps: Arc<PinnedMaps>) -> anyhow::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("sweep".into())
            .spawn(move || sweep_until(&stopped, &program, &maps))
            .context("cannot start the sweeping thread")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

fn sweep_until(stopped: &mpsc::Receiver<()>, program: &OwnedFd, maps: &PinnedMaps) {
    let mut failing = false;
    let now = Instant::now();
    let mut sockets =
        Sockets { asked_for_all: now, asked: now, looks: Looks::begin(), failing: false, refused_until: None };
    for round in 1_u32.. {
        if !matches!(stopped.recv_timeout(HALF_OPEN_EVERY), Err(RecvTimeoutError::Timeout)) {
            return;
        }
        let which = if round.is_multiple_of(ALL_EVERY) { request::ALL } else { request::HALF_OPEN };
        let buckets = if which == request::ALL { maps.most_buckets() } else { maps.most_half_open_buckets() };
        match sweep(program, which, buckets) {
            Ok(()) => failing = false,
            Err(error) => {
                // Said once; it is tried again all the same.
                if !failing {
                    tracing::warn!("cannot sweep the tables: {error}; timeouts will be counted late");
                }
                failing = true;
            }
        }
        sockets.ask(maps, program);
    }
}

/// After a socket table that is not there, or not for us, how long before it is asked for again.
const REFUSED: Duration = Duration::from_secs(300);

/// When the socket table was last asked for all flows and for the half-open ones, and whether it answered.
struct Sockets {
    asked_for_all: Instant,
    asked: Instant,
    looks: Looks,
    failing: bool,
    /// There is none to be asked; until then no table is walked in vain.
    refused_until: Option<Instant>,
}

impl Sockets {
    /// Closes the flows whose sockets are gone, if it is time.
    fn ask(&mut self, maps: &PinnedMaps, program: &OwnedFd) {
        let now = Instant::now();
        if self.refused_until.is_some_and(|until| now < until) {
            return;
        }
        let which = if now - self.asked_for_all >= reconcile::EVERY {
            self.asked_for_all = now;
            Which::All
        } else if now - self.asked >= reconcile::HALF_OPEN_EVERY {
            Which::HalfOpen
        } else {
            return;
        };
        self.asked = now;
        self.refused_until = None;
        match reconcile::reconcile(maps, program, which, &mut self.looks) {
            Ok(0) => self.failing = false,
            Ok(count) => {
                tracing::debug!("closed {count} quiet flows whose sockets are gone");
                self.failing = false;
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!("cannot compare quiet flows with the kernel's sockets: {error:#}");
                }
                self.failing = true;
                self.refused_until = is_refusal(&error).then(|| now + REFUSED);
            }
        }
    }
}

/// Whether it will be no better in ten seconds.
fn is_refusal(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied))
}

/// Goes through tables of `buckets` buckets at most, a part at a time.
fn sweep(program: &OwnedFd, which: u8, buckets: u32) -> io::Result<()> {
    (0..buckets)
        .step_by(request::SPAN as usize)
        .try_for_each(|from| bpf::test_run(program.as_fd(), &request::frame(which, &from)).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_not_there_is_asked_for_rarely_and_one_that_changes_again_soon() {
        let failed = |kind: io::ErrorKind| anyhow::Error::new(io::Error::new(kind, "cannot read the sockets"));
        assert!(is_refusal(&failed(io::ErrorKind::Unsupported)));
        assert!(is_refusal(&failed(io::ErrorKind::PermissionDenied)));
        assert!(!is_refusal(&failed(io::ErrorKind::Interrupted)));
        assert!(!is_refusal(&anyhow::anyhow!("cannot run the sweep program")));
    }
}
