//! Other programs: where they are, running them, running them as root.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

/// How much of a failed command's output is worth showing.
const SHOWN_LINES: usize = 30;

/// The cargo that started this program.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command whose output the user wants to see.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a command whose output matters only when it fails.
pub fn run_quietly(command: &mut Command) -> Result<()> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("`{}` failed ({}):\n{}", describe(command), output.status, last_lines(&String::from_utf8_lossy(&text)));
    }
    Ok(())
}

/// Runs a command that may hang, on a network that swallows packets for one.
pub fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    let line = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let stderr = child.stderr.take();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        stderr.map(|mut stderr| stderr.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            let text = reader.join().map_err(|_| anyhow!("cannot read what `{line}` said"))?;
            bail!("`{line}` failed ({status}): {}", reason(&text));
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("`{line}` did not end within {} s", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a command prints, if it runs and succeeds.
pub fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// A command that will run as root: directly, or through `sudo`.
pub fn as_root(purpose: &str, program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let sudo =
        find("sudo").with_context(|| format!("{purpose} needs root and there is no `sudo`; run this as root"))?;
    let mut command = Command::new(sudo);
    command.arg(program);
    Ok(command)
}

/// Looks for a program in `PATH`, and where administrators' programs are when a user's `PATH` lacks those.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administration = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administration).map(|folder| folder.join(program)).find(|file| is_executable(file))
}

/// A command of administrators', which a user's `PATH` may lack.
pub fn administrator(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| program.into()))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The command as a user would type it, without its environment.
pub fn describe(command: &Command) -> String {
    // Cargo's own path is long and says nothing.
    let program = command.get_program();
    let program = if program == cargo().get_program() { OsStr::new("cargo") } else { program };
    let words = [program].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The line of an error output that says most: programs close with hints and traces.
fn reason(text: &str) -> &str {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().find(|line| line.starts_with("error")).or_else(|| lines().next_back()).unwrap_or("it said nothing")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_hangs_is_ended() {
        let error = run_within(Duration::from_millis(100), Command::new("sleep").arg("20")).unwrap_err();
        assert_eq!(error.to_string(), "`sleep 20` did not end within 0 s");
    }

    #[test]
    fn a_failure_names_the_command_and_shows_its_output() {
        let error = run_quietly(Command::new("sh").args(["-c", "echo no such thing; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c echo no such thing; exit 3` failed (exit status: 3):\nno such thing");
    }

    #[test]
    fn the_reason_of_a_failure_is_its_error_line() {
        assert_eq!(reason("info: trying\nerror: no such host\n\n  15: <unknown>\n"), "error: no such host");
        assert_eq!(reason("cannot do it\n\n"), "cannot do it");
        assert_eq!(reason(""), "it said nothing");
    }

    #[test]
    fn only_the_end_of_a_long_output_is_shown() {
        let text = (1..=32).map(|line| format!("{line}\n")).collect::<String>();
        let shown = last_lines(&text);
        assert!(shown.starts_with("3\n4\n"));
        assert!(shown.ends_with("\n32"));
    }

    #[test]
    fn a_program_is_found_by_its_name() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
