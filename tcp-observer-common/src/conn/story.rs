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
    times::half_closed,
    word::{Mark, Outcome, Role, Word},
};
use crate::{
    counters::{Unreachable, place},
    labels::labelled,
    observer::Host,
    segment::{Flags, Options, Segment, SegmentKind},
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
    const fn bit(self) -> u8 {
        match self {
            // Zeek has one bit for SYNs of both kinds.
            Letter::Syn | Letter::SynAck => 1 << Letter::Syn as u8,
            Letter::Ack => Self::ACK,
            Letter::Data => Self::DATA,
            Letter::Fin | Letter::Rst | Letter::Inconsistent | Letter::MultiFlag => 1 << self as u8,
            Letter::Retransmission | Letter::ZeroWindow => 0,
        }
    }

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
/// The second word when only letters that come for the first time are still taken: of those there are at most
/// sixteen, and the last ones, how the flow ended, are worth more than a repetition.
const ALMOST_FULL: u64 = 0x1f << (3 * LETTER_BITS);

impl Story {
    #[inline(always)]
    pub(super) fn clear(&self) {
        let Self { letters: [first, second], notes } = self;
        for word in [first, second, notes] {
            word.set(0);
        }
    }

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
    pub fn history(&self) -> impl Iterator<Item = (Role, Letter)> + Clone {
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

    /// Appends a letter, if there is room.
    #[inline(always)]
    fn append<H: Host>(&self, host: &H, role: Role, letter: Letter, is_first: bool) {
        let code = letter as u64 + 1 + role as u64 * RESPONDERS;
        let [first, second] = &self.letters;
        let cell = if first.get() & FULL == 0 { first } else { second };
        if !is_first && second.get() >= ALMOST_FULL {
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
}

/// Adds to a flow's story what a segment says, before its half is written.
#[inline(always)]
pub fn tell<H: Host>(host: &H, flow: &Flow, segment: &Segment, judged: Judged) {
    let Judged { word, from, note } = judged;
    let half = flow.half(word.side_of(from));
    let story = &flow.story;
    half.note_completeness(segment);
    tell_history(host, story, half, segment, word.forgotten(), from);
    let notes = notes_of(host, story, half, segment, word.forgotten(), from, note);
    if notes != 0 {
        story.add(host, notes);
    }
}

/// The letters of one segment: first what it is, then a zero window, then a retransmission.
#[inline(always)]
fn tell_history<H: Host>(host: &H, story: &Story, half: &Half, segment: &Segment, word: Word, from: Role) {
    let letter = Letter::of(segment);
    if let Some(letter) = letter {
        let has = half.letters.get() & letter.bit() != 0;
        let again = match letter {
            // A FIN or RST of another number counts again.
            Letter::Fin => segment.end() != half.next_seq.get(),
            Letter::Rst => segment.seq != half.rst_seq.get(),
            _ => false,
        };
        if !has || again {
            half.letters.set(half.letters.get() | letter.bit());
            story.append(host, from, letter, !has);
        }
        if matches!(letter, Letter::Rst) {
            half.rst_seq.set(segment.seq);
        }
    }
    let peer = from.opposite();
    let is_rst = segment.flags.has(Flags::RST);
    let was_reset = word.has_of(Mark::RstSent, from);
    if segment.window == 0 && !is_rst && !was_reset && !word.has_of(Mark::FinSent, peer) {
        half.zero_windows.set(half.zero_windows.get().saturating_add(1));
        if is_on_scale(u32::from(half.zero_windows.get())) {
            story.append(host, from, Letter::ZeroWindow, false);
        }
    }
    if segment.payload_bytes == 0 || was_reset {
        return;
    }
    // A RST's payload takes no sequence numbers.
    let end = if is_rst { segment.seq } else { segment.end() };
    let is_syn = segment.flags.has(Flags::SYN);
    let seen = word.has_of(Mark::Seen, from);
    if is_syn || (is_rst && !seen) {
        // Zeek begins to number with such a segment, and so finds its data at the end of what was sent.
        story.append(host, from, Letter::Retransmission, false);
    } else if seen && !end.after(half.next_seq.get()) {
        half.retransmits.set(half.retransmits.get().saturating_add(1));
        if is_on_scale(half.retransmits.get()) {
            story.append(host, from, Letter::Retransmission, false);
        }
    }
}

/// The notes of one segment: the one that it was judged with, and what can be said of it beside. Each is counted.
#[inline(always)]
fn notes_of<H: Host>(
    host: &H,
    story: &Story,
    half: &Half,
    segment: &Segment,
    word: Word,
    from: Role,
    note: Note,
) -> u64 {
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
                let (ece, cwr) = (flags.has(Flags::ECE), flags.has(Flags::CWR));
                let accurate = segment.accurate_ecn != 0 || cwr;
                also(Note::AccurateEcn, accurate);
                also(Note::Ecn, ece && !accurate);
            }
        }
        SegmentKind::Fin => {
            also(Note::FinWithData, segment.payload_bytes > 0);
            also(
                Note::ThreeSegmentClose,
                !word.has_of(Mark::FinSent, from)
                    && matches!(word.state(from.opposite()), State::FinWait1)
                    && !matches!(note, Note::SimultaneousClose | Note::FinOutOfWindow),
            );
        }
        SegmentKind::Rst => {
            also(Note::PeerRestarted, note.is_reset() && story.has(Note::SynInConnection));
            also(
                Note::StaleSyn,
                matches!(note, Note::HandshakeReset) && matches!(from, Role::Originator) && story.has(Note::OldSyn),
            );
        }
        SegmentKind::Data => {
            also(Note::HalfCloseData, half_closed(word) && matches!(word.state(from), State::CloseWait));
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
