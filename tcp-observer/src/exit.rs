//! Exit codes, and the errors that carry one.
//!
//! 0 done, 1 failed, 2 wrong usage, 3 no agent is running or not enough privilege, 4 `verify` found differences.

use std::{fmt, process::ExitCode};

/// An error that ends the program with a code of its own. Anything else ends it with 1.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that makes no sense: exit code 2.
    Usage(String),
    /// No agent is running, or the privilege to reach it is missing: exit code 3.
    Unavailable(String),
    /// The agent and the kernel's sockets do not agree: exit code 4.
    Differs(String),
}

impl Failure {
    /// A usage error as an [`anyhow::Error`].
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        Self::Usage(message.into()).into()
    }

    /// An unavailability as an [`anyhow::Error`].
    pub fn unavailable(message: impl Into<String>) -> anyhow::Error {
        Self::Unavailable(message.into()).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Unavailable(message) | Self::Differs(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Failure {}

/// The exit code that an error stands for, wherever in its chain the failure is.
pub fn code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Failure>() {
        Some(Failure::Usage(_)) => ExitCode::from(2),
        Some(Failure::Unavailable(_)) => ExitCode::from(3),
        Some(Failure::Differs(_)) => ExitCode::from(4),
        None => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_failure_keeps_its_code_under_added_context() {
        let error = Err::<(), _>(Failure::unavailable("no agent")).context("cannot dump").unwrap_err();
        assert_eq!(code(&error), ExitCode::from(3));
        assert_eq!(code(&Failure::usage("no such state")), ExitCode::from(2));
        assert_eq!(code(&Failure::Differs("one end".to_owned()).into()), ExitCode::from(4));
        assert_eq!(code(&anyhow::anyhow!("anything")), ExitCode::FAILURE);
    }
}
