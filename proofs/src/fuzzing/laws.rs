//! Laws: what makes no difference. Each plays a script before two observers in two settings, or disturbs one of them,
//! and finds the same after every act.

use tcp_observer_common::{
    conn::Phase,
    counters::{Counters, Skip},
};

use super::{
    essence::{counted, essences},
    script::{Act, Script, What},
    stage::{Came, ELSEWHERE, Setting, Stage, Wrapping, moved, pairs},
};

/// Something that makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// Where either end's sequence numbers begin.
    Numbers,
    /// Which of the addresses is the lower one.
    Sides,
    /// The address family.
    Family,
    /// Tags, IP options, extension headers, trailers.
    Wrapping,
    /// When it all happens.
    Moment,
    /// A segment again, at once: no state moves a second time.
    Again,
    /// A copy of each segment at another hook: nothing at all is written.
    Elsewhere,
    /// How often the sweep comes by: what is shown is the same.
    Sweeps,
}

pub const LAWS: [Law; 8] =
    [Law::Numbers, Law::Sides, Law::Family, Law::Wrapping, Law::Moment, Law::Again, Law::Elsewhere, Law::Sweeps];

impl Law {
    /// # Panics
    /// Where the law does not hold.
    pub fn hold(self, script: &Script) {
        let script = script.sound();
        let plain = Setting::default();
        // Not the same each time, but the same for the same script.
        let seed = script.seed;
        match self {
            Self::Numbers => {
                let near = |bits: u64| [bits as u32, 0_u32.wrapping_sub((bits & 0x7ff) as u32)][(bits >> 63) as usize];
                alike(self, &script, plain, Setting { bases: [near(seed), near(seed.rotate_left(29))], ..plain });
            }
            Self::Sides => alike(self, &script, plain, Setting { swapped: true, ..plain }),
            Self::Family => alike(self, &script, plain, Setting { is_v6: true, ..plain }),
            Self::Wrapping => {
                let wrapping = Wrapping::ALL[seed as usize % Wrapping::ALL.len()];
                let is_v6 = seed >> 32 & 1 != 0;
                alike(self, &script, Setting { is_v6, ..plain }, Setting { is_v6, wrapping, ..plain });
            }
            Self::Moment => {
                let start_ns = plain.start_ns + (seed >> 8);
                alike(self, &script, plain, Setting { start_ns, ..plain });
            }
            Self::Again => again(&script),
            Self::Elsewhere => elsewhere(&script),
            Self::Sweeps => sweeps(&script.packets()),
        }
    }
}

/// The script in two settings: the same after every act.
fn alike(law: Law, script: &Script, one: Setting, other: Setting) {
    let (mut here, mut there) = (Stage::new(script, one), Stage::new(script, other));
    for (number, Act { after_ns, what }) in script.acts.iter().enumerate() {
        here.wait(*after_ns);
        there.wait(*after_ns);
        assert_eq!(here.perform(what), there.perform(what), "{law:?}: act {number}, {what:?}, of {script:?}");
        assert_eq!(essences(&here), essences(&there), "{law:?}: after act {number}, {what:?}, of {script:?}");
    }
    assert_eq!(counted(&here), counted(&there), "{law:?}: {script:?}");
    assert_eq!(*here.memory.histograms.borrow(), *there.memory.histograms.borrow(), "{law:?}: {script:?}");
}

/// What is counted once.
fn ends(counters: &Counters) -> [u64; 3] {
    [
        counters.attempts.iter().flatten().flatten().sum(),
        counters.closes.iter().flatten().sum(),
        counters.resets.iter().flatten().sum(),
    ]
}

/// Every segment twice in a row, at the same hook.
fn again(script: &Script) {
    let mut stage = Stage::new(script, Setting::default());
    for (number, Act { after_ns, what }) in script.acts.iter().enumerate() {
        stage.wait(*after_ns);
        stage.perform(what);
        let What::Spoken(spoken) = what else { continue };
        let states = |stage: &Stage| pairs().map(|pair| states_of(stage, pair)).collect::<Vec<_>>();
        let (before, counted) = (states(&stage), ends(&stage.memory.counters.borrow()));
        let _ = stage.take(spoken);
        assert_eq!(before, states(&stage), "act {number} again, {what:?}, of {script:?}");
        assert_eq!(counted, ends(&stage.memory.counters.borrow()), "act {number} again, {what:?}, of {script:?}");
    }
}

fn states_of(stage: &Stage, pair: usize) -> Option<u8> {
    stage.flow(pair).map(|(flow, _)| flow.word.load().states())
}

/// Every segment a second time at a hook that no script knows: it is a copy, and leaves everything as it was.
fn elsewhere(script: &Script) {
    let mut stage = Stage::new(script, Setting::default());
    for (number, Act { after_ns, what }) in script.acts.iter().enumerate() {
        stage.wait(*after_ns);
        let came = stage.perform(what);
        let What::Spoken(spoken) = what else { continue };
        let before = (essences(&stage), stage.memory.counters.borrow().clone());
        let result = stage.take(&moved(spoken, 2 * ELSEWHERE));
        let context = || format!("act {number} elsewhere, {what:?}, of {script:?}");
        match came {
            Came::Packet(Ok(())) => assert_eq!(result, Err(Skip::Duplicate), "{}", context()),
            // What was nobody's at one hook is not taken at the other.
            Came::Packet(Err(_)) => assert!(result.is_err(), "{}", context()),
            Came::Else => {}
        }
        let mut expected = before.1;
        if let Err(reason) = result {
            expected.skipped[reason.index()] += 1;
        }
        assert_eq!(before.0, essences(&stage), "{}", context());
        assert_eq!(expected, *stage.memory.counters.borrow(), "{}", context());
    }
}

/// After the script's last packet time goes by: with sweeps on the way, and without any.
fn sweeps(script: &Script) {
    const SECOND: u64 = 1_000_000_000;
    let (mut swept, mut left) = (Stage::new(script, Setting::default()), Stage::new(script, Setting::default()));
    for Act { after_ns, what } in &script.acts {
        for stage in [&mut swept, &mut left] {
            stage.wait(*after_ns);
            stage.perform(what);
        }
    }
    for seconds in [1, 3, 7, 22, 30, 2, 55, 10, 5, 3600, 5 * 86_400, 1] {
        for stage in [&swept, &left] {
            stage.wait(seconds * SECOND);
        }
        swept.memory.sweep();
        for pair in pairs() {
            let shown = |stage: &Stage| {
                let (flow, _) = stage.flow(pair)?;
                Some(flow.settled_at(stage.now_ns(), &stage.memory.limits))
            };
            match (shown(&swept), shown(&left)) {
                (None, Some(word)) => assert_eq!(word.phase(), Phase::Closed, "{word:?} has left: {script:?}"),
                (one, other) => assert_eq!(one, other, "shown of pair {pair}: {script:?}"),
            }
        }
    }
}
