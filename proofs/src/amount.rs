//! How much of a proof to run: the usual amount, or what `cargo xtask prove` asks for.

use std::env;

/// How many runs (connections, seconds, …) of a proof: what the variable `PROVE_<NAME>` says, else `usual`.
///
/// # Panics
/// When the variable holds anything but a number.
pub fn amount(name: &str, usual: u64) -> u64 {
    let variable = variable(name);
    match env::var(&variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("`{variable}` has to be a number, and is `{text}`")),
        Err(_) => usual,
    }
}

/// The environment variable of a proof's amount, or of another number that it takes.
pub fn variable(name: &str) -> String {
    format!("PROVE_{}", name.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_means_the_usual_amount() {
        assert_eq!(amount("no-such-proof", 7), 7);
    }

    #[test]
    fn a_proof_has_its_variable() {
        assert_eq!(variable("old-kernels"), "PROVE_OLD_KERNELS");
    }
}
