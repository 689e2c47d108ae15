use proofs::simulation::{
    plan::Plan,
    watch::{judge, print},
};
use std::collections::BTreeMap;
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    if args.len() == 1 {
        let plan = Plan::from_seed(args[0]);
        let watch = judge(&plan, true);
        println!("{:?} {:?} {:?}\n{:?}", plan.place, plan.hops_ns, plan.hosts, plan.acts);
        println!("{}\n{:?}", print(&watch), watch.failure);
        return;
    }
    let mut kinds: BTreeMap<String, (u64, u64, usize)> = BTreeMap::new();
    let (mut checks, mut exact) = (0, 0);
    let t = std::time::Instant::now();
    let mut failures = 0;
    for seed in args[0]..args[1] {
        let plan = Plan::from_seed(seed);
        let watch = judge(&plan, false);
        checks += watch.checks;
        exact += watch.exact;
        if let Some(f) = watch.failure {
            failures += 1;
            let e = kinds
                .entry(f.what.split(" (").next().unwrap().replace("Left", "E").replace("Right", "E"))
                .or_insert((0, seed, usize::MAX));
            e.0 += 1;
            if watch.packets.len() < e.2 {
                e.1 = seed;
                e.2 = watch.packets.len();
            }
        }
    }
    let mut list: Vec<_> = kinds.into_iter().collect();
    list.sort_by_key(|(_, (n, _, _))| std::cmp::Reverse(*n));
    for (k, (n, s, p)) in list.iter().take(40) {
        println!("{n:6} seed {s} ({p}): {k}");
    }
    println!("{failures} failures, checks {checks}, single {exact}, {:?}", t.elapsed());
}
