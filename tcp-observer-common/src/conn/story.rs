//! What has happened to a flow, in the order in which it did: Zeek's history, and the set of all [`Note`]s.
//!
//! A letter of the history is for what one segment is; capitals are the originator's. Zeek appends most of them once
//! for each direction, and those of retransmitted data and of zero windows at the first, tenth, hundredth, … time
//! (<https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html>). The first 24 letters are kept.
//!
//! Both directions append, so both words of letters and the set change by compare-and-exchange. Where another CPU was
//! faster each time, a letter or a note is missing from the story: nothing is decided by it.

use core::cell::Cell;

use super::{
    half::Half,
    note::Note,
    record::Flow,
    state::State,
    word::{Mark, Outcome, Role, Word},
};
use crate::{
    counters::{Unreachable, place},
    labels::labelled,
    observer::Host,
    segment::{Flags, Options, Segment, SegmentKind},
    seq::SeqNum,
    verifier::forget,
};

labelled! {
    /// A letter of the history, as the responder's.
    pub enum Letter {
        /// A SYN without ACK.
        Syn = "s",
        /// A SYN with ACK.
        SynAck = "h",
        /// A pure ACK.
        Ack = "a",
        /// Data, and neither SYN, FIN nor RST.
        Data = "d",
        Fin = "f",
        Rst = "r",
        /// FIN and RST together: "inconsistent".
        Inconsistent = "i",
        /// SYN with FIN or with RST: "multi-flag".
        MultiFlag = "q",
        /// Data at or before the highest number sent.
        Retransmission = "t",
        ZeroWindow = "w",
    }
}

impl Letter {
    /// Whether the letter is among the ones that a direction has, in [`Half::letters`].
    #[inline(always)]
    pub(super) const fn bit(self) -> u8 {
        match self {
            // Zeek has one bit for SYNs of both kinds.
            Letter::Syn | Letter::SynAck => 1 << Letter::Syn as u8,
            Letter::Ack => Self::ACK,
            Letter::Data => Self::DATA,
            Letter::Fin | Letter::Rst | Letter::Inconsistent | Letter::MultiFlag => 1 << self as u8,
            Letter::Retransmission | Letter::ZeroWindow => 0,
        }
    }

    /// What leaves its sender without a connection.
    const ENDS_AT_ONCE: u8 = 1 << Letter::Rst as u8 | 1 << Letter::Inconsistent as u8;
    pub(crate) const ACK: u8 = 1 << Letter::Ack as u8;
    pub(crate) const DATA: u8 = 1 << Letter::Data as u8;

    /// What a segment with these flags is; `None` for one that says nothing at all.
    #[inline(always)]
    fn of(segment: &Segment) -> Option<Self> {
        let flags = segment.flags;
        Some(if flags.controls() >= 2 {
            if flags.has(Flags::FIN) && flags.has(Flags::RST) { Letter::Inconsistent } else { Letter::MultiFlag }
        } else {
            match segment.kind() {
                SegmentKind::Rst => Letter::Rst,
                SegmentKind::Syn => Letter::Syn,
                SegmentKind::SynAck => Letter::SynAck,
                SegmentKind::Fin => Letter::Fin,
                SegmentKind::Data => Letter::Data,
                SegmentKind::Ack if flags.has(Flags::ACK) => Letter::Ack,
                SegmentKind::Ack => return None,
            }
        })
    }
}

/// The two words of letters and the set of notes.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Story {
    /// Twelve letters in each, five bits a letter: its index plus one, and above it a bit for the responder. The oldest
    /// is the highest.
    pub letters: [Cell<u64>; 2],
    /// A bit for each [`Note`], and above them why the originator's SYN did not arrive.
    pub notes: Cell<u64>,
}

const _: () = assert!(size_of::<Story>() == 24);

const LETTER_BITS: u32 = 5;
const RESPONDERS: u64 = 1 << 4;
/// A word holds twelve letters when the twelfth place is taken.
const FULL: u64 = 0x1f << (11 * LETTER_BITS);

