//! `up` on a lab that runs makes it what its file says, and touches nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::labs::{Labs, PAIR, text};
use common::{eventually, kvm, say};

/// What `up` said that it does, or would do.
fn steps(output: &Output) -> Vec<String> {
    let text = text(&output.stderr);
    let step = |line: &&str| line.starts_with(['+', '-', '!', '~']);
    text.lines().filter(step).map(str::to_owned).collect()
}

#[test]
fn up_changes_only_what_the_file_has_changed() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("converge");
    let file = labs.file("pair", PAIR);
    labs.run(&["up", "--wait", &file]);
    let before = ["left", "right", "third"].map(|guest| labs.guest(guest)["started_ms"].clone());
    let changed = PAIR
        .replace("switches: { sw0: {} }", "switches: { sw0: {}, sw1: {} }\nlinks: [sw0 -- sw1]")
        .replace("third: {}", "third: { memory: 96MiB }\n  fourth: { nics: [sw1] }")
        .replace("right: {", "right: { nics: [{ switch: sw0, delay: 2ms }],");
    labs.file("pair", &changed);
    let plan = labs.try_run(&["up", "--dry-run", &file]);
    assert!(plan.status.success(), "{plan:?}");
    assert_eq!(labs.guest("third")["memory_mib"], 64, "nothing was done yet");
    let done = labs.try_run(&["up", "--wait", &file]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(steps(&plan), steps(&done), "what was said is what was done");
    let subjects: Vec<_> = steps(&done)
        .iter()
        .map(|step| step.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(subjects, ["~ right:0", "! third", "+ sw0--sw1", "+ fourth", "+ sw1"]);
    let after = ["left", "right", "third"].map(|guest| labs.guest(guest)["started_ms"].clone());
    assert_eq!(before[..2], after[..2], "untouched guests keep running");
    assert_ne!(before[2], after[2]);
    assert_eq!(labs.guest("third")["memory_mib"], 96);
    let link = &labs.json(&["link", "show", "right:0"])[0];
    assert_eq!(link["impairments"]["delay_us"], 2000, "{link:#}");
    // And back again.
    labs.file("pair", PAIR);
    labs.run(&["up", "--wait", &file]);
    assert_eq!(labs.ps()[0]["guests"].as_array().unwrap().len(), 3);
    assert_eq!(labs.guest("left")["started_ms"], before[0]);
    // A file with a mistake changes nothing.
    labs.file("pair", "name: pair\n");
    assert_eq!(labs.try_run(&["up", &file]).status.code(), Some(10));
    assert_eq!(labs.guest("left")["started_ms"], before[0]);
}

#[test]
fn what_cannot_start_is_told_and_tried_again() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("absent");
    let kernel = labs.path("kernel");
    fs::write(&kernel, images::PKTGUEST).unwrap();
    let lab = PAIR.replace("name: pair", "name: absent").replace(
        "third: {}",
        &format!(
            "third: {{ spin: 0 }}\n  own: {{ kind: pvh, kernel: {}, cmdline: \"role=idle\" }}\n\
             events: [{{ at: 300ms, restart: own }}, {{ at: 301ms, link: \"left:0\", up: false }}]",
            kernel.display()
        ),
    );
    let lab = lab.replace("nics: [sw0], spin: 0", "nics: [sw0]");
    let file = labs.file("absent", &lab);
    labs.run(&["up", "--wait", &file]);
    // A file that went away keeps the guest that runs, and what is to happen else happens.
    fs::remove_file(&kernel).unwrap();
    eventually("the event after the one that fails", || {
        !labs.guest("left")["nics"][0]["up"].as_bool().unwrap()
    });
    assert!(labs.events().contains(&("event-failed".into(), Some("own".into()))));
    assert_eq!(labs.guest("own")["state"], "running");
    assert_eq!(labs.try_run(&["restart", "own"]).status.code(), Some(10));
    assert_eq!(labs.guest("own")["state"], "running");
    // One that is no kernel costs the guest, and is named.
    fs::write(&kernel, "no kernel").unwrap();
    assert_eq!(labs.try_run(&["restart", "own"]).status.code(), Some(10));
    let own = labs.guest("own");
    assert_eq!(own["state"], "failed");
    assert!(own["reason"].as_str().unwrap().contains("cannot start"), "{own:#}");
    assert_eq!(labs.ps()[0]["state"], "degraded");
    let again = labs.try_run(&["up", "--wait", &file]);
    assert_eq!(again.status.code(), Some(10), "{again:?}");
    fs::write(&kernel, images::PKTGUEST).unwrap();
    let again = labs.try_run(&["up", "--wait", &file]);
    assert!(again.status.success(), "{again:?}");
    assert!(text(&again.stderr).contains("+ own"), "{again:?}");
    assert_eq!(
        (&labs.guest("own")["state"], &labs.ps()[0]["state"]),
        (&"running".into(), &"running".into())
    );
}

