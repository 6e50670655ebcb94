//! `labctl` as a user without any privileges runs it: with access to /dev/kvm, /dev/net/tun and user
//! namespaces everything works, bridges and TAPs included.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Scratch, kvm, say};
use labctl::lab::network::Privileges;
use serde_json::Value;

/// User and group "nobody".
const NOBODY: u32 = 65534;

/// Two guests on a bridge that keep each other busy.
const BRIDGED: &str = "\
name: unprivileged
switches: { sw0: {} }
defaults: { nics: [{ switch: sw0 }] }
optimizations: { csb: false, sc: false, vale: false }
guests:
  left: { workload: { role: ping, to: right } }
  right: { workload: { role: pong } }
";

/// Runs `$@` as nobody, who may open what udev lets ordinary users open; bare kernels do not.
const AS_NOBODY: &str = "\
for device in kvm net/tun; do
    node=$0/${device#net/}.$$
    cp -a /dev/$device $node && chmod 666 $node && mount --bind $node /dev/$device && rm $node ||
        exit 99
done
exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";

/// A user with nothing but a directory, a copy of `labctl` there, and access to devices.
struct Ordinary {
    home: Scratch,
    id: u32,
    /// What turns a program of this process into one of that user; empty if nothing has to.
    become_it: Vec<String>,
}

impl Ordinary {
    /// Says why not, if there is no such user to be had.
    fn new(test: &str) -> Option<Self> {
        let home = Scratch::new(&format!("unprivileged-{test}"));
        let copy = home.path("labctl");
        fs::copy(env!("CARGO_BIN_EXE_labctl"), &copy).unwrap();
        for path in [&home.path(""), &copy] {
            fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let id = rustix::process::geteuid().as_raw();
        if id != 0 {
            // Whoever started the tests may have given them capabilities to pass on.
            let become_it = ["setpriv", "--inh-caps=-all"].map(str::to_owned).into();
            return Some(Self { home, id, become_it });
        }
        if Privileges::current() != Some(Privileges::Root) {
            say("SKIPPED: this root can become no other user");
            return None;
        }
        chown(home.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
        let home_path = home.path("").into_os_string().into_string().unwrap();
        let become_it = ["unshare", "--mount", "sh", "-c", AS_NOBODY, &home_path];
        Some(Self { become_it: become_it.map(str::to_owned).into(), home, id: NOBODY })
    }

    /// `labctl args`, with `wrapper` around it; its exit code, stdout and stderr.
    fn labctl(&self, wrapper: &[&str], args: &[&str]) -> (Option<i32>, String, String) {
        let copy = self.home.path("labctl");
        let words = self.become_it.iter().map(String::as_str).chain(wrapper.iter().copied());
        let words = words.chain([copy.to_str().unwrap()]).chain(args.iter().copied());
        let mut command = Command::new("env");
        command.args(words).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("LABCTL_STATE_DIR", self.home.path("state")).env("NO_COLOR", "1");
        let output = command.current_dir(self.home.path("")).stdin(Stdio::null()).output();
        let Output { status, stdout, stderr } = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    /// Runs a lab for some time; returns what was counted.
    fn counters_of(&self, lab: &str, time: &str) -> Value {
        let lab = self.home.file("x.lab.yaml", lab);
        let before = interfaces();
        let up = ["up", &lab, "--for", time, "--counters", "counters.json"];
        let (code, _, said) = self.labctl(&[], &up);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(interfaces(), before, "nothing is left");
        let path = self.home.path("counters.json");
        assert_eq!(fs::metadata(&path).unwrap().uid(), self.id, "its files are its own");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}

/// The host's network interfaces.
fn interfaces() -> Vec<OsString> {
    let mut names: Vec<_> =
        fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Whether users may have user namespaces here; says so if not.
fn users_have_namespaces() -> bool {
    let switch = |path: &str| fs::read_to_string(Path::new("/proc/sys").join(path));
    let off = [
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ]
    .into_iter()
    .find(|(path, value)| switch(path).is_ok_and(|found| found.trim() == *value));
    if let Some((path, value)) = off {
        say(&format!("SKIPPED: {path} is {value}: users have no user namespaces here"));
    }
    off.is_none()
}

/// Both TAPs of a lab's counters: what the kernel counted.
fn kernel_counts(fabric: &Value, key: &str) -> [u64; 2] {
    [0, 1].map(|tap| fabric["taps"][tap]["kernel"][key].as_u64().unwrap())
}

#[test]
fn bridges_and_taps_need_no_root() {
    let Some(_turn) = kvm() else { return };
    let Some(user) = Ordinary::new("bridges").filter(|_| users_have_namespaces()) else { return };
    let counted = user.counters_of(BRIDGED, "2s");
    let fabric = &counted["fabric"];
    let [left, right] = kernel_counts(fabric, "written");
    assert!(left > 10 && right > 10, "{fabric:#}");
    assert_eq!(kernel_counts(fabric, "read"), [right, left], "{fabric:#}");

    let (code, says, _) = user.labctl(&[], &["doctor"]);
    assert_eq!(code, Some(0), "{says}");
    assert!(says.contains("without root, in a user namespace"), "{says}");
}

#[test]
fn qemu_needs_no_root_either() {
    let Some(_turn) = kvm() else { return };
    let Some(user) = Ordinary::new("qemu").filter(|_| users_have_namespaces()) else { return };
    // Its boot counts, too.
    let counted = user.counters_of(&format!("{BRIDGED}vmm: qemu\n"), "8s");
    let [left, right] = kernel_counts(&counted["fabric"], "written");
    assert!(left > 10 && right > 10, "{counted:#}");
}

#[test]
fn without_user_namespaces_taps_are_refused_and_the_way_out_is_named() {
    let Some(_turn) = kvm() else { return };
    let Some(user) = Ordinary::new("refused").filter(|_| users_have_namespaces()) else { return };
    // Inside a user namespace, its limit is what a host's is outside.
    let none = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all \"$@\"";
    let none = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", none, "sh"];
    let bridged = user.home.file("bridged.lab.yaml", BRIDGED);
    for args in [&["up", &bridged, "--for", "1s"][..], &["doctor"]] {
        let (code, stdout, stderr) = user.labctl(&none, args);
        let said = (stdout + &stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(code, Some(11), "{said}");
        assert!(said.contains("`sudo sysctl -w user.max_user_namespaces="), "{said}");
    }
    // A VALE switch needs none.
    let vale = user.home.file("vale.lab.yaml", BRIDGED.replace("vale: false", "vale: true"));
    let (code, _, said) = user.labctl(&none, &["up", &vale, "--for", "200ms"]);
    assert_eq!(code, Some(0), "{said}");
}