/// A letter's place in the queue for room: how the flow ended is worth more than what else it was for the first time,
/// and that more than a repetition.
#[derive(Clone, Copy)]
enum Rank {
    Repetition,
    First,
    /// The first FIN or RST of a direction: four in all.
    End,
}

impl Rank {
    /// That of a letter that its direction has not had before.
    #[inline(always)]
    const fn of_first(letter: Letter) -> Self {
        match letter {
            Letter::Fin | Letter::Rst => Rank::End,
            _ => Rank::First,
        }
    }

    /// The second word from which on there is no room for this rank. A word of `n` letters is at least 1 shifted by
    /// `n - 1` places.
    #[inline(always)]
    const fn full_from(self) -> u64 {
        match self {
            Rank::Repetition => 1 << (4 * LETTER_BITS),
            Rank::First => 1 << (7 * LETTER_BITS),
            Rank::End => 1 << (11 * LETTER_BITS),
        }
    }
}

impl Story {
    #[inline(always)]
    pub fn has(&self, note: Note) -> bool {
        self.notes.get() & note.bit() != 0
    }

    /// The notes that are there, in the order of their declaration.
    pub fn notes(&self) -> impl Iterator<Item = Note> {
        let notes = self.notes.get();
        Note::ALL.iter().copied().filter(move |note| notes & note.bit() != 0)
    }

    /// The history, oldest letter first.
    pub fn history(&self) -> impl Iterator<Item = (Role, Letter)> + Clone + use<> {
        let words = [self.letters[0].get(), self.letters[1].get()];
        words.into_iter().flat_map(|word| {
            (0..12).rev().filter_map(move |place| {
                let code = word >> (place * LETTER_BITS) & 0x1f;
                let index = (code & (RESPONDERS - 1)).checked_sub(1)?;
                let role = if code & RESPONDERS == 0 { Role::Originator } else { Role::Responder };
                Some((role, Letter::from_bits(index as u8)))
            })
        })
    }

    /// Begins with a letter, where nobody else knows of the flow yet.
    #[inline(always)]
    fn begin(&self, role: Role, letter: Letter) {
        self.letters[0].set(code(role, letter));
    }

    /// Appends a letter, if there is room.
    #[inline(always)]
    fn append<H: Host>(&self, host: &H, role: Role, letter: Letter, rank: Rank) {
        let code = code(role, letter);
        let [first, second] = &self.letters;
        let cell = if first.get() & FULL == 0 { first } else { second };
        if second.get() >= rank.full_from() {
            return;
        }
        let mut attempts = 0;
        while attempts < 2 {
            attempts += 1;
            let word = cell.get();
            if word & FULL != 0 || host.exchange_bits(cell, word, word << LETTER_BITS | code) {
                return;
            }
        }
    }

    /// Adds notes to the set.
    #[inline(always)]
    pub fn add<H: Host>(&self, host: &H, bits: u64) {
        let mut attempts = 0;
        while attempts < 2 {
            attempts += 1;
            let notes = self.notes.get();
            if notes | bits == notes || host.exchange_bits(&self.notes, notes, notes | bits) {
                return;
            }
        }
    }
}

#[inline(always)]
const fn code(role: Role, letter: Letter) -> u64 {
    letter as u64 + 1 + role as u64 * RESPONDERS
}

/// Whether Zeek's scaled letters are appended at this count: 1, 10, 100, 1000, …
#[inline(always)]
const fn is_on_scale(count: u32) -> bool {
    matches!(count, 1 | 10 | 100 | 1_000 | 10_000 | 100_000 | 1_000_000)
}

/// A segment that was judged, for [`tell`].
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The flow's word before it.
    pub word: Word,
    /// Who sent it.
    pub from: Role,
    pub note: Note,
    /// What its sender was to send next, before it.
    pub next_seq: SeqNum,
}

