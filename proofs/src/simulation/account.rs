//! What a flow's record has to say, reckoned from the packets that have passed since the flow began, by hand: counts,
//! repetitions, flags, who closed first, and the three times of the handshake.
//!
//! It goes by docs/semantics.md, not by the observer's code, and holds for flows that began with a SYN and whose
//! handshake was completed; counts hold for all.

use tcp_observer_common::{
    conn::{Flow, How, Initiator, Mark, Outcome, Role, Word},
    flow::Side,
};

use super::{
    packet::Header,
    plan::{End, MILLISECOND},
};

/// One packet that has passed.
#[derive(Clone, Copy, Debug)]
struct Passed {
    at_ns: u64,
    from: End,
    header: Header,
}

#[derive(Default)]
pub struct Account {
    /// When the flow began that is reckoned.
    first_ns: Option<u64>,
    passed: Vec<Passed>,
    completed_by: Option<usize>,
}

/// A SYN or SYN-ACK again sooner than this is one frame seen twice.
const DOUBLED_NS: u64 = 100 * MILLISECOND;

impl Account {
    /// Takes in that a packet has passed, after which the watcher has this flow. Whether it has begun with the packet.
    pub fn pass(&mut self, at_ns: u64, from: End, header: Header, flow: Option<&Flow>) -> bool {
        let began_ns = flow.map(|flow| flow.times.first_ns.get());
        let is_another =
            flow.is_some_and(|flow| flow.half(Side::Low).packets.get() + flow.half(Side::High).packets.get() == 1);
        if began_ns != self.first_ns || is_another {
            *self = Self { first_ns: began_ns, ..Self::default() };
        }
        if let Some(flow) = flow {
            self.passed.push(Passed { at_ns, from, header });
            let is_completed = flow.word.load().outcome() == Outcome::Completed;
            if is_completed && self.completed_by.is_none() {
                self.completed_by = Some(self.passed.len() - 1);
            }
        }
        is_another
    }

    /// What is wrong with a flow's record; `left` is the side of its key that the left end is.
    pub fn check(&self, flow: &Flow, left: Side) -> Result<(), String> {
        if self.first_ns != Some(flow.times.first_ns.get()) {
            return Ok(());
        }
        let word = flow.word.load();
        let side_of = |end| if end == End::Left { left } else { left.opposite() };
        for end in End::BOTH {
            let half = flow.half(side_of(end));
            let own = || self.passed.iter().filter(move |passed| passed.from == end);
            let bytes: u64 = own().map(|passed| u64::from(passed.header.payload)).sum();
            expect(&format!("packets of {end:?}"), half.packets.get(), own().count() as u64)?;
            expect(&format!("bytes of {end:?}"), half.payload_bytes.get(), bytes)?;
            let has_rst = own().any(|passed| passed.header.rst);
            if word.has_of(Mark::RstSent, word.role_of(side_of(end))) && !has_rst {
                return Err(format!("{end:?} is said to have sent a RST"));
            }
        }
        let originator = if word.side_of(Role::Originator) == left { End::Left } else { End::Right };
        // An originator sends a SYN-ACK only where the SYNs have crossed, even if the other one was not taken for this
        // flow's.
        let crossed = self.passed.iter().any(|passed| {
            let header = &passed.header;
            header.syn && header.ack.is_some() == (passed.from == originator)
        });
        let began_with_syn = self.passed.first().is_some_and(|passed| is_bare_syn(&passed.header));
        if word.outcome() != Outcome::Completed || !began_with_syn || crossed {
            return Ok(());
        }
        self.check_handshake(flow, originator)?;
        self.check_repeats(flow, originator, side_of)?;
        self.check_close(word, side_of)
    }

