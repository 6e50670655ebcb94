//! What guests run: which keys that takes, and the files of those with a kernel of their own.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use vmm_core::boot::{self, Format};

use crate::topology::{
    Boot, System,
    file::{GuestSpec, KindSpec},
    resolve::Resolver,
    text::index::join,
};

/// The keys that only some kinds of guests have. A driver of its own neither combines its sends nor
/// knows the CSB.
const PKTGUEST_KEYS: [&str; 7] =
    ["ring", "spin", "itr", "ip", "workload", "optimizations.sc", "optimizations.csb"];
const BOOT_KEYS: [&str; 5] = ["kernel", "initrd", "cmdline", "ready", "vcpus"];

impl KindSpec {
    pub const ALL: [Self; 3] = [Self::Pktguest, Self::Linux, Self::Pvh];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pktguest => "pktguest",
            Self::Linux => "linux",
            Self::Pvh => "pvh",
        }
    }

    fn own_keys(self) -> &'static [&'static str] {
        match self {
            Self::Pktguest => &PKTGUEST_KEYS,
            Self::Linux | Self::Pvh => &BOOT_KEYS,
        }
    }

    /// The kinds that have a key.
    fn with(key: &str) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |kind| kind.own_keys().contains(&key))
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
        ("optimizations.sc", spec.optimizations.sc.is_some()),
        ("optimizations.csb", spec.optimizations.csb.is_some()),
        ("kernel", spec.kernel.is_some()),
        ("initrd", spec.initrd.is_some()),
        ("cmdline", spec.cmdline.is_some()),
        ("ready", spec.ready.is_some()),
        ("vcpus", spec.vcpus.is_some()),
    ];
    given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
}

