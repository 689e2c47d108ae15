//! Carries out a [`Plan`]: programs onto one interface, all of them or none.
//!
//! XDP and TCX attachments are links that live as long as the value that holds them, and no longer than the process.

use anyhow::{Context, anyhow};
use aya::programs::{
    LinkOrder, ProgramError, TcAttachType, XdpMode,
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};

use super::{
    clsact::{self, Filter},
    links::{Framing, Link},
    load::Programs,
    plan::{Hook, Plan},
    preflight::{TCX_KERNEL, kernel_is_at_least},
};

/// One program on one interface, for as long as this lives.
#[derive(Debug)]
pub struct Attached {
    pub hook: Hook,
    pub program: &'static str,
    /// How: `native`, `generic`, `tcx` or `clsact`.
    pub mode: &'static str,
    /// What a crash would leave behind.
    pub filter: Option<Filter>,
    _held: Held,
}

/// Detaches when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping it does")]
enum Held {
    Xdp(XdpLink),
    Tc(SchedClassifierLink),
}

/// Attaches what the plan says.
///
/// # Errors
/// When a hook of the plan is refused; nothing stays attached then.
pub fn attach(programs: &mut Programs, link: &Link, plan: &Plan) -> anyhow::Result<Vec<Attached>> {
    let mut attached = vec![ingress(programs, link, plan)?];
    if let Some(hook) = plan.egress {
        let made_qdisc = attached.iter().any(|one| one.filter.as_ref().is_some_and(|filter| filter.made_qdisc));
        attached.push(attach_one(programs, link, hook, made_qdisc)?);
    }
    Ok(attached)
}

/// The first hook of the plan that works.
fn ingress(programs: &mut Programs, link: &Link, plan: &Plan) -> anyhow::Result<Attached> {
    let mut hooks = plan.ingress.iter().peekable();
    while let Some(&hook) = hooks.next() {
        match (attach_one(programs, link, hook, false), hooks.peek()) {
            (Err(error), Some(next)) => {
                tracing::info!("{error:#}; using {} instead", next.label());
            }
            (Err(error), None) if hook != Hook::TcIngress => return Err(anyhow!("{error:#}; try `--ingress tc`")),
            (result, _) => return result,
        }
    }
    Err(anyhow!("nothing to attach to `{}`", link.name))
}

fn attach_one(programs: &mut Programs, link: &Link, hook: Hook, made_qdisc: bool) -> anyhow::Result<Attached> {
    match hook {
        Hook::XdpNative => attach_xdp(programs, link, hook, XdpMode::Driver, "native"),
        Hook::XdpGeneric => attach_xdp(programs, link, hook, XdpMode::Skb, "generic"),
        Hook::TcIngress => attach_tc(programs, link, hook, false, made_qdisc),
        Hook::TcEgress => attach_tc(programs, link, hook, true, made_qdisc),
    }
    .with_context(|| refused(link, hook))
}

fn refused(link: &Link, hook: Hook) -> String {
    let name = &link.name;
    match hook {
        Hook::XdpNative => format!("cannot attach XDP to `{name}` in driver mode"),
        Hook::XdpGeneric => format!("cannot attach XDP to `{name}` in generic mode"),
        Hook::TcIngress | Hook::TcEgress => format!("cannot attach {} to `{name}`", hook.label()),
    }
}

fn attach_xdp(
    programs: &mut Programs,
    link: &Link,
    hook: Hook,
    xdp_mode: XdpMode,
    mode: &'static str,
) -> anyhow::Result<Attached> {
    let name = hook.program(Framing::Ethernet);
    let program = programs.xdp(name)?;
    let id = program.attach_to_if_index(link.index, xdp_mode).map_err(cause)?;
    let held = Held::Xdp(program.take_link(id)?);
    Ok(Attached { hook, program: name, mode, filter: None, _held: held })
}

fn attach_tc(
    programs: &mut Programs,
    link: &Link,
    hook: Hook,
    is_egress: bool,
    made_qdisc: bool,
) -> anyhow::Result<Attached> {
    let name = hook.program(link.framing);
    let program = programs.tc(name)?;
    if kernel_is_at_least(TCX_KERNEL) {
        // Before the others see a packet, and after the others have let it go.
        let (direction, order) = if is_egress {
            (TcAttachType::Egress, LinkOrder::last())
        } else {
            (TcAttachType::Ingress, LinkOrder::first())
        };
        let id = program.attach_with_options(&link.name, direction, TcAttachOptions::TcxOrder(order)).map_err(cause)?;
        let held = Held::Tc(program.take_link(id)?);
        return Ok(Attached { hook, program: name, mode: "tcx", filter: None, _held: held });
    }
    let (held, filter) = clsact::attach(program, link, is_egress, made_qdisc)?;
    Ok(Attached { hook, program: name, mode: "clsact", filter: Some(filter), _held: Held::Tc(held) })
}

/// What the kernel said, without the name of the call that it said it to.
fn cause(error: ProgramError) -> anyhow::Error {
    match error {
        ProgramError::SyscallError(error) => in_words(error.io_error),
        error => error.into(),
    }
}

fn in_words(error: std::io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::EBUSY) => anyhow!("another XDP program is attached"),
        Some(libc::EOPNOTSUPP) => anyhow!("the driver does not support it (EOPNOTSUPP)"),
        _ => error.into(),
    }
}
