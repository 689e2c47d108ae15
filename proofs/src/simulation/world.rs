//! The run of a plan: two hosts, the link between them, and whoever watches.

use std::{cmp::Reverse, collections::BinaryHeap};

use smoltcp::socket::tcp::State;

use super::{
    host::Host,
    packet::{self, Packet},
    plan::{Action, End, Hop, Mishap, Place, Plan, SECOND},
};

/// Why an end's history has another step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It has taken in a packet; which one, of all that were sent.
    Received(usize),
    /// It has sent one.
    Sent(usize),
    /// Its application has done something.
    Acted(Action),
    /// Its timer has run out.
    Timer,
}

/// Who learns of everything that happens, in the order in which it does.
pub trait Witness {
    /// An end stands where it stands now for this reason. `connections` counts those that it has had.
    fn stepped(&mut self, _now_ns: u64, _end: End, _cause: Cause, _state: State, _connections: u32) {}
    fn sent(&mut self, _now_ns: u64, _id: usize, _packet: &Packet) {}
    fn lost(&mut self, _now_ns: u64, _id: usize, _packet: &Packet, _hop: Hop) {}
    /// A packet passes the watcher.
    fn passed(&mut self, _now_ns: u64, _id: usize, _packet: &Packet) {}
    /// Nothing goes on at this moment: a near end has answered all that has passed. `false` ends the run.
    fn settled(&mut self, _now_ns: u64) -> bool {
        true
    }
    fn swept(&mut self, _now_ns: u64) {}
}

enum Due {
    Act(usize),
    Wake(End),
    /// A packet at the watcher, and at its receiver.
    Pass(usize),
    Arrive(usize),
}

/// Enough for all that a plan wants; what keeps on repeating itself is cut off.
const MOST_PACKETS: usize = 600;
/// How long after the last action the run may go on.
const AFTERMATH_NS: u64 = 200 * SECOND;

struct World<'a, W> {
    plan: &'a Plan,
    hosts: [Host; 2],
    witness: &'a mut W,
    now_ns: u64,
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Due>,
    wakes_at_ns: [Option<u64>; 2],
    packets: Vec<Packet>,
    sent: [u32; 2],
    steps: [usize; 2],
    states: [State; 2],
}

/// Runs a plan before a witness.
pub fn run(plan: &Plan, witness: &mut impl Witness) {
    let [left, right] = plan.hosts;
    let mut world = World {
        plan,
        hosts: [Host::new(left, right), Host::new(right, left)],
        witness,
        now_ns: 0,
        due: BinaryHeap::new(),
        events: Vec::new(),
        wakes_at_ns: [None; 2],
        packets: Vec::new(),
        sent: [0; 2],
        steps: [0; 2],
        states: [State::Closed; 2],
    };
    for (index, act) in plan.acts.iter().enumerate() {
        world.at(act.at_ns, Due::Act(index));
    }
    world.go();
}

