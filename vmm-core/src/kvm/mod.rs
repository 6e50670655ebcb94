//! Guests on Linux's KVM.
//!
//! A [`Vm`] is guest memory plus the interrupt controllers and the timer that KVM emulates; a vCPU
//! is a thread that runs the guest until it needs the [`Bus`](crate::bus::Bus).

mod counters;
mod doorbell;
mod exit;
mod io_thread;
mod irq;
mod probe;
mod timer;
mod vcpu;
mod vm;

pub use counters::VcpuCounters;
pub use doorbell::KvmDoorbell;
pub use exit::ExitReason;
pub use io_thread::{Attachment, IoThread, IoThreads, MAX_SPIN};
pub use irq::KvmIrqLine;
pub use probe::{Cost, HostCosts, ProbeError, probe_costs};
pub use timer::{DeviceTimer, OnTimer, TimerThread};
pub use vcpu::{Vcpu, VcpuThread};
pub use vm::Vm;

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kvm_ioctls::{Cap, Kvm, VmFd};
use serde::Serialize;

/// The API version of every kernel since 2.6.22 (`KVM_GET_API_VERSION`).
const API_VERSION: i32 = 12;

/// What we cannot do without, and since which kernel it exists.
const REQUIRED: [(Cap, &str); 6] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// A KVM call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed")]
pub struct KvmError {
    /// The ioctl, or what else was asked of the kernel.
    pub call: &'static str,
    /// The kernel's answer.
    pub source: io::Error,
}

impl KvmError {
    /// For `map_err`: what failed, in the kernel's terms.
    fn from_errno(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
        move |errno| KvmError { call, source: io::Error::from_raw_os_error(errno.errno()) }
    }
}

/// Why KVM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// The device node does not exist.
    #[error("{path} does not exist: KVM is not loaded, or this machine does not offer it")]
    Missing {
        /// The device node.
        path: PathBuf,
    },
    /// The user may not open the device node.
    #[error("{path} may not be opened for reading and writing by this user")]
    Permission {
        /// The device node.
        path: PathBuf,
    },
    /// Opening failed in another way.
    #[error("cannot open {path}")]
    Open {
        /// The device node.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The device node is not KVM's.
    #[error("{path} is not KVM: it does not answer KVM_GET_API_VERSION")]
    NotKvm {
        /// The device node.
        path: PathBuf,
    },
    /// The kernel is too old.
    #[error("this kernel's KVM is too old: {missing}")]
    TooOld {
        /// What it lacks.
        missing: String,
    },
}

/// How KVM runs guests on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvmKind {
    /// Intel VT-x.
    Vmx,
    /// AMD-V.
    Svm,
    /// Page-table KVM, without hardware help: user code runs natively, kernel code is interpreted.
    PageTable,
    /// A KVM this crate does not know by name.
    Other,
}

impl KvmKind {
    /// Tells the kinds apart by the kernel module that provides them.
    fn detect() -> Self {
        let loaded = |module: &str| Path::new("/sys/module").join(module).exists();
        if loaded("kvm_pvm") {
            KvmKind::PageTable
        } else if loaded("kvm_intel") {
            KvmKind::Vmx
        } else if loaded("kvm_amd") {
            KvmKind::Svm
        } else {
            KvmKind::Other
        }
    }

    /// Whether guest kernel code runs on the processor instead of being interpreted. Where it does
    /// not, an ordinary operating system cannot boot.
    pub fn runs_kernels_natively(self) -> bool {
        self != KvmKind::PageTable
    }
}

impl fmt::Display for KvmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KvmKind::Vmx => "hardware KVM (Intel VT-x)",
            KvmKind::Svm => "hardware KVM (AMD-V)",
            KvmKind::PageTable => "page-table KVM (no hardware virtualisation)",
            KvmKind::Other => "KVM of an unknown kind",
        })
    }
}

