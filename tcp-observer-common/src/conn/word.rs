//! Everything that transitions decide about a flow, in 64 bits that change by compare-and-exchange.
//!
//! | bits | field |
//! | --- | --- |
//! | 0–3, 4–7 | state of the originator, of the responder |
//! | 8–11 | outcome of the handshake |
//! | 12–14 | how the flow ended |
//! | 15–16 | who began to end it |
//! | 17–36 | one-bit marks, see [`Mark`] |
//! | 38–45 | free: a [`Verdict`](super::Verdict) packs its note there |
//! | 48–63 | epoch: tells incarnations in one slot apart |

use super::state::{Phase, State};
use crate::{flow::Side, labels::labelled, verifier::forget};

labelled! {
    /// How a handshake ended, or that it has not.
    pub enum Outcome {
        InProgress = "in_progress",
        Completed = "completed",
        /// A RST answered the SYN.
        Refused = "refused",
        /// A RST later in the handshake.
        Reset = "reset",
        /// An ICMP error quotes the SYN.
        Unreachable = "unreachable",
        TimedOut = "timed_out",
        /// The originator gave up: RST, FIN or a new SYN before the end.
        Abandoned = "abandoned",
        /// The table needed the room; nobody knows.
        Evicted = "evicted",
        /// The flow was picked up after its handshake.
        NotSeen = "not_seen",
    }
}

labelled! {
    /// How a connection ended. `Open`: it has not begun to.
    pub enum How {
        Open = "open",
        Fin = "fin",
        /// RST, also after FIN.
        Rst = "rst",
        /// Both ends sent FIN before either had the other's.
        Simultaneous = "simultaneous",
        /// No end was seen.
        Timeout = "timeout",
    }
}

labelled! {
    /// Who sent the first valid FIN or RST.
    pub enum Initiator {
        Nobody = "none",
        Originator = "originator",
        Responder = "responder",
        Both = "both",
    }
}

impl Initiator {
    /// The one endpoint with this role.
    #[inline(always)]
    pub const fn of(role: Role) -> Self {
        match role {
            Role::Originator => Initiator::Originator,
            Role::Responder => Initiator::Responder,
        }
    }
}

labelled! {
    /// What this host is to a flow, from which of its endpoints' addresses are the host's own.
    pub enum Locality {
        /// Only the originator is local.
        Client = "client",
        /// Only the responder is local.
        Server = "server",
        /// Both are.
        Loopback = "loopback",
        /// Neither is.
        Forwarded = "forwarded",
    }
}

/// The role of an endpoint within its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Sent the first SYN, or is taken to have.
    Originator,
    Responder,
}

impl Role {
    /// The other one.
    #[inline(always)]
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Role::Originator => Role::Responder,
            Role::Responder => Role::Originator,
        }
    }
}

/// The one-bit marks of a [`Word`]. Those in pairs have the responder's bit just above the originator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    /// The key's high side is the originator.
    OriginatorIsHigh = 17,
    /// The roles are a guess.
    Inferred = 18,
    /// Replaced or expired: the entry is on its way out of its table and takes no more packets.
    Retired = 19,
    /// A SYN or SYN-ACK was sent again before the handshake ended.
    SynRepeated = 20,
    SynAckRepeated = 21,
    /// Pair: the endpoint's address is this host's own.
    Local = 22,
    /// Pair: a valid FIN of this endpoint was seen.
    FinSent = 24,
    /// Pair: a valid RST of this endpoint was seen.
    RstSent = 26,
    /// Pair: something of this endpoint was seen, and its half of the record is valid.
    Seen = 28,
    /// Pair: this endpoint has acknowledged what the other was seen to send.
    Confirmed = 30,
    /// Pair: this endpoint's SYN or SYN-ACK was seen, and with it its initial sequence number.
    IsnSeen = 32,
    /// The flow is a capture's, which may lack packets, by a filter for one.
    MayLack = 34,
    /// Pair: this endpoint has sent keepalive probes, and its peer nothing since.
    Probing = 35,
}

/// The state word. A plain value: the cell that holds it is [`WordCell`](super::WordCell).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Word(pub u64);

const STATE: (u32, u64) = (0, 0xf);
const OUTCOME: (u32, u64) = (8, 0xf);
const HOW: (u32, u64) = (12, 0x7);
const INITIATOR: (u32, u64) = (15, 0x3);
const EPOCH_SHIFT: u32 = 48;

