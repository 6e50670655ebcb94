//! `labctl` on a terminal: keys typed to a shell in tmux, and what the screen shows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::labs::{Labs, PAIR, text};
use common::{eventually, kvm, lives};

/// What tmux draws on.
const SIZE: [&str; 4] = ["-x", "100", "-y", "30"];

/// A shell on a terminal of a fixed size, and the labs that it sees.
struct Shell {
    labs: Labs,
}

impl Shell {
    /// Opens it; the lab's file is `pair.lab.yaml` there.
    fn open(test: &str) -> Self {
        let shell = Self { labs: Labs::new(&format!("terminal-{test}")) };
        shell.labs.file("pair", PAIR);
        let bash = ["bash", "--norc", "--noprofile"];
        let new = [&["-f", "/dev/null", "new-session", "-d"][..], &SIZE, &bash].concat();
        shell.tmux(&new);
        shell
    }

    /// What a tmux command prints. The first one starts the server, with our environment.
    fn tmux(&self, args: &[&str]) -> String {
        let programs = Path::new(env!("CARGO_BIN_EXE_labctl")).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(programs).chain(std::env::split_paths(&path));
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.labs.path("tmux"))
            .args(args)
            .current_dir(self.labs.path(""))
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("LABCTL_STATE_DIR", self.labs.state())
            .env("LC_ALL", "C.UTF-8")
            .env("PS1", "$ ")
            .output()
            .expect("tmux (Debian: tmux)");
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Types a line.
    fn enter(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press("Enter");
    }

    /// Presses a key, such as `C-c`.
    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Empties the screen.
    fn clear(&self) {
        self.enter("clear");
        eventually("an empty screen", || self.screen().trim() == "$");
    }

    /// What is on the screen; lines that were too long for it are whole.
    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J"])
    }

    /// Waits until the screen shows these words.
    fn shows(&self, words: &str) {
        eventually(words, || self.screen().contains(words));
    }

    /// What tmux knows of the terminal.
    fn knows(&self, what: &str) -> String {
        self.tmux(&["display-message", "-p", what]).trim_end().to_owned()
    }

    /// The terminal's settings, as `stty` tells them to the shell.
    fn settings(&self) -> String {
        let file = self.labs.path("settings");
        let _ = std::fs::remove_file(&file);
        self.enter("stty -a > settings.new && mv settings.new settings");
        eventually("settings", || file.exists());
        std::fs::read_to_string(file).unwrap()
    }

    /// The process that the shell runs.
    fn child(&self) -> i32 {
        let shell = self.knows("#{pane_pid}");
        let children =
            || std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        eventually("a child of the shell", || !children().is_empty());
        children().trim().parse().expect("one child")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ =
            Command::new("tmux").arg("-S").arg(self.labs.path("tmux")).arg("kill-server").output();
    }
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_console_is_the_guests_until_one_leaves() {
    let Some(_kvm) = kvm() else { return };
    let shell = Shell::open("console");
    shell.labs.run(&["up", "--wait", "pair.lab.yaml"]);
    let before = shell.settings();
    shell.enter("labctl console third");
    shell.shows("Ctrl-] q leaves");
    shell.enter("help");
    shell.shows("triple-fault  end the machine");
    // The guest echoes it: it is the guest's key, and not the end of labctl.
    shell.tmux(&["send-keys", "-l", "nonsense"]);
    shell.press("C-c");
    shell.shows("nonsense^C");
    shell.press("C-z");
    shell.enter("stats");
    shell.shows("\"event\":\"stats\"");

    // Stopped from elsewhere, the terminal is the shell's meanwhile.
    signal(shell.child(), rustix::process::Signal::TSTP);
    shell.shows("Stopped");
    assert_eq!(shell.settings(), before);
    shell.enter("fg; echo left with $?");
    shell.enter("gibberish");
    shell.shows("no command 'gibberish': try help");

    shell.press("C-]");
    shell.press("q");
    shell.shows("left with 0");
    shell.shows("next: labctl logs -f third");
    assert_eq!(shell.settings(), before);
    shell.enter("echo a sane   terminal");
    shell.shows("\na sane terminal\n");
    assert_eq!(shell.labs.guest("third")["state"], "running");

    // Fed by a pipe it stops as any command does.
    shell.clear();
    shell.enter("(echo stats; sleep 100) | labctl console third");
    shell.shows("\"event\":\"stats\"");
    shell.press("C-z");
    shell.shows("Stopped");
    shell.enter("kill %; fg; echo over with $?");
    shell.shows("\nover with");

    // The terminal goes away, the lab does not.
    shell.clear();
    shell.enter("labctl console third");
    shell.shows("Ctrl-] q leaves");
    let console = shell.child();
    shell.tmux(&["kill-server"]);
    eventually("labctl ends with its terminal", || !lives(console));
    assert_eq!(shell.labs.guest("third")["state"], "running");
}

/// Rows of `top`'s screen, by name.
fn row(screen: &str, name: &str) -> Option<String> {
    screen.lines().find(|line| line.split_whitespace().next() == Some(name)).map(str::to_owned)
}

