//! The agent's life: prepare, attach, announce, serve, and undo all of it in the opposite order.

use std::{
    net::SocketAddr,
    os::fd::AsFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use futures_util::FutureExt;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Options,
    observed::Observed,
    self_check::{SelfCheck, Subject},
    status::Status,
};
use crate::{
    kernel::{
        Mapped, PinnedMaps, adopt,
        choice::Choice,
        leftover,
        links::{Inventory, Netlink},
        load::Programs,
        local::LocalAddresses,
        lock::Lock,
        memory, pin,
        plan::plan,
        preflight,
        sight::Sight,
        sweep::Sweeper,
    },
    output::{http, metrics::Exporter},
    version,
};

/// However often interfaces change, reading them may take a tenth of the time: the pause after a reading is this many
/// times what it took.
const PAUSE: u32 = 9;
/// And no shorter than this, since changes come in bursts.
const SETTLE: Duration = Duration::from_millis(10);
/// And at least this often, should the kernel have dropped a message about a change.
const RECHECK: Duration = Duration::from_secs(30);

pub async fn run(options: &Options) -> anyhow::Result<()> {
    memory::give_back_large_buffers();
    let mut signals = Signals::listen()?;
    let netlink = Netlink::open()?;
    let inventory = netlink.inventory().await?;
    let choice = Choice::new(&options.interfaces);
    choice.check(&inventory)?;
    for link in choice.pick(&inventory).into_iter().filter(|link| choice.insists_on(link)) {
        plan(link, options.ingress)?;
    }
    pin::prepare_bpffs(&options.pin_dir)?;
    let lock = take_lock(&options.pin_dir, &netlink, &inventory).await?;
    let outcome = with_lock(options, choice, netlink, &inventory, &lock, &mut signals).await;
    lock.release();
    outcome
}

/// Takes the lock and removes what a dead agent left under it.
async fn take_lock(pin_dir: &Path, netlink: &Netlink, inventory: &Inventory) -> anyhow::Result<Lock> {
    let (lock, leftover) = Lock::take(pin_dir)?;
    let removed = leftover::remove(pin_dir, leftover.unwrap_or_default(), netlink, inventory).await?;
    if !removed.is_nothing() {
        tracing::info!(
            "removed {} pins and {} attachments that an agent (process {}) had left",
            removed.pins,
            removed.attachments,
            removed.pid
        );
    }
    lock.note::<String>(&[])?;
    Ok(lock)
}

async fn with_lock(
    options: &Options,
    choice: Choice,
    mut netlink: Netlink,
    inventory: &Inventory,
    lock: &Lock,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let listener = bind(options.listen).await?;
    tracing::info!("loading the kernel programs: their verification takes a few seconds on a slow machine");
    let mut programs = Programs::open(options)?;
    log_kernel_messages(&mut programs);
    let programs = Arc::new(Mutex::new(programs));
    let mut agent = Agent {
        options,
        lock,
        observed: Observed::new(choice, options.ingress, Arc::clone(&programs)),
        status: Arc::new(Status::new(Arc::clone(&programs))),
        programs,
        sight: Arc::default(),
    };
    let outcome = match agent.live(listener, &mut netlink, inventory, signals).await {
        // A signal interrupts the verifier, which can take a while: that is a stop, not a failure.
        Err(error) if signals.has_come() => {
            tracing::info!("stopped while starting: {error:#}");
            Ok(())
        }
        outcome => outcome,
    };
    agent.observed.end(netlink.handle()).await;
    let unpinned = pin::remove(&options.pin_dir);
    if outcome.is_ok() {
        tracing::info!("stopped: everything is detached and unpinned");
    }
    outcome.and(unpinned.map(drop))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on `{address}`: {error}; choose another one with `--listen`"))
}

struct Agent<'a> {
    options: &'a Options,
    lock: &'a Lock,
    observed: Observed,
    status: Arc<Status>,
    programs: Arc<Mutex<Programs>>,
    /// What is seen at this time: for whoever compares.
    sight: Arc<Mutex<Sight>>,
}