impl Word {
    /// A flow of which nothing is known yet, in incarnation `epoch`.
    #[inline(always)]
    pub const fn fresh(epoch: u16) -> Self {
        Self((epoch as u64) << EPOCH_SHIFT)
    }

    /// The same word in another incarnation.
    #[inline(always)]
    #[must_use]
    pub const fn in_epoch(self, epoch: u16) -> Self {
        Self(self.0 & ((1 << EPOCH_SHIFT) - 1) | (epoch as u64) << EPOCH_SHIFT)
    }

    /// Tells incarnations in one slot apart.
    #[inline(always)]
    pub const fn epoch(self) -> u16 {
        (self.0 >> EPOCH_SHIFT) as u16
    }

    #[inline(always)]
    const fn field(self, (shift, mask): (u32, u64)) -> u8 {
        (self.0 >> shift & mask) as u8
    }

    #[inline(always)]
    const fn with_field(self, (shift, mask): (u32, u64), bits: u8) -> Self {
        Self(self.0 & !(mask << shift) | (bits as u64 & mask) << shift)
    }

    /// The state of an endpoint.
    #[inline(always)]
    pub const fn state(self, role: Role) -> State {
        State::from_bits(self.field((STATE.0 + 4 * role as u32, STATE.1)))
    }

    #[inline(always)]
    #[must_use]
    pub const fn with_state(self, role: Role, state: State) -> Self {
        self.with_field((STATE.0 + 4 * role as u32, STATE.1), state as u8)
    }

    /// The same word, of which the verifier knows nothing any more: for where several ways through the machine meet.
    #[inline(always)]
    #[must_use]
    pub fn forgotten(self) -> Self {
        Self(forget(self.0))
    }

    /// Both states at once, for telling whether either has changed.
    #[inline(always)]
    pub const fn states(self) -> u8 {
        self.0 as u8
    }

    /// How the handshake ended, or that it has not.
    #[inline(always)]
    pub const fn outcome(self) -> Outcome {
        Outcome::from_bits(self.field(OUTCOME))
    }

    #[inline(always)]
    #[must_use]
    pub const fn with_outcome(self, outcome: Outcome) -> Self {
        self.with_field(OUTCOME, outcome as u8)
    }

    /// How the flow ended.
    #[inline(always)]
    pub const fn how(self) -> How {
        How::from_bits(self.field(HOW))
    }

    /// Who began to end the flow.
    #[inline(always)]
    pub const fn initiator(self) -> Initiator {
        Initiator::from_bits(self.field(INITIATOR))
    }

    #[inline(always)]
    #[must_use]
    pub const fn with_close(self, initiator: Initiator, how: How) -> Self {
        self.with_field(INITIATOR, initiator as u8).with_field(HOW, how as u8)
    }

    #[inline(always)]
    pub const fn has(self, mark: Mark) -> bool {
        self.0 >> mark as u32 & 1 != 0
    }

    #[inline(always)]
    #[must_use]
    pub const fn with(self, mark: Mark) -> Self {
        Self(self.0 | 1 << mark as u32)
    }

    #[inline(always)]
    #[must_use]
    pub const fn without(self, mark: Mark) -> Self {
        Self(self.0 & !(1 << mark as u32))
    }

    /// A mark of the pair that `mark` names, for one endpoint.
    #[inline(always)]
    pub const fn has_of(self, mark: Mark, role: Role) -> bool {
        self.0 >> (mark as u32 + role as u32) & 1 != 0
    }

    #[inline(always)]
    #[must_use]
    pub const fn with_of(self, mark: Mark, role: Role) -> Self {
        Self(self.0 | 1 << (mark as u32 + role as u32))
    }

    #[inline(always)]
    #[must_use]
    pub const fn without_of(self, mark: Mark, role: Role) -> Self {
        Self(self.0 & !(1 << (mark as u32 + role as u32)))
    }

    /// The role of the endpoint on a side of the key.
    #[inline(always)]
    pub const fn role_of(self, side: Side) -> Role {
        match (side, self.has(Mark::OriginatorIsHigh)) {
            (Side::Low, false) | (Side::High, true) => Role::Originator,
            (Side::Low, true) | (Side::High, false) => Role::Responder,
        }
    }

    /// A word of which only the roles are known: those of `other`.
    #[inline(always)]
    #[must_use]
    pub const fn with_roles_of(self, other: Self) -> Self {
        Self(self.0 | other.0 & 1 << Mark::OriginatorIsHigh as u32)
    }

