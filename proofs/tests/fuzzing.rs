//! Every input under `fuzz/corpus/frames`, without a fuzzer: those made by hand, those that a fuzzer has found worth
//! keeping, and those that once failed, by their names.

use proofs::fuzzing::{LAWS, Script, corpus, frames, play};

#[test]
fn every_script_of_the_corpus_holds() {
    let corpus = corpus();
    assert!(corpus.len() > 10, "{} inputs are no corpus", corpus.len());
    for (name, bytes) in corpus {
        println!("{name}");
        frames(&bytes);
    }
}

/// A fuzzer tries one law on each input; the inputs that were made by hand keep all.
#[test]
fn what_was_made_by_hand_keeps_every_law() {
    let is_named = |name: &str| name.rsplit('/').next().is_some_and(|name| name.contains('_'));
    let named: Vec<_> = corpus().into_iter().filter(|(name, _)| is_named(name)).collect();
    assert!(named.len() > 10, "{} have names", named.len());
    for (name, bytes) in named {
        println!("{name}");
        let script = Script::read(&bytes[..bytes.len() - 1]);
        play(&script);
        LAWS.iter().for_each(|law| law.hold(&script));
    }
}
