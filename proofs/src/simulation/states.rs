//! A set of states of an endpoint.

use std::fmt;

use tcp_observer_common::conn::State;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct States(u16);

impl States {
    pub fn of(states: &[State]) -> Self {
        states.iter().fold(Self::default(), |set, &state| set.with(state))
    }

    #[must_use]
    pub fn with(self, state: State) -> Self {
        Self(self.0 | 1 << state as u16)
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn has(self, state: State) -> bool {
        self.0 >> state as u16 & 1 != 0
    }

    /// Whether nothing is in this one that is not in the other.
    pub fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set of what each state becomes.
    #[must_use]
    pub fn map(self, become_: impl Fn(State) -> State) -> Self {
        self.iter().fold(Self::default(), |set, state| set.with(become_(state)))
    }

    pub fn iter(self) -> impl Iterator<Item = State> {
        State::ALL.iter().copied().filter(move |&state| self.has(state))
    }
}

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(State::label).collect();
        f.write_str(&words.join("|"))
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
