//! Tables of flows without a bound, for one address family.
//!
//! The core calls `remove` for two reasons, which the flow's word tells apart: a retired flow has made way for a new
//! incarnation and goes to the finished records; one that is not retired has only moved to the other table.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    rc::Rc,
};

use tcp_observer_common::{
    conn::{Flow, Mark},
    flow::{Address, FlowKey},
    observer::Table,
    table::{Looked, Refusal},
};

use super::{follow::Id, host::Replayer, link::Tags};
use crate::snapshot::Key;

/// Flows by what identifies them in a capture. The standard library's hasher is keyed at random, so that no capture
/// can be made to collide.
pub type Entries<A> = RefCell<HashMap<(Tags, FlowKey<A>), Rc<Flow>>>;

/// The two tables of an address family.
#[derive(Debug)]
pub struct Tables<A> {
    pub settled: Entries<A>,
    pub half_open: Entries<A>,
}

impl<A> Default for Tables<A> {
    fn default() -> Self {
        Self { settled: RefCell::default(), half_open: RefCell::default() }
    }
}

/// One table as packets with certain VLAN tags see it.
pub struct View<'a, A> {
    pub host: &'a Replayer,
    pub entries: &'a Entries<A>,
    pub tags: Tags,
}

impl<A: Address + Hash> Table<A> for View<'_, A>
where
    FlowKey<A>: Key,
    Id: From<FlowKey<A>>,
{
    type Entry = Rc<Flow>;

    fn find(&self, key: &FlowKey<A>) -> Looked<Rc<Flow>> {
        self.entries.borrow().get(&(self.tags, *key)).cloned().into()
    }

    fn insert(&self, key: &FlowKey<A>, flow: &Flow) -> Result<(), Refusal> {
        match self.entries.borrow_mut().entry((self.tags, *key)) {
            Entry::Occupied(_) => Err(Refusal::Exists),
            Entry::Vacant(vacant) => {
                vacant.insert(Rc::new(flow.clone()));
                Ok(())
            }
        }
    }

    fn remove(&self, key: &FlowKey<A>) {
        let removed = self.entries.borrow_mut().remove(&(self.tags, *key));
        if let Some(flow) = removed
            && flow.word.load().has(Mark::Retired)
        {
            self.host.finish_replaced(self.tags, key, &flow);
        }
    }
}
