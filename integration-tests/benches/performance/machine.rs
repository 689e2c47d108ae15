//! Where it was measured, and what else went on there.

use std::{fmt, fs, thread};

use integration_tests::kernel;
use serde_json::{Value, json};

pub struct Machine {
    kernel: String,
    processor: String,
    cpus: usize,
    /// Processes that wanted a CPU, over the minute before.
    load: String,
}

impl Machine {
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            kernel: kernel::release(),
            processor: model.map_or("?", |(_, model)| model).to_owned(),
            cpus: thread::available_parallelism().map_or(1, Into::into),
            load: read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned(),
        }
    }

    /// Kernel and kind of machine, for whoever compares ratios.
    pub fn kind(&self) -> String {
        let version: Vec<_> = self.kernel.split('.').take(2).collect();
        format!("Linux {}, {}, {} CPUs", version.join("."), std::env::consts::ARCH, self.cpus)
    }

    pub fn json(&self) -> Value {
        let Self { kernel, processor, cpus, load } = self;
        json!({ "kernel": kernel, "arch": std::env::consts::ARCH, "processor": processor, "cpus": cpus,
                "load_before": load })
    }
}

/// Memory that the kernel thinks it can give, in bytes.
pub fn available_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("the kernel tells of its memory");
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.expect("available memory is told") << 10
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, processor, cpus, load } = self;
        let arch = std::env::consts::ARCH;
        write!(f, "Linux {kernel}, {arch}, {cpus} CPUs ({processor}), load before {load}")
    }
}