    /// The side of the key on which the endpoint with this role is.
    #[inline(always)]
    pub const fn side_of(self, role: Role) -> Side {
        match (role, self.has(Mark::OriginatorIsHigh)) {
            (Role::Originator, false) | (Role::Responder, true) => Side::Low,
            (Role::Originator, true) | (Role::Responder, false) => Side::High,
        }
    }

    /// What this host is to the flow.
    #[inline(always)]
    pub const fn locality(self) -> Locality {
        match (self.has_of(Mark::Local, Role::Originator), self.has_of(Mark::Local, Role::Responder)) {
            (true, false) => Locality::Client,
            (false, true) => Locality::Server,
            (true, true) => Locality::Loopback,
            (false, false) => Locality::Forwarded,
        }
    }

    /// Whether the flow has left the table of half-open flows: its handshake completed, or both its directions have
    /// acknowledged each other.
    #[inline(always)]
    pub const fn is_settled(self) -> bool {
        match self.outcome() {
            Outcome::Completed => true,
            Outcome::NotSeen => {
                self.has_of(Mark::Confirmed, Role::Originator) && self.has_of(Mark::Confirmed, Role::Responder)
            }
            Outcome::InProgress
            | Outcome::Refused
            | Outcome::Reset
            | Outcome::Unreachable
            | Outcome::TimedOut
            | Outcome::Abandoned
            | Outcome::Evicted => false,
        }
    }

    /// Whether data and plain acknowledgements are all that can be expected: the shortest path. While probes are out, an
    /// answer is to be noticed. Two comparisons of the whole word, since every data segment asks.
    #[inline(always)]
    pub const fn is_steady(self) -> bool {
        const ESTABLISHED: Word = Word::fresh(0)
            .with_state(Role::Originator, State::Established)
            .with_state(Role::Responder, State::Established);
        const HANDSHAKE_SEEN: u64 = ESTABLISHED.with_outcome(Outcome::Completed).0;
        const PICKED_UP: u64 = ESTABLISHED
            .with_outcome(Outcome::NotSeen)
            .with_of(Mark::Confirmed, Role::Originator)
            .with_of(Mark::Confirmed, Role::Responder)
            .0;
        const ALWAYS: u64 = 0xfff | 3 << Mark::Probing as u32;
        const CONFIRMED: u64 = 3 << Mark::Confirmed as u32;
        self.0 & ALWAYS == HANDSHAKE_SEEN || self.0 & (ALWAYS | CONFIRMED) == PICKED_UP
    }

    /// Whether [`Self::phase`] is [`Phase::HalfClosed`], asked several times of each segment off the shortest path.
    #[inline(always)]
    pub const fn is_half_closed(self) -> bool {
        const ORIGINATOR_HAS_CLOSED: u8 = Word(0)
            .with_state(Role::Originator, State::FinWait2)
            .with_state(Role::Responder, State::CloseWait)
            .states();
        const RESPONDER_HAS_CLOSED: u8 = Word(0)
            .with_state(Role::Originator, State::CloseWait)
            .with_state(Role::Responder, State::FinWait2)
            .states();
        matches!(self.states(), ORIGINATOR_HAS_CLOSED | RESPONDER_HAS_CLOSED)
            && !matches!(self.outcome(), Outcome::InProgress)
    }

    /// Where the whole flow stands.
    #[inline(always)]
    pub const fn phase(self) -> Phase {
        use State::*;
        if matches!(self.outcome(), Outcome::InProgress) {
            return Phase::HalfOpen;
        }
        match (self.state(Role::Originator), self.state(Role::Responder)) {
            (Closed, Closed) => Phase::Closed,
            (FinWait2, CloseWait) | (CloseWait, FinWait2) => Phase::HalfClosed,
            (TimeWait, TimeWait | Closed | Unknown) | (Closed | Unknown, TimeWait) => Phase::TimeWait,
            (
                Unknown | Listen | SynSent | SynReceived | Established,
                Unknown | Listen | SynSent | SynReceived | Established,
            ) => Phase::Established,
            _ => Phase::Closing,
        }
    }
}

