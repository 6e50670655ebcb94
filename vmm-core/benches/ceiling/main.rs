//! What this machine can do at most, and what the VALE switch makes of it.
//!
//! `cargo bench -p vmm-core` measures everything in about two minutes, prints a table and writes the
//! same as JSON. Criterion's arguments apply: `-- rings` or `-- 'vale unicast'` selects cases by
//! name, `-- --test` runs each once to see that it works.

mod caches;
mod rings;
mod summary;
mod vale;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use criterion::Criterion;

/// Frame lengths in bytes, without the check sequence.
const FRAME_BYTES: [usize; 3] = [60, 512, 1514];
/// Frames of one hand-over, as the e1000 makes them.
const BATCH: usize = 256;
/// Bytes from one buffer to the next: the NIC's 2048 and a cache line, so that their first lines do
/// not fall into the same few sets of the caches.
const BUFFER_BYTES: usize = 2112;
/// A receive descriptor's status, in its second word: descriptor done, end of packet.
const DD_EOP: u64 = 0b11 << 32;

fn main() {
    let start = SystemTime::now();
    let directory = output_directory();
    let mut criterion = Criterion::default()
        .output_directory(&directory)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(300))
        .sample_size(20)
        .nresamples(2000)
        .configure_from_args();
    rings::bench(&mut criterion);
    vale::bench(&mut criterion);
    summary::report(&directory, start);
}

/// `criterion` in the build's target directory, three levels above this program.
fn output_directory() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(3).unwrap_or(Path::new(".")).join("criterion")
}
