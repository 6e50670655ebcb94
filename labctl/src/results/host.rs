//! What a reader must know of the host to judge the figures.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The host, as found when the run started. What the kernel does not tell is `unknown` or 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPU model name.
    pub cpu: String,
    /// CPUs this process may use.
    pub cores: usize,
    /// KVM's implementation: `kvm_intel`, `kvm_amd`, or `kvm_pvm` for page-table KVM.
    pub kvm: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// True if the host is itself a virtual machine.
    pub hypervisor: bool,
    /// Kernel clock source.
    pub clocksource: String,
    /// Load average of the last minute when the run started.
    pub load_average: f64,
    /// Version of QEMU, if a cell asked for it and it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<String>,
    /// Version of labctl.
    pub labctl_version: String,
    /// Commit labctl was built from, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labctl_commit: Option<String>,
}

impl Host {
    /// Looks at the running host.
    pub fn probe() -> Host {
        let cpuinfo = read("/proc/cpuinfo");
        let flags = field(&cpuinfo, "flags").unwrap_or_default();
        Host {
            kernel: or_unknown(read("/proc/sys/kernel/osrelease")),
            cpu: or_unknown(field(&cpuinfo, "model name").unwrap_or_default().to_owned()),
            cores: std::thread::available_parallelism().map_or(0, |n| n.get()),
            kvm: kvm_module(Path::new("/sys/module")).to_owned(),
            memory_bytes: total_memory(&read("/proc/meminfo")),
            hypervisor: flags.split(' ').any(|f| f == "hypervisor"),
            clocksource: or_unknown(read(
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            )),
            load_average: first_number(&read("/proc/loadavg")).unwrap_or(0.0),
            qemu: None,
            labctl_version: env!("CARGO_PKG_VERSION").to_owned(),
            labctl_commit: option_env!("LABCTL_COMMIT").map(str::to_owned),
        }
    }

    /// labctl's version and commit, as in `0.1.0 (1a2b3c4)`.
    pub fn version(&self) -> String {
        match &self.labctl_commit {
            Some(commit) => format!("{} ({commit})", self.labctl_version),
            None => self.labctl_version.clone(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn or_unknown(text: String) -> String {
    if text.is_empty() { "unknown".to_owned() } else { text }
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn first_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.split_whitespace().next()?.parse().ok()
}

/// Bytes, from the text of /proc/meminfo, which counts in KiB.
fn total_memory(meminfo: &str) -> u64 {
    field(meminfo, "MemTotal").and_then(first_number::<u64>).map_or(0, |kib| kib * 1024)
}

/// The module that implements KVM; a kernel with KVM built in may list none or several.
fn kvm_module(modules: &Path) -> &'static str {
    // Page-table KVM first: where it is loaded, the hardware's modules cannot be in use.
    ["kvm_pvm", "kvm_intel", "kvm_amd"]
        .into_iter()
        .find(|name| modules.join(name).exists())
        .unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_host_is_described() {
        let host = Host::probe();
        assert!(host.cores >= 1);
        assert!(host.memory_bytes > 1 << 26, "{}", host.memory_bytes);
        assert!(host.kernel.starts_with(|c: char| c.is_ascii_digit()), "{}", host.kernel);
    }

    #[test]
    fn fields_of_proc_files() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC: 2\nflags\t\t: fpu hypervisor\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC: 2"));
        assert_eq!(field(text, "bogomips"), None);
        assert_eq!(total_memory("MemTotal:       16336880 kB\nMemFree: 1 kB"), 16_336_880 * 1024);
        assert_eq!(total_memory(""), 0);
        assert_eq!(first_number::<f64>("0.52 0.4 0.3 1/99 7"), Some(0.52));
    }

    #[test]
    fn an_unknown_kvm_is_called_unknown() {
        assert_eq!(kvm_module(Path::new("/nonexistent")), "unknown");
    }
}
