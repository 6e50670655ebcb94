//! The `labctl` command from the outside: exit codes, messages, and that nothing is left behind,
//! whatever way it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, eventually, kvm, labctl, may_use_tap, say};
use labctl::lab::network::Privileges;
use labctl::results::Results;

/// Long for a command that is asked to end.
const PROMPT: Duration = Duration::from_secs(10);

/// A lab of two guests that keep each other busy.
fn lab(vale: bool) -> String {
    format!(
        "name: cli\n\
         switches: {{ sw0: {{}} }}\n\
         defaults: {{ nics: [{{ switch: sw0 }}] }}\n\
         optimizations: {{ vale: {vale} }}\n\
         guests:\n  \
           left: {{ workload: {{ role: ping, to: right }} }}\n  \
           right: {{ workload: {{ role: pong }} }}\n\
         bench:\n  \
           matrix: {{ optimizations.csb: [false, true] }}\n  \
           throughput: {{ from: left, to: right, duration: 20ms }}\n  \
           rounds: 1000\n"
    )
}

/// Runs a command to its end; returns its exit code and what it said on stderr.
fn run(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().expect("the command runs");
    (status.code(), String::from_utf8(stderr).expect("messages are text"))
}

/// Fails unless the command ends with `code` and one message that has all of `words`.
#[track_caller]
fn assert_refused(command: Command, code: i32, words: &[&str]) {
    let (status, message) = run(command);
    assert_eq!(status, Some(code), "{message}");
    let flat = message.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(flat.contains(word), "no {word:?} in:\n{message}");
    }
}

/// `labctl args`, with `wrapper` around it.
fn wrapped(wrapper: &[&str], args: &[&str]) -> Command {
    let inner = labctl(args);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null());
    command
}

#[test]
fn a_wrong_file_is_10() {
    let dir = Scratch::new("wrong-file");
    let missing = dir.path("missing.lab.yaml");
    assert_refused(labctl(&["up", missing.to_str().unwrap()]), 10, &["missing.lab.yaml"]);
    let broken = dir.file("broken.lab.yaml", "name: broken\nguests: [\n");
    assert_refused(labctl(&["bench", &broken]), 10, &["broken.lab.yaml:", "1 mistake"]);
    let binary = dir.file("binary.lab.yaml", b"\x7fELF\xff\xfe");
    assert_refused(labctl(&["validate", &binary]), 10, &["not UTF-8"]);
}

#[test]
fn an_unknown_key_is_shown_with_its_place_and_a_suggestion() {
    let dir = Scratch::new("unknown-key");
    let file = dir.file("x.lab.yaml", lab(true).replace("role: pong", "rolle: pong"));
    let words =
        ["guests.right.workload.rolle: unknown key", "x.lab.yaml:7:24", "did you mean `role`"];
    for verb in ["validate", "up", "bench"] {
        assert_refused(labctl(&[verb, &file]), 10, &words);
    }
}

#[test]
fn an_impossible_ring_is_shown_with_its_place_and_the_range() {
    let dir = Scratch::new("ring");
    let file = dir.file("x.lab.yaml", lab(true).replace("{ nics", "{ ring: 81, nics"));
    let words = ["80 to 4096", "multiple of 8", "x.lab.yaml:3:19", "1 mistake"];
    assert_refused(labctl(&["up", &file]), 10, &words);
}

#[test]
fn no_file_to_choose_is_4() {
    let dir = Scratch::new("empty");
    let mut command = labctl(&["up"]);
    command.current_dir(dir.path(""));
    assert_refused(command, 4, &["no *.lab.yaml"]);
    let file = dir.file("x.lab.yaml", lab(true).split("bench:").next().unwrap());
    assert_refused(labctl(&["bench", &file]), 4, &["no `bench` section"]);
}

#[test]
fn a_missing_kvm_is_11_and_names_the_way_out() {
    let dir = Scratch::new("no-kvm");
    let file = dir.file("x.lab.yaml", lab(true));
    let empty_dev = "mount -t tmpfs none /dev && exec \"$0\" \"$@\"";
    let unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c", empty_dev];
    for args in [&["up", &file][..], &["bench", &file, "--results", "/tmp/never.json"]] {
        assert_refused(wrapped(&unshare, args), 11, &["/dev/kvm", "labctl doctor"]);
    }
    let Output { status, stdout, .. } = wrapped(&unshare, &["doctor"]).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert_eq!(status.code(), Some(11), "{text}");
    assert!(text.contains("MISSING") && text.contains("modprobe kvm"), "{text}");
}

