//! Lab files, good and bad, as a user meets them.
//!
//! `golden/validate/*.yaml` are wrong files; the `.txt` beside each is what labctl says of it. They name
//! files in `golden/kernels`, which have a kernel's headers and little else.
//! `UPDATE_GOLDEN=1 cargo test -p labctl --test validate` rewrites the latter: read the diff.

use std::{
    env, fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use labctl::{
    error::{Error, Exit},
    optimizations::Optimizations,
    results::TrialKind,
    topology::{Boot, Dimension, Lab, Metric, Pktguest, Role, Subject, System, Term, TrialSpec},
};
use proptest::prelude::*;

const PAPER_PAIR: &str = include_str!("../../topologies/paper-pair.lab.yaml");

/// Files that say all there is to say.
const GOOD_FILES: &[&str] = &[
    PAPER_PAIR,
    include_str!("golden/valid/events.yaml"),
    include_str!("golden/valid/inheritance.yaml"),
    include_str!("golden/valid/links.yaml"),
    include_str!("golden/valid/variables.yaml"),
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/validate")
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).expect("golden files");
    let paths = files.map(|file| file.expect("golden file").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn parse(text: &str) -> Result<Lab, Error> {
    Lab::parse(Path::new("test.lab.yaml"), text)
}

#[test]
fn every_mistake_is_told_well() {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in yaml_files(&golden()) {
        count += 1;
        let text = fs::read_to_string(&path).expect("readable");
        let name = Path::new(path.file_name().expect("a file"));
        let Err(error) = Lab::parse(name, &text) else {
            wrong.push(format!("{} is valid", name.display()));
            continue;
        };
        assert_eq!(error.exit(), Exit::InvalidFile);
        if !name.to_string_lossy().starts_with("all-") {
            let problems = error.problems().len();
            if problems != 1 {
                let rendered = error.render(false, None);
                wrong.push(format!("{} has {problems} mistakes:\n{rendered}", name.display()));
            }
        }
        let rendered = error.render(false, Some(100)) + &error.annotations();
        let expected = path.with_extension("txt");
        if update {
            fs::write(&expected, &rendered).expect("writable");
        } else if fs::read_to_string(&expected).unwrap_or_default() != rendered {
            wrong.push(format!("{}:\n{rendered}", name.display()));
        }
    }
    assert!(count >= 25, "only {count} golden files");
    assert!(wrong.is_empty(), "not as they should be:\n{}", wrong.join("\n"));
}

/// `golden/valid/*.yaml` are right files; the `.json` beside each is what labctl makes of it.
#[test]
fn every_key_means_what_it_should() {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    for path in yaml_files(&golden().join("../valid")) {
        let text = fs::read_to_string(&path).expect("readable");
        let name = Path::new(path.file_name().expect("a file"));
        let lab =
            Lab::parse(name, &text).unwrap_or_else(|error| panic!("{}", error.render(false, None)));
        let made = serde_json::to_string_pretty(&lab).expect("JSON") + "\n";
        let expected = path.with_extension("json");
        if update {
            fs::write(&expected, &made).expect("writable");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert!(made == expected, "{} differs from its golden file:\n{made}", name.display());
    }
}

#[test]
fn the_reference_topology_is_what_it_says() {
    let lab = parse(PAPER_PAIR).expect("valid");
    assert_eq!(lab.name, "paper-pair");
    assert_eq!(lab.optimizations.to_string(), "itr+sc+csb+vale");
    assert_eq!(lab.switches.len(), 1);
    let [left, right] = lab.guests.as_slice() else { panic!("two guests") };
    assert_eq!(left.memory_mib, 64);
    let [left, right] = [left, right].map(|guest| guest.pktguest().expect("pktguest"));
    assert_eq!((left.ring, left.itr_interval, left.spin_us), (4096, 488, 100));
    assert_eq!((left.workload.role, right.workload.role), (Role::Tx { to: 1 }, Role::Rx));
    assert_eq!(lab.link(0, 1), Some((0, 0)));
    let bench = lab.bench.as_ref().expect("a benchmark");
    assert_eq!(bench.cells.len(), 16);
    assert_eq!((bench.rounds, bench.budget), (10, Duration::from_secs(210)));
    let trial = bench.throughput.as_ref().expect("throughput");
    let (from, to) = (trial.pair.from, trial.pair.to);
    assert_eq!((from, to, trial.frame, trial.burst, trial.rate), (0, 1, 60, 1, 0));
    assert_eq!(bench.rr.as_ref().map(|rr| rr.duration), Some(Duration::from_millis(400)));
}

#[test]
fn every_example_topology_is_valid() {
    // Beside the files that images/linux/build would make.
    let project = scratch("examples");
    let topologies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies");
    let out = project.join("images/linux/out");
    fs::create_dir_all(&out).expect("created");
    fs::copy(golden().join("../kernels/bzimage"), out.join("vmlinuz")).expect("copied");
    fs::write(out.join("initrd.img"), b"").expect("written");
    fs::create_dir_all(project.join("topologies")).expect("created");
    let mut count = 0;
    for entry in fs::read_dir(topologies).expect("topologies") {
        let path = entry.expect("entry").path();
        if path.to_string_lossy().ends_with(".lab.yaml") {
            count += 1;
            let copy = project.join("topologies").join(path.file_name().expect("a name"));
            fs::copy(&path, &copy).expect("copied");
            Lab::load(&copy).unwrap_or_else(|error| panic!("{}", error.render(false, None)));
        }
    }
    assert!(count > 1);
    fs::remove_dir_all(project).expect("removed");
}

#[test]
fn a_linux_guest_is_what_the_file_and_the_defaults_say() {
    let text = "\
name: t
switches: { sw0: }
defaults: { kind: linux, kernel: vmlinuz, ring: 256, nics: [{ switch: sw0 }] }
guests:
  a:
    initrd: sub/initrd
    cmdline: >
      quiet
      loglevel=1
  b: { memory: 3GiB, vcpus: 1 }
  c: { kind: pktguest }
";
    let directory = scratch("linux");
    fs::create_dir_all(directory.join("sub")).expect("created");
    fs::copy(golden().join("../kernels/bzimage"), directory.join("vmlinuz")).expect("copied");
    fs::write(directory.join("sub/initrd"), b"").expect("written");
    let lab = Lab::parse(&directory.join("t.lab.yaml"), text)
        .unwrap_or_else(|error| panic!("{}", error.render(false, None)));
    let [a, b, c] = lab.guests.as_slice() else { panic!("three guests") };
    let linux = |initrd: Option<&str>, cmdline: &str| {
        let initrd = initrd.map(|path| directory.join(path));
        let kernel = directory.join("vmlinuz");
        System::Linux(Boot { kernel, initrd, cmdline: cmdline.to_owned(), ready: None })
    };
    assert_eq!((a.memory_mib, &a.system), (256, &linux(Some("sub/initrd"), "quiet loglevel=1")));
    assert_eq!((b.memory_mib, &b.system), (3072, &linux(None, "")));
    assert_eq!((c.memory_mib, c.pktguest().map(|guest| guest.ring)), (64, Some(256)));
    fs::remove_dir_all(directory).expect("removed");
}

/// A directory of this test's own, empty.
fn scratch(name: &str) -> PathBuf {
    let directory = env::temp_dir().join(format!("labctl-{name}-{}", std::process::id()));
    // Left by an earlier process of the same number.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("created");
    directory
}

#[test]
fn defaults_are_inherited_key_by_key() {
    let lab = parse(
        "name: t\nswitches: { sw0: }\n\
         defaults: { ring: 256, spin: 0, itr: 0, nics: [{ switch: sw0 }], workload: { role: rx } }\n\
         guests: { a: , b: { ring: 512, workload: { role: ping, to: a, rate: 1.5kpps } } }\n\
         optimizations: { sc: false }\n",
    )
    .expect("valid");
    let [a, b] = lab.guests.as_slice() else { panic!("two guests") };
    let [a, b] = [a, b].map(|guest| guest.pktguest().expect("pktguest"));
    assert_eq!((a.ring, a.spin_us, a.itr_interval, a.workload.role), (256, 0, 0, Role::Rx));
    assert_eq!((b.ring, b.spin_us, b.itr_interval), (512, 0, 0));
    assert_eq!((b.workload.role, b.workload.rate), (Role::Ping { to: 0 }, 1500));
    let expected = Optimizations { itr: true, sc: false, csb: true, vale: true };
    assert_eq!(lab.optimizations, expected);
    assert_eq!(lab.bench, None);
}

#[test]
fn generated_macs_are_stable_local_and_unique() {
    let text = "name: t\nswitches: { sw0: {} }\ndefaults: { nics: [{ switch: sw0 }, { switch: sw0 }] }\n\
                guests: { a: {}, b: {}, c: {} }\n";
    let macs = |text: &str| -> Vec<[u8; 6]> {
        let lab = parse(text).expect("valid");
        lab.guests.iter().flat_map(|guest| &guest.nics).map(|nic| nic.mac).collect()
    };
    let first = macs(text);
    assert_eq!(first, macs(text));
    assert!(first.iter().all(|mac| mac[0] & 0b11 == 0b10), "{first:02x?}");
    let mut unique = first.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 6);
    assert_eq!(macs(&text.replace("b: {}, ", ""))[..2], first[..2], "others do not matter");
    assert_ne!(macs(&text.replace("name: t", "name: u")), first, "but the lab does");
}

#[test]
fn a_given_mac_is_never_generated_again() {
    let text = "name: t\nswitches: { sw0: {} }\ndefaults: { nics: [{ switch: sw0 }] }\n\
                guests: { a: {}, b: {} }\n";
    let generated = parse(text).expect("valid").guests[0].nics[0].mac;
    let mac = labctl::units::human_mac(generated);
    let given = format!("b: {{ nics: [{{ switch: sw0, mac: \"{mac}\" }}] }}");
    let lab = parse(&text.replace("b: {}", &given)).expect("valid");
    assert_eq!(lab.guests[1].nics[0].mac, generated);
    assert_ne!(lab.guests[0].nics[0].mac, generated);
}

#[test]
fn addresses_are_given_in_order_around_those_in_the_file() {
    let text = "name: t\nswitches: { sw0: {} }\ndefaults: { nics: [{ switch: sw0 }] }\n\
                guests: { a: , b: { ip: 10.0.0.1/16 }, c: , d: { ip: 192.168.0.7/24 } }";
    let lab = parse(text).unwrap();
    let ip = |guest: usize| lab.guests[guest].pktguest().unwrap().ip.to_string();
    let ips: Vec<_> = (0..4).map(ip).collect();
    assert_eq!(ips, ["10.0.0.2/16", "10.0.0.1/16", "10.0.0.3/16", "192.168.0.7/24"]);
}

#[test]
fn a_stream_has_long_frames_unless_the_file_says_otherwise() {
    let frame = |protocol: &str| {
        let text = format!(
            "name: t\nswitches: {{ sw0: {{}} }}\ndefaults: {{ nics: [{{ switch: sw0 }}] }}\n\
             guests: {{ a: {{ workload: {{ role: tcp-rx }} }}, b: }}\n\
             bench: {{ throughput: {{ from: a, to: b, protocol: {protocol} }} }}"
        );
        let lab = parse(&text).unwrap();
        let trial = lab.bench.unwrap().throughput.unwrap();
        (lab.guests[0].pktguest().unwrap().workload.frame, trial.frame)
    };
    assert_eq!([frame("raw"), frame("udp"), frame("tcp")], [(1514, 60), (1514, 60), (1514, 1514)]);
}

/// The reference file without its assertions.
fn unasserted() -> String {
    let start = PAPER_PAIR.find("  # What must come out").expect("assertions");
    let end = PAPER_PAIR.find("  # Every cell is measured").expect("rounds");
    PAPER_PAIR[..start].to_owned() + &PAPER_PAIR[end..]
}

#[test]
fn cells_change_what_their_axis_names_and_nothing_else() {
    let lab = parse(PAPER_PAIR).expect("valid");
    let with = |axis: &str| {
        let text = unasserted();
        let start = text.find("    optimizations.itr:").expect("a matrix");
        let end = text.find("  # How many packets").expect("a trial");
        let text = format!("{}    {axis}\n{}", &text[..start], &text[end..]);
        let cells = parse(&text).expect(axis).bench.expect("an experiment").cells;
        cells.into_iter().next().expect("a cell").lab
    };
    let expected = |change: fn(&mut Lab)| {
        let mut expected = lab.clone();
        let bench = expected.bench.as_mut().expect("an experiment");
        (bench.matrix, bench.cells) = (Vec::new(), Vec::new());
        bench.assertions = Vec::new();
        change(&mut expected);
        expected
    };
    fn guest(lab: &mut Lab, index: usize) -> &mut Pktguest {
        lab.guests[index].pktguest_mut().expect("pktguest")
    }
    fn trial(lab: &mut Lab) -> &mut TrialSpec {
        lab.bench.as_mut().and_then(|bench| bench.throughput.as_mut()).expect("trial")
    }
    assert_eq!(with("optimizations.csb: [false]"), expected(|lab| lab.optimizations.csb = false));
    assert_eq!(with("throughput.burst: [8]"), expected(|lab| trial(lab).burst = 8));
    assert_eq!(with("bench.throughput.to: [right]"), expected(|_| {}));
    assert_eq!(
        with("ring: [80]"),
        expected(|lab| (0..2).for_each(|index| guest(lab, index).ring = 80))
    );
    assert_eq!(with("guests.right.ring: [80]"), expected(|lab| guest(lab, 1).ring = 80));
    assert_eq!(
        with("defaults.spin: [0]"),
        expected(|lab| { (0..2).for_each(|index| guest(lab, index).spin_us = 0) })
    );
    assert_eq!(
        with("guests.left.workload.rate: [5kpps]"),
        expected(|lab| { guest(lab, 0).workload.rate = 5000 })
    );
    assert_eq!(
        with("guests.*.memory: [96MiB]"),
        expected(|lab| { lab.guests.iter_mut().for_each(|guest| guest.memory_mib = 96) })
    );
}

#[test]
fn a_ladder_adds_its_steps_up() {
    let text = "\
name: t
switches: { sw0: }
defaults: { nics: [{ switch: sw0 }] }
guests: { a: , b: }
optimizations: { itr: false, sc: false, csb: false, vale: false }
bench:
  throughput: { from: a, to: b }
  ladder:
    - {}
    - { optimizations.itr: true }
    - { name: large-rings, ring: 4096, optimizations.csb: true }
  cells: { own: { set: { guests.b.ring: 80, throughput.duration: 1s } } }
  reference: step-1
  assert: [large-rings.throughput >= 2 * step-0.throughput]
";
    let bench = parse(text).unwrap_or_else(|error| panic!("{}", error.render(false, None))).bench;
    let bench = bench.expect("an experiment");
    let names: Vec<_> = bench.cells.iter().map(|cell| cell.id.to_string()).collect();
    assert_eq!(names, ["step-0", "step-1", "large-rings", "own"]);
    let on: Vec<_> = bench.cells.iter().map(|cell| cell.lab.optimizations.to_string()).collect();
    assert_eq!(on, ["none", "itr", "itr+csb", "none"]);
    let rings: Vec<_> = (0..4)
        .map(|cell| bench.cells[cell].lab.guests[1].pktguest().expect("pktguest").ring)
        .collect();
    assert_eq!(rings, [1024, 1024, 4096, 80]);
    let labels: Vec<_> = bench.ladder.iter().map(|step| (step.label.as_str(), step.cell)).collect();
    assert_eq!(labels, [("as in the file", 0), ("+itr", 1), ("large-rings", 2)]);
    let own = bench.cells[3].trial(TrialKind::Throughput).expect("a trial");
    assert_eq!(own.duration, Duration::from_secs(1));
    assert_eq!(bench.reference.as_deref(), Some("step-1"));
}

#[test]
fn assertions_find_their_cells() {
    let assertion = |that: &str| {
        let assert = format!("  assert: [{{ that: \"{that}\", name: it }}]\n");
        let bench = parse(&(unasserted() + &assert)).expect(that).bench;
        bench.expect("an experiment").assertions.remove(0)
    };
    assert_eq!(assertion("loss = 0").each.map(|each| each.len()), Some(16));
    assert_eq!(assertion("[csb=on,vale=off].loss = 0").each, Some(vec![4, 5, 6, 7]));
    let best = assertion("[itr=on,sc=on,csb=on,vale=true].throughput >= 1Mpps");
    assert_eq!(best.each, None);
    assert_eq!(best.left, Term::Figure(Subject::Cell(15), Metric::Throughput));
    assert_eq!(best.right, Term::Number(1e6));
    assert_eq!(best.unit, Dimension::PACKETS);
    assert_eq!(best.name.as_deref(), Some("it"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    assert_eq!(
        parse(&format!("\u{feff}{PAPER_PAIR}")).expect("valid"),
        parse(PAPER_PAIR).expect("valid")
    );
    let error = parse("\u{feff}nmae: t\n").expect_err("wrong");
    assert_eq!(error.problems()[0].position(), (1, 1));
}

#[test]
fn a_full_switch_is_still_valid() {
    let guests: String = (0..253).map(|n| format!("g{n}: {{}}, ")).collect();
    let text = format!(
        "name: t\nswitches: {{ sw0: {{}} }}\ndefaults: {{ nics: [sw0] }}\n\
         links: [\"sw0 -- host:tap0\"]\nguests: {{ {guests} }}\n"
    );
    assert_eq!(parse(&text).expect("254 ports").guests.len(), 253);
    let error = parse(&text.replace("g0: {}", "a: {}, g0: {}")).expect_err("255 ports");
    assert!(error.problems()[0].message().contains("at most 254 ports"), "{error:?}");
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        survive(&text);
    }

    #[test]
    fn any_yaml_like_text_is_survived(
        text in r#"([a-z]{1,2}|[-:?,\[\]{}#&*!|>'"%@`~.0-9é]|<<|: |\n|\n  |\n- |---\n|\t){0,60}"#,
    ) {
        survive(&text);
    }

    /// Near misses get deepest: good files with pieces removed, repeated and replaced.
    #[test]
    fn any_damage_to_a_good_file_is_survived(
        good in prop::sample::select(GOOD_FILES),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..40_usize, any::<bool>()),
            1..6,
        ),
    ) {
        let mut text: Vec<char> = good.chars().filter(char::is_ascii).collect();
        for (at, from, len, replace) in edits {
            let (at, from) = (at.index(text.len()), from.index(text.len()));
            let piece = text[from..(from + len).min(text.len())].to_vec();
            let end = if replace { (at + len).min(text.len()) } else { at };
            text.splice(at..end, piece);
        }
        survive(&text.into_iter().collect::<String>());
    }
}

/// A text is a lab, or wrong at places that exist.
fn survive(text: &str) {
    let Err(error) = parse(text) else { return };
    assert_eq!(error.exit(), Exit::InvalidFile);
    assert!(!error.problems().is_empty());
    for problem in error.problems() {
        let (line, _) = problem.position();
        assert!(line <= text.matches('\n').count() + 1, "{problem:?}");
    }
    assert!(!error.render(false, Some(80)).is_empty());
}

/// A directory of its own for one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str, files: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("directory");
        for file in files {
            fs::write(path.join(file), PAPER_PAIR).expect("file");
        }
        Self(path)
    }

    fn labctl(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("labctl runs")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_labctl"));
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("LABCTL_")) {
            command.env_remove(name);
        }
        command.args(args).current_dir(&self.0).env_remove("GITHUB_ACTIONS").stdin(Stdio::null());
        command
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_only_lab_file_is_found() {
    let directory = Directory::new("one", &["my.lab.yaml", "other.yaml"]);
    let output = directory.labctl(&["validate"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("paper-pair is valid"));
    assert!(stderr(&output).ends_with("next: labctl bench my.lab.yaml\n"), "{}", stderr(&output));
    let by_directory = directory.labctl(&["validate", "."]);
    assert_eq!(stdout(&by_directory), stdout(&output));
}

#[test]
fn no_lab_file_and_several_are_told_apart() {
    let output = Directory::new("none", &["other.yaml"]).labctl(&["validate"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("no *.lab.yaml in this directory"));
    let output = Directory::new("two", &["b.lab.yaml", "a.lab.yaml"]).labctl(&["validate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("name one: a.lab.yaml, b.lab.yaml"), "{}", stderr(&output));
}

#[test]
fn json_goes_to_stdout_and_nothing_else_does() {
    let directory = Directory::new("json", &["my.lab.yaml"]);
    let output = directory.command(&["validate"]).env("LABCTL_OUTPUT", "json").output();
    let output = output.expect("labctl runs");
    let lab: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(lab["guests"][0]["workload"]["role"]["to"], 1);
    assert_eq!(lab["bench"]["matrix"][0]["key"], "optimizations.itr");
    assert_eq!(lab["bench"]["budget"], "210s");
}

#[test]
fn a_wrong_file_is_annotated_for_github() {
    let directory = Directory::new("wrong", &[]);
    fs::write(directory.0.join("a.lab.yaml"), "name: t\nguets: {}\n").expect("file");
    let output = directory.labctl(&["validate"]);
    assert_eq!(output.status.code(), Some(10));
    assert!(stdout(&output).is_empty());
    assert!(stderr(&output).contains("did you mean `guests`?"));
    assert!(!stderr(&output).contains("::error") && !stderr(&output).contains('\x1b'));
    let mut github = directory.command(&["validate", "--color", "always"]);
    let output = github.env("GITHUB_ACTIONS", "true").output().expect("labctl runs");
    let annotation = "::error file=a.lab.yaml,line=2,col=1::guets: unknown key (did you mean";
    assert!(stderr(&output).contains(annotation), "{}", stderr(&output));
    assert!(stderr(&output).contains('\x1b'));
}

#[test]
fn unreadable_files_say_why() {
    let directory = Directory::new("unreadable", &[]);
    fs::write(directory.0.join("latin1.lab.yaml"), b"name: t\n# caf\xe9\n").expect("file");
    let output = directory.labctl(&["validate"]);
    assert_eq!(output.status.code(), Some(10));
    assert!(stderr(&output).contains("line 2 is not UTF-8"), "{}", stderr(&output));
    let output = directory.labctl(&["validate", "absent.lab.yaml"]);
    assert_eq!(output.status.code(), Some(10));
    assert!(stderr(&output).contains("No such file"), "{}", stderr(&output));
    let output = directory.labctl(&["validate", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(10));
    assert!(stderr(&output).contains("longer than 1 MiB"), "{}", stderr(&output));
}

#[test]
fn a_lab_can_come_from_stdin() {
    let directory = Directory::new("stdin", &[]);
    let mut command = directory.command(&["validate", "-"]);
    let mut labctl = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawn");
    labctl.stdin.take().expect("stdin").write_all(PAPER_PAIR.as_bytes()).expect("written");
    let output = labctl.wait_with_output().expect("output");
    assert!(stdout(&output).starts_with("paper-pair is valid"));
}

#[test]
fn usage_errors_have_their_own_code() {
    let directory = Directory::new("usage", &[]);
    assert_eq!(directory.labctl(&["validate", "--nonsense"]).status.code(), Some(2));
    assert_eq!(directory.labctl(&[]).status.code(), Some(2));
    let help = directory.labctl(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("70  a bug in labctl"));
}

/// `labctl ... | head`: the reader leaves early.
#[test]
fn a_closed_pipe_is_no_failure() {
    let directory = Directory::new("pipe", &["my.lab.yaml"]);
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let mut command = directory.command(&["validate", "-o", "json"]);
    let mut labctl = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("spawn");
    let mut said = String::new();
    labctl.stderr.take().expect("stderr").read_to_string(&mut said).expect("text");
    assert_eq!(labctl.wait().expect("exit").code(), Some(0), "{said}");
    assert!(!said.contains("bug"), "{said}");
}

/// Where things are in a tree, as keys and numbers.
fn places(tree: &serde_yaml::Value, here: &[serde_yaml::Value]) -> Vec<Vec<serde_yaml::Value>> {
    let below: Vec<_> = match tree {
        serde_yaml::Value::Mapping(keys) => {
            keys.iter().map(|(key, value)| (key.clone(), value)).collect()
        }
        serde_yaml::Value::Sequence(items) => {
            items.iter().enumerate().map(|(i, value)| (i.into(), value)).collect()
        }
        _ => Vec::new(),
    };
    let below = below.into_iter().flat_map(|(step, value)| {
        let here = [here, &[step]].concat();
        [places(value, &here), vec![here]].concat()
    });
    below.collect()
}

/// Whatever stands at a place that wants something else, labctl says what it wants in the file's words.
#[test]
fn a_value_of_the_wrong_type_is_told_in_words_of_the_file() {
    let every_word = "name: t\nswitches: { s: { kind: vale } }\nvmm: qemu\nnic: e1000\nlink: tap\n\
                      policy: push\ndefaults: { kind: pktguest, nics: [s] }\n\
                      kinds: { pktguest: { optimizations: { itr: true } } }\n\
                      guests: { a: { workload: { role: tx, to: b } }, b: {} }\nbench:\n  \
                      cells: { c: { vmm: labctl, nic: e1000, link: tap, policy: push, only: rr,\n    \
                      throughput: { protocol: udp } } }\n  \
                      throughput: { from: a, to: b, protocol: raw }\n  rr: { from: a, to: b }\n";
    let wrong =
        ["[]", "[vale]", "{}", "{ vale: 1 }", "3", "-1", "1.5", "true", "~", "\"\"", "!x vale"];
    let foreign =
        ["Value::", "enum", "variant", "struct", "sequence", " map,", "unit", "newtype", "i64"];
    for text in [every_word, GOOD_FILES[1], GOOD_FILES[3]] {
        let tree: serde_yaml::Value = serde_yaml::from_str(text).expect("YAML");
        for place in places(&tree, &[]) {
            for value in wrong {
                let mut tree = tree.clone();
                let at = place.iter().fold(&mut tree, |node, step| match (node, step.as_u64()) {
                    (serde_yaml::Value::Sequence(items), Some(i)) => &mut items[i as usize],
                    (node, _) => &mut node[step],
                });
                *at = serde_yaml::from_str(value).expect("YAML");
                let text = serde_yaml::to_string(&tree).expect("YAML");
                let Err(error) = parse(&text) else { continue };
                for problem in error.problems() {
                    let said = problem.message();
                    let told = !foreign.iter().any(|word| said.contains(word))
                        || said.contains("its unit");
                    assert!(told, "{place:?} {value}: {said}");
                }
            }
        }
    }
}
