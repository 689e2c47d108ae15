//! The observer between simulated ends; see `proofs::simulation`.

use proofs::simulation::trace;

#[test]
fn a_seed_means_one_trace() {
    let traces: Vec<_> = (0..50).map(trace).collect();
    assert_eq!(traces, (0..50).map(trace).collect::<Vec<_>>());
    assert!(traces.iter().map(Vec::len).sum::<usize>() > 500);
}
