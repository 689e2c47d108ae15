//! `cargo xtask prove mutants`: cargo-mutants changes the core in all the small ways that it can think of, one at a
//! time, and a test has to notice each. What none can notice stands in docs/mutants.md with the reason why.
//!
//! An entry there is a change in the form of a diff, or several, without line numbers, and the reason below. One that names a
//! line that is gone is an error of any test run; one that names a change that a test does notice is an error of a
//! whole run of this proof.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, ExitStatus},
};

use anyhow::{Context, Result, bail};

use crate::{process, setup, tally::Tally, test::Outcome, workspace::Workspace};

const JUSTIFIED: &str = "docs/mutants.md";
const PACKAGE: &str = "tcp-observer-common";
/// As cargo-mutants marks what it has changed.
const MARK: &str = "/* ~ changed by cargo-mutants ~ */";
/// Laws are tried on so few cases: whatever breaks one breaks it soon, and other tests first.
const CASES: &str = "16";

/// One change: where, what is done there, and the lines before and after it, without the white space.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Mutation {
    file: String,
    change: String,
    removed: Vec<String>,
    added: Vec<String>,
}

/// All mutations, or about `amount` of them, spread evenly.
pub fn prove(workspace: &Workspace, amount: Option<u64>) -> Outcome {
    match run(workspace, amount) {
        Ok(tally) if tally.failed > 0 => {
            let error = anyhow::anyhow!("see above; kill it by a test, or justify it in {JUSTIFIED}");
            Outcome { tally, error: Some(error) }
        }
        Ok(tally) => Outcome { tally, error: None },
        Err(error) => Err(error).into(),
    }
}

fn run(workspace: &Workspace, amount: Option<u64>) -> Result<Tally> {
    let tool = setup::ensure_mutants().context("cannot install cargo-mutants")?;
    let justified = justified(workspace.root())?;
    let mut command = mutants(&tool, workspace);
    command.args(["--jobs", "2", "--output", "target", "--no-shuffle"]);
    if let Some(amount) = amount {
        let listed = process::output_of(mutants(&tool, workspace).arg("--list"));
        let all = listed.context("cargo-mutants cannot list the mutations")?.lines().count() as u64;
        let shards = all.div_ceil(amount.max(1)).max(1);
        command.args(["--sharding", "round-robin", "--shard", &format!("0/{shards}")]);
    }
    // Only what has changed is built again. Whoever switches that off for all else means no builds by the thousand.
    command.env("CARGO_INCREMENTAL", "1").env("PROPTEST_CASES", CASES).env_remove("CARGO_TARGET_DIR");
    let status = command.status().with_context(|| format!("cannot start `{}`", process::describe(&command)))?;
    if !has_run(status) {
        bail!("`{}` failed ({status})", process::describe(&command));
    }
    let report = workspace.root().join("target/mutants.out");
    let lines = |name: &str| -> Result<Vec<String>> {
        let text = fs::read_to_string(report.join(name)).with_context(|| format!("cannot read what is {name}"))?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let survived = survivors(&report, &lines("missed.txt")?)?;
    let unexpected: Vec<_> = survived.difference(&justified).collect();
    let idle: Vec<_> = if amount.is_none() { justified.difference(&survived).collect() } else { Vec::new() };
    for mutation in &unexpected {
        println!("no test notices:\n{mutation}");
    }
    for mutation in &idle {
        println!("{JUSTIFIED} justifies what a test notices, or what is not there:\n{mutation}");
    }
    let noticed = lines("caught.txt")?.len() + lines("timeout.txt")?.len();
    Ok(Tally {
        passed: noticed as u64,
        failed: (unexpected.len() + idle.len()) as u64,
        ignored: (survived.len() - unexpected.len()) as u64,
    })
}

fn mutants(tool: &Path, workspace: &Workspace) -> Command {
    let mut command = Command::new(tool);
    command.args(["mutants", "--package", PACKAGE, "--colors", "never"]).current_dir(workspace.root());
    command
}

/// Whether it came to its end: all were noticed, some were missed, or some did not come to their end.
fn has_run(status: ExitStatus) -> bool {
    matches!(status.code(), Some(0 | 2 | 3))
}

/// The mutations of these lines, `file:line:column: change`, as the report's diffs have them.
fn survivors(report: &Path, missed: &[String]) -> Result<BTreeSet<Mutation>> {
    let mut diffs = Vec::new();
    let folder = report.join("diff");
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        diffs.push((name, Mutation::parse(text.lines())));
    }
    let mut survived = BTreeSet::new();
    for line in missed {
        let mut parts = line.splitn(4, ':');
        let (Some(file), Some(row), Some(column), Some(change)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            bail!("`{line}` is not what cargo-mutants says of a mutation");
        };
        let stem = format!("{}_line_{row}_col_{column}", file.replace('/', "__"));
        let is_it = |(name, mutation): &&(String, Mutation)| {
            let rest = name.strip_prefix(&stem);
            rest.is_some_and(|rest| rest.starts_with(['.', '_'])) && mutation.change == change.trim()
        };
        let (_, mutation) = diffs.iter().find(is_it).with_context(|| format!("there is no diff of `{line}`"))?;
        survived.insert(mutation.clone());
    }
    Ok(survived)
}

