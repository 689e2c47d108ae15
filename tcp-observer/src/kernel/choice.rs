//! Which interfaces to observe: the ones named, by glob or exactly, or a default that fits most servers.

use wildmatch::WildMatch;

use super::links::{Inventory, Link};
use crate::exit::Failure;

/// What was asked for. It is asked again whenever interfaces come and go.
#[derive(Clone, Debug)]
pub enum Choice {
    /// The interfaces that carry a default route, else all that are up except loopback.
    Default,
    Named(Vec<Pattern>),
}

/// One `--interface`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    matcher: WildMatch,
}

impl Pattern {
    /// Whether it names one interface rather than a set.
    pub fn is_exact(&self) -> bool {
        !self.text.contains(['*', '?'])
    }
}

impl Choice {
    /// The choice that these names or globs make.
    pub fn new(names: &[String]) -> Self {
        if names.is_empty() {
            return Self::Default;
        }
        let pattern = |name: &String| Pattern { text: name.clone(), matcher: WildMatch::new(name) };
        Self::Named(names.iter().map(pattern).collect())
    }

    /// The interfaces that it means at this moment.
    pub fn pick<'a>(&self, inventory: &'a Inventory) -> Vec<&'a Link> {
        let links = inventory.links.iter();
        match self {
            Self::Named(patterns) => {
                links.filter(|link| patterns.iter().any(|pattern| pattern.matcher.matches(&link.name))).collect()
            }
            Self::Default => {
                let routed: Vec<_> = links.clone().filter(|link| link.has_default_route).collect();
                if routed.is_empty() { links.filter(|link| link.is_up && !link.is_loopback).collect() } else { routed }
            }
        }
    }

    /// Whether this interface was asked for by its own name: failing to attach to it is an error, not a remark.
    pub fn insists_on(&self, link: &Link) -> bool {
        match self {
            Self::Named(patterns) => patterns.iter().any(|pattern| pattern.is_exact() && pattern.text == link.name),
            Self::Default => false,
        }
    }

    /// A glob may match nothing yet, as interfaces come and go; then others have to be there to begin with.
    ///
    /// # Errors
    /// With [`Failure::Usage`] when a name is no interface's, or when there is nothing to observe.
    pub fn check(&self, inventory: &Inventory) -> anyhow::Result<()> {
        let known = || inventory.links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Self::Named(patterns) = self {
            for pattern in patterns {
                let matches = |link: &Link| pattern.matcher.matches(&link.name);
                if !inventory.links.iter().any(matches) {
                    if !pattern.is_exact() && !self.pick(inventory).is_empty() {
                        tracing::warn!("no interface matches `{}` yet", pattern.text);
                        continue;
                    }
                    let what = if pattern.is_exact() { "is called" } else { "matches" };
                    return Err(Failure::usage(format!(
                        "no interface {what} `{}`; there are: {}",
                        pattern.text,
                        known()
                    )));
                }
            }
        }
        if self.pick(inventory).is_empty() {
            return Err(Failure::usage(format!(
                "no interface carries a default route and none but loopback is up; name one with `--interface` (there \
                 are: {})",
                known()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::links::Framing;

    fn link(name: &str) -> Link {
        Link {
            index: 1,
            name: name.into(),
            framing: Framing::Ethernet,
            is_up: true,
            is_loopback: name == "lo",
            kind: None,
            bus: None,
            has_xdp: false,
            has_default_route: false,
            has_ingress_qdisc: false,
        }
    }

    fn picked(names: &[&str], links: &[Link]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let inventory = Inventory { links: links.into(), ..Inventory::default() };
        Choice::new(&names).pick(&inventory).iter().map(|link| link.name.clone()).collect()
    }

    #[test]
    fn default_routes_win_over_what_is_merely_up() {
        let mut links = vec![link("lo"), link("eth0"), link("eth1")];
        assert_eq!(picked(&[], &links), ["eth0", "eth1"]);
        links[2].has_default_route = true;
        assert_eq!(picked(&[], &links), ["eth1"]);
    }

    #[test]
    fn without_a_default_route_interfaces_that_are_down_are_left_out() {
        let mut links = vec![link("lo"), link("eth0"), link("eth1")];
        links[1].is_up = false;
        assert_eq!(picked(&[], &links), ["eth1"]);
    }

    #[test]
    fn globs_and_names_pick_each_interface_once() {
        let links = [link("lo"), link("eth0"), link("eth1"), link("veth0")];
        assert_eq!(picked(&["eth*", "eth1", "lo"], &links), ["lo", "eth0", "eth1"]);
        assert_eq!(picked(&["eth?"], &links), ["eth0", "eth1"]);
    }

    #[test]
    fn an_unknown_name_is_wrong_usage_and_lists_what_there_is() {
        let inventory = Inventory { links: vec![link("lo"), link("eth0")], ..Inventory::default() };
        let error = Choice::new(&["eht0".into()]).check(&inventory).unwrap_err();
        assert_eq!(error.to_string(), "no interface is called `eht0`; there are: lo, eth0");
        assert!(matches!(error.downcast_ref(), Some(Failure::Usage(_))));
        assert!(Choice::new(&["eth*".into()]).check(&inventory).is_ok());
    }

    #[test]
    fn a_glob_may_wait_for_its_interfaces_where_others_are_there() {
        let inventory = Inventory { links: vec![link("lo")], ..Inventory::default() };
        assert!(Choice::new(&["lo".into(), "tun*".into()]).check(&inventory).is_ok());
        let error = Choice::new(&["tun*".into()]).check(&inventory).unwrap_err();
        assert_eq!(error.to_string(), "no interface matches `tun*`; there are: lo");
    }

    #[test]
    fn only_an_exact_name_insists() {
        let choice = Choice::new(&["eth*".into(), "lo".into()]);
        assert!(choice.insists_on(&link("lo")));
        assert!(!choice.insists_on(&link("eth0")));
    }
}
