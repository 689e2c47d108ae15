//! What a flow has gone through, as its record keeps it: Zeek's history and what was recognised on the way.
//!
//! Both stay as small as the core has them, since a snapshot may hold a million; they are unfolded when they are shown.

use std::{
    cell::Cell,
    fmt::{self, Write as _},
};

use tcp_observer_common::conn::{Letter, Note, Role, Story};

/// The letters of the history, as the core packs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History([u64; 2]);

impl History {
    pub(super) fn of(story: &Story) -> Self {
        Self([story.letters[0].get(), story.letters[1].get()])
    }

    /// Who did what, oldest first.
    pub fn letters(self) -> impl Iterator<Item = (Role, Letter)> + Clone {
        Story { letters: self.0.map(Cell::new), notes: Cell::default() }.history()
    }
}

/// The history as Zeek writes it: capitals are the originator's.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (role, letter) in self.letters() {
            match role {
                Role::Originator => letter.label().chars().try_for_each(|c| f.write_char(c.to_ascii_uppercase()))?,
                Role::Responder => f.write_str(letter.label())?,
            }
        }
        Ok(())
    }
}

/// Zeek's text, packed as [`Story::letters`] says: five bits a letter, twelve letters a word.
#[cfg(any(test, feature = "fuzzing"))]
impl From<&str> for History {
    fn from(text: &str) -> Self {
        assert!(text.len() <= 24, "{text}");
        let mut words = [0; 2];
        for (place, letter) in text.chars().enumerate() {
            let label = letter.to_ascii_lowercase().to_string();
            let index = Letter::ALL.iter().position(|letter| letter.label() == label).expect("a letter");
            let responders = if letter.is_ascii_lowercase() { 16 } else { 0 };
            words[place / 12] = words[place / 12] << 5 | (index as u64 + 1 + responders);
        }
        Self(words)
    }
}

/// What was recognised in a flow, without what every connection does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes(u64);

/// The notes that are worth telling.
pub fn notable() -> impl Iterator<Item = Note> + Clone {
    Note::ALL.iter().copied().filter(|note| !note.is_ordinary())
}

impl Notes {
    pub(super) fn of(story: &Story) -> Self {
        Self(story.notes.get() & NOTABLE)
    }

    pub const fn has(self, note: Note) -> bool {
        self.0 & note.bit() != 0
    }

    /// In the order of a connection's life.
    pub fn iter(self) -> impl Iterator<Item = Note> {
        // No further than the last one: most flows have none.
        notable().filter(move |&note| self.has(note)).take(self.0.count_ones() as usize)
    }

    /// Their labels with a separator between them.
    pub fn joined(self, separator: char) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            for (index, note) in self.iter().enumerate() {
                if index > 0 {
                    write!(f, "{separator}")?;
                }
                f.write_str(note.label())?;
            }
            Ok(())
        })
    }
}

impl FromIterator<Note> for Notes {
    fn from_iter<I: IntoIterator<Item = Note>>(notes: I) -> Self {
        Self(notes.into_iter().fold(0, |bits, note| bits | note.bit()) & NOTABLE)
    }
}

/// The bits of all [`notable`] notes.
const NOTABLE: u64 = {
    let mut bits = 0;
    let mut index = 0;
    while index < Note::COUNT {
        let note = Note::ALL[index];
        if !note.is_ordinary() {
            bits |= note.bit();
        }
        index += 1;
    }
    bits
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_written_in_order_and_with_the_originator_in_capitals() {
        for text in ["", "S", "ShADadFf", "ShADadtTtTtTwWwWwWtTfFrR"] {
            assert_eq!(History::from(text).to_string(), text);
        }
        let letters: Vec<_> = History::from("Sh").letters().collect();
        assert_eq!(letters, [(Role::Originator, Letter::Syn), (Role::Responder, Letter::SynAck)]);
    }

    #[test]
    fn notes_come_in_order_and_without_the_ordinary_ones() {
        let notes: Notes = [Note::ResetAfterFin, Note::Completed, Note::Keepalive, Note::Nothing].into_iter().collect();
        assert_eq!(notes.joined('|').to_string(), "keepalive|reset_after_fin");
        assert!(notes.has(Note::Keepalive) && !notes.has(Note::Completed));
        assert_eq!(notable().count(), NOTABLE.count_ones() as usize);
    }

    #[test]
    fn the_bits_above_the_notes_are_none() {
        let story = Story { notes: Cell::new(u64::MAX), ..Story::default() };
        assert_eq!(Notes::of(&story).iter().count(), notable().count());
    }
}
