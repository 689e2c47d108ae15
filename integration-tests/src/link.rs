//! A link that loses, delays, reorders and duplicates frames: two tap devices and a thread that carries frames from
//! one to the other.
//!
//! What happens to the n-th frame of a direction follows from the seed. The devices have no queueing discipline and do
//! no offloading, so that what leaves a namespace has passed its hooks, its captures and nothing else; whatever the
//! link does to a frame is done beyond both.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{cpu, namespace::Namespace, random::Random};

/// What a link does to frames; shares are in thousandths.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    pub lost: u64,
    pub doubled: u64,
    /// Held back so that later ones overtake.
    pub overtaken: u64,
    pub delay: Duration,
}

impl Quality {
    /// Nothing but a delay.
    pub const fn delaying(delay: Duration) -> Self {
        Self { lost: 0, doubled: 0, overtaken: 0, delay }
    }
}

/// As long as it lives, frames pass.
pub struct Link {
    stop: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl Link {
    /// A device called `name` in each namespace, both up, and a thread on this CPU between them.
    #[track_caller]
    pub fn new(ends: [&Namespace; 2], name: &str, quality: Quality, seed: u64, cpu: usize) -> Self {
        let taps = ends.map(|namespace| {
            let tap = namespace.within(|| tap(name)).unwrap_or_else(|error| panic!("cannot make a tap: {error}"));
            namespace.ip(&format!("link set {name} txqueuelen 10000 up"));
            crate::run::success(namespace.command("tc").args(["qdisc", "replace", "dev", name, "root", "noqueue"]));
            tap
        });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let carrier = thread::spawn(move || {
            cpu::stay_on(cpu);
            carry(taps, quality, seed, &stopped);
        });
        Self { stop, carrier: Some(carrier) }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.carrier.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            panic!("the link has failed");
        }
    }
}

/// A tap device of this name in the calling thread's namespace, up to the caller to set up.
fn tap(name: &str) -> io::Result<File> {
    // As <linux/if_tun.h> and <linux/if.h> have them.
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    const IFF_TAP_NO_PI: libc::c_short = 0x1002;
    let tap = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: a request is plain data that may be all zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = IFF_TAP_NO_PI;
    // SAFETY: the descriptor is open and the request is what this call reads.
    match unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETIFF as _, &request) } {
        0 => Ok(tap),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A frame on its way.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Underway {
    due: Instant,
    /// What came in first goes out first, where both are due.
    order: u64,
    to: usize,
    frame: Vec<u8>,
}

fn carry(mut taps: [File; 2], quality: Quality, seed: u64, stop: &AtomicBool) {
    let mut random = [Random::new(seed), Random::new(!seed)];
    let mut underway: BinaryHeap<Reverse<Underway>> = BinaryHeap::new();
    let mut order = 0;
    let mut buffer = [0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while let Some(Reverse(next)) = underway.peek()
            && next.due <= now
        {
            let Some(Reverse(next)) = underway.pop() else { break };
            // A device that is down, or gone with its namespace, takes nothing: then nothing arrives.
            let _ = taps[next.to].write(&next.frame);
        }
        let wait = underway.peek().map_or(Duration::from_millis(20), |Reverse(next)| next.due - now);
        wait_for(&taps, wait);
        for from in [0, 1] {
            for _ in 0..64 {
                let Ok(length @ 1..) = taps[from].read(&mut buffer) else { break };
                let random = &mut random[from];
                let (lost, doubled) = (random.happens(quality.lost), random.happens(quality.doubled));
                let held = if random.happens(quality.overtaken) { quality.delay.mul_f32(0.5) } else { Duration::ZERO };
                let copies = if lost { 0 } else { 1 + usize::from(doubled) };
                for _ in 0..copies {
                    order += 1;
                    let due = Instant::now() + quality.delay + held;
                    underway.push(Reverse(Underway { due, order, to: 1 - from, frame: buffer[..length].to_vec() }));
                }
            }
        }
    }
}

/// Waits until a frame can be read, or for this long.
fn wait_for(taps: &[File; 2], time: Duration) {
    let mut polled = [0, 1].map(|n: usize| libc::pollfd { fd: taps[n].as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let time = libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
    // SAFETY: both structures are valid, and the descriptors open.
    unsafe { libc::ppoll(polled.as_mut_ptr(), 2, &time, std::ptr::null()) };
}
