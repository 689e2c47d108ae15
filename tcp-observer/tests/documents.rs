//! The documents name everything that the program can say.

use std::{fs, path::Path};

use tcp_observer::verify::{Exception, Kind};
use tcp_observer_common::{
    conn::{How, Note, Outcome, Phase, State},
    counters::{Eviction, Skip, Unreachable},
};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()))
}

/// The labels that stand in a table's cell or in the text as code.
fn missing<'l>(text: &str, labels: impl Iterator<Item = &'l str>) -> Vec<&'l str> {
    labels.filter(|label| !text.contains(&format!("`{label}`"))).collect()
}

#[test]
fn semantics_explains_every_word_of_a_record_and_of_a_metric() {
    let text = document("docs/semantics.md");
    let notes = Note::ALL.iter().filter(|note| !note.is_ordinary()).map(|note| note.label());
    assert_eq!(missing(&text, notes), [""; 0], "notes");
    assert_eq!(missing(&text, Skip::ALL.iter().map(|skip| skip.label())), [""; 0], "skip reasons");
    assert_eq!(missing(&text, Outcome::ALL.iter().map(|outcome| outcome.label())), [""; 0], "outcomes");
    assert_eq!(missing(&text, Phase::ALL.iter().map(|phase| phase.label())), [""; 0], "phases");
    assert_eq!(missing(&text, Eviction::ALL.iter().map(|eviction| eviction.label())), [""; 0], "evictions");
    assert_eq!(missing(&text, Unreachable::ALL.iter().map(|reason| reason.label())), [""; 0], "ICMP's reasons");
    // "Unknown" and "open" are shown as null.
    let states = State::ALL.iter().filter(|&&state| state != State::Unknown).map(|state| state.label());
    assert_eq!(missing(&text, states), [""; 0], "states");
    let hows = How::ALL.iter().filter(|&&how| how != How::Open).map(|how| how.label());
    assert_eq!(missing(&text, hows), [""; 0], "ways to end");
    assert_eq!(missing(&text, Exception::ALL.iter().map(|one| one.label())), [""; 0], "exceptions of `verify`");
    assert_eq!(missing(&text, Kind::ALL.iter().map(|kind| kind.label())), [""; 0], "differences of `verify`");
}
