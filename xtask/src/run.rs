//! `cargo xtask run`: become the agent.

use std::{ffi::OsString, os::unix::process::CommandExt, path::Path};

use anyhow::Error;

use crate::process;

/// Replaces this process by the agent, so that signals and the exit code are the agent's. Returns only on failure.
pub fn become_agent(agent: &Path, arguments: &[OsString]) -> Error {
    match process::as_root(agent) {
        Ok(mut command) => {
            let error = command.arg("run").args(arguments).exec();
            Error::new(error).context(format!("cannot start `{}`", process::describe(&command)))
        }
        Err(error) => error,
    }
}
