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
    known(63789, "a delayed SYN whose RST had passed before it is answered after the next attempt has begun"),
    known(101518, "a SYN again, answered with another number after a crash; the first answer comes late"),
    known(115566, "an old ACK is answered by a RST of the new connection, in the window"),
    known(128368, "a keepalive of the SYN's number while the handshake's ACK is lost"),
    known(131141, "a SYN that its RST has overtaken passes after the next attempt's"),
    known(204727, "the far end is closed, and was said to be established"),
    known(208494, "the far end is in SYN-RECEIVED, and was said to be established, after a late SYN"),
    known(211049, "the far end is in SYN-SENT, and was said to be established"),
    known(223206, "the left end is in SYN-SENT, and was said to be closed"),
    known(227089, "the left end is in SYN-SENT, and was said to be closed, after a late SYN"),
    known(238307, "the left end is in SYN-SENT, and was said to be closed, after a late SYN"),
    known(257173, "the right end is in SYN-RECEIVED, and was said to be closed, after a late SYN"),
];
