//! Linux guests: their files, and how they tell that they have failed.

use std::path::Path;

use vmm_core::boot::{BootError, Kernel};
use vmm_core::platform::LINUX_CMDLINE;

use crate::error::{Error, Exit};
use crate::topology::{Guest, Linux};

/// How a kernel's last words begin (`panic()` in kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// What a kernel says that then only waits to be switched off (kernel/reboot.c).
const HALTED: [&str; 2] = ["reboot: Power down", "reboot: System halted"];

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

/// Which of its files a guest could not boot, and what to do about it.
pub fn boot_help(linux: &Linux, error: &BootError) -> String {
    let kernel = linux.kernel.display();
    match (error, &linux.initrd) {
        (BootError::InitrdDoesNotFit { .. }, Some(initrd)) => {
            format!("raise `memory`; the initrd is {}", initrd.display())
        }
        (BootError::DoesNotFit { .. }, _) => format!("raise `memory`; the kernel is {kernel}"),
        _ => format!("the kernel is {kernel}"),
    }
}

/// The kernel's last words in a line of the console, if they are there.
///
/// A panic ends in the same reset as `reboot` does, so nothing else tells them apart.
pub fn panic_message(line: &str) -> Option<&str> {
    kernel_message(line, PANIC)
}

/// Whether the line says that the kernel has halted. There is no power switch to end the guest.
pub fn has_halted(line: &str) -> bool {
    HALTED.iter().any(|words| kernel_message(line, words).is_some())
}

/// The part of a line that begins with `words`, if the kernel itself says them: at the line's start
/// or behind its stamp, `[    1.234567] ` or `[    1.234567][    T1] `. In front of the stamp may
/// be what a program printed without ending its line.
fn kernel_message<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    let begins = |start: &usize| {
        let before = &line[..*start];
        let stamp = before.strip_suffix("] ").and_then(|before| before.rsplit_once('['));
        let stamped = stamp.is_some_and(|(_, stamp)| {
            let stamp = stamp.trim_start();
            !stamp.is_empty() && stamp.chars().all(|c| c == '.' || c.is_ascii_alphanumeric())
        });
        before.is_empty() || stamped
    };
    line.match_indices(words).map(|(start, _)| start).find(begins).map(|start| &line[start..])
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
        for before in ["", "[    1.5] ", "[   12.345678][    T1] ", "/ # [    1.5] "] {
            assert_eq!(panic_message(&format!("{before}{message}")), Some(message), "{before:?}");
        }
        for before in ["/ # dmesg | grep ", "grep: ", "[] ", "[a-z] ", "[    1.5]"] {
            assert_eq!(panic_message(&format!("{before}{message}")), None, "{before:?}");
        }
        assert_eq!(panic_message("[    1.5] reboot: Restarting system"), None);
    }

    #[test]
    fn a_halt_is_told_from_a_reset() {
        assert!(has_halted("[    9.1] reboot: Power down"));
        assert!(has_halted("reboot: System halted"));
        assert!(!has_halted("[    9.1] reboot: Restarting system"));
        assert!(!has_halted("echo reboot: Power down"));
    }

    #[test]
    fn a_kernel_that_does_not_boot_is_named_with_the_way_out() {
        let (_, mut linux) = guest(Path::new("vmlinuz"), "");
        linux.initrd = Some("initrd.img".into());
        assert_eq!(boot_help(&linux, &BootError::UnknownFormat), "the kernel is vmlinuz");
        let (start, end, ram_start, ram_end) = (0, 2, 0, 1);
        let error = BootError::DoesNotFit { start, end, ram_start, ram_end };
        assert_eq!(boot_help(&linux, &error), "raise `memory`; the kernel is vmlinuz");
        let error = BootError::InitrdDoesNotFit { len: 2, room: 1 };
        assert_eq!(boot_help(&linux, &error), "raise `memory`; the initrd is initrd.img");
    }
}