#[test]
fn a_linux_guest_is_refused_before_anything_starts() {
    let Some(kvm) = kvm() else { return };
    let dir = Scratch::new("linux");
    // By its headers a kernel, but none that can be loaded.
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kernels/bzimage");
    fs::copy(kernel, dir.path("vmlinuz")).unwrap();
    let text = "name: t\nswitches: { sw0: {} }\n\
        guests: { left: { kind: linux, kernel: vmlinuz, nics: [{ switch: sw0 }] } }\n";
    let file = dir.file("x.lab.yaml", text);
    let (code, message) = run(labctl(&["validate", &file]));
    assert_eq!(code, Some(0), "{message}");
    let native = kvm.kind().runs_kernels_natively();
    // Where Linux could run, it is the kernel that is wrong.
    let (code, words) = match native {
        true => (10, ["guest `left`", "a bzImage without a 64-bit entry point"]),
        false => (11, ["guest `left`: Linux needs hardware KVM", "labctl doctor"]),
    };
    assert_refused(labctl(&["up", &file]), code, &words);
    assert_refused(labctl(&["bench", &file]), 4, &["no `bench` section"]);
}

#[test]
fn results_that_could_not_be_kept_are_not_measured() {
    let dir = Scratch::new("unwritable");
    let file = dir.file("x.lab.yaml", lab(true));
    let nowhere = dir.path("no/such/place.json");
    let command = labctl(&["bench", &file, "--results", nowhere.to_str().unwrap()]);
    assert_refused(command, 1, &["cannot write", "place.json", "--results FILE"]);
}