/// Adds to a flow's story what a segment says, before its half is written. The notes of this segment come back, as a
/// set of their bits.
#[inline(always)]
pub fn tell<H: Host>(host: &H, flow: &Flow, segment: &Segment, judged: Judged) -> u64 {
    let Some(letter) = letter_alone(flow, segment, judged) else {
        return host.tell_at_length(flow, segment, judged);
    };
    tell_letter(host, flow, segment, judged, letter);
    // Most connections that are closed by both ends close so.
    if !matches!(letter, Letter::Fin) || !closes_in_three_segments(judged) {
        return 0;
    }
    let note = Note::ThreeSegmentClose;
    flow.story.add(host, note.bit());
    count(host, note);
    note.bit()
}

/// [`tell`] for a flow's first segment, of which nobody else knows yet: a lone letter needs no exchange.
#[inline(always)]
pub fn tell_beginning<H: Host>(host: &H, flow: &Flow, segment: &Segment, judged: Judged) -> u64 {
    let Some(letter) = letter_alone(flow, segment, judged) else {
        return host.tell_at_length(flow, segment, judged);
    };
    let half = flow.half(judged.word.side_of(judged.from));
    half.note_completeness(segment);
    half.note_letter(letter);
    flow.story.begin(judged.from, letter);
    0
}

/// Whether a FIN is its direction's first, in answer to the other one's and with its acknowledgement.
#[inline(always)]
fn closes_in_three_segments(Judged { word, from, note, .. }: Judged) -> bool {
    !word.has_of(Mark::FinSent, from)
        && matches!(word.state(from.opposite()), State::FinWait1)
        && matches!(note, Note::Nothing | Note::FinOutOfOrder)
}

/// The letter of a segment of which there is nothing else to tell, but whether a FIN closes in three segments: a SYN, SYN-ACK,
/// ACK or FIN as nearly all are.
#[inline(always)]
pub fn letter_alone(flow: &Flow, segment: &Segment, judged: Judged) -> Option<Letter> {
    let Judged { word, from, note, .. } = judged;
    let Segment { flags, window, payload_bytes, accurate_ecn, options, .. } = segment;
    if *window == 0 || *payload_bytes != 0 || !matches!(note, Note::Nothing | Note::SynAnswered | Note::Completed) {
        return None;
    }
    const ACK: u8 = Flags::ACK;
    const SYN: u8 = Flags::SYN;
    const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
    const FIN_ACK: u8 = Flags::FIN | Flags::ACK;
    match flags.0 & (Flags::SYN | Flags::FIN | Flags::RST | Flags::ACK) {
        ACK => Some(Letter::Ack),
        SYN if !options.has(Options::FAST_OPEN) => Some(Letter::Syn),
        SYN_ACK if !options.has(Options::FAST_OPEN) && !flags.has(Flags::ECE | Flags::CWR) && *accurate_ecn == 0 => {
            Some(Letter::SynAck)
        }
        FIN_ACK if matches!(note, Note::Nothing) && !flow.half(word.side_of(from)).has(Letter::Fin) => {
            Some(Letter::Fin)
        }
        _ => None,
    }
}

/// [`tell`] where [`letter_alone`] says that this is all there is to tell.
#[inline(always)]
fn tell_letter<H: Host>(host: &H, flow: &Flow, segment: &Segment, judged: Judged, letter: Letter) {
    let half = flow.half(judged.word.side_of(judged.from));
    if half.has(letter) {
        half.note_completeness(segment);
    } else {
        tell_first(host, &flow.story, half, segment, judged.from, letter);
    }
}

/// The same where a direction is known to have had no such segment before.
#[inline(always)]
pub(crate) fn tell_first<H: Host>(host: &H, story: &Story, half: &Half, segment: &Segment, from: Role, letter: Letter) {
    half.note_completeness(segment);
    half.note_letter(letter);
    story.append(host, from, letter, Rank::of_first(letter));
}