#[test]
fn top_redraws_a_screen_of_its_own() {
    let Some(_kvm) = kvm() else { return };
    let shell = Shell::open("top");
    shell.labs.run(&["up", "--wait", "pair.lab.yaml"]);
    let before = shell.settings();
    shell.clear();
    shell.enter("labctl top --interval 200ms");
    eventually("rows", || row(&shell.screen(), "right").is_some());
    assert_eq!(shell.knows("#{alternate_on} #{cursor_flag}"), "1 0");
    let first = shell.screen();
    for word in ["left", "third", "TX PPS", "INTERRUPTS", "pair: running", "q ends"] {
        assert!(first.contains(word), "{word} in\n{first}");
    }
    eventually("other rates", || row(&shell.screen(), "left") != row(&first, "left"));

    shell.press("C-z");
    shell.shows("Stopped");
    assert_eq!(shell.knows("#{alternate_on} #{cursor_flag}"), "0 1");
    assert_eq!(shell.settings(), before);
    shell.enter("fg; echo ended with $?");
    eventually("the screen is back", || row(&shell.screen(), "left").is_some());
    assert_eq!(shell.knows("#{alternate_on} #{cursor_flag}"), "1 0");

    // A window that has become smaller.
    shell.tmux(&["resize-window", "-x", "60", "-y", "4"]);
    eventually("fewer rows", || {
        let screen = shell.screen();
        row(&screen, "left").is_some() && row(&screen, "third").is_none()
    });
    shell.tmux(&[&["resize-window"][..], &SIZE].concat());
    eventually("all rows", || row(&shell.screen(), "third").is_some());

    shell.press("q");
    shell.shows("ended with 0");
    assert_eq!(shell.knows("#{alternate_on} #{cursor_flag}"), "0 1");
    assert_eq!(shell.settings(), before);

    // Whatever ends it, and the lab's end too, gives the terminal back.
    for end in ["C-c", "down"] {
        shell.clear();
        shell.enter("labctl top; echo ended with $?");
        eventually("its screen", || shell.knows("#{alternate_on}") == "1");
        match end {
            "down" => drop(shell.labs.run(&["down", "pair.lab.yaml"])),
            key => shell.press(key),
        }
        // Not the command line, which says it, too.
        shell.shows("\nended with");
        assert_eq!(shell.knows("#{alternate_on} #{cursor_flag}"), "0 1");
        assert_eq!(shell.settings(), before);
    }
}

#[test]
fn a_lab_in_the_foreground_ends_with_ctrl_c_or_its_terminal() {
    let Some(_kvm) = kvm() else { return };
    let shell = Shell::open("up");
    let before = shell.settings();
    shell.enter("labctl up pair.lab.yaml");
    shell.shows("pair: 3 guests up, Ctrl-C ends it");
    shell.shows("third | {\"event\":\"ready\"");
    // Both guests' rates, a second later.
    for guest in ["left  : tx", "right : tx"] {
        shell.shows(guest);
    }
    // All of it stops, and goes on.
    shell.press("C-z");
    shell.shows("Stopped");
    shell.clear();
    shell.enter("fg; echo ended with $?");
    shell.shows("left  : tx");
    assert_eq!(shell.labs.ps()[0]["state"], "running");
    let begin = Instant::now();
    shell.press("C-c");
    shell.shows("stopping");
    shell.shows("ended with 0");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(shell.labs.is_clean());
    assert_eq!(shell.settings(), before);

    shell.clear();
    shell.enter("labctl up pair.lab.yaml");
    shell.shows("pair: 3 guests up, Ctrl-C ends it");
    let up = shell.child();
    shell.tmux(&["kill-server"]);
    eventually("the lab ends with its terminal", || !lives(up));
    assert!(shell.labs.is_clean());
}

#[test]
fn colours_are_for_terminals_whose_user_wants_them() {
    let Some(_kvm) = kvm() else { return };
    let shell = Shell::open("colours");
    shell.labs.run(&["up", "--wait", "pair.lab.yaml"]);
    shell.labs.file("other", &PAIR.replace("name: pair", "name: other"));
    shell.labs.file("wrong", "name: wrong\nguests: { left: { memory: lots } }\n");
    let has_colours = |command: &str| {
        shell.clear();
        shell.enter(&format!("{command}; echo ended with $?"));
        eventually(command, || {
            let screen = shell.screen();
            screen.contains("ended with 0") || screen.contains("ended with 10")
        });
        shell.tmux(&["capture-pane", "-p", "-e"]).contains("\x1b[3")
    };
    for command in [
        "labctl logs --tail 3",
        "labctl validate wrong.lab.yaml",
        "labctl up --dry-run other.lab.yaml",
    ] {
        assert!(has_colours(command), "{command}");
        assert!(!has_colours(&format!("NO_COLOR=1 {command}")), "{command}");
        assert!(!has_colours(&format!("{command} --color never")), "{command}");
    }
    assert!(!has_colours("labctl logs --tail 3 | cat"), "a pipe has no colours");
    assert!(has_colours("labctl logs --tail 3 --color always | cat"), "unless it is to have them");
}
