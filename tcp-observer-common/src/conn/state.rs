//! The states of one endpoint, and how each moves on what the endpoint sends, receives and is acknowledged.
//!
//! The names and the arrows are those of RFC 9293, figure 5
//! (<https://www.rfc-editor.org/rfc/rfc9293#section-3.3.2>). An endpoint's own arrows know nothing of the observer;
//! deciding *that* an endpoint has sent, received or been acknowledged something is the business of
//! [`next`](super::next()).

use crate::labels::labelled;

labelled! {
    /// What an endpoint's socket should say. `Unknown` is a side of which nothing was seen and nothing follows.
    pub enum State {
        Unknown = "unknown",
        Listen = "listen",
        SynSent = "syn_sent",
        SynReceived = "syn_received",
        Established = "established",
        FinWait1 = "fin_wait_1",
        FinWait2 = "fin_wait_2",
        CloseWait = "close_wait",
        Closing = "closing",
        LastAck = "last_ack",
        TimeWait = "time_wait",
        Closed = "closed",
    }
}

impl State {
    /// The state after this endpoint has sent a FIN.
    #[inline(always)]
    #[must_use]
    pub const fn fin_sent(self) -> Self {
        use State::*;
        match self {
            // A FIN straight out of SYN-RECEIVED is lawful: the application closed before the handshake's last ACK.
            Unknown | SynReceived | Established => FinWait1,
            CloseWait => LastAck,
            // A repetition.
            FinWait1 | FinWait2 | Closing | LastAck | TimeWait | Closed => self,
            // No FIN leaves these; the machine does not ask.
            Listen | SynSent => self,
        }
    }

    /// The state after this endpoint has received its peer's FIN, in order.
    #[inline(always)]
    #[must_use]
    pub const fn fin_received(self) -> Self {
        use State::*;
        match self {
            Unknown | SynReceived | Established => CloseWait,
            FinWait1 => Closing,
            FinWait2 => TimeWait,
            CloseWait | Closing | LastAck | TimeWait | Closed => self,
            Listen | SynSent => self,
        }
    }

    /// The state after this endpoint's own FIN was acknowledged.
    #[inline(always)]
    #[must_use]
    pub const fn fin_acknowledged(self) -> Self {
        use State::*;
        match self {
            FinWait1 => FinWait2,
            Closing => TimeWait,
            LastAck => Closed,
            Unknown | Listen | SynSent | SynReceived | Established | FinWait2 | CloseWait | TimeWait | Closed => self,
        }
    }

    /// Whether the connection is over for this endpoint: nothing more is owed to it but time.
    #[inline(always)]
    pub const fn is_over(self) -> bool {
        matches!(self, State::TimeWait | State::Closed)
    }
}

labelled! {
    /// Where a whole flow stands, seen from both its endpoints.
    pub enum Phase {
        HalfOpen = "half_open",
        Established = "established",
        /// One FIN acknowledged, the other not sent.
        HalfClosed = "half_closed",
        Closing = "closing",
        TimeWait = "time_wait",
        Closed = "closed",
    }
}

#[cfg(test)]
mod tests {
    use super::State::{self, *};

    /// RFC 9293, figure 5, each arrow that a FIN or its acknowledgement draws, copied by hand.
    #[test]
    fn arrows_of_the_rfc() {
        let sends_fin = [(Established, FinWait1), (CloseWait, LastAck), (SynReceived, FinWait1)];
        let receives_fin = [(Established, CloseWait), (FinWait1, Closing), (FinWait2, TimeWait)];
        let is_acknowledged = [(FinWait1, FinWait2), (Closing, TimeWait), (LastAck, Closed)];
        for (from, to) in sends_fin {
            assert_eq!(from.fin_sent(), to);
        }
        for (from, to) in receives_fin {
            assert_eq!(from.fin_received(), to);
        }
        for (from, to) in is_acknowledged {
            assert_eq!(from.fin_acknowledged(), to);
        }
    }

    #[test]
    fn repeating_what_was_seen_moves_nothing() {
        for &state in State::ALL {
            for arrow in [State::fin_sent, State::fin_received, State::fin_acknowledged] {
                let once = arrow(state);
                // FIN-WAIT-1 to CLOSING to TIME-WAIT are different arrows; the same one twice is a repetition.
                assert_eq!(arrow(once), once, "{state:?}");
            }
        }
    }

    #[test]
    fn labels_are_the_records_words() {
        assert_eq!(State::ALL.len(), State::COUNT);
        assert_eq!(State::from_bits(State::FinWait2 as u8), FinWait2);
        assert_eq!(State::SynReceived.label(), "syn_received");
    }
}
