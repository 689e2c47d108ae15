//! What the state machine recognises: the reason of each arm, in one word.
//!
//! Every segment off the shortest path is judged with one [`Note`]. Those that say something unusual are kept with the
//! flow ([`Story`](super::Story)) and counted; the record shows them by their label.

use crate::labels::labelled;

labelled! {
    /// Why a segment was taken the way it was.
    pub enum Note {
        /// Nothing that needs to be said.
        Nothing = "nothing",

        // ---- opening (<https://www.rfc-editor.org/rfc/rfc9293#section-3.5>) ----
        /// The originator's SYN again, unanswered so far: latencies count from this one.
        SynRepeated = "syn_retransmitted",
        /// A SYN again that changes nothing any more.
        LateSyn = "late_syn",
        /// The first SYN-ACK.
        SynAnswered = "syn_answered",
        /// The first SYN-ACK, and its timestamp echoes the first SYN's although there were later ones.
        FirstSynAnswered = "first_syn_answered",
        SynAckRepeated = "synack_retransmitted",
        /// A SYN-ACK again with another number: the listener keeps no state, it sends SYN cookies
        /// (<https://www.rfc-editor.org/rfc/rfc4987#section-3.6>).
        SynAckRenumbered = "syn_cookies",
        /// A SYN-ACK again although it was acknowledged: the accept queue is full, or the listener defers accepting
        /// until data comes (Linux's TCP_DEFER_ACCEPT).
        SynAckAfterAck = "synack_after_ack",
        /// The same although data has come, too: the accept queue is full.
        SynAckAfterData = "synack_after_data",
        /// The handshake's end.
        Completed = "completed",
        /// The handshake's end, and its timestamp echoes the last of several SYN-ACKs.
        LastSynAckAcked = "last_synack_acknowledged",
        /// The acknowledgement that ends the handshake was not seen by itself: data or FIN brought it.
        CompletedByData = "completed_by_data",
        /// Each end has sent its SYN before it had the other's
        /// (<https://www.rfc-editor.org/rfc/rfc9293#section-3.5-7>).
        SimultaneousOpen = "simultaneous_open",
        /// The responder answers the SYN with an ACK and a SYN of its own, apart.
        SplitHandshake = "split_handshake",
        /// The SYN of a flow whose SYN-ACK was seen first.
        SynAfterSynAck = "syn_after_synack",
        SynWithData = "syn_with_data",
        /// A SYN or SYN-ACK with the Fast Open option (<https://www.rfc-editor.org/rfc/rfc7413>).
        FastOpen = "fast_open",
        /// The SYN-ACK agrees to ECN (<https://www.rfc-editor.org/rfc/rfc3168#section-6.1.1>).
        Ecn = "ecn",
        /// The SYN-ACK agrees to accurate ECN (<https://www.rfc-editor.org/rfc/rfc9768#section-3.1>).
        AccurateEcn = "accurate_ecn",
        /// A SYN-ACK that acknowledges something else than the SYN; its receiver answers with RST.
        WrongSynAck = "wrong_synack",
        /// An originator's acknowledgement of something else than the SYN-ACK; a FIN that acknowledges what was not
        /// sent.
        WrongAck = "wrong_ack",
        /// An ACK instead of a SYN-ACK: the responder holds another connection on this tuple
        /// (<https://www.rfc-editor.org/rfc/rfc5961#section-4>).
        ChallengeAck = "challenge_ack",
        /// The flow's SYN has the number of its predecessor's on the tuple.
        OldSyn = "old_syn",
        /// Such a SYN was answered and the answer reset: the network had kept it back.
        StaleSyn = "stale_syn",
        /// The flow began over one that was closed, refused or not answered yet.
        TupleReused = "tuple_reused",
        /// The flow began over one in TIME-WAIT (<https://www.rfc-editor.org/rfc/rfc6191>).
        TimeWaitReused = "time_wait_reused",
        /// A RST answers the SYN.
        Refused = "refused",
        /// A RST later in the handshake, or the originator's own.
        HandshakeReset = "handshake_reset",
        /// A RST in answer to a SYN that does not acknowledge it: forged, or of an older connection.
        RstBeforeAnswer = "rst_before_answer",
        /// An ICMP error quotes the SYN.
        Unreachable = "unreachable",
        /// Picked up after its handshake.
        PickedUp = "picked_up",
        /// Picked up in the middle of its close.
        PickedUpClosing = "picked_up_closing",
        /// Known from the kernel's socket table, not from packets.
        Adopted = "adopted",

        // ---- living ----
        /// One number before what is expected, all before it acknowledged
        /// (<https://www.rfc-editor.org/rfc/rfc9293#section-3.8.4>).
        Keepalive = "keepalive",
        /// Small data at a steady period.
        Heartbeat = "heartbeat",
        /// The receiver has no room (<https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6>).
        ZeroWindow = "zero_window",
        /// Asks a receiver without room whether it has some again
        /// (<https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6.1>).
        WindowProbe = "window_probe",
        /// Data again.
        Retransmitted = "data_retransmitted",
        /// Data beyond a gap, or into one.
        OutOfOrder = "out_of_order",
        /// A SYN into a living connection; its receiver answers with a challenge ACK
        /// (<https://www.rfc-editor.org/rfc/rfc5961#section-4>).
        SynInConnection = "syn_in_connection",
        /// A RST after such a SYN: the connection was half open, one side had lost it
        /// (<https://www.rfc-editor.org/rfc/rfc9293#section-3.5.1>).
        PeerRestarted = "peer_restarted",
        /// Flags that no TCP sends together.
        NonsenseFlags = "nonsense_flags",
        /// A SYN, SYN-ACK or FIN again, sooner than any TCP repeats one: the same frame seen twice.
        FramesDoubled = "frames_doubled",

        // ---- closing (<https://www.rfc-editor.org/rfc/rfc9293#section-3.6>) ----
        FinWithData = "fin_with_data",
        /// A FIN beyond a gap.
        FinOutOfOrder = "fin_out_of_order",
        /// The second FIN brings the acknowledgement of the first.
        ThreeSegmentClose = "three_segment_close",
        /// The FINs crossed.
        SimultaneousClose = "simultaneous_close",
        /// Data towards an end that has closed its own direction.
        HalfCloseData = "half_close_data",
        FinRepeated = "fin_retransmitted",
        /// A FIN again towards TIME-WAIT: the last ACK did not arrive; 2 MSL begin again.
        LastAckLost = "last_ack_lost",
        /// The peer of an endpoint in TIME-WAIT is still talking: 2 MSL begin again
        /// (<https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4>, eighth check, TIME-WAIT).
        TimeWaitRestarted = "time_wait_restarted",
        /// A RST instead of a FIN, for example since data was left unread.
        AbortiveClose = "abortive_close",
        ResetAfterFin = "reset_after_fin",
        /// A RST that cuts TIME-WAIT short (<https://www.rfc-editor.org/rfc/rfc1337>).
        TimeWaitAssassinated = "time_wait_assassinated",
        /// A RST of a connection that is over, to a segment that was still under way.
        ResetAfterClose = "reset_after_close",
        /// A RST that its receiver ignores.
        RstOutOfWindow = "rst_out_of_window",
        /// A RST in the window but not at its beginning: it deserves a challenge ACK
        /// (<https://www.rfc-editor.org/rfc/rfc5961#section-3>).
        RstChallenged = "rst_challenged",
        FinOutOfWindow = "fin_out_of_window",
        /// A FIN that ends elsewhere than the first one.
        SecondFin = "second_fin",
        /// The local socket was gone from the kernel's table: nothing had said so on the wire.
        SocketGone = "socket_gone",
    }
}

const _: () = assert!(Note::COUNT <= 64, "notes are bits of one word");

impl Note {
    /// This note as a bit of a set.
    #[inline(always)]
    pub const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// Whether the note is of what every connection does, or means something only with others: it is not counted.
    #[inline(always)]
    pub const fn is_ordinary(self) -> bool {
        matches!(self, Note::Nothing | Note::SynAnswered | Note::Completed | Note::OldSyn | Note::TimeWaitRestarted)
    }

    /// Whether a RST has ended something.
    #[inline(always)]
    pub const fn is_reset(self) -> bool {
        matches!(
            self,
            Note::Refused
                | Note::HandshakeReset
                | Note::AbortiveClose
                | Note::ResetAfterFin
                | Note::TimeWaitAssassinated
        )
    }
}