impl Agent<'_> {
    /// From filling the maps to the signal that ends it. The caller undoes what it did.
    async fn live(
        &mut self,
        listener: TcpListener,
        netlink: &mut Netlink,
        inventory: &Inventory,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let pin_dir = &self.options.pin_dir;
        let sweep = {
            let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
            programs.fill(self.options)?;
            pin::create(pin_dir)?;
            programs.pin(pin_dir)?;
            programs.sweep()?
        };
        let mut local = LocalAddresses::open(pin_dir)?;
        local.keep(&inventory.addresses)?;
        self.observed.begin(inventory)?;
        self.note_sight(inventory);
        self.note_attachments()?;
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).announce(pin_dir)?;
        let source = Arc::new(PinnedMaps::open(pin_dir, Mapped::AtOnce)?);
        self.adopt(inventory).await;
        let _sweeper = Sweeper::start(sweep, Arc::clone(&source))?;
        let _self_check = self.options.self_check.map(|every| self.check_itself(every, &source)).transpose()?;
        self.report(listener.local_addr().unwrap_or(self.options.listen));

        let exporter = Arc::new(Exporter::new(Arc::clone(&source) as _, Arc::clone(&self.status) as _));
        let status = Arc::clone(&self.status);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(http::serve(listener, exporter, move || status.health(), async {
            // An error is as good: whoever held the other end is gone.
            let _ = stopped.await;
        }));
        let outcome = self.follow(netlink, &mut local, signals).await;
        drop(stop);
        server.await.context("the web server failed")?;
        outcome
    }

    /// Keeps interfaces and addresses current until a signal comes.
    async fn follow(
        &mut self,
        netlink: &mut Netlink,
        local: &mut LocalAddresses,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let mut recheck = interval(RECHECK);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        recheck.tick().await;
        let mut next_read = Instant::now();
        loop {
            tokio::select! {
                name = signals.stop() => {
                    tracing::info!("{name}: stopping");
                    return Ok(());
                }
                () = netlink.changed() => {}
                _ = recheck.tick() => {}
            }
            tokio::select! {
                name = signals.stop() => {
                    tracing::info!("{name}: stopping");
                    return Ok(());
                }
                () = sleep_until(next_read) => {}
            }
            let begun = Instant::now();
            netlink.forget_changes();
            let inventory = netlink.inventory().await;
            // What is then done for an interface is done once, however long it takes.
            let took = begun.elapsed();
            match inventory {
                Ok(inventory) => self.update(inventory, netlink, local).await?,
                // Read while it was changing, most likely: the next change or the recheck asks again.
                Err(error) => tracing::debug!("{error:#}"),
            }
            next_read = Instant::now() + (took * PAUSE).max(SETTLE);
        }
    }

    /// Follows what has changed, and takes in connections that may be seen now and could not be before.
    async fn update(
        &mut self,
        mut inventory: Inventory,
        netlink: &Netlink,
        local: &mut LocalAddresses,
    ) -> anyhow::Result<()> {
        let mut has_new_address = keep(local, &inventory);
        let changed = self.observed.follow(&inventory);
        if changed {
            // To attach takes long enough for an interface to be given its addresses meanwhile.
            match netlink.inventory().await {
                Ok(now) => inventory.addresses = now.addresses,
                Err(error) => tracing::debug!("{error:#}"),
            }
            has_new_address |= keep(local, &inventory);
            self.note_attachments()?;
        }
        self.note_sight(&inventory);
        if changed || has_new_address {
            self.adopt(&inventory).await;
        }
        Ok(())
    }

    /// Takes in the connections that were there before. Without them the agent is as good for all that begin later.
    async fn adopt(&self, inventory: &Inventory) {
        let sight = self.note_sight(inventory);
        let sweep = self.programs.lock().unwrap_or_else(PoisonError::into_inner).sweep();
        let adopted = tokio::task::spawn_blocking(move || adopt::adopt(sweep?.as_fd(), &sight));
        match adopted.await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => tracing::info!("adopted {count} connections that were there before"),
            Ok(Err(error)) => tracing::warn!("cannot adopt the connections that were there before: {error:#}"),
            Err(error) => tracing::warn!("cannot adopt the connections that were there before: {error}"),
        }
    }

    fn check_itself(&self, every: Duration, maps: &Arc<PinnedMaps>) -> anyhow::Result<SelfCheck> {
        let subject =
            Subject { maps: Arc::clone(maps), sight: Arc::clone(&self.sight), status: Arc::clone(&self.status) };
        SelfCheck::start(every, subject)
    }

    fn note_sight(&self, inventory: &Inventory) -> Sight {
        let sight = Sight::new(inventory, self.observed.names().map(|(index, _)| index).collect());
        self.sight.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&sight);
        sight
    }

    fn note_attachments(&self) -> anyhow::Result<()> {
        let programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, name) in self.observed.names() {
            // Its flows are then shown without an interface; that is no reason to stop.
            if let Err(error) = programs.note_interface(index, name) {
                tracing::warn!("{error:#}");
            }
        }
        drop(programs);
        self.status.set_attachments(self.observed.attachments());
        self.lock.note(&self.observed.filters())
    }

    fn report(&self, listening: SocketAddr) {
        let Options { max_flows, max_half_open, pin_dir, .. } = self.options;
        tracing::info!(
            "tcp-observer {} on Linux {}: up to {max_flows} flows and {max_half_open} half-open ones of each address \
             family in {}; maps under `{}`; metrics at http://{listening}/metrics",
            version::LONG,
            preflight::kernel_release(),
            memory::mebibytes(memory::tables_bytes(*max_flows, *max_half_open)),
            pin_dir.display(),
        );
    }
}

/// Tells the kernel programs of local addresses; whether there are new ones.
fn keep(local: &mut LocalAddresses, inventory: &Inventory) -> bool {
    local.keep(&inventory.addresses).unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        false
    })
}

/// Passes on what the kernel programs log, if they do.
fn log_kernel_messages(programs: &mut Programs) {
    let Some(logger) = programs.logger() else { return };
    // SAFETY: the logger's descriptor is its ring buffer's, which lives as long as the logger and never changes.
    let mut logger = match unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) } {
        Ok(logger) => logger,
        Err(error) => return tracing::debug!("cannot wait for the log of the kernel programs: {error}"),
    };
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
}

/// The signals that end the agent. SIGHUP does not: a terminal that closes takes nothing down.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    _hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            _hangup: catch(SignalKind::hangup())?,
        })
    }

    /// Whether a signal has come that nobody has waited for.
    fn has_come(&mut self) -> bool {
        self.stop().now_or_never().is_some()
    }

    /// Waits for the first signal; the second one then ends the process at once.
    async fn stop(&mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        };
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the default action needs no handler of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        name
    }
}
