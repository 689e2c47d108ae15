//! The interfaces under observation: attached as they come, dropped as they go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::bail;

use super::Ingress;
use crate::{
    kernel::{
        attach::{self, Attached},
        choice::Choice,
        clsact::{self, Filter},
        links::{Inventory, Link},
        load::Programs,
        plan::{Plan, plan},
    },
    output::metrics::Attachment,
};

/// Interfaces by index, with what is attached to each.
pub struct Observed {
    choice: Choice,
    ingress: Ingress,
    programs: Arc<Mutex<Programs>>,
    interfaces: BTreeMap<u32, Interface>,
    /// Refused once, and not tried again until they are other interfaces.
    refused: BTreeSet<u32>,
}

struct Interface {
    name: String,
    attached: Vec<Attached>,
}

impl Observed {
    pub fn new(choice: Choice, ingress: Ingress, programs: Arc<Mutex<Programs>>) -> Self {
        Self { choice, ingress, programs, interfaces: BTreeMap::new(), refused: BTreeSet::new() }
    }

    /// Attaches for the first time.
    ///
    /// # Errors
    /// When an interface that was named refuses, or all do.
    pub fn begin(&mut self, inventory: &Inventory) -> anyhow::Result<()> {
        for link in self.choice.pick(inventory) {
            match self.attach(link) {
                Ok(()) if link.is_up => {}
                Ok(()) => tracing::warn!("interface `{}` is down: nothing is seen on it until it is up", link.name),
                Err(error) if self.choice.insists_on(link) => return Err(error),
                Err(error) => self.refuse(link, &error),
            }
        }
        if self.interfaces.is_empty() {
            bail!("there is no interface that the kernel programs could be attached to");
        }
        Ok(())
    }

    /// Follows what has become of the interfaces; whether anything changed.
    pub fn follow(&mut self, inventory: &Inventory) -> bool {
        let there: BTreeMap<u32, &Link> = inventory.links.iter().map(|link| (link.index, link)).collect();
        self.refused.retain(|index| there.contains_key(index));
        let mut changed = false;
        self.interfaces.retain(|index, interface| match there.get(index) {
            Some(link) => {
                changed |= interface.name != link.name;
                interface.name.clone_from(&link.name);
                true
            }
            None => {
                tracing::info!("interface `{}` is gone", interface.name);
                changed = true;
                false
            }
        });
        for link in self.new_ones(inventory) {
            match self.attach(link) {
                Ok(()) => changed = true,
                Err(error) => self.refuse(link, &error),
            }
        }
        changed
    }

    /// The chosen interfaces that are neither observed nor refused.
    fn new_ones<'a>(&self, inventory: &'a Inventory) -> Vec<&'a Link> {
        // A default route that vanishes for a moment must not make a default choice turn to everything else.
        let may_take_any = !matches!(self.choice, Choice::Default) || self.interfaces.is_empty();
        let mut links = self.choice.pick(inventory);
        links.retain(|link| !self.interfaces.contains_key(&link.index) && !self.refused.contains(&link.index));
        links.retain(|link| may_take_any || link.has_default_route);
        links
    }

    fn attach(&mut self, link: &Link) -> anyhow::Result<()> {
        let plan: Plan = plan(link, self.ingress)?;
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let attached = attach::attach(&mut programs, link, &plan)?;
        let hooks: Vec<_> = attached.iter().map(|one| format!("{} ({})", one.hook.label(), one.mode)).collect();
        tracing::info!("observing `{}` with {}: {}", link.name, hooks.join(" and "), plan.why);
        self.interfaces.insert(link.index, Interface { name: link.name.clone(), attached });
        Ok(())
    }

    fn refuse(&mut self, link: &Link, error: &anyhow::Error) {
        tracing::warn!("not observing `{}`: {error:#}", link.name);
        self.refused.insert(link.index);
    }

    /// What is attached where, for outputs.
    pub fn attachments(&self) -> Vec<Attachment> {
        let of = |interface: &Interface| {
            let name = interface.name.clone();
            interface
                .attached
                .iter()
                .map(move |one| Attachment { interface: name.clone(), hook: one.program, mode: one.mode })
                .collect::<Vec<_>>()
        };
        self.interfaces.values().flat_map(of).collect()
    }

    /// What the observed interfaces are called, by index.
    pub fn names(&self) -> impl Iterator<Item = (u32, &str)> {
        self.interfaces.iter().map(|(&index, interface)| (index, interface.name.as_str()))
    }

    /// What would outlive this process.
    pub fn filters(&self) -> Vec<Filter> {
        let all = self.interfaces.values().flat_map(|interface| &interface.attached);
        all.filter_map(|one| one.filter.clone()).collect()
    }

    /// Detaches everything.
    pub async fn end(&mut self, handle: &rtnetlink::Handle) {
        let made: BTreeSet<u32> =
            self.filters().iter().filter(|filter| filter.made_qdisc).map(|filter| filter.index).collect();
        self.interfaces.clear();
        for index in made {
            if let Err(error) = clsact::remove_unused_qdisc(handle, index).await {
                tracing::debug!("interface {index}: {error:#}");
            }
        }
    }
}