#[test]
fn a_full_disk_takes_no_lab_file_away() {
    let dir = Scratch::new("full");
    // Room for the lab file, and not for the schema; then for nothing.
    let script = "mount -t tmpfs -o size=12k none \"$1\" && cd \"$1\" || exit 99
        $0 init; echo \"status $?\"; ls -A; cp my.lab.yaml old
        cat /dev/zero >zeros 2>/dev/null
        $0 init --force --template star; echo \"status $?\"; cmp old my.lab.yaml && ls -A
        $0 init; echo \"status $?\"";
    let unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c", script];
    let Output { stdout, stderr, .. } =
        wrapped(&unshare, &[dir.path("").to_str().unwrap()]).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(
        stdout, "status 1\nmy.lab.yaml\nstatus 1\nmy.lab.yaml\nold\nzeros\nstatus 2\n",
        "{stderr}"
    );
    assert!(stderr.contains("cannot write lab.schema.json"), "{stderr}");
    assert!(stderr.contains("cannot write my.lab.yaml"), "{stderr}");
    assert!(stderr.contains("my.lab.yaml is there already"), "{stderr}");
    assert_eq!(stderr.matches("No space left").count(), 2, "{stderr}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("closed");
    let file = dir.file("x.lab.yaml", lab(true));
    for args in [&["validate", &file][..], &["--help"], &["up", &file, "--for", "200ms"]] {
        let mut command = labctl(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    }
}

/// An environment variable that tells the processes of one command, and all they start, apart.
const MARK: &str = "STARTED_BY_TEST";

/// A running `labctl`, killed if its test fails.
struct Running {
    child: Child,
    messages: BufReader<std::process::ChildStderr>,
}

impl Running {
    /// Starts it and waits until a line on stderr has `word`.
    fn until(word: &str, args: &[&str]) -> Self {
        let mut command = labctl(args);
        command.env(MARK, args.join(" "));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let messages = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self { child, messages };
        let mut seen = String::new();
        while !seen.contains(word) {
            let more = running.messages.read_line(&mut seen).unwrap();
            assert_ne!(more, 0, "ended before it said {word:?}:\n{seen}");
        }
        running
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; returns how it ended and what else it said.
    fn end(mut self, signal: &str) -> (ExitStatus, String) {
        let asked = Instant::now();
        let kill = format!("kill -s {signal} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(asked.elapsed() < PROMPT, "{signal} took {:?}", asked.elapsed());
        let mut rest = String::new();
        self.messages.read_to_string(&mut rest).unwrap();
        (status, rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One end of a cable whose other end is in a lab's network namespace. That has no name and cannot
/// be listed; but when it goes, it takes its end of the cable with it, and so this one.
struct Witness(PathBuf);

impl Witness {
    fn of(running: &Running) -> Self {
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        let tasks = fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap();
        let inside = tasks.map(|task| task.unwrap()).find(|task| {
            fs::read_link(task.path().join("ns/net")).is_ok_and(|theirs| theirs != ours)
        });
        let thread = inside.expect("a thread in the lab's namespace").file_name();
        let name = format!("witness{}", running.pid());
        let thread = thread.to_str().unwrap();
        let cable = ["link", "add", &name, "type", "veth", "peer", "name", "inside", "netns"];
        assert!(Command::new("ip").args(cable).arg(thread).status().unwrap().success());
        let witness = Self(Path::new("/sys/class/net").join(name));
        assert!(witness.0.exists());
        witness
    }

    fn gone(&self) -> bool {
        !self.0.exists()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if !self.gone() {
            let name = self.0.file_name().unwrap();
            let _ = Command::new("ip").args(["link", "del"]).arg(name).status();
        }
    }
}

/// Whether this process may put cables into other namespaces; says so if not.
fn is_root() -> bool {
    let root = Privileges::current() == Some(Privileges::Root);
    if !root {
        say("NOT CHECKED: only root can see whether a lab's namespace is gone");
    }
    root
}

/// The names of all network interfaces, sorted.
fn interfaces() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// How many processes [`Running::until`] started with `args`, and their descendants, are alive.
fn processes(args: &[&str]) -> usize {
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("environ"));
    let mark = format!("{MARK}={}\0", args.join(" "));
    let marked = |environ: Vec<u8>| environ.windows(mark.len()).any(|part| part == mark.as_bytes());
    all.filter(|environ| fs::read(environ).is_ok_and(marked)).count()
}

/// `labctl up` on bridges, ended by `signal`, leaves nothing behind and the next one works.
fn up_ends_with(signal: &str, code: Option<i32>) {
    let Some(_turn) = kvm() else { return };
    if !may_use_tap() {
        return;
    }
    let dir = Scratch::new(&format!("up-{signal}"));
    let file = dir.file("x.lab.yaml", lab(false));
    let before = interfaces();
    for _ in 0..2 {
        let up = ["up", &file];
        let running = Running::until("2 guests up", &up);
        assert_eq!(processes(&up), 1, "a lab is one process");
        let witness = is_root().then(|| Witness::of(&running));
        let (status, rest) = running.end(signal);
        assert_eq!(status.code(), code, "{rest}");
        eventually("the namespace is gone", || witness.iter().all(Witness::gone));
        assert_eq!(processes(&up), 0);
        eventually("the interfaces are as before", || interfaces() == before);
    }
    let (code, message) = run(labctl(&["up", &file, "--for", "100ms"]));
    assert_eq!(code, Some(0), "{message}");
    eventually("the interfaces are as before", || interfaces() == before);
}

#[test]
fn up_ends_with_its_guests() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("up-ends");
    let text = lab(true)
        .replace("role: ping, to: right", "role: tx, to: right, duration: 50ms")
        .replace("role: pong", "role: rx, duration: 100ms");
    let file = dir.file("x.lab.yaml", text);
    let (code, message) = run(labctl(&["up", &file, "--for", "60s"]));
    assert_eq!(code, Some(0), "{message}");
    assert!(message.contains("all guests have ended"), "{message}");
}

#[test]
fn ctrl_c_ends_up_and_leaves_nothing_behind() {
    up_ends_with("INT", Some(0));
}

#[test]
fn kill_9_leaves_nothing_behind() {
    up_ends_with("KILL", None);
}

#[test]
fn ctrl_c_ends_bench_and_keeps_what_was_measured() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("bench-int");
    let file = dir.file("x.lab.yaml", lab(true));
    let kept = dir.path("kept.json");
    let args = ["bench", &file, "--results", kept.to_str().unwrap()];
    let (status, rest) = Running::until("trials, round 2", &args).end("INT");
    assert_eq!(status.code(), Some(14), "{rest}");
    assert!(rest.contains("interrupted"), "{rest}");
    let results = Results::read(&kept).unwrap();
    assert!(!results.complete);
    assert!(results.cells.iter().all(|cell| !cell.samples.is_empty()), "{results:#?}");
    assert_eq!(processes(&args), 0);
    // What was kept can be used like any other result.
    let kept = kept.to_str().unwrap();
    let (code, message) = run(labctl(&["compare", kept, kept]));
    assert_eq!(code, Some(0), "{message}");
}

#[test]
fn results_belong_to_one_bench_at_a_time() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("bench-twice");
    let file = dir.file("x.lab.yaml", lab(true));
    let results = dir.path("results.json");
    let args = ["bench", &file, "--results", results.to_str().unwrap()];
    let first = Running::until("trials, round 1", &args);
    assert_refused(labctl(&args), 13, &["another benchmark", "results.json", "--results FILE"]);
    let journal = dir.path("results.samples.ndjson");
    assert!(fs::read_to_string(journal).unwrap().lines().count() > 0, "the first one's are there");
    let (status, rest) = first.end("INT");
    assert_eq!(status.code(), Some(14), "{rest}");
    Results::read(&results).unwrap();
}

#[test]
fn kill_9_on_bench_leaves_the_old_results_alone() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("bench-kill");
    let file = dir.file("x.lab.yaml", lab(true));
    let old = dir.file("results.json", "old");
    let args = ["bench", &file, "--results", &old];
    let (status, _) = Running::until("trials, round 1", &args).end("KILL");
    assert_eq!(status.code(), None);
    assert_eq!(fs::read_to_string(&old).unwrap(), "old");
    assert_eq!(processes(&args), 0);
}

#[test]
fn flags_are_set_by_variables_as_people_write_them() {
    let dir = Scratch::new("variables");
    let file = dir.file("x.lab.yaml", lab(true));
    let with = |args: &[&str], name: &str, value: &str| {
        let mut command = labctl(args);
        command.env(name, value);
        run(command)
    };
    let on = ["1", "yes", "true", "TRUE", "on"].map(|value| (value, true));
    let off = ["", "0", "no", "false", "Off"].map(|value| (value, false));
    for (value, quick) in on.into_iter().chain(off) {
        let (code, said) = with(&["plan", &file], "LABCTL_QUICK", value);
        assert_eq!((code, said.contains("bench --quick")), (Some(0), quick), "{value:?}: {said}");
        let (code, said) = with(&["validate", &file], "LABCTL_VERBOSE", value);
        assert_eq!(code, Some(0), "{value:?}: {said}");
        // One that is off excludes nothing.
        let (code, said) = with(&["graph", "--dot", &file], "LABCTL_MERMAID", value);
        assert_eq!(code, Some(if quick { 2 } else { 0 }), "{value:?}: {said}");
    }
    assert_eq!(with(&["validate", &file], "LABCTL_VERBOSE", "2").0, Some(0));
    let (code, said) = with(&["plan", &file], "LABCTL_QUICK", "perhaps");
    assert!(code == Some(2) && said.contains("--quick") && said.contains("yes"), "{said}");
}

#[test]
fn a_measurement_says_that_the_files_events_are_no_part_of_it() {
    let dir = Scratch::new("no-events");
    let without = lab(true).replace("rounds: 1000", "rounds: 1");
    let events = "events: [{ at: 1ms, link: left:0, up: false }]\n";
    let files = [("without", without.clone()), ("with", format!("{without}{events}"))];
    let turn = kvm();
    for (name, text) in files {
        let file = dir.file(&format!("{name}.lab.yaml"), text);
        let results = dir.path("results.json").display().to_string();
        let measured = turn.is_some().then(|| labctl(&["bench", &file, "--results", &results]));
        for command in [labctl(&["plan", &file])].into_iter().chain(measured) {
            let (code, said) = run(command);
            let notes = said.matches("`events` do not happen").count();
            assert_eq!((code, notes), (Some(0), usize::from(name == "with")), "{said}");
        }
    }
}

#[test]
fn a_lab_from_a_pipe_is_not_advised_to_be_read_again() {
    for verb in ["validate", "plan"] {
        let mut command = labctl(&[verb, "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lab(true).as_bytes()).unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        assert!(said.ends_with("next: labctl bench FILE\n"), "{said}");
    }
}

#[test]
fn what_makes_no_sense_is_2() {
    let dir = Scratch::new("senseless");
    let file = dir.file("x.lab.yaml", lab(true));
    assert_refused(labctl(&["bench", &file, "--results", "-"]), 2, &["-o json"]);
    assert_refused(labctl(&["capture", "left:0", "--count", "0"]), 2, &["--count"]);
}
