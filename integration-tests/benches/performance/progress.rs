//! What is being done, for whoever waits at a terminal.

use std::io::{IsTerminal as _, stderr};

/// Replaces the line that was shown before.
pub fn show(text: &str) {
    if stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

/// Takes the line away.
pub fn done() {
    show("");
}
