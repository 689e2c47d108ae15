//! What the kernel's socket table says beside the packets, as far as outputs make use of it.

use std::ops::RangeInclusive;

use crate::kernel::sockets::{Listener, Listening};

/// The listeners and the ports of this network namespace. Plain data: nothing asks the kernel any more.
#[derive(Clone, Debug, Default)]
pub struct SocketView {
    pub listening: Listening,
    /// Listeners with more connections waiting for their application than may: those drop SYNs.
    pub overflowing: u64,
    /// The ports given to connections that ask for none, where they are known.
    pub ephemeral: Option<RangeInclusive<u16>>,
}

impl SocketView {
    pub fn new(listeners: &[Listener], ephemeral: Option<RangeInclusive<u16>>) -> Self {
        // Linux takes one more than the backlog says (`sk_acceptq_is_full`).
        let overflowing = listeners.iter().filter(|listener| listener.queued > listener.backlog).count();
        Self { listening: listeners.iter().collect(), overflowing: overflowing as u64, ephemeral }
    }

    /// How many ephemeral ports there are, where that is known.
    pub fn ephemeral_ports(&self) -> Option<u64> {
        self.ephemeral.as_ref().map(|range| range.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_overflows_when_more_wait_than_the_backlog_says() {
        let listener = |queued| Listener {
            local: "192.0.2.1:80".parse().unwrap(),
            accepts_ipv4: true,
            interface: None,
            backlog: 5,
            queued,
        };
        let view = SocketView::new(&[listener(4), listener(5), listener(6)], Some(32768..=60999));
        assert_eq!(view.overflowing, 1);
        assert_eq!(view.ephemeral_ports(), Some(28232));
        assert!(view.listening.takes("192.0.2.1:80".parse().unwrap()));
    }
}
