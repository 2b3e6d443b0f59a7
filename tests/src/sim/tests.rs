use super::*;

#[test]
fn a_few_seeds_hold_every_invariant() {
    let mut coverage = Coverage::default();
    for seed in 0..20 {
        let outcome = run(seed, &Options::ALL);
        assert_eq!(outcome.failure, None, "seed {seed}");
        coverage.add(&outcome.coverage);
    }
    // A run that meets nothing shows nothing.
    assert!(coverage.crashes > 0 && coverage.failed_commits > 0 && coverage.complete > 0, "{coverage}");
    assert!(coverage.mail > 0 && coverage.verified > 0 && coverage.forged > 0, "{coverage}");
    assert!(coverage.whole > 0 && coverage.lagged > 0 && coverage.already_stored > 0, "{coverage}");
}

#[test]
fn a_seed_decides_everything() {
    let options = Options { trace: true, ..Options::ALL };
    for seed in [3, 4] {
        let (first, second) = (run(seed, &options), run(seed, &options));
        assert_eq!(first.digest, second.digest);
        assert!(first.trace == second.trace, "the traces of seed {seed} differ");
        assert!(first.trace.len() > 1000);
    }
}

#[test]
fn reading_the_trace_changes_nothing() {
    let traced = run(5, &Options { trace: true, ..Options::ALL });
    let plain = run(5, &Options::ALL);
    assert_eq!((traced.digest, traced.coverage), (plain.digest, plain.coverage));
}
