//! How long silence may last before a flow is taken to be over. All in nanoseconds.
//!
//! The defaults are Linux's own, since the local endpoint's state should be what its kernel says; each names its
//! source. They are carried in the pinned [`Layout`](crate::abi::Layout), so that the kernel's sweep, the agent and
//! the command line tool judge a flow's age by the same figures.

const SECOND: u64 = 1_000_000_000;

/// Timeouts by what a flow is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Limits {
    /// After the last SYN without an answer. Linux waits at most 64 s before it repeats or gives up: at 131 s since
    /// 6.5 (`tcp_syn_linear_timeouts`), at 127 s before.
    pub unanswered_syn_ns: u64,
    /// After the last SYN-ACK without its ACK. Linux repeats at 1, 3, 7, 15 and 31 s and gives up at 63 s.
    pub unacked_synack_ns: u64,
    /// A flow picked up mid-stream of which both directions have not been seen to acknowledge each other.
    pub unconfirmed_ns: u64,
    /// Silence of an established flow, or of a half-closed one whose local endpoint has not closed: nothing ends
    /// these, keepalive comes after two hours, if at all. Five days are conntrack's limit.
    pub established_ns: u64,
    /// Silence while a FIN is unacknowledged: Linux repeats at most every 120 s (`TCP_RTO_MAX`).
    pub closing_ns: u64,
    /// Silence in FIN-WAIT-2: `tcp_fin_timeout`, for a socket that nobody holds any more. Where the socket table can be
    /// asked, it tells such a one from a live half-close, and no silence ends either.
    pub fin_wait_2_ns: u64,
    /// TIME-WAIT of this host: 60 s on Linux, not tunable (`TCP_TIMEWAIT_LEN`).
    pub local_time_wait_ns: u64,
    /// TIME-WAIT of other hosts: an estimate; stacks use 30 s to 4 min.
    pub remote_time_wait_ns: u64,
    /// How long a flow that is over stays, so that a dump shows it.
    pub linger_ns: u64,
}

impl Limits {
    /// Linux's figures.
    pub const DEFAULT: Self = Self {
        unanswered_syn_ns: 64 * SECOND + SECOND / 2,
        unacked_synack_ns: 32 * SECOND + SECOND / 2,
        unconfirmed_ns: 120 * SECOND,
        established_ns: 5 * 86_400 * SECOND,
        closing_ns: 130 * SECOND,
        fin_wait_2_ns: 60 * SECOND,
        local_time_wait_ns: 60 * SECOND,
        remote_time_wait_ns: 60 * SECOND,
        linger_ns: 5 * SECOND,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each from the source that its field names, in nanoseconds, written out.
    #[test]
    fn the_defaults_are_linuxs_figures() {
        let expected = Limits {
            unanswered_syn_ns: 64_500_000_000,
            unacked_synack_ns: 32_500_000_000,
            unconfirmed_ns: 120_000_000_000,
            established_ns: 432_000_000_000_000,
            closing_ns: 130_000_000_000,
            fin_wait_2_ns: 60_000_000_000,
            local_time_wait_ns: 60_000_000_000,
            remote_time_wait_ns: 60_000_000_000,
            linger_ns: 5_000_000_000,
        };
        assert_eq!(Limits::default(), expected);
    }
}