    fn check_handshake(&self, flow: &Flow, originator: End) -> Result<(), String> {
        let Some(completed_by) = self.completed_by else {
            return Ok(());
        };
        let completed = self.passed[completed_by];
        let syns = self.repetitions(originator, is_bare_syn, completed_by);
        let isn = self.passed[0].header.seq;
        let answers = |header: &Header| header.syn && header.ack == Some(isn.wrapping_add(1));
        let synacks = self.repetitions(originator.opposite(), answers, completed_by);
        let (Some(first_syn), Some(synack)) = (syns.first(), synacks.first()) else {
            return Err("a handshake is completed without SYN or SYN-ACK".to_owned());
        };
        let before: Vec<_> = syns.iter().filter(|syn| syn.at_ns <= synack.at_ns).collect();
        let last_syn = before.last().ok_or("the SYN-ACK was first")?;
        // The SYN-ACK's echo tells the first SYN from the last, and the ACK's the last SYN-ACK from the first.
        let value = |passed: &Passed| passed.header.timestamps.map(|(value, _)| value);
        let echo = |passed: &Passed| passed.header.timestamps.map(|(_, echo)| echo);
        let several_syns = value(first_syn) != value(last_syn);
        let answered = if several_syns && echo(synack) == value(first_syn) { first_syn } else { last_syn };
        // The second sighting of one that was seen twice is the last one all the same. smoltcp's challenge ACKs lack the
        // timestamp that RFC 7323, 3.2 wants of every segment, and are then taken for what the ACK answers.
        let last_seen = self.passed[..completed_by].iter().rev().find(|passed| passed.from != originator);
        let last_synack = last_seen.unwrap_or(synack);
        if !last_synack.header.syn {
            return Ok(());
        }
        let several = synacks.len() > 1 && value(synack) != value(last_synack);
        let acked = if several && echo(&completed) == value(last_synack) { last_synack } else { synack };
        let times = &flow.times;
        expect("syn_to_synack", times.syn_to_synack_ns(), Some(acked.at_ns - answered.at_ns))?;
        expect("synack_to_ack", times.synack_to_ack_ns(), Some(completed.at_ns - acked.at_ns))?;
        expect("total", times.total_ns(), Some(completed.at_ns - first_syn.at_ns))
    }

    /// The packets of an end up to the `last` one that are such, without those that were one frame seen twice.
    fn repetitions(&self, end: End, is_such: impl Fn(&Header) -> bool, last: usize) -> Vec<Passed> {
        let mut before_ns: Option<u64> = None;
        let mut found = Vec::new();
        for passed in self.passed[..=last].iter().filter(|passed| passed.from == end) {
            let is_doubled = before_ns.is_some_and(|before_ns| passed.at_ns - before_ns < DOUBLED_NS);
            before_ns = Some(passed.at_ns);
            if is_such(&passed.header) && (!is_doubled || found.is_empty()) {
                found.push(*passed);
            }
        }
        found
    }

    fn check_repeats(&self, flow: &Flow, originator: End, side_of: impl Fn(End) -> Side) -> Result<(), String> {
        let last = self.passed.len() - 1;
        let isn = self.passed[0].header.seq;
        let syns = self.repetitions(originator, |header| is_bare_syn(header) && header.seq == isn, last);
        let syn_retransmits = flow.half(side_of(originator)).syn_retransmits.get();
        expect("SYNs again", usize::from(syn_retransmits), syns.len() - 1)?;
        let responder = originator.opposite();
        let answers = |header: &Header| header.syn && header.ack == Some(isn.wrapping_add(1));
        let synacks = self.repetitions(responder, answers, last);
        let synack_retransmits = flow.half(side_of(responder)).syn_retransmits.get();
        // Also one that follows at once, which is no second sighting then.
        let mut numbers = self.passed.iter().filter(|passed| passed.from == responder && answers(&passed.header));
        let first = numbers.next().map(|synack| synack.header.seq);
        let is_renumbered = numbers.any(|synack| Some(synack.header.seq) != first);
        if is_renumbered {
            return Ok(());
        }
        expect("SYN-ACKs again", usize::from(synack_retransmits), synacks.len() - 1)
    }

    /// Who closed first, and how, where nothing but FINs has ended the flow.
    fn check_close(&self, word: Word, side_of: impl Fn(End) -> Side) -> Result<(), String> {
        // A FIN of a connection that there was before has other numbers.
        let is_own = |fin: &Passed| {
            let mut own = self.passed.iter().filter(|passed| passed.from == fin.from && passed.header.syn);
            own.any(|syn| fin.header.seq.wrapping_sub(syn.header.seq) < 1 << 20)
        };
        let fin_of =
            |end| self.passed.iter().position(|passed| passed.from == end && passed.header.fin && is_own(passed));
        let fins = End::BOTH.map(fin_of);
        for end in End::BOTH {
            let said = word.has_of(Mark::FinSent, word.role_of(side_of(end)));
            expect(&format!("FIN of {end:?}"), said, fins[end as usize].is_some())?;
        }
        if !matches!(word.how(), How::Fin | How::Simultaneous) {
            return Ok(());
        }
        let by = |index: usize| Initiator::of(word.role_of(side_of(self.passed[index].from)));
        let expected = match fins {
            [Some(one), Some(other)] => {
                let (first, second) = (one.min(other), one.max(other));
                let knows = self.passed[second].header.ack == Some(self.passed[first].header.end());
                if knows { (by(first), How::Fin) } else { (Initiator::Both, How::Simultaneous) }
            }
            [Some(only), None] | [None, Some(only)] => (by(only), How::Fin),
            [None, None] => return Err("a close without a FIN".to_owned()),
        };
        expect("close", (word.initiator(), word.how()), expected)
    }
}

fn is_bare_syn(header: &Header) -> bool {
    header.syn && header.ack.is_none()
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, where {expected:?} have passed")) }
}
