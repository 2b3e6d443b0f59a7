//! `simulate`: runs seeds of the simulation, says what they met, and makes the first failure small.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use conclave_tests::sim::{self, Coverage, Options};

const USAGE: &str = "\
Usage: simulate [--seeds N] [--start S] [--minutes M]
       simulate --seed X

  --seeds N    run so many seeds (1000)
  --start S    the first one (0)
  --minutes M  run seeds for so long instead
  --seed X     run one seed and print what happens in it
  --brief      on a failure, print the seed and the invariant only";

struct Wanted {
    first: u64,
    seeds: u64,
    time: Option<Duration>,
    one: Option<u64>,
    brief: bool,
}

fn main() -> ExitCode {
    match wanted(std::env::args().skip(1)) {
        Ok(Some(wanted)) => run(&wanted),
        Ok(None) => {
            say(USAGE);
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("simulate: {what}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn wanted(mut arguments: impl Iterator<Item = String>) -> Result<Option<Wanted>, String> {
    let mut wanted = Wanted { first: 0, seeds: 1000, time: None, one: None, brief: false };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().ok_or_else(|| format!("{argument} takes a number"))?;
            text.parse::<u64>().map_err(|_| format!("{text} is no number"))
        };
        match argument.as_str() {
            "--seeds" => wanted.seeds = number()?,
            "--start" => wanted.first = number()?,
            "--minutes" => wanted.time = Some(Duration::from_secs(number()? * 60)),
            "--seed" => wanted.one = Some(number()?),
            "--brief" => wanted.brief = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(Some(wanted))
}

fn run(wanted: &Wanted) -> ExitCode {
    if let Some(seed) = wanted.one {
        let outcome = sim::run(seed, &Options { trace: true, ..Options::ALL });
        for line in &outcome.trace {
            say(line);
        }
        say(&outcome.coverage);
        say(&format!("digest {:016x}", outcome.digest));
        return match outcome.failure {
            Some(failure) => {
                say(&format!("seed {seed} fails: {failure}"));
                ExitCode::FAILURE
            }
            None => ExitCode::SUCCESS,
        };
    }
    let started = Instant::now();
    let mut coverage = Coverage::default();
    let mut seed = wanted.first;
    loop {
        let over = match wanted.time {
            Some(time) => started.elapsed() >= time,
            None => seed - wanted.first >= wanted.seeds,
        };
        if over {
            break;
        }
        let outcome = sim::run(seed, &Options::ALL);
        coverage.add(&outcome.coverage);
        if let Some(failure) = outcome.failure {
            say(&format!("seed {seed} fails: {failure}"));
            if !wanted.brief {
                explain(seed);
            }
            return ExitCode::FAILURE;
        }
        seed += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    say(&coverage);
    let rate = coverage.hub_inputs as f64 / seconds * 60.0;
    say(&format!("{} seeds held in {seconds:.1} s: {rate:.0} hub inputs a minute", seed - wanted.first));
    ExitCode::SUCCESS
}

/// The failure made small, with the end of its trace.
fn explain(seed: u64) {
    const LINES: usize = 120;
    let Some(small) = sim::shrink(seed) else { return };
    let trace = &small.outcome.trace;
    say(&format!("the smallest run that still fails: {:?}", small.options));
    if trace.len() > LINES {
        say(&format!("({} lines before these)", trace.len() - LINES));
    }
    for line in &trace[trace.len().saturating_sub(LINES)..] {
        say(line);
    }
    say(&format!("all of it: simulate --seed {seed}"));
}

#[allow(clippy::print_stdout, reason = "what this program is for")]
fn say(what: &(impl std::fmt::Display + ?Sized)) {
    println!("{what}");
}
