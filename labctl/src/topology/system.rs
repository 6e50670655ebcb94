//! What guests run: which keys that takes, and the files of Linux guests.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{
    Boot, System,
    file::{GuestSpec, KindSpec},
    index::join,
    resolve::Resolver,
};

/// The keys that only one kind of guest has.
const PKTGUEST_KEYS: [&str; 5] = ["ring", "spin", "itr", "ip", "workload"];
const LINUX_KEYS: [&str; 4] = ["kernel", "initrd", "cmdline", "vcpus"];

impl KindSpec {
    const ALL: [Self; 2] = [Self::Pktguest, Self::Linux];

    fn as_str(self) -> &'static str {
        match self {
            Self::Pktguest => "pktguest",
            Self::Linux => "linux",
        }
    }

    fn own_keys(self) -> &'static [&'static str] {
        match self {
            Self::Pktguest => &PKTGUEST_KEYS,
            Self::Linux => &LINUX_KEYS,
        }
    }
}

/// The keys of `spec` that not every guest has.
fn special_keys(spec: &GuestSpec) -> Vec<&'static str> {
    let given = [
        ("ring", spec.ring.is_some()),
        ("spin", spec.spin.is_some()),
        ("itr", spec.itr.is_some()),
        ("ip", spec.ip.is_some()),
        ("workload", spec.workload.is_some()),
        ("kernel", spec.kernel.is_some()),
        ("initrd", spec.initrd.is_some()),
        ("cmdline", spec.cmdline.is_some()),
        ("vcpus", spec.vcpus.is_some()),
    ];
    given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
}

impl Resolver<'_> {
    /// What a guest runs; `None` if what the file says of it could not be made sense of.
    pub fn kind(&self, guest: &str) -> Option<KindSpec> {
        let places = [join(&join("/guests", guest), "kind"), "/defaults/kind".to_owned()];
        if places.iter().any(|place| self.document.is_damaged(place)) {
            return None;
        }
        let kind = self.setting(guest, "kind", |guest| guest.kind.as_ref());
        Some(kind.map_or(KindSpec::default(), |(_, kind)| *kind))
    }

    pub fn system(&mut self, guest: &str) -> System {
        match self.kind(guest) {
            Some(KindSpec::Linux) => System::Linux(self.linux(guest)),
            Some(KindSpec::Pktguest) | None => System::Pktguest(self.pktguest(guest)),
        }
    }

    /// A key that its kind of guest ignores is a misunderstanding: say so.
    pub fn check_kinds(&mut self) {
        let file = self.file;
        let kinds: Vec<_> = file.guests.names().map(|name| self.kind(name)).collect();
        for ((name, spec), kind) in file.guests.0.iter().zip(&kinds) {
            let Some(kind) = kind else { continue };
            let pointer = join("/guests", name);
            for key in special_keys(spec).iter().filter(|key| !kind.own_keys().contains(key)) {
                let message = format!("kind `{}` has no `{key}`", kind.as_str());
                self.without_effect(&join(&pointer, key), &message, key);
            }
        }
        // Defaults may be for some guests only, but not for none.
        let unused = KindSpec::ALL.into_iter().filter(|kind| !kinds.contains(&Some(*kind)));
        for kind in unused.filter(|_| !kinds.is_empty() && !kinds.contains(&None)) {
            let given = special_keys(&file.defaults);
            for key in given.iter().filter(|key| kind.own_keys().contains(key)) {
                let message = format!("there is no guest of kind `{}`", kind.as_str());
                self.without_effect(&join("/defaults", key), &message, key);
            }
        }
    }

    fn without_effect(&mut self, pointer: &str, message: &str, key: &str) {
        let problem = self.document.key_problem(pointer, message, "without effect");
        if let Some(kind) = KindSpec::ALL.iter().find(|kind| kind.own_keys().contains(&key)) {
            problem.help(format!("`{key}` belongs to `kind: {}`", kind.as_str()));
        }
    }

    fn linux(&mut self, guest: &str) -> Boot {
        let vcpus = self.setting(guest, "vcpus", |guest| guest.vcpus.as_ref());
        if let Some((pointer, vcpus)) = vcpus
            && vcpus.get::<u8>() != 1
        {
            let message = "a guest has one virtual CPU so far";
            self.document.value_problem(&pointer, message, "more than one");
        }
        let kernel = self.setting(guest, "kernel", |guest| guest.kernel.as_ref());
        let at_guest = join("/guests", guest);
        let places = [join(&at_guest, "kernel"), "/defaults/kernel".to_owned()];
        if kernel.is_none() && !places.iter().any(|place| self.document.is_damaged(place)) {
            self.document
                .key_problem(&at_guest, "missing key `kernel`", "`kernel` is required here")
                .help("the path of a bzImage or vmlinux");
        }
        let initrd = self.setting(guest, "initrd", |guest| guest.initrd.as_ref());
        let cmdline = self.setting(guest, "cmdline", |guest| guest.cmdline.as_ref());
        Boot {
            kernel: kernel.map(|(pointer, path)| self.file_at(&pointer, path)).unwrap_or_default(),
            initrd: initrd.map(|(pointer, path)| self.file_at(&pointer, path)),
            cmdline: cmdline.map_or(String::new(), |(_, cmdline)| cmdline.0.clone()),
            ready: None,
        }
    }

    /// A path that the file names, seen from the file, with a complaint if it cannot be read.
    fn file_at(&mut self, pointer: &str, path: &str) -> PathBuf {
        let path = self.directory.join(path);
        if let Err(error) = check_readable(&path) {
            let problem = self.document.value_problem(pointer, &error.to_string(), "not readable");
            let place = path.display();
            problem.help(match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("looked for {place}; images/linux/build makes a kernel and an initrd")
                }
                _ => format!("looked at {place}"),
            });
        }
        path
    }
}

fn check_readable(path: &Path) -> io::Result<()> {
    // Opening a FIFO would wait for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path).map(|_| ())
}
