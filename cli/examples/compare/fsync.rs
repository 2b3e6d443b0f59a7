//! What the disk takes for one durable append, in pages as SQLite's log has them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use super::Failure;

/// A page of the log with its head.
const PAGE: usize = 4096 + 24;

pub(super) fn run(dir: &Path, times: usize) -> Result<(), Failure> {
    let path = dir.join("fsync");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times.max(1) {
        let start = Instant::now();
        file.write_all(&[0; PAGE])?;
        file.sync_data()?;
        taken.push(start.elapsed().as_micros());
    }
    std::fs::remove_file(path)?;
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    println!("{{\"what\":\"fsync\",\"p50_us\":{},\"p99_us\":{}}}", at(0.5), at(0.99));
    Ok(())
}