/// The mutations that stand in the document, each in a block of its own.
fn justified(root: &Path) -> Result<BTreeSet<Mutation>> {
    let text = fs::read_to_string(root.join(JUSTIFIED)).with_context(|| format!("cannot read {JUSTIFIED}"))?;
    Ok(entries(&text).map(|(mutation, _)| mutation).collect())
}

/// Each mutation, and the reason that follows its block, which it may share with others.
fn entries(text: &str) -> impl Iterator<Item = (Mutation, &str)> {
    text.split("```diff\n").skip(1).flat_map(|block| {
        let (diffs, rest) = block.split_once("```").unwrap_or((block, ""));
        let reason = rest.split("\n#").next().unwrap_or_default().trim();
        let mutations = diffs.split("--- ").skip(1);
        mutations.map(move |diff| (Mutation::parse(format!("--- {diff}").lines()), reason))
    })
}

impl Mutation {
    fn parse<'l>(lines: impl Iterator<Item = &'l str>) -> Self {
        let mut mutation = Self::default();
        for line in lines {
            if let Some(file) = line.strip_prefix("--- ") {
                mutation.file = file.trim().to_owned();
            } else if let Some(change) = line.strip_prefix("+++ ") {
                mutation.change = change.trim().to_owned();
            } else if let Some(line) = line.strip_prefix('-') {
                mutation.removed.push(bare(line));
            } else if let Some(line) = line.strip_prefix('+') {
                mutation.added.push(bare(line));
            }
        }
        mutation
    }
}

/// A line without the mark of the tool, and with single spaces.
fn bare(line: &str) -> String {
    line.replace(MARK, " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As an entry of the document.
impl std::fmt::Display for Mutation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, change, removed, added } = self;
        writeln!(f, "```diff\n--- {file}\n+++ {change}")?;
        removed.iter().try_for_each(|line| writeln!(f, "-{line}"))?;
        added.iter().try_for_each(|line| writeln!(f, "+{line}"))?;
        writeln!(f, "```")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "```diff\n--- a/b.rs\n+++ replace < with <= in f\n-if a < b {\n+if a <= b {\n```\nBecause.\n";

    #[test]
    fn an_entry_is_the_tools_diff_without_its_place() {
        let diff = "--- a/b.rs\n+++ replace < with <= in f\n@@ -1,3 +1,3 @@\n fn f() {\n-    if a < b {\n\
                    +    if a <= /* ~ changed by cargo-mutants ~ */ b {\n }\n";
        let (entry, reason) = entries(ENTRY).next().unwrap();
        assert_eq!(entry, Mutation::parse(diff.lines()));
        assert_eq!(reason, "Because.");
        assert_eq!(format!("{entry}Because.\n"), ENTRY);
    }

    #[test]
    fn what_survived_is_found_among_the_reports_diffs() {
        let report = std::env::temp_dir().join(format!("xtask-mutants-{}", std::process::id()));
        fs::create_dir_all(report.join("diff")).unwrap();
        for (name, with) in [("a__b.rs_line_7_col_9.diff", "=="), ("a__b.rs_line_7_col_9_001.diff", "<=")] {
            let diff =
                format!("--- a/b.rs\n+++ replace < with {with} in f\n@@ -7 +7 @@\n-if a < b {{\n+if a {with} b {{\n");
            fs::write(report.join("diff").join(name), diff).unwrap();
        }
        let survived = survivors(&report, &["a/b.rs:7:9: replace < with <= in f".to_owned()]);
        fs::remove_dir_all(&report).unwrap();
        assert_eq!(survived.unwrap(), entries(ENTRY).map(|(mutation, _)| mutation).collect());
    }

    #[test]
    fn what_is_justified_is_still_there_and_has_a_reason() {
        let workspace = Workspace::locate();
        let text = fs::read_to_string(workspace.root().join(JUSTIFIED)).unwrap();
        for (Mutation { file, change, removed, .. }, reason) in entries(&text) {
            let code = fs::read_to_string(workspace.root().join(&file)).unwrap();
            let code: BTreeSet<_> = code.lines().map(bare).collect();
            assert!(removed.iter().all(|line| code.contains(line)), "{file}: {change}: {removed:?}");
            assert!(!removed.is_empty() && reason.len() > 20, "{file}: {change}: {reason:?}");
        }
    }
}