#[test]
fn cables_stay_as_they_were_changed_until_the_file_is_applied() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("live");
    let file = labs.file("pair", PAIR);
    labs.run(&["up", "--wait", &file]);
    labs.run(&["link", "set", "right:0", "--delay", "3ms", "--down"]);
    labs.run(&["restart", "right"]);
    eventually("it runs again", || labs.guest("right")["state"] == "running");
    let cable = || labs.json(&["link", "show", "right:0"])[0].clone();
    assert_eq!(
        (
            &cable()["impairments"]["delay_us"],
            &cable()["up"],
            &labs.guest("right")["nics"][0]["up"]
        ),
        (&3000.into(), &false.into(), &false.into())
    );
    let out = labs.try_run(&["up", &file]);
    assert!(text(&out.stderr).contains("~ right:0"), "{out:?}");
    assert_eq!((&cable()["impairments"]["delay_us"], &cable()["up"]), (&0.into(), &true.into()));
    eventually("frames flow", || {
        labs.guest("right")["nics"][0]["counters"]["rx_frames"].as_u64() > Some(10)
    });
    let out = labs.try_run(&["up", &file]);
    assert!(text(&out.stderr).contains("nothing to change"), "{out:?}");
}

#[test]
fn what_events_have_done_holds_for_guests_and_links_that_come_later() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("past");
    let lab = PAIR.replace("name: pair", "name: past").replace("third: {}", "third: { ring: 256 }")
        + "events:\n\
           - { at: 100ms, link: \"third:0\", set: { loss: 10% } }\n\
           - { at: 101ms, link: \"left:0\", up: false }\n";
    let file = labs.file("past", &lab);
    labs.run(&["up", "--wait", &file]);
    let cable = |name: &str| labs.json(&["link", "show", name])[0].clone();
    eventually("the events", || cable("left:0")["up"] == false);
    let again = labs.try_run(&["up", &file]);
    assert!(text(&again.stderr).contains("nothing to change"), "{again:?}");
    labs.file("past", &lab.replace("ring: 256", "ring: 512").replace("rate: 1kpps", "rate: 2kpps"));
    let changed = labs.try_run(&["up", "--wait", &file]);
    let replaced: Vec<_> = steps(&changed).iter().map(|step| step[..7].to_owned()).collect();
    assert_eq!(replaced, ["! left ", "! third"]);
    assert_eq!(cable("third:0")["impairments"]["loss"], 0.1);
    assert_eq!(cable("left:0")["up"], false);
    assert_eq!(labs.guest("left")["nics"][0]["up"], false);
    let again = labs.try_run(&["up", &file]);
    assert!(text(&again.stderr).contains("nothing to change"), "{again:?}");
}

#[test]
fn variables_are_those_of_whoever_says_up() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("variables");
    let lab = PAIR.replace("third: {}", "third: { memory: \"${LABCTL_TEST_MEMORY:-64MiB}\" }");
    let file = labs.file("pair", &lab);
    labs.run(&["up", "--wait", &file]);
    let with = |memory: &str| {
        let mut up = labs.command(&["up", "--wait", &file]);
        steps(&up.env("LABCTL_TEST_MEMORY", memory).output().unwrap())
    };
    assert_eq!(with("96MiB").len(), 1);
    assert_eq!(labs.guest("third")["memory_mib"], 96);
    assert_eq!(with("96MiB"), [""; 0]);
    let out = labs.try_run(&["up", &file]);
    assert_eq!(steps(&out).len(), 1, "here it is not set: {out:?}");
    assert_eq!(labs.guest("third")["memory_mib"], 64);
}

