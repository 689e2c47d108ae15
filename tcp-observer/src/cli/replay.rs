//! The arguments of `replay`.

use std::path::PathBuf;

use clap::Args;

use super::select::{FLAGS, FLAGS_OF_A_MOMENT, SelectArgs};
use crate::{
    exit::Failure,
    filter::Prefix,
    output::{self, follow, summary},
    replay::{Input, Options},
};

#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// The captures (pcap or pcapng, packed with gzip or not) in the order in which they were made: they are read as
    /// one. `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// How flows are written. JSON and CSV are written as flows end, so that memory holds only those that are alive;
    /// tables, --sort and --older-than wait for all of them
    #[arg(short, long, value_enum, default_value_t)]
    pub output: output::Format,

    /// Show counts, handshake times and outcomes of the whole capture instead of flows (as text, or with -o json); no
    /// flow is kept for it once it has ended
    #[arg(long, conflicts_with_all = FLAGS)]
    pub summary: bool,

    /// Show what happens to flows instead, a line for each change of state and for what is unusual, when it happens: as
    /// text in tcpdump's notation (with -o wide the date on each line), or with -o json. --role, --port, --addr and
    /// --limit choose among the events
    #[arg(long, conflicts_with = "summary", conflicts_with_all = FLAGS_OF_A_MOMENT)]
    pub follow: bool,

    /// Address or prefix that is local; repeats. Without any, records leave open what is local
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub local: Vec<Prefix>,

    // Last, since its heading holds for what follows.
    #[command(flatten)]
    pub select: SelectArgs,
}

impl ReplayArgs {
    /// What is to be read.
    ///
    /// # Errors
    /// When that is standard input more than once.
    pub fn inputs(&self) -> anyhow::Result<Vec<Input>> {
        let inputs: Vec<_> = self.files.iter().cloned().map(Input::typed).collect();
        match inputs.iter().filter(|&input| *input == Input::Stdin).count() {
            0 | 1 => Ok(inputs),
            _ => Err(Failure::usage("standard input can be read once; give `-` once")),
        }
    }

    /// How the summary is written, where one is asked for.
    ///
    /// # Errors
    /// When it is to be written in a way that only flows are.
    pub fn summary_format(&self) -> anyhow::Result<Option<summary::Format>> {
        match (self.summary, self.output) {
            (false, _) => Ok(None),
            (true, output::Format::Table) => Ok(Some(summary::Format::Text)),
            (true, output::Format::Json) => Ok(Some(summary::Format::Json)),
            (true, output::Format::Wide | output::Format::Csv) => {
                Err(Failure::usage("a summary is written as text, or with `-o json`"))
            }
        }
    }

    /// How events are written, where they are asked for.
    ///
    /// # Errors
    /// When they are to be written in a way that only flows are.
    pub fn follow_format(&self) -> anyhow::Result<Option<follow::Format>> {
        match (self.follow, self.output) {
            (false, _) => Ok(None),
            (true, output::Format::Table) => Ok(Some(follow::Format::Text)),
            (true, output::Format::Wide) => Ok(Some(follow::Format::Dated)),
            (true, output::Format::Json) => Ok(Some(follow::Format::Json)),
            (true, output::Format::Csv) => {
                Err(Failure::usage("events are written as text (with `-o wide` dated), or with `-o json`"))
            }
        }
    }
}

impl From<&ReplayArgs> for Options {
    fn from(args: &ReplayArgs) -> Self {
        Self { local: args.local.iter().map(|prefix| prefix.0).collect() }
    }
}
