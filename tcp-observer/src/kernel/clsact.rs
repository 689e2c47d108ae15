//! Attaching tc programs on kernels without TCX (before 6.6): filters under a `clsact` qdisc.
//!
//! Unlike links they outlive the process, so each is noted in the lock file as one line, and whoever finds the lock
//! of a dead agent can remove exactly those. The qdisc goes only when we made it and nobody uses it by then.

use std::{fmt, pin::pin, str::FromStr};

use anyhow::{Context, anyhow, bail};
use aya::programs::{
    SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
};
use futures_util::StreamExt;
use rtnetlink::packet_route::tc;

use super::links::Link;

/// A filter, as the lock file notes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub index: u32,
    pub interface: String,
    pub is_egress: bool,
    pub priority: u16,
    pub handle: u32,
    /// We made the qdisc that it is under.
    pub made_qdisc: bool,
}

/// Attaches a loaded program; `made_qdisc` says whether an earlier attachment of ours has made the qdisc.
///
/// # Errors
/// When the qdisc or the filter is refused.
pub fn attach(
    program: &mut SchedClassifier,
    link: &Link,
    is_egress: bool,
    made_qdisc: bool,
) -> anyhow::Result<(SchedClassifierLink, Filter)> {
    if is_egress && link.has_ingress_qdisc {
        // The kernel would take the filter, and run it on ingress.
        bail!("its `ingress` qdisc has no egress hook; put `tc qdisc add dev {} clsact` in its place", link.name);
    }
    let made_qdisc = match qdisc_add_clsact(&link.name) {
        Ok(()) => true,
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => made_qdisc,
        Err(error) => return Err(error).with_context(|| format!("cannot add a clsact qdisc to `{}`", link.name)),
    };
    // On ingress the kernel's choice comes before all others; on egress the last one there is.
    let priority = if is_egress { u16::MAX } else { 0 };
    let options = TcAttachOptions::Netlink(NlOptions { priority, ..NlOptions::default() });
    let id = program.attach_with_options(&link.name, direction(is_egress), options)?;
    let attached = program.take_link(id)?;
    let filter = Filter {
        index: link.index,
        interface: link.name.clone(),
        is_egress,
        priority: attached.priority()?,
        handle: attached.handle()?.into(),
        made_qdisc,
    };
    Ok((attached, filter))
}

const fn direction(is_egress: bool) -> TcAttachType {
    if is_egress { TcAttachType::Egress } else { TcAttachType::Ingress }
}

/// Removes a filter that a dead agent left.
///
/// # Errors
/// When the interface is gone, which has removed the filter.
pub fn remove_leftover(filter: &Filter) -> anyhow::Result<()> {
    let Filter { interface, is_egress, priority, handle, .. } = filter;
    let link =
        SchedClassifierLink::attached(interface, direction(*is_egress), *priority, TcHandle::from(*handle), None)
            .with_context(|| format!("cannot find `{interface}`"))?;
    // Detached when dropped.
    drop(link);
    Ok(())
}

/// Removes the clsact qdisc of an interface when it has no filters.
///
/// # Errors
/// When the kernel refuses.
pub async fn remove_unused_qdisc(handle: &rtnetlink::Handle, index: u32) -> anyhow::Result<()> {
    let index = i32::try_from(index).context("no such interface")?;
    for is_egress in [false, true] {
        let mut tc = handle.traffic_filter(index);
        let question = if is_egress { tc.get().egress() } else { tc.get().ingress() };
        let mut filters = pin!(question.execute());
        if filters.next().await.is_some_and(|filter| filter.is_ok()) {
            return Ok(());
        }
    }
    let mut request = handle.qdisc().del(index);
    request.message_mut().header.parent = tc::TcHandle::CLSACT;
    request.execute().await.context("cannot remove the clsact qdisc")
}

const WORD: &str = "clsact";

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, interface, is_egress, priority, handle, made_qdisc } = self;
        write!(f, "{WORD} {index} {interface} {is_egress} {priority} {handle} {made_qdisc}")
    }
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [WORD, index, interface, is_egress, priority, handle, made_qdisc] = columns[..] else {
            return Err(anyhow!("not an attachment: `{line}`"));
        };
        Ok(Self {
            index: index.parse()?,
            interface: interface.to_owned(),
            is_egress: is_egress.parse()?,
            priority: priority.parse()?,
            handle: handle.parse()?,
            made_qdisc: made_qdisc.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noted_filter_reads_back_as_it_was() {
        let filter = Filter {
            index: 7,
            interface: "eth0".into(),
            is_egress: true,
            priority: 65535,
            handle: 1,
            made_qdisc: true,
        };
        assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
        assert!("clsact 7 eth0".parse::<Filter>().is_err());
        assert!("".parse::<Filter>().is_err());
    }
}