#[test]
fn a_kernel_is_the_same_however_it_is_called() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("called");
    fs::create_dir_all(labs.path("sub")).unwrap();
    fs::write(labs.path("sub/kernel"), images::PKTGUEST).unwrap();
    let own = "own: { kind: pvh, kernel: kernel, cmdline: \"role=idle\" }";
    fs::write(labs.path("sub/x.lab.yaml"), PAIR.replace("third: {}", own)).unwrap();
    let up =
        labs.command(&["up", "sub/x.lab.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut up = up.unwrap();
    eventually("it runs", || labs.try_run(&["ps", "--lab", "pair"]).status.success());
    eventually("it is ready", || labs.ps()[0]["state"] == "running");
    for path in ["sub/x.lab.yaml", "sub/../sub/x.lab.yaml", &labs.path("sub").display().to_string()]
    {
        let again = labs.try_run(&["up", "--dry-run", path]);
        assert!(text(&again.stderr).contains("nothing to change"), "{path}: {again:?}");
    }
    // Of another kind it is another guest, though it boots the same.
    let linux = PAIR.replace("third: {}", &own.replace("pvh", "linux"));
    fs::write(labs.path("sub/x.lab.yaml"), linux).unwrap();
    let planned = steps(&labs.try_run(&["up", "--dry-run", "sub"]));
    assert!(planned.len() == 1 && planned[0].contains("its kind changes"), "{planned:?}");
    labs.run(&["down", "--lab", "pair"]);
    up.wait().unwrap();
}

#[test]
fn a_guest_that_cannot_come_back_ends_no_lab_and_is_not_forgotten() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("alone");
    let kernel = labs.path("kernel");
    fs::write(&kernel, images::PKTGUEST).unwrap();
    let lab = format!(
        "name: alone\nswitches: {{ s: {{}} }}\nguests: {{ own: {{ kind: pvh, nics: [s], \
         kernel: {}, cmdline: \"role=idle\" }} }}\n",
        kernel.display()
    );
    let file = labs.file("alone", &lab);
    let mut up = labs.command(&["up", &file]);
    let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("it runs", || labs.try_run(&["ps", "--lab", "alone"]).status.success());
    fs::write(&kernel, "no kernel").unwrap();
    assert_eq!(labs.try_run(&["restart", "own"]).status.code(), Some(10));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(labs.guest("own")["state"], "failed", "it is still known");
    labs.run(&["down"]);
    assert_eq!(up.wait().unwrap().code(), Some(1), "a guest has failed");
}

#[test]
fn a_capture_goes_on_when_its_guest_is_replaced() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("captured");
    let file = labs.file("pair", PAIR);
    labs.run(&["up", "--wait", &file]);
    let path = labs.path("captured.pcapng");
    let mut capture = labs.command(&["capture", "left:0", "-w", path.to_str().unwrap()]);
    let mut capture = capture.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let size = || fs::metadata(&path).map_or(0, |file| file.len());
    eventually("frames", || size() > 1000);
    labs.file("pair", &PAIR.replace("rate: 1kpps", "rate: 2kpps"));
    assert_eq!(steps(&labs.try_run(&["up", "--wait", &file])).len(), 1);
    let before = size();
    eventually("frames of the new one", || size() > before + 10_000);
    labs.run(&["down"]);
    capture.wait().unwrap();
}

#[test]
fn vcpus_have_a_cpu_each_as_long_as_there_are_enough() {
    let Some(_kvm) = kvm() else { return };
    let cpus = vmm_core::cpus::allowed().unwrap();
    let [first, second, ..] = cpus[..] else { return say("SKIPPED: it needs two CPUs") };
    let labs = Labs::new("placed");
    let pair = PAIR.replace("  third: {}\n", "");
    let file = labs.file("pair", &pair);
    let labctl = labs.command(&["up", "--wait", &file]);
    let mut up = Command::new("taskset");
    up.args(["-c", &format!("{first},{second}")]).arg(labctl.get_program()).args(labctl.get_args());
    up.envs(labctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let up = up.output().unwrap();
    assert!(up.status.success(), "{up:?}");
    let pid = labs.ps()[0]["pid"].to_string();
    let placed = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        // One may be about to go.
        let status = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("status")).ok();
        let threads = threads.filter_map(|thread| status(thread.ok()?));
        let vcpus = threads.filter(|status| status.starts_with("Name:\tvcpu:"));
        let allowed = |status: String| {
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
            line.unwrap().to_owned()
        };
        let mut placed: Vec<_> = vcpus.map(allowed).collect();
        placed.sort();
        placed
    };
    let apart = [first.to_string(), second.to_string()];
    // A thread that has ended is listed a little longer, and one that begins has no name yet.
    eventually("each has its own", || placed() == apart);
    labs.file("pair", PAIR);
    labs.run(&["up", "--wait", &file]);
    eventually("none is favoured", || {
        let together = placed();
        let alike = together.iter().all(|cpus| cpus == &together[0]);
        together.len() == 3 && alike && !apart.contains(&together[0])
    });
    labs.file("pair", &pair);
    labs.run(&["up", "--wait", &file]);
    eventually("each has its own again", || placed() == apart);
    labs.run(&["restart", "left"]);
    eventually("it has got the same", || placed() == apart);
}
