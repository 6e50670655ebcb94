//! Labs in the background, driven by the `labctl` command as a person would: each test has a directory
//! of running labs of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::{Scratch, eventually, labctl};

/// Two guests that talk, and one that does not.
pub const PAIR: &str = "\
name: pair
switches: { sw0: {} }
defaults: { nics: [sw0], spin: 0 }
guests:
  left: { workload: { role: ping, to: right, rate: 1kpps } }
  right: { workload: { role: pong } }
  third: {}
";

/// A directory of labs; what runs there at the end is taken down.
pub struct Labs {
    scratch: Scratch,
}

impl Labs {
    /// An empty one.
    pub fn new(test: &str) -> Self {
        Self { scratch: Scratch::new(test) }
    }

    /// Where running labs are.
    pub fn state(&self) -> PathBuf {
        self.scratch.path("state")
    }

    /// Writes a lab file; returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        self.scratch.file(&format!("{name}.lab.yaml"), text)
    }

    /// A path of the test's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// The command, for these labs.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = labctl(args);
        command.env("LABCTL_STATE_DIR", self.state()).current_dir(self.scratch.path(""));
        command
    }

    /// What the command does.
    pub fn try_run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("labctl runs")
    }

    /// What the command prints on stdout; it has to succeed.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "labctl {args:?}: {}\n{out}{err}", output.status);
        out
    }

    /// The document that the command prints.
    pub fn json(&self, args: &[&str]) -> Value {
        let out = self.run(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}\n{out}"))
    }

    /// What `ps` lists, once all supervisors have answered: a busy host may make one too late for it.
    pub fn ps(&self) -> Value {
        let mut labs = Value::Null;
        eventually("all labs answer", || {
            let output = self.try_run(&["ps", "-o", "json"]);
            labs = serde_json::from_slice(&output.stdout).unwrap_or_default();
            output.status.success()
        });
        labs
    }

    /// How a guest is.
    pub fn guest(&self, name: &str) -> Value {
        let labs = self.ps();
        let guests = labs[0]["guests"].as_array().expect("guests");
        guests.iter().find(|guest| guest["name"] == name).expect("the guest").clone()
    }

    /// What has happened in the only lab, and to whom.
    pub fn events(&self) -> Vec<(String, Option<String>)> {
        let out = self.run(&["events"]);
        let event = |line: &str| -> (String, Option<String>) {
            let event: Value = serde_json::from_str(line).expect("an event");
            let name = event["event"].as_str().expect("a name").to_owned();
            (name, event["subject"].as_str().map(Into::into))
        };
        out.lines().map(event).collect()
    }

    /// Whether nothing of any lab is left.
    pub fn is_clean(&self) -> bool {
        let entries = std::fs::read_dir(self.state());
        entries.map_or(true, |mut entries| entries.next().is_none())
    }
}

impl Drop for Labs {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--all"]).output();
    }
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of the repository.
pub fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    root.join(path).display().to_string()
}
