//! One of the two endpoints of an exchange, and the segments that it can send.

use std::hash::Hash;

use tcp_observer_common::{
    conn::Half,
    counters::Skip,
    flow::Address,
    observer::Family,
    segment::{Flags, Options, Segment},
    seq::SeqNum,
};

use proofs::memory::MemoryTable;

use super::{Memory, Talk, talk::Endpoint};

/// The segment that the others are made from: nothing set, a full window.
const TEMPLATE: Segment = Segment {
    seq: SeqNum(0),
    ack: SeqNum(0),
    payload_bytes: 0,
    wire_segments: 1,
    window: 0xffff,
    flags: Flags(0),
    accurate_ecn: 0,
    options: Options::NONE,
};

/// A peer, and how its next segment is to be sent and taken. Copied at will.
pub struct Peer<'a, A> {
    talk: &'a Talk<A>,
    pub(super) own: Endpoint<A>,
    pub(super) other: Endpoint<A>,
    interface: u32,
    /// What its segments have in common: window, options, ECN's flags.
    template: Segment,
    skip: Option<Skip>,
}

impl<A: Copy> Clone for Peer<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Copy> Copy for Peer<'_, A> {}

impl<'a, A: Address + Hash> Peer<'a, A>
where
    Memory: Family<A, Table = MemoryTable<A>>,
{
    pub(super) fn new(talk: &'a Talk<A>, own: Endpoint<A>, other: Endpoint<A>) -> Self {
        Self { talk, own, other, interface: 1, template: TEMPLATE, skip: None }
    }

    /// What follows is to be skipped for this reason.
    pub fn skipped(self, reason: Skip) -> Self {
        Self { skip: Some(reason), ..self }
    }

    /// What follows is seen on this interface.
    pub fn via(self, interface: u32) -> Self {
        Self { interface, ..self }
    }

    /// What follows advertises this window, unscaled.
    pub fn window(self, window: u16) -> Self {
        Self { template: Segment { window, ..self.template }, ..self }
    }

    fn options(self, options: Options) -> Self {
        Self { template: Segment { options, ..self.template }, ..self }
    }

    /// What follows carries the window scale option.
    pub fn shift(self, window_shift: u8) -> Self {
        self.options(Options { window_shift, ..self.template.options })
    }

    /// What follows carries the maximum segment size.
    pub fn mss(self, mss: u16) -> Self {
        self.options(Options { mss, ..self.template.options })
    }

    /// What follows carries timestamps: TSval and TSecr.
    pub fn timestamps(self, ts_value: u32, ts_echo: u32) -> Self {
        let present = self.template.options.present | Options::TIMESTAMPS;
        self.options(Options { ts_value, ts_echo, present, ..self.template.options })
    }

    /// What follows permits SACK.
    pub fn sack(self) -> Self {
        self.options(Options { present: self.template.options.present | Options::SACK, ..self.template.options })
    }

    /// What follows carries the Fast Open option.
    pub fn fast_open(self) -> Self {
        self.options(Options { present: self.template.options.present | Options::FAST_OPEN, ..self.template.options })
    }

    /// What follows has these flags of ECN's, ECE and CWR, beside its own.
    pub fn ecn(self, flags: u8) -> Self {
        Self { template: Segment { flags: Flags(flags), ..self.template }, ..self }
    }

    /// What follows has AE, the ninth flag.
    pub fn accurate_ecn(self) -> Self {
        Self { template: Segment { accurate_ecn: 1, ..self.template }, ..self }
    }

    #[track_caller]
    pub fn syn(self, seq: u32) {
        self.send(Flags::SYN, seq, 0, 0);
    }

    /// A SYN with payload (TCP Fast Open).
    #[track_caller]
    pub fn syn_data(self, seq: u32, bytes: u32) {
        self.send(Flags::SYN, seq, 0, bytes);
    }

    #[track_caller]
    pub fn syn_ack(self, seq: u32, ack: u32) {
        self.send(Flags::SYN | Flags::ACK, seq, ack, 0);
    }

    #[track_caller]
    pub fn ack(self, seq: u32, ack: u32) {
        self.send(Flags::ACK, seq, ack, 0);
    }

    #[track_caller]
    pub fn data(self, seq: u32, ack: u32, bytes: u32) {
        self.send(Flags::ACK | Flags::PSH, seq, ack, bytes);
    }

    #[track_caller]
    pub fn fin(self, seq: u32, ack: u32) {
        self.send(Flags::FIN | Flags::ACK, seq, ack, 0);
    }

    #[track_caller]
    pub fn fin_data(self, seq: u32, ack: u32, bytes: u32) {
        self.send(Flags::FIN | Flags::ACK, seq, ack, bytes);
    }

    #[track_caller]
    pub fn rst(self, seq: u32) {
        self.send(Flags::RST, seq, 0, 0);
    }

    #[track_caller]
    pub fn rst_ack(self, seq: u32, ack: u32) {
        self.send(Flags::RST | Flags::ACK, seq, ack, 0);
    }

    /// Any segment at all.
    #[track_caller]
    pub fn send(self, flags: u8, seq: u32, ack: u32, payload_bytes: u32) {
        let segment = self.segment(flags, seq, ack, payload_bytes);
        let expected = match self.skip {
            Some(reason) => Err(reason),
            None => Ok(()),
        };
        assert_eq!(self.talk.pass(&self, self.interface, &segment), expected, "{segment:?}");
    }

    /// Any segment at all; what became of it comes back.
    pub fn try_send(self, flags: u8, seq: u32, ack: u32, payload_bytes: u32) -> Result<(), Skip> {
        self.talk.pass(&self, self.interface, &self.segment(flags, seq, ack, payload_bytes))
    }

    fn segment(&self, flags: u8, seq: u32, ack: u32, payload_bytes: u32) -> Segment {
        Segment {
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            payload_bytes,
            flags: Flags(flags | self.template.flags.0),
            ..self.template
        }
    }

    /// What was noted of this peer.
    pub fn half(&self) -> Half {
        self.talk.flow().half(self.talk.key(self).1).clone()
    }

    /// Its keepalive probes that nobody has answered.
    pub fn unanswered_keepalives(&self) -> u8 {
        let flow = self.talk.flow();
        let word = flow.word.load();
        flow.unanswered_keepalives(word, word.role_of(self.talk.key(self).1))
    }
}