/// [`tell`] for a segment of any kind ([`Host::tell_at_length`]).
#[inline(always)]
pub fn tell_at_length<H: Host>(host: &H, flow: &Flow, segment: &Segment, judged: Judged) -> u64 {
    let Judged { word, from, .. } = judged;
    let (half, peer) = (flow.half(word.side_of(from)), flow.half(word.side_of(from.opposite())));
    half.note_completeness(segment);
    let story = &flow.story;
    let judged = Judged { word: word.forgotten(), ..judged };
    let peer_ended = peer.letters.get() & (Letter::Fin.bit() | Letter::ENDS_AT_ONCE) == Letter::Fin.bit();
    tell_history(host, story, half, segment, judged, peer_ended);
    let notes = notes_of(host, flow, half, segment, judged);
    if notes != 0 {
        story.add(host, notes);
    }
    notes
}

/// The letters of one segment: first what it is, then a zero window, then a retransmission.
///
/// What an end has done is told by its letters, as Zeek does, which takes any FIN or RST for one.
#[inline(always)]
fn tell_history<H: Host>(host: &H, story: &Story, half: &Half, segment: &Segment, judged: Judged, peer_ended: bool) {
    let Judged { word, from, next_seq, .. } = judged;
    let was_reset = half.letters.get() & Letter::ENDS_AT_ONCE != 0;
    let letter = Letter::of(segment);
    if let Some(letter) = letter {
        let has = half.has(letter);
        let again = match letter {
            // A FIN or RST of another number counts again.
            Letter::Fin => segment.end() != next_seq,
            Letter::Rst => segment.seq != half.rst_seq.get(),
            _ => false,
        };
        if !has || again {
            half.note_letter(letter);
            story.append(host, from, letter, if has { Rank::Repetition } else { Rank::of_first(letter) });
        }
        if matches!(letter, Letter::Rst) {
            half.rst_seq.set(segment.seq);
        }
    }
    let is_rst = segment.flags.has(Flags::RST);
    if segment.window == 0 && !is_rst && !was_reset && !peer_ended {
        half.zero_windows.set(half.zero_windows.get().saturating_add(1));
        if is_on_scale(u32::from(half.zero_windows.get())) {
            story.append(host, from, Letter::ZeroWindow, Rank::Repetition);
        }
    }
    if segment.payload_bytes == 0 || was_reset {
        return;
    }
    let (is_syn, is_fin) = (segment.flags.has(Flags::SYN), segment.flags.has(Flags::FIN));
    // A RST's payload takes no sequence numbers.
    let end = if is_rst { segment.seq.plus(u32::from(is_syn) + u32::from(is_fin)) } else { segment.end() };
    let seen = word.has_of(Mark::Seen, from);
    // Zeek begins to number with such a segment, and so finds its data at the end of what was sent.
    let begins = !seen && (is_syn || is_rst && !is_fin);
    if begins && !half.began_with_data() {
        half.begin_with_data();
    } else if begins || seen && (is_syn || !end.after(next_seq)) {
        half.retransmits.set(half.retransmits.get().saturating_add(1));
    } else {
        return;
    }
    if is_on_scale(half.zeeks_retransmissions()) {
        story.append(host, from, Letter::Retransmission, Rank::Repetition);
    }
}

