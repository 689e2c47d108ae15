//! `verify`: the comparison carried out once and shown.

use tcp_observer::{
    cli::VerifyArgs,
    exit::Failure,
    kernel::{Mapped, PinnedMaps},
    output::verify::View,
    verify::{self, Live},
};

use crate::stdout;

/// # Errors
/// With [`Failure::Differs`] when there are differences, after they were shown.
pub fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let maps = PinnedMaps::open(&args.pins.pin_dir, Mapped::OnDemand)?;
    let sight = verify::agents_sight(&maps)?;
    let report = verify::compare(&Live { maps: &maps, sight: &sight }, args.tries(), &args.filter())?;
    let view = View::new(&report, args.shown());
    stdout::show(|out| view.write(args.output, out))?;
    match report.differing.len() {
        0 => Ok(()),
        1 => Err(Failure::Differs("1 local end differs from the kernel's sockets".to_owned()).into()),
        count => Err(Failure::Differs(format!("{count} local ends differ from the kernel's sockets")).into()),
    }
}