impl<W: Witness> World<'_, W> {
    fn at(&mut self, at_ns: u64, due: Due) {
        let order = self.events.len();
        self.events.push(due);
        self.due.push(Reverse((at_ns, order as u64, order)));
    }

    fn go(&mut self) {
        let end_ns = self.plan.acts.last().map_or(0, |act| act.at_ns) + AFTERMATH_NS;
        let mut sweep_ns = self.plan.first_sweep_ns;
        while let Some(Reverse((at_ns, _, index))) = self.due.pop() {
            while sweep_ns <= at_ns.min(end_ns) {
                self.witness.swept(sweep_ns);
                sweep_ns += SECOND;
            }
            if at_ns > end_ns || self.packets.len() > MOST_PACKETS {
                return;
            }
            self.now_ns = at_ns;
            match self.events[index] {
                Due::Act(index) => {
                    let act = self.plan.acts[index];
                    self.hosts[act.end as usize].act(act.action);
                    self.step(act.end, Cause::Acted(act.action));
                    self.settle(act.end);
                }
                Due::Wake(end) if self.wakes_at_ns[end as usize] == Some(at_ns) => {
                    self.wakes_at_ns[end as usize] = None;
                    self.settle(end);
                }
                Due::Wake(_) => {}
                Due::Pass(id) => self.pass(id),
                Due::Arrive(id) => self.arrive(id),
            }
            if !self.witness.settled(self.now_ns) {
                return;
            }
        }
        while sweep_ns <= end_ns {
            self.witness.swept(sweep_ns);
            sweep_ns += SECOND;
        }
        self.witness.settled(end_ns);
    }

    fn step(&mut self, end: End, cause: Cause) {
        let host = &self.hosts[end as usize];
        self.steps[end as usize] += 1;
        self.states[end as usize] = host.state();
        self.witness.stepped(self.now_ns, end, cause, host.state(), host.connections);
    }

    /// Lets an end do all that it wants at this moment.
    fn settle(&mut self, end: End) {
        loop {
            let before = self.states[end as usize];
            let host = &mut self.hosts[end as usize];
            host.attend();
            if host.state() != before {
                self.step(end, Cause::Acted(Action::Close));
            }
            let before = self.states[end as usize];
            let outgoing = self.hosts[end as usize].send(self.now_ns);
            if outgoing.is_empty() {
                if self.hosts[end as usize].state() != before {
                    self.step(end, Cause::Timer);
                    continue;
                }
                break;
            }
            for bytes in outgoing {
                self.emit(end, bytes);
            }
            if self.packets.len() > MOST_PACKETS {
                break;
            }
        }
        let now_ns = self.now_ns;
        let wakes_at_ns = self.hosts[end as usize].wakes_at_ns(now_ns);
        // One that wants to be asked now, and has just been, is asked again after a tick.
        let wakes_at_ns = wakes_at_ns.map(|at_ns| if at_ns > now_ns { at_ns } else { now_ns + 1_000_000 });
        if wakes_at_ns != self.wakes_at_ns[end as usize] {
            self.wakes_at_ns[end as usize] = wakes_at_ns;
            if let Some(at_ns) = wakes_at_ns {
                self.at(at_ns, Due::Wake(end));
            }
        }
    }

    fn emit(&mut self, from: End, bytes: Vec<u8>) {
        let id = self.packets.len();
        let nth = self.sent[from as usize];
        self.sent[from as usize] += 1;
        let packet = Packet {
            from,
            nth,
            connection: self.hosts[from as usize].connections,
            step: self.steps[from as usize] + 1,
            header: packet::header(&bytes),
            bytes,
        };
        self.witness.sent(self.now_ns, id, &packet);
        self.packets.push(packet);
        self.step(from, Cause::Sent(id));
        self.travel(id, Hop::BeforeWatcher);
    }

    /// Sends a packet over one part of its way.
    fn travel(&mut self, id: usize, hop: Hop) {
        let Packet { from, nth, .. } = self.packets[id];
        let is_left_hop = (from == End::Left) == (hop == Hop::BeforeWatcher);
        let hop_ns = self.plan.hops_ns[if is_left_hop { 0 } else { 1 }];
        let fault = self.plan.faults.iter().find(|fault| fault.from == from && fault.nth == nth && fault.hop == hop);
        let delays_ns = match fault.map(|fault| fault.mishap) {
            None => [Some(hop_ns), None],
            Some(Mishap::Lost) => [None, None],
            Some(Mishap::Delayed(by_ns)) => [Some(hop_ns + by_ns), None],
            Some(Mishap::Doubled(by_ns)) => [Some(hop_ns), Some(hop_ns + by_ns)],
        };
        if delays_ns == [None, None] {
            self.witness.lost(self.now_ns, id, &self.packets[id], hop);
        }
        let is_near = match self.plan.place {
            Place::Near(near) => near == if is_left_hop { End::Left } else { End::Right },
            Place::Middle => false,
        };
        for delay_ns in delays_ns.into_iter().flatten() {
            match hop {
                // At once: nothing comes between a near end and the watcher.
                Hop::BeforeWatcher if is_near => self.pass(id),
                Hop::AfterWatcher if is_near => self.arrive(id),
                Hop::BeforeWatcher => self.at(self.now_ns + delay_ns, Due::Pass(id)),
                Hop::AfterWatcher => self.at(self.now_ns + delay_ns, Due::Arrive(id)),
            }
        }
    }

    fn pass(&mut self, id: usize) {
        self.witness.passed(self.now_ns, id, &self.packets[id]);
        self.travel(id, Hop::AfterWatcher);
    }

    fn arrive(&mut self, id: usize) {
        let end = self.packets[id].from.opposite();
        self.hosts[end as usize].receive(&self.packets[id].bytes, self.now_ns);
        self.step(end, Cause::Received(id));
        self.settle(end);
    }
}