/// The notes of one segment: the one that it was judged with, and what can be said of it beside. Each is counted.
#[inline(always)]
fn notes_of<H: Host>(host: &H, flow: &Flow, half: &Half, segment: &Segment, judged: Judged) -> u64 {
    let Judged { word, from, note, .. } = judged;
    let story = &flow.story;
    let peer = flow.half(word.side_of(from.opposite()));
    let mut notes = note.bit() & !(Note::Nothing.bit() | Note::SynAnswered.bit() | Note::Completed.bit());
    count(host, note);
    let mut also = |note: Note, applies: bool| {
        if applies {
            notes = forget(notes | note.bit());
            count(host, note);
        }
    };
    let flags = segment.flags;
    let kind = segment.kind();
    also(Note::NonsenseFlags, flags.controls() >= 2 || !flags.are_plausible());
    match kind {
        SegmentKind::Syn | SegmentKind::SynAck => {
            also(Note::SynWithData, segment.payload_bytes > 0);
            also(Note::FastOpen, segment.options.has(Options::FAST_OPEN));
            if kind == SegmentKind::SynAck {
                let agreed = agreed_ecn(segment, word.has_of(Mark::IsnSeen, from.opposite()), peer.asks_ecn());
                also(Note::AccurateEcn, matches!(agreed, Some(Note::AccurateEcn)));
                also(Note::Ecn, matches!(agreed, Some(Note::Ecn)));
            }
        }
        SegmentKind::Fin => {
            also(Note::FinWithData, segment.payload_bytes > 0);
            also(Note::ThreeSegmentClose, closes_in_three_segments(judged));
        }
        SegmentKind::Rst => {
            also(Note::PeerRestarted, note.is_reset() && story.has(Note::SynInConnection));
            also(
                Note::StaleSyn,
                matches!(note, Note::HandshakeReset) && matches!(from, Role::Originator) && story.has(Note::OldSyn),
            );
        }
        SegmentKind::Data => {
            also(Note::HalfCloseData, word.is_half_closed() && matches!(word.state(from), State::CloseWait));
            also(Note::Heartbeat, half.beats.get() >= super::half::BEATS);
        }
        SegmentKind::Ack => {}
    }
    also(
        Note::CompletedByData,
        matches!(note, Note::Completed | Note::LastSynAckAcked)
            && matches!(kind, SegmentKind::Data | SegmentKind::Fin)
            && matches!(word.outcome(), Outcome::InProgress),
    );
    notes
}

/// What a SYN-ACK's flags agree to, of what the SYN asked for: ECN, whose answer is ECE alone
/// (<https://www.rfc-editor.org/rfc/rfc3168#section-6.1.1>), or accurate ECN, whose answer has AE or CWR
/// (<https://www.rfc-editor.org/rfc/rfc9768#section-3.1.2>, table 2). All flags sent back as they came are no answer
/// but a mirror.
#[inline(always)]
fn agreed_ecn(segment: &Segment, syn_seen: bool, (asks_ecn, asks_accurate): (bool, bool)) -> Option<Note> {
    let (ece, cwr, ae) = (segment.flags.has(Flags::ECE), segment.flags.has(Flags::CWR), segment.accurate_ecn != 0);
    match (ae, cwr, ece) {
        (false, false, false) | (true, true, true) => None,
        (false, false, true) if asks_ecn || !syn_seen => Some(Note::Ecn),
        // Of a SYN that was not seen, this may be the mirror.
        (false, true, true) if asks_accurate => Some(Note::AccurateEcn),
        (false, false, true) | (false, true, true) => None,
        (true, _, _) | (_, true, _) if asks_accurate || !syn_seen => Some(Note::AccurateEcn),
        (true, _, _) | (_, true, _) => None,
    }
}

/// Counts a note, if it is worth a counter.
#[inline(always)]
pub fn count<H: Host>(host: &H, note: Note) {
    if !note.is_ordinary() {
        host.add(place::notes(note), 1);
    }
}

/// Notes above the set's own bits are the reason why the originator's SYN did not arrive.
const REASON_SHIFT: u32 = 60;
const _: () = assert!(Note::COUNT <= REASON_SHIFT as usize && Unreachable::COUNT < 16);

impl Story {
    /// The bits that say why a SYN did not arrive.
    #[inline(always)]
    pub const fn unreachable_bits(reason: Unreachable) -> u64 {
        (reason as u64 + 1) << REASON_SHIFT | Note::Unreachable.bit()
    }

    /// Why the originator's SYN did not arrive, where an ICMP error has said so.
    pub fn unreachable(&self) -> Option<Unreachable> {
        (self.notes.get() >> REASON_SHIFT).checked_sub(1).map(|index| Unreachable::from_bits(index as u8))
    }
}
