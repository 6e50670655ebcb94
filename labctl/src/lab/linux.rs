//! Linux guests: how they tell that they have failed.

/// How a kernel's last words begin (`panic()` in kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// What a kernel says that then only waits to be switched off (kernel/reboot.c).
const HALTED: [&str; 2] = ["reboot: Power down", "reboot: System halted"];

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
}
