//! Both views of a running system: the maps of an agent, and the socket table of the network namespace that the calling
//! thread is in.

use std::{fs, io};

use anyhow::Context;
use tcp_observer_common::counters::Skip;

use super::{Facts, Source};
use crate::{
    exit::Failure,
    kernel::{
        PinnedMaps,
        links::{Inventory, Netlink},
        netstat,
        sight::Sight,
        sockets::{self, Socket},
    },
    snapshot::FlowRecord,
};

/// An agent's maps beside the kernel's sockets.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    pub maps: &'a PinnedMaps,
    /// What the agent sees.
    pub sight: &'a Sight,
}

impl Source for Live<'_> {
    fn sockets(&self) -> anyhow::Result<Vec<Socket>> {
        sockets::connections().map_err(unreadable)
    }

    fn flows(&self, visit: &mut dyn FnMut(FlowRecord)) -> anyhow::Result<u64> {
        self.maps.for_each_flow(visit)
    }

    fn facts(&self) -> anyhow::Result<Facts> {
        let listeners = sockets::listeners().map_err(unreadable)?;
        Ok(Facts {
            sight: self.sight.clone(),
            listening: listeners.iter().collect(),
            listeners,
            counts: netstat::tcp_counts().context("cannot read the kernel's counts of TCP")?,
            table_full: self.maps.counters()?.skipped[Skip::TableFull.index()],
        })
    }
}

/// A socket table that this process may not read is a lack of privilege; one that is not there is a failure.
fn unreadable(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::unavailable(error.to_string()),
        _ => error.into(),
    }
}

/// What the agent of these maps sees of the network namespace of the calling thread.
///
/// # Errors
/// With [`Failure::Unavailable`] when the agent is in another network namespace, whose sockets this thread is not shown.
pub fn agents_sight(maps: &PinnedMaps) -> anyhow::Result<Sight> {
    let pid = maps.layout.agent_pid;
    if is_elsewhere(pid) {
        return Err(Failure::unavailable(format!(
            "the agent (process {pid}) observes another network namespace than this one; ask inside it: \
             `nsenter --net=/proc/{pid}/ns/net tcp-observer verify …`"
        )));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let inventory: Inventory = runtime.block_on(async { Netlink::open()?.inventory().await })?;
    let interfaces = maps.interfaces()?.into_iter().map(|(index, _)| index).collect();
    Ok(Sight::new(&inventory, interfaces))
}

/// Whether the agent is known to be in another network namespace.
fn is_elsewhere(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    // In another PID namespace the number may be somebody else's, or nobody's.
    if !name.is_ok_and(|name| name.trim_end() == "tcp-observer") {
        return false;
    }
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/net"));
    match (namespace(&pid.to_string()), namespace("thread-self")) {
        (Ok(agents), Ok(own)) => agents != own,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_socket_table_is_a_lack_of_privilege_and_a_missing_one_a_failure() {
        let code = |kind: io::ErrorKind| crate::exit::code(&unreadable(kind.into()));
        assert_eq!(code(io::ErrorKind::PermissionDenied), 3.into());
        assert_eq!(code(io::ErrorKind::Unsupported), 1.into());
    }

    #[test]
    fn this_process_is_in_the_namespace_that_it_is_in() {
        assert!(!is_elsewhere(std::process::id()));
    }
}
