//! The doubts: why the watcher may take an end for something else than it is.
//!
//! They are named so that each admitted difference has a reason, and so that none is admitted where the reason is not
//! given. Those of single steps are kept with the [history](super::history), those of a connection with its
//! [stream](super::stream); [`Doubt::BeyondWindow`], of both ends at once, with the [oracle](super::Oracle).

/// Why a step of an end's history cannot be known yet, or ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The packet that says so has not passed the watcher, or never will.
    NotPassed,
    /// It has received what had passed the watcher beyond a gap, and has said nothing since.
    BeyondGap,
    /// It has received a SYN-ACK, and its ACK has not passed.
    AckNotPassed,
    /// It has received a FIN behind a gap that more than one segment has filled, or that has passed before the gap was
    /// filled and comes again, and has said nothing since: a watcher that keeps where gaps end, and not where they
    /// begin, sees that they are filled by what is acknowledged.
    GapInPieces,
    /// It has received a FIN in order, and has said nothing since. A segment of its peer's connection before had passed
    /// late, with a number beyond all of this one: data is not held against the window, so that it moves what the peer is
    /// taken to have sent, and the FIN seems to come from before a gap.
    OldSegment,
    /// It has lost its connection without a word.
    Crashed,
    /// Its TIME-WAIT is over. How long that lasts is the stack's own choice.
    TimeWaitOver,
    /// It has sent a SYN or SYN-ACK of a new connection while the old one was not known to be over.
    SynOverOld,
    /// It has sent or taken a RST whose number is not between what was acknowledged and what was sent.
    RstOutOfPlace,
    /// It has ignored a RST whose number is.
    RstIgnored,
    /// It has ignored an acknowledgement of its FIN or SYN-ACK whose own number lies at the edge of its window or beyond.
    AckIgnored,
    /// It has ignored a FIN in order behind data that it had already, as smoltcp does: it takes the end of the data for
    /// the end of the segment.
    FinIgnored,
    /// It has dropped data that came beyond a gap, and so lacks what lies before the FIN that it was sent. RFC 9293,
    /// 3.10.7.4 has it hold such data, but as advice; smoltcp holds four pieces.
    PieceDropped,
    /// It answers a SYN that was overtaken by the next attempt's, or the next one's after a copy of the old one has passed.
    /// Nothing in two SYNs without timestamps says which was sent first: the watcher follows the one that passed last, and
    /// an answer to any other might be forged.
    AnswersOther,
    /// It answers a SYN of a connection that there has been before.
    OldSyn,
    /// It has sent a SYN after it had refused or ignored its peer's, or lost without a word the connection that had taken it.
    SynRefused,
    /// It is in SYN-RECEIVED by a simultaneous open and has received a SYN-ACK, which smoltcp answers with an ACK and
    /// does not take; RFC 9293's figure 8 has it in ESTABLISHED.
    SynAckIgnored,
    /// It was in TIME-WAIT when a SYN passed towards it. RFC 9293, 3.6.1 lets it begin a connection, smoltcp does not.
    SynInTimeWait,
    /// A SYN or SYN-ACK of it has passed that it had sent before it gave up or was reset, and stands for an attempt until
    /// that is answered, and the answer reset: a RST without acknowledgement comes from an end without a connection as well
    /// as from one in SYN-SENT whose last SYN is another (RFC 9293, 3.10.7.1 and 3.10.7.3).
    LateSyn,
    /// It has closed before its peer's FIN came, but no FIN of it has passed until afterwards: not CLOSING by what
    /// passes, but LAST-ACK.
    FinHeldBack,
    /// A FIN or RST has passed that ends beyond the widest window that was advertised to its sender, behind data that
    /// does so too; or a FIN behind data that did so when it passed, of which its receiver keeps what fits. RFC 9293, 3.8.6 forbids to send that; smoltcp heeds no window when it sends data again.
    BeyondWindow,
}

impl Doubt {
    /// Whether such a doubt is admitted where nothing is lost and no time passes between the end and the watcher.
    pub fn at_near_end(self) -> bool {
        match self {
            Self::NotPassed | Self::AckNotPassed | Self::BeyondGap | Self::AnswersOther => false,
            Self::GapInPieces
            | Self::OldSegment
            | Self::BeyondWindow
            | Self::Crashed
            | Self::TimeWaitOver
            | Self::SynOverOld
            | Self::RstOutOfPlace
            | Self::RstIgnored
            | Self::AckIgnored
            | Self::FinIgnored
            | Self::PieceDropped
            | Self::OldSyn
            | Self::SynRefused
            | Self::SynAckIgnored
            | Self::SynInTimeWait
            | Self::LateSyn
            | Self::FinHeldBack => true,
        }
    }
}