impl Resolver<'_> {
    pub fn system(&mut self, guest: &str) -> System {
        match self.kind(guest) {
            Some(kind @ KindSpec::Linux) => System::Linux(self.boot(guest, kind)),
            Some(kind @ KindSpec::Pvh) => System::Pvh(self.boot(guest, kind)),
            Some(KindSpec::Pktguest) | None => System::Pktguest(self.pktguest(guest)),
        }
    }

    /// A key that its kind of guest ignores is a misunderstanding: say so. What several guests share
    /// may be for some of them only, but not for none.
    pub fn check_kinds(&mut self) {
        let file = self.file;
        let guests = file.guests.0.iter().map(|(name, spec)| (spec, self.kind(name)));
        let guests: Vec<_> = guests.collect();
        if guests.is_empty() {
            return;
        }
        for ((name, spec), (_, kind)) in file.guests.0.iter().zip(&guests) {
            self.check_keys(&join("/guests", name), spec, &[*kind], None);
        }
        for (name, spec) in &file.groups.0 {
            let members = guests.iter().filter(|(guest, _)| guest.group.as_ref() == Some(name));
            let kinds: Vec<_> = members.map(|(_, kind)| *kind).collect();
            let lack = Some("the group has no guest");
            self.check_keys(&join("/groups", name), spec, &kinds, lack);
        }
        let all: Vec<_> = guests.iter().map(|(_, kind)| *kind).collect();
        self.check_keys("/defaults", &file.defaults, &all, Some("there is no guest"));
        for kind in KindSpec::ALL {
            let Some(spec) = file.kinds.get(kind) else { continue };
            let pointer = join("/kinds", kind.as_str());
            if all.contains(&Some(kind)) || all.contains(&None) {
                self.check_keys(&pointer, spec, &[Some(kind)], None);
            } else {
                let message = format!("there is no guest of kind `{}`", kind.as_str());
                self.document.key_problem(&pointer, &message, "without effect");
            }
        }
    }

    /// Checks that each key is one that a guest of `kinds`, which inherit it, takes. `lack` says for
    /// whom there is none, unless that is plain.
    fn check_keys(
        &mut self,
        pointer: &str,
        spec: &GuestSpec,
        kinds: &[Option<KindSpec>],
        lack: Option<&str>,
    ) {
        if kinds.is_empty() || kinds.contains(&None) {
            return;
        }
        for key in special_keys(spec) {
            if KindSpec::with(key).any(|kind| kinds.contains(&Some(kind))) {
                continue;
            }
            let owners: Vec<_> = KindSpec::with(key).map(KindSpec::as_str).collect();
            let message = match (lack, kinds) {
                (None, [Some(kind), ..]) => format!("kind `{}` has no `{key}`", kind.as_str()),
                (lack, _) => {
                    let lack = lack.unwrap_or_default();
                    format!("{lack} of kind `{}`", owners.join("` or `"))
                }
            };
            let pointer = format!("{pointer}/{}", key.replace('.', "/"));
            let owners = owners.join("` or `kind: ");
            self.document
                .key_problem(&pointer, &message, "without effect")
                .help(format!("`{key}` belongs to `kind: {owners}`"));
        }
    }

    /// What a guest boots that has a kernel of its own.
    fn boot(&mut self, guest: &str, kind: KindSpec) -> Boot {
        let vcpus = self.setting(guest, "vcpus", |guest| guest.vcpus.as_ref());
        if let Some((pointer, vcpus)) = vcpus
            && vcpus.get::<u8>() != 1
        {
            let message = "a guest has one virtual CPU so far";
            self.document.value_problem(&pointer, message, "more than one");
        }
        let kernel = self.setting(guest, "kernel", |guest| guest.kernel.as_ref());
        if kernel.is_none()
            && !self.is_setting_lost(guest, "kernel", |guest| guest.kernel.is_some())
        {
            let pointer = join("/guests", guest);
            self.document
                .key_problem(&pointer, "missing key `kernel`", "`kernel` is required here")
                .help(format!("the path of {}", kernel_of(kind)));
        }
        let initrd = self.setting(guest, "initrd", |guest| guest.initrd.as_ref());
        let cmdline = self.setting(guest, "cmdline", |guest| guest.cmdline.as_ref());
        let ready = self.setting(guest, "ready", |guest| guest.ready.as_ref());
        if let Some((pointer, _)) = ready.as_ref().filter(|(_, ready)| ready.0.is_empty()) {
            let expected = "expected a text that a line of the console contains";
            self.document.value_problem(pointer, expected, "every line contains this");
        }
        Boot {
            kernel: kernel
                .map(|(pointer, path)| self.kernel_at(&pointer, path, kind))
                .unwrap_or_default(),
            initrd: initrd.map(|(pointer, path)| self.file_at(&pointer, path, kind)),
            cmdline: cmdline.map_or(String::new(), |(_, cmdline)| cmdline.0.clone()),
            ready: ready.map(|(_, ready)| ready.0.clone()),
        }
    }

    /// The path of a kernel, with a complaint if it is none that guests of a kind boot.
    fn kernel_at(&mut self, pointer: &str, path: &str, kind: KindSpec) -> PathBuf {
        let path = self.file_at(pointer, path, kind);
        // What cannot be read is told already.
        let Ok(format) = open(&path).and_then(|mut file| boot::format(&mut file)) else {
            return path;
        };
        let found = match (kind, format) {
            (KindSpec::Pvh, Format::PvhElf) => return path,
            (KindSpec::Linux, Format::PvhElf | Format::Elf | Format::BzImage) => return path,
            (_, Format::Elf) => "an ELF file without a PVH note",
            (_, Format::BzImage) => "a bzImage, which `kind: linux` boots",
            _ => "no kernel",
        };
        let expected = format!("expected the path of {}", kernel_of(kind));
        self.document
            .value_problem(pointer, &expected, format!("this is {found}"))
            .help(format!("looked at {}", path.display()));
        path
    }

    /// A path that the file names, seen from the file, with a complaint if it cannot be read.
    fn file_at(&mut self, pointer: &str, path: &str, kind: KindSpec) -> PathBuf {
        let path = self.directory.join(path);
        if let Err(error) = open(&path) {
            let problem = self.document.value_problem(pointer, &error.to_string(), "not readable");
            let place = path.display();
            problem.help(match error.kind() {
                io::ErrorKind::NotFound if kind == KindSpec::Linux => {
                    format!("looked for {place}; images/linux/build makes a kernel and an initrd")
                }
                io::ErrorKind::NotFound => format!("looked for {place}"),
                _ => format!("looked at {place}"),
            });
        }
        path
    }
}

/// What guests of a kind boot.
fn kernel_of(kind: KindSpec) -> &'static str {
    match kind {
        KindSpec::Pvh => "an ELF file with a PVH note",
        KindSpec::Linux | KindSpec::Pktguest => "a bzImage or vmlinux",
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a FIFO would wait for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path)
}
