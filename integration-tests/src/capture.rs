//! tcpdump on an interface, writing a file, for as long as wanted.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{bounds, namespace::Namespace};

/// A capture that is being made, or has been; its file goes with it.
pub struct Capture {
    child: Option<Child>,
    says: Option<JoinHandle<Vec<String>>>,
    path: PathBuf,
}

impl Capture {
    /// Starts it; headers only, with time stamps of nanoseconds. It has begun when this returns.
    #[track_caller]
    pub fn start(namespace: &Namespace, interface: &str, filter: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{}.pcap", bounds::unique_name()));
        File::create(&path).expect("a temporary file can be made");
        let mut child = namespace
            .command("tcpdump")
            .args(["-i", interface, "-n", "-U", "-s", "160", "-B", "65536", "--time-stamp-precision", "nano"])
            .args(["-Z", "root", "-w"])
            .arg(&path)
            .arg(filter)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cannot run tcpdump");
        let (listening, listens) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        let says = thread::spawn(move || {
            let lines = stderr.lines().map_while(Result::ok);
            lines.inspect(|line| drop(listening.send(line.clone()))).collect()
        });
        let first = listens.recv_timeout(Duration::from_secs(10)).expect("tcpdump says that it listens");
        assert!(first.contains("listening"), "{first}");
        Self { child: Some(child), says: Some(says), path }
    }

    /// Ends it, and gives the file.
    ///
    /// # Panics
    /// When the kernel has dropped packets on the way to it.
    #[track_caller]
    pub fn stop(&mut self) -> &Path {
        // A block of the buffer is handed over when it is full, or a second old; tcpdump writes no others when it ends.
        thread::sleep(Duration::from_millis(1_500));
        if let Some(mut child) = self.child.take() {
            // SAFETY: kill has no memory to misuse; the child has not been waited for.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
            child.wait().expect("a child can be waited for");
        }
        let says = self.says.take().map(|says| says.join().unwrap_or_default()).unwrap_or_default();
        let dropped = says.iter().find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        assert!(dropped == Some("0"), "the capture lacks packets: {says:?}");
        &self.path
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // For looking into a failure.
        if std::env::var_os("KEEP_CAPTURES").is_none() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
