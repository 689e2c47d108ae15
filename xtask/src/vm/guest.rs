//! A guest: qemu without any help of the hardware, its serial console read line by line.
//!
//! Emulation is slow, ten to twenty times, but it is there on every machine, and boots every kernel.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{kernel::Unpacked, machine::Machine};

/// How long a guest may say nothing: some tests take minutes there, and each has a limit of its own.
const SILENCE: Duration = Duration::from_secs(1800);

/// What a kernel says that has lost its way.
const DISTRESS: [&str; 5] =
    ["Kernel panic - not syncing", "BUG: ", "Oops: ", "general protection fault", "WARNING: CPU"];

/// A panic ends the guest. What measures time in the guest against that outside is off: on a busy machine an emulated
/// CPU stands still for a while now and then, which is no fault of the kernel's. It has no flaws of speculation either.
const COMMAND_LINE: &str = "loglevel=5 panic=-1 oops=panic random.trust_cpu=on mitigations=off \
     no_timer_check nosoftlockup rcupdate.rcu_cpu_stall_suppress=1";

/// What a guest that has come to its end says last.
const END: &str = "vm: all is done";

/// Boots a kernel, and hands over what it says line by line until it ends.
///
/// # Errors
/// When it does not come to its end: because of its kernel, or of time.
pub fn boot(
    machine: Machine,
    kernel: &Unpacked,
    initramfs: &Path,
    disk: &Path,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<()> {
    let mut command = command(machine, kernel, initramfs, disk);
    let mut guest = Guest(command.spawn().with_context(|| format!("cannot start {}", machine.emulator()))?);
    let lines = lines_of(&mut guest.0);
    let started = Instant::now();
    let (mut is_complete, mut distress) = (false, None);
    loop {
        let patience = limit.saturating_sub(started.elapsed()).min(SILENCE);
        match lines.recv_timeout(patience) {
            Ok(line) => {
                let line = line.trim_end_matches(['\r', '\n']);
                is_complete |= line == END;
                if distress.is_none() && DISTRESS.iter().any(|words| line.contains(words)) {
                    distress = Some(line.to_owned());
                }
                on_line(line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if started.elapsed() >= limit => {
                bail!("the guest has not ended after {} s", limit.as_secs())
            }
            Err(RecvTimeoutError::Timeout) => bail!("the guest has said nothing for {} s", SILENCE.as_secs()),
        }
    }
    let status = guest.0.wait()?;
    if let Some(line) = distress {
        bail!("its kernel is in distress: {line}");
    }
    if !is_complete {
        bail!("the guest ended before its tests did ({status})");
    }
    Ok(())
}

/// A guest is not left running.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(machine: Machine, kernel: &Unpacked, initramfs: &Path, disk: &Path) -> Command {
    let mut command = Command::new(machine.emulator());
    command
        .args(machine.board())
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-append", &format!("console={} {COMMAND_LINE}", machine.console())])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-drive")
        // What a guest writes is thrown away with it.
        .arg(format!("file={},format=raw,if=virtio,snapshot=on", disk.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take();
    thread::spawn(move || {
        for bytes in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n')) {
            let Ok(bytes) = bytes else { break };
            if sender.send(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}
