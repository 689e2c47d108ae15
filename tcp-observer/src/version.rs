//! What was built: for `--version`, `build_info` and the index page.

/// One build of the program.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    pub version: &'static str,
    /// `unknown` where the sources were not in a git checkout.
    pub commit: &'static str,
    pub rustc: &'static str,
}

/// This one.
pub const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    commit: env!("TCP_OBSERVER_COMMIT"),
    rustc: env!("TCP_OBSERVER_RUSTC"),
};

/// Version and commit, as `--version` says them.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TCP_OBSERVER_COMMIT"), ")");
