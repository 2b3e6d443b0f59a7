//! Makes a failure small: fewer kinds of faults, fewer people, less time, as long as it still fails.

use super::plan::{Fault, Options, SECOND};
use super::{Outcome, run};

/// A failure that was made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What could be taken away.
    pub options: Options,
    /// The run, with its trace.
    pub outcome: Outcome,
}

/// Makes the failure of a seed small; `None` if it does not fail.
pub fn shrink(seed: u64) -> Option<Shrunk> {
    let mut options = Options::ALL;
    let first = run(seed, &options);
    let kind = kind(first.failure.as_deref()?);
    let mut end = first.at;
    let attempt = |options: &Options, end: &mut u64| {
        let outcome = run(seed, options);
        let fails = outcome.failure.as_deref().is_some_and(|failure| self::kind(failure) == kind);
        if fails {
            *end = outcome.at;
        }
        fails
    };
    for fault in Fault::ALL {
        let mut smaller = options.clone();
        smaller.without.push(fault);
        if attempt(&smaller, &mut end) {
            options = smaller;
        }
    }
    for take_away in [
        (|options: &mut Options| options.no_strangers = true) as fn(&mut Options),
        |options| options.no_speakers = true,
        |options| options.no_administration = true,
    ] {
        let mut smaller = options.clone();
        take_away(&mut smaller);
        if attempt(&smaller, &mut end) {
            options = smaller;
        }
    }
    // The earliest end of all acts with which it still fails.
    let (mut fits, mut fails) = (0, end.min(60 * SECOND));
    while fails - fits > SECOND / 20 {
        let middle = (fits + fails) / 2;
        let smaller = Options { until: Some(middle), ..options.clone() };
        if attempt(&smaller, &mut end) {
            options = smaller;
            fails = middle;
        } else {
            fits = middle;
        }
    }
    options.trace = true;
    Some(Shrunk { outcome: run(seed, &options), options })
}

/// A failure without its numbers and names: two of the same kind are the same failure.
fn kind(failure: &str) -> String {
    failure
        .split_whitespace()
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || ",:".contains(c)))
        .take(12)
        .collect::<Vec<_>>()
        .join(" ")
}
