//! Linux guests: their files, and how they tell that they have failed.

use std::path::Path;

use vmm_core::boot::Kernel;
use vmm_core::platform::LINUX_CMDLINE;

use crate::error::{Error, Exit};
use crate::topology::{Guest, Linux};

/// How a kernel's last words begin (`panic()` in kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// Reads what a guest boots.
pub fn kernel(guest: &Guest, linux: &Linux) -> Result<Kernel, Error> {
    let initrd = linux.initrd.as_deref();
    Ok(Kernel {
        image: read(guest, &linux.kernel)?.into(),
        initrd: initrd.map(|path| read(guest, path)).transpose()?.unwrap_or_default().into(),
        cmdline: format!("{LINUX_CMDLINE} {}", linux.cmdline).trim_end().to_owned(),
    })
}

fn read(guest: &Guest, path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |why: String| Error::new(Exit::InvalidFile, why);
    let name = path.display();
    let len = path.metadata().map_or(0, |file| file.len());
    // Before it takes that much of our own memory.
    if len > u64::from(guest.memory_mib) << 20 {
        let why = format!("{name} does not fit into the memory of guest `{}`", guest.name);
        return Err(failed(why).help("raise `memory`"));
    }
    std::fs::read(path).map_err(|error| failed(format!("cannot read {name}")).because(error))
}

/// The kernel's last words in a line of the console, if they are there.
///
/// A panic ends in the same reset as `reboot` does, so nothing else tells them apart.
pub fn panic_message(line: &str) -> Option<&str> {
    line.find(PANIC).map(|start| &line[start..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Nic, System};

    fn guest(kernel: &Path, cmdline: &str) -> (Guest, Linux) {
        let (kernel, cmdline) = (kernel.to_owned(), cmdline.to_owned());
        let linux = Linux { kernel, initrd: None, cmdline };
        let system = System::Linux(linux.clone());
        let nics = vec![Nic { switch: 0, mac: [2; 6] }];
        (Guest { name: "a".into(), memory_mib: 64, nics, system }, linux)
    }

    #[test]
    fn the_files_words_come_last_on_the_command_line() {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let (a, linux) = guest(&ours, "quiet run=\"ip link\"");
        let kernel = kernel(&a, &linux).unwrap();
        assert_eq!(kernel.cmdline, format!("{LINUX_CMDLINE} quiet run=\"ip link\""));
        assert_eq!(*kernel.image, *std::fs::read(ours).unwrap());
        assert!(kernel.initrd.is_empty());
    }

    #[test]
    fn a_file_that_went_away_or_cannot_fit_is_named() {
        let (a, linux) = guest(Path::new("/no/such/vmlinuz"), "");
        let error = kernel(&a, &linux).unwrap_err();
        assert_eq!(
            (error.exit(), error.to_string().as_str()),
            (Exit::InvalidFile, "cannot read /no/such/vmlinuz")
        );
        let own = std::env::current_exe().unwrap();
        let (mut a, linux) = guest(&own, "");
        a.memory_mib = 1;
        let error = kernel(&a, &linux).unwrap_err();
        assert!(
            error.to_string().ends_with("does not fit into the memory of guest `a`"),
            "{error}"
        );
    }

    #[test]
    fn a_panic_is_told_from_other_lines() {
        let message = "Kernel panic - not syncing: VFS: Unable to mount root fs";
        assert_eq!(panic_message(&format!("[    1.5] {message}")), Some(message));
        assert_eq!(panic_message("[    1.5] reboot: Restarting system"), None);
    }
}
