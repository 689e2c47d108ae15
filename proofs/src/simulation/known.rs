//! Runs that disagree, and are not explained to the end.
//!
//! In each, several mishaps meet; what is said of them is what their traces show, not why the oracle and the observer
//! differ. A seed that agrees again fails the test `what_is_known_to_disagree_does`. `PROVE_SIMULATION_SEED=… PROVE_SIMULATION=1`
//! no longer prints a listed one's trace; [`explain`](super::watch::explain) does.

/// A seed whose run disagrees.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub seed: u64,
    /// What its trace shows.
    pub why: &'static str,
}

const fn known(seed: u64, why: &'static str) -> Known {
    Known { seed, why }
}

pub const KNOWN: &[Known] = &[
    known(
        237167,
        "the left end's SYN is stale in a TIME-WAIT, the right end's begins, and its SYN-ACK answers the stale one",
    ),
    known(517648, "a SYN that its sender has given up comes late to an end in SYN-SENT, which answers it"),
    known(873429, "an end that has given up its own SYN answers, by another number, the one that had crossed it"),
    known(947719, "a SYN that was refused and given up comes again, to an end in SYN-SENT, which answers it"),
];