/// An open and usable `/dev/kvm`.
#[derive(Debug)]
pub struct Hypervisor {
    kvm: Kvm,
    kind: KvmKind,
    tsc_khz: OnceLock<Option<u32>>,
}

impl Hypervisor {
    /// Opens `/dev/kvm`.
    pub fn open() -> Result<Self, HypervisorError> {
        Self::open_at(Path::new("/dev/kvm"))
    }

    /// Opens KVM's device node at `path`.
    pub fn open_at(path: &Path) -> Result<Self, HypervisorError> {
        let owned = || path.to_path_buf();
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| HypervisorError::Missing { path: owned() })?;
        let kvm = Kvm::new_with_path(&name).map_err(|errno| match errno.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => HypervisorError::Missing { path: owned() },
            libc::EACCES | libc::EPERM => HypervisorError::Permission { path: owned() },
            other => {
                HypervisorError::Open { path: owned(), source: io::Error::from_raw_os_error(other) }
            }
        })?;
        match kvm.get_api_version() {
            API_VERSION => {}
            ..0 => return Err(HypervisorError::NotKvm { path: owned() }),
            version => {
                let missing = format!("API version {version} instead of {API_VERSION}");
                return Err(HypervisorError::TooOld { missing });
            }
        }
        if let Some((_, name)) = REQUIRED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(HypervisorError::TooOld { missing: format!("no {name}") });
        }
        Ok(Self { kvm, kind: KvmKind::detect(), tsc_khz: OnceLock::new() })
    }

    /// How this host's KVM runs guests.
    pub fn kind(&self) -> KvmKind {
        self.kind
    }

    /// The frequency of guests' time-stamp counters in kHz, if KVM tells.
    pub fn tsc_khz(&self) -> Option<u32> {
        // Only a vCPU tells, and to make one for nothing takes longer than to start a small guest.
        *self.tsc_khz.get_or_init(|| {
            let vm = self.create_vm().ok()?;
            vm.create_vcpu(0).ok()?.get_tsc_khz().ok().filter(|khz| *khz > 0)
        })
    }

    /// A virtual machine without anything. A signal that arrives meanwhile makes KVM give up
    /// (`KVM_CREATE_VM` registers for changes of our memory map), and is no reason to.
    fn create_vm(&self) -> Result<VmFd, kvm_ioctls::Error> {
        loop {
            match self.kvm.create_vm() {
                Err(error) if error.errno() == libc::EINTR => {}
                created => return created,
            }
        }
    }
}

/// KVM for tests, which must not pass because nothing ran: `None` only if the environment asks for
/// it by `LABCTL_SKIP_KVM_TESTS=1`.
#[cfg(test)]
pub(crate) fn for_tests() -> Option<Hypervisor> {
    match Hypervisor::open() {
        Ok(hypervisor) => Some(hypervisor),
        Err(error) if std::env::var_os("LABCTL_SKIP_KVM_TESTS").is_some_and(|v| v == "1") => {
            eprintln!("SKIPPED for LABCTL_SKIP_KVM_TESTS=1: {error}");
            None
        }
        Err(error) => panic!("{error}; LABCTL_SKIP_KVM_TESTS=1 skips the tests that need KVM"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_clock_frequency_is_known() {
        let Some(hypervisor) = for_tests() else {
            return;
        };
        let khz = hypervisor.tsc_khz().unwrap();
        assert!((100_000..100_000_000).contains(&khz), "{khz} kHz");
    }

    #[test]
    fn a_missing_node_is_told_from_one_that_is_not_kvm() {
        let missing = Hypervisor::open_at(Path::new("/dev/no-such-kvm")).unwrap_err();
        assert!(matches!(missing, HypervisorError::Missing { .. }), "{missing}");
        let wrong = Hypervisor::open_at(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(wrong, HypervisorError::NotKvm { .. }), "{wrong}");
        let directory = Hypervisor::open_at(Path::new("/")).unwrap_err();
        assert!(matches!(directory, HypervisorError::Open { .. }), "{directory}");
    }
}