impl core::fmt::Debug for Word {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Word")
            .field("originator", &self.state(Role::Originator))
            .field("responder", &self.state(Role::Responder))
            .field("outcome", &self.outcome())
            .field("initiator", &self.initiator())
            .field("how", &self.how())
            .field("bits", &format_args!("{:#018x}", self.0))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        let word = Word::fresh(0xffff)
            .with_state(Role::Originator, State::Closed)
            .with_state(Role::Responder, State::LastAck)
            .with_outcome(Outcome::NotSeen)
            .with_close(Initiator::Responder, How::Timeout)
            .with_of(Mark::Local, Role::Responder)
            .with(Mark::Inferred);
        assert_eq!(word.state(Role::Originator), State::Closed);
        assert_eq!(word.state(Role::Responder), State::LastAck);
        assert_eq!(word.outcome(), Outcome::NotSeen);
        assert_eq!((word.initiator(), word.how()), (Initiator::Responder, How::Timeout));
        assert!(word.has(Mark::Inferred) && !word.has(Mark::OriginatorIsHigh) && !word.has(Mark::Retired));
        assert!(word.has_of(Mark::Local, Role::Responder) && !word.has_of(Mark::Local, Role::Originator));
        assert_eq!(word.0 >> EPOCH_SHIFT, 0xffff);
    }

    #[test]
    fn steady_is_settled_and_established_on_both_sides_with_no_probe_out() {
        for &outcome in Outcome::ALL {
            for &originator in State::ALL {
                for &responder in State::ALL {
                    for marks in 0..16_u64 {
                        let word = Word((marks & 3) << Mark::Confirmed as u32 | (marks >> 2) << Mark::Probing as u32)
                            .with_outcome(outcome)
                            .with_state(Role::Originator, originator)
                            .with_state(Role::Responder, responder);
                        let established = originator == State::Established && responder == State::Established;
                        let is_probed = marks >> 2 != 0;
                        assert_eq!(word.is_steady(), word.is_settled() && established && !is_probed, "{word:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn half_closed_is_what_the_phase_says() {
        for &outcome in Outcome::ALL {
            for &originator in State::ALL {
                for &responder in State::ALL {
                    let word = Word::fresh(7)
                        .with_outcome(outcome)
                        .with_state(Role::Originator, originator)
                        .with_state(Role::Responder, responder);
                    assert_eq!(word.is_half_closed(), word.phase() == Phase::HalfClosed, "{word:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_said_twice_stays_said() {
        let word = Word::fresh(3).with(Mark::Retired).with_of(Mark::Local, Role::Responder);
        assert_eq!(word.with(Mark::Retired).with_of(Mark::Local, Role::Responder), word);
        let turned = Word::fresh(0).with(Mark::OriginatorIsHigh);
        assert_eq!(turned.with_roles_of(turned), turned);
        assert_eq!(Word::fresh(0).with_roles_of(turned.with(Mark::Retired)), turned);
    }

    #[test]
    fn another_epoch_changes_nothing_else() {
        let word = Word::fresh(1).with_state(Role::Responder, State::Closed).with(Mark::MayLack);
        assert_eq!(word.in_epoch(0xfffe).0, word.0 - (1 << 48) + (0xfffe << 48));
    }

    #[test]
    fn roles_and_sides_are_inverse() {
        for word in [Word::fresh(0), Word::fresh(0).with(Mark::OriginatorIsHigh)] {
            for side in [Side::Low, Side::High] {
                assert_eq!(word.side_of(word.role_of(side)), side);
            }
        }
    }

    #[test]
    fn locality_is_told_by_whose_addresses_are_local() {
        let word = Word::fresh(0);
        assert_eq!(word.locality(), Locality::Forwarded);
        assert_eq!(word.with_of(Mark::Local, Role::Originator).locality(), Locality::Client);
        assert_eq!(word.with_of(Mark::Local, Role::Responder).locality(), Locality::Server);
    }

    #[test]
    fn half_closed_is_one_fin_acknowledged_and_the_other_not_sent() {
        let word = Word::fresh(0).with_outcome(Outcome::Completed);
        let at = |originator, responder| {
            word.with_state(Role::Originator, originator).with_state(Role::Responder, responder).phase()
        };
        assert_eq!(at(State::FinWait2, State::CloseWait), Phase::HalfClosed);
        assert_eq!(at(State::CloseWait, State::FinWait2), Phase::HalfClosed);
        assert_eq!(at(State::FinWait1, State::CloseWait), Phase::Closing);
        assert_eq!(at(State::TimeWait, State::LastAck), Phase::Closing);
        assert_eq!(at(State::TimeWait, State::Closed), Phase::TimeWait);
        assert_eq!(at(State::Established, State::Established), Phase::Established);
    }
}
