//! `cargo xtask run`: build, then become the agent.

use std::{convert::Infallible, ffi::OsString, os::unix::process::CommandExt};

use anyhow::{Context, Result};

use crate::{build, process, workspace::Workspace};

/// Replaces this process by the agent, so that signals and the exit code are the agent's. Returns only on failure.
pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<Infallible> {
    let mut command = process::as_root("the agent", workspace.agent(true))?;
    build::everything(workspace, true)?;
    let error = command.arg("run").args(arguments).exec();
    Err(error).with_context(|| format!("cannot start `{}`", process::describe(&command)))
}
