//! RFC 9293's figure 5 (<https://www.rfc-editor.org/rfc/rfc9293#section-3.3.2>), copied by hand, with the departures
//! that docs/semantics.md declares: which state of an endpoint may follow on which, given what one segment says.
//!
//! An observer in the middle may learn of several arrows at once: a FIN that acknowledges the other side's says both.
//! Each arrow on the way must be one that this segment, or one before it, accounts for.

use tcp_observer_common::conn::State::{self, *};

/// What draws an arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draws {
    /// The endpoint sends it.
    SendsSyn,
    SendsFin,
    SendsAck,
    /// It has arrived at the endpoint.
    GetsSyn,
    GetsFin,
    GetsAck,
    GetsRst,
    /// The endpoint sends a RST.
    SendsRst,
    /// A departure: its socket is beyond what the observer saw.
    Overlooked,
}

use Draws::*;

/// Figure 5 without its arrows out of CLOSED and into LISTEN, which no segment draws that belongs to the connection.
const FIGURE_5: &[(State, Draws, State)] = &[
    (Listen, SendsSyn, SynReceived),
    // A SYN crosses the other end's: the observer calls LISTEN what has only been sent a SYN.
    (Listen, SendsSyn, SynSent),
    (SynSent, GetsSyn, SynReceived),
    // "rcv SYN,ACK, snd ACK": that the SYN-ACK has arrived shows when its receiver acknowledges it.
    (SynSent, SendsAck, Established),
    (SynReceived, GetsAck, Established),
    (SynReceived, SendsFin, FinWait1),
    (Established, SendsFin, FinWait1),
    (Established, GetsFin, CloseWait),
    // 3.10.7.4, eighth: "SYN-RECEIVED STATE, ESTABLISHED STATE: enter the CLOSE-WAIT state".
    (SynReceived, GetsFin, CloseWait),
    (FinWait1, GetsAck, FinWait2),
    (FinWait1, GetsFin, Closing),
    (FinWait2, GetsFin, TimeWait),
    (Closing, GetsAck, TimeWait),
    (CloseWait, SendsFin, LastAck),
    (LastAck, GetsAck, Closed),
];

/// What docs/semantics.md says beside it.
const DEPARTURES: &[(State, Draws, State)] = &[
    // Picked up: of an end nothing was seen, or its handshake went another way.
    (Unknown, Overlooked, Established),
    (Listen, Overlooked, Unknown),
    (SynSent, Overlooked, Unknown),
    (Listen, Overlooked, Established),
    (SynReceived, Overlooked, Established),
    // "SYN, responder, after it has acknowledged the originator's SYN alone": 3.10.7.3, "if SND.UNA > ISS".
    (SynSent, GetsSyn, Established),
    // The FIN in order was taken for received; this one was sent before it arrived: simultaneous close.
    (CloseWait, SendsFin, Closing),
];

/// How many arrows one segment may draw for one endpoint.
const MAX_ARROWS: usize = 4;

/// Whether there is a way from one state to the other along arrows that are `drawn`.
pub fn is_way(from: State, to: State, is_drawn: &impl Fn(Draws) -> bool) -> bool {
    let resets = is_drawn(GetsRst) || is_drawn(SendsRst);
    to == Closed && resets || walk(from, to, is_drawn, MAX_ARROWS)
}

fn walk(from: State, to: State, is_drawn: &impl Fn(Draws) -> bool, arrows: usize) -> bool {
    from == to
        || arrows > 0
            && FIGURE_5
                .iter()
                .chain(DEPARTURES)
                .any(|&(begin, draws, end)| begin == from && is_drawn(draws) && walk(end, to, is_drawn, arrows - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_follows_on_another_along_arrows_only() {
        let fin_with_ack = |draws| matches!(draws, GetsFin | GetsAck);
        assert!(is_way(FinWait1, TimeWait, &fin_with_ack));
        assert!(!is_way(FinWait1, LastAck, &fin_with_ack));
        assert!(!is_way(FinWait1, FinWait2, &|draws| draws == GetsFin));
        assert!(!is_way(Established, Closed, &fin_with_ack));
        assert!(is_way(Established, Closed, &|draws| draws == GetsRst));
        assert!(!is_way(TimeWait, Established, &|_| true));
    }
}
