//! Removes what an agent left that had no chance to clean up: its pins, and its filters on kernels without TCX.
//!
//! Everything else ends with the process. A live agent is never touched: only whoever holds the lock may clean up.

use std::path::Path;

use super::{
    clsact::{self, Filter},
    links::{Inventory, Netlink},
    lock::{self, Holder, Leftover, Lock},
    pin,
};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The process of the agent that had left it; zero when nobody knows.
    pub pid: u32,
    pub pins: usize,
    pub attachments: usize,
}

impl Removed {
    /// Whether there was nothing to remove.
    pub fn is_nothing(self) -> bool {
        self.pins == 0 && self.attachments == 0
    }
}

/// Cleans up after a dead agent: `tcp-observer detach`.
///
/// # Errors
/// When the agent is alive, or when something cannot be removed.
pub fn detach(pin_dir: &Path) -> anyhow::Result<Removed> {
    if let Holder::Running(pid) = lock::holder(pin_dir) {
        anyhow::bail!(
            "the agent with pin directory `{}` is running (process {pid}); stop it: it removes everything itself",
            pin_dir.display()
        );
    }
    let (lock, leftover) = Lock::take(pin_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let removed = runtime.block_on(async {
        let netlink = Netlink::open()?;
        let inventory = netlink.inventory().await?;
        remove(pin_dir, leftover.unwrap_or_default(), &netlink, &inventory).await
    })?;
    lock.release();
    Ok(removed)
}

/// Removes pins and filters; to be called with the lock held.
///
/// # Errors
/// When a pin cannot be removed.
pub async fn remove(
    pin_dir: &Path,
    leftover: Leftover,
    netlink: &Netlink,
    inventory: &Inventory,
) -> anyhow::Result<Removed> {
    let mut removed = Removed { pid: leftover.pid, pins: pin::remove(pin_dir)?, attachments: 0 };
    let filters: Vec<Filter> = leftover.attachments.iter().filter_map(|line| line.parse().ok()).collect();
    for filter in &filters {
        // An interface that went has taken its filters along; another one may have its index or its name by now.
        let is_there = |link: &super::links::Link| link.index == filter.index && link.name == filter.interface;
        if !inventory.links.iter().any(is_there) {
            continue;
        }
        match clsact::remove_leftover(filter) {
            Ok(()) => removed.attachments += 1,
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
    for filter in filters.iter().filter(|filter| filter.made_qdisc) {
        if let Err(error) = clsact::remove_unused_qdisc(netlink.handle(), filter.index).await {
            tracing::debug!("`{}`: {error:#}", filter.interface);
        }
    }
    Ok(removed)
}
