//! What is left of a flow, without what two serial orders of the same segments differ in by chance: times and epochs.

use tcp_observer_common::conn::{Flow, Half, Mark, Outcome as Handshake, Role, Word};

/// The flows of one tuple in both tables, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome(pub Vec<FlowState>);

impl Outcome {
    pub fn new(mut flows: Vec<FlowState>) -> Self {
        flows.sort();
        Self(flows)
    }

    /// How many packets the flows have.
    pub fn packets(&self) -> u64 {
        self.0.iter().flat_map(|flow| &flow.halves).map(|half| half.packets).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowState {
    pub is_settled: bool,
    /// The word's bits without its epoch.
    pub word: u64,
    /// The word in words, for whoever reads it.
    pub told: String,
    /// Low and high.
    pub halves: [HalfState; 2],
    pub notes: u64,
    /// Zeek's history, capitals for the originator, in alphabetical order: two CPUs may append either way round.
    pub history: String,
    /// Which of the handshake's parts have a duration.
    pub measured: [bool; 3],
    /// How long it was half-closed makes sense, if it was.
    pub half_close_is_sane: bool,
}

/// Longer than any scenario lasts, and shorter than any clock has run.
const LONG_NS: u64 = 600_000_000_000;

impl FlowState {
    pub fn of(is_settled: bool, flow: &Flow) -> Self {
        let word = flow.word.load();
        let mut letters: Vec<char> = flow
            .story
            .history()
            .map(|(role, letter)| {
                let letter = letter.label().chars().next().unwrap_or('?');
                if role == Role::Originator { letter.to_ascii_uppercase() } else { letter }
            })
            .collect();
        letters.sort_unstable();
        let times = &flow.times;
        Self {
            is_settled,
            word: word.in_epoch(0).0,
            told: format!("{:?}", told(word)),
            halves: [HalfState::of(&flow.low), HalfState::of(&flow.high)],
            notes: flow.story.notes.get(),
            history: letters.into_iter().collect(),
            measured: [times.syn_to_synack_ns(), times.synack_to_ack_ns(), times.total_ns()].map(|time| time.is_some()),
            half_close_is_sane: times.half_closed_for_ns(word, times.changed_ns.get()).is_none_or(|ns| ns < LONG_NS),
        }
    }

    /// Whether the two are the same flow but for what was counted and noted in passing.
    pub fn is_alike(&self, other: &Self) -> bool {
        (self.is_settled, self.word) == (other.is_settled, other.word)
    }

    pub fn is_retired(&self) -> bool {
        Word(self.word).has(Mark::Retired)
    }

    pub fn is_in_handshake(&self) -> bool {
        Word(self.word).outcome() == Handshake::InProgress
    }
}

fn told(word: Word) -> impl std::fmt::Debug {
    let marks = [
        (Mark::Retired, "retired"),
        (Mark::Inferred, "inferred"),
        (Mark::SynRepeated, "syn repeated"),
        (Mark::SynAckRepeated, "synack repeated"),
    ];
    let pairs = [
        (Mark::FinSent, "fin"),
        (Mark::RstSent, "rst"),
        (Mark::Seen, "seen"),
        (Mark::Confirmed, "confirmed"),
        (Mark::IsnSeen, "isn"),
        (Mark::Probing, "probing"),
    ];
    let has: Vec<_> = marks.into_iter().filter(|&(mark, _)| word.has(mark)).map(|(_, name)| name).collect();
    let of = |role| -> Vec<_> {
        pairs.into_iter().filter(|&(mark, _)| word.has_of(mark, role)).map(|(_, name)| name).collect()
    };
    (
        [word.state(Role::Originator), word.state(Role::Responder)],
        word.outcome(),
        (word.initiator(), word.how()),
        has,
        [of(Role::Originator), of(Role::Responder)],
    )
}

/// One direction, but for its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HalfState {
    pub packets: u64,
    pub payload_bytes: u64,
    pub next_seq: u32,
    pub acked: u32,
    pub isn: u32,
    pub gap_end: u32,
    pub rst_seq: u32,
    pub tap: u32,
    pub max_window: u16,
    pub letters: u8,
    pub seen: u8,
    pub options: u8,
    pub window_shift: u8,
    pub retransmits: u32,
    pub keepalives: u16,
    pub window_probes: u16,
    pub zero_windows: u16,
    pub unanswered: u8,
    pub syn_retransmits: u8,
    pub fin_retransmits: u8,
}

impl HalfState {
    fn of(half: &Half) -> Self {
        Self {
            packets: half.packets.get(),
            payload_bytes: half.payload_bytes.get(),
            next_seq: half.next_seq.get().0,
            acked: half.acked.get().0,
            isn: half.isn.get().0,
            gap_end: half.gap_end.get().0,
            rst_seq: half.rst_seq.get().0,
            tap: half.tap.get(),
            max_window: half.max_window.get(),
            letters: half.letters.get(),
            seen: half.seen.get(),
            options: half.options.get(),
            window_shift: half.window_shift.get(),
            retransmits: half.retransmits.get(),
            keepalives: half.keepalives.get(),
            window_probes: half.window_probes.get(),
            zero_windows: half.zero_windows.get(),
            unanswered: half.unanswered.get(),
            syn_retransmits: half.syn_retransmits.get(),
            fin_retransmits: half.fin_retransmits.get(),
        }
    }
}
