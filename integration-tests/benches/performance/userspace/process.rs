//! What the agent takes when nobody asks it anything: CPU and memory, its maps' too, as `/proc` has them.

use std::{fs, thread, time::Duration};

use integration_tests::{process::map_bytes, synthetic::Subject};

use super::PART;
use crate::{
    effort,
    figure::{Figure, Unit},
};

/// Watches for so long; a few of the agent's periods have to fit in.
pub fn at_rest(subject: &Subject<'_>, flows: u32, time: Duration) -> Vec<Figure> {
    let pid = subject.agent.pid();
    // It has just begun, or been shown many flows.
    thread::sleep(Duration::from_secs(2));
    let before = effort::cpu_of(pid);
    thread::sleep(time);
    let share = (effort::cpu_of(pid) - before).as_secs_f64() / time.as_secs_f64() * 100.0;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let mebibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kibibytes.expect("its memory is told") / 1024.0
    };
    let figure = |name, unit, value| Figure::of(PART, name, unit, vec![value]).with_flows(flows.into());
    vec![
        figure("agent at rest, CPU", Unit::PercentOfACpu, share),
        figure("agent at rest, anonymous memory", Unit::Mebibytes, mebibytes("RssAnon:")),
        figure("agent at rest, resident memory", Unit::Mebibytes, mebibytes("VmRSS:")),
        figure(
            "its maps in the kernel",
            Unit::Mebibytes,
            map_bytes(pid).values().sum::<u64>() as f64 / 1024.0 / 1024.0,
        ),
    ]
}
