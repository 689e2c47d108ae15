//! What a fuzzer throws at the agent and the command line tool: each function takes any bytes, and panics where what
//! came of them is wrong.
//!
//! libFuzzer's targets (`fuzz/`) call these, and so do the tests, with every input under `fuzz/corpus`. They are here
//! since what is most worth fuzzing is private: the parsing of the kernel's answers, a connection of the web server.

mod captures;
mod filters;
mod http;
mod sockets;

pub use captures::captures;
pub use filters::filters;
pub use http::http;
pub use sockets::sockets;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Every input that a fuzzer has found worth keeping.
    fn replay(target: &str, call: impl Fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut inputs = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            call(&fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 10, "{inputs} inputs are no corpus");
    }

    #[test]
    fn captures_of_the_corpus_are_read_alike_however_they_are_cut() {
        replay("captures", captures);
    }

    #[test]
    fn selections_of_the_corpus_mean_what_they_say() {
        replay("filters", filters);
    }

    #[test]
    fn requests_of_the_corpus_are_answered_once_and_in_time() {
        replay("http", http);
    }

    #[test]
    fn answers_of_the_corpus_are_read_no_further_than_they_go() {
        replay("sockets", sockets);
    }
}
