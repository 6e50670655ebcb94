//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

/// The group whose figure is the ceiling of all others.
const CEILING: &str = "rings one thread";
/// Its ring; the smaller one, which caches favour.
const CEILING_CASE: &str = "ring of 1024";

/// One case. Times are medians with 95 % intervals, in nanoseconds per frame that was sent.
#[derive(Serialize)]
struct Figure {
    group: String,
    case: String,
    frame_bytes: u64,
    ns_per_frame: f64,
    ns_per_frame_interval: [f64; 2],
    mpps: f64,
    /// Fraction of what one thread reaches from ring to ring with frames of that length.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_ceiling: Option<f64>,
}

/// The document that `results/` can keep.
#[derive(Serialize)]
struct Document {
    benchmark: &'static str,
    host: Host,
    figures: Vec<Figure>,
}

/// What a reader must know of the host to judge the figures.
#[derive(Serialize)]
struct Host {
    kernel: String,
    cpu: String,
    cores: usize,
    hypervisor: bool,
    load_average: String,
    commit: String,
}

/// Prints and writes what Criterion measured after `start`: nothing if it only tested or listed.
pub fn report(directory: &Path, start: SystemTime) {
    let mut figures: Vec<Figure> =
        estimates(directory, start).iter().filter_map(|path| read_figure(path)).collect();
    if figures.is_empty() {
        return;
    }
    figures.sort_by_key(|figure| (figure.group.clone(), order(&figure.case), figure.frame_bytes));
    let ceilings: BTreeMap<u64, f64> = figures
        .iter()
        .filter(|figure| figure.group == CEILING && figure.case == CEILING_CASE)
        .map(|figure| (figure.frame_bytes, figure.mpps))
        .collect();
    for figure in &mut figures {
        figure.of_ceiling = ceilings.get(&figure.frame_bytes).map(|ceiling| figure.mpps / ceiling);
    }
    print(&figures);
    for (bytes, mpps) in &ceilings {
        println!("one-thread copy ceiling, {bytes} B: {mpps:.1} Mpps");
    }
    let document = Document { benchmark: "vmm-core ceiling", host: Host::probe(), figures };
    let path = directory.join("ceiling.json");
    let written = serde_json::to_string_pretty(&document)
        .map_err(|error| error.to_string())
        .and_then(|text| fs::write(&path, text + "\n").map_err(|error| error.to_string()));
    match written {
        Ok(()) => println!("written to {}", path.display()),
        Err(error) => eprintln!("cannot write {}: {error}", path.display()),
    }
}

/// A line per case, a column per frame length.
fn print(figures: &[Figure]) {
    let mut group = "";
    for case in figures.chunk_by(|a, b| (&a.group, &a.case) == (&b.group, &b.case)) {
        if case[0].group != group {
            group = &case[0].group;
            println!("\n{group}");
        }
        print!("  {:<14}", case[0].case);
        for figure in case {
            let share = figure.of_ceiling.map(|of| format!("{:3.0} %", of * 100.0));
            print!(
                "  {:>5} B {:>7.2} Mpps {:>8.1} ns {:>6}",
                figure.frame_bytes,
                figure.mpps,
                figure.ns_per_frame,
                share.unwrap_or_default()
            );
        }
        println!();
    }
    println!("\n%: of what one thread copies between two rings of 1024, frames of that length");
}

/// The number in a case's name.
fn order(case: &str) -> u64 {
    case.split(' ').find_map(|word| word.parse().ok()).unwrap_or(0)
}

/// Criterion's files of this run: GROUP/CASE/BYTES/new/estimates.json.
fn estimates(directory: &Path, start: SystemTime) -> Vec<PathBuf> {
    let mut level = vec![directory.to_owned()];
    for _ in 0..3 {
        level = level
            .iter()
            .filter_map(|path| fs::read_dir(path).ok())
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
    }
    let is_new = |path: &PathBuf| {
        fs::metadata(path).and_then(|data| data.modified()).is_ok_and(|time| time >= start)
    };
    level.into_iter().map(|path| path.join("new/estimates.json")).filter(is_new).collect()
}

fn read_figure(estimates: &Path) -> Option<Figure> {
    let json = |path: &Path| serde_json::from_str::<Value>(&fs::read_to_string(path).ok()?).ok();
    let (case, times) = (json(&estimates.with_file_name("benchmark.json"))?, json(estimates)?);
    let frames = case["throughput"]["Elements"].as_f64()?;
    let median = &times["median"];
    let interval = &median["confidence_interval"];
    let per_frame = |time: &Value| Some(time.as_f64()? / frames);
    let ns_per_frame = per_frame(&median["point_estimate"])?;
    Some(Figure {
        group: case["group_id"].as_str()?.to_owned(),
        case: case["function_id"].as_str()?.to_owned(),
        frame_bytes: case["value_str"].as_str()?.parse().ok()?,
        ns_per_frame,
        ns_per_frame_interval: [
            per_frame(&interval["lower_bound"])?,
            per_frame(&interval["upper_bound"])?,
        ],
        mpps: 1e3 / ns_per_frame,
        of_ceiling: None,
    })
}

impl Host {
    fn probe() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value)
        };
        let describe = ["describe", "--always", "--dirty"];
        let commit = Command::new("git").args(describe).output().map(|output| output.stdout);
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: field("model name").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, |n| n.get()),
            hypervisor: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            load_average: read("/proc/loadavg"),
            commit: String::from_utf8_lossy(&commit.unwrap_or_default()).trim().to_owned(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
