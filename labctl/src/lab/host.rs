//! What a lab asks of its host.

use vmm_core::kvm::{Hypervisor, HypervisorError};

use crate::error::{Error, Exit};
use crate::topology::Lab;

/// Opens KVM.
///
/// # Errors
/// [`Exit::HostLacks`] with what to do about it.
pub fn open_hypervisor() -> Result<Hypervisor, Error> {
    Hypervisor::open().map_err(|error: HypervisorError| {
        Error::new(Exit::HostLacks, error.to_string()).help("run `labctl doctor`")
    })
}

/// Refuses what the file may say and this host's KVM cannot do.
///
/// # Errors
/// [`Exit::HostLacks`] with what is missing.
pub fn check_kind(hypervisor: &Hypervisor, lab: &Lab) -> Result<(), Error> {
    let linux = lab.guests.iter().find(|guest| guest.is_linux());
    if let Some(guest) = linux.filter(|_| !hypervisor.kind().runs_kernels_natively()) {
        let message = format!(
            "this host cannot run guest `{}`: Linux needs hardware KVM, and this is {}",
            guest.name,
            hypervisor.kind()
        );
        return Err(Error::new(Exit::HostLacks, message)
            .help("use a host where `labctl doctor` says `hardware KVM`"));
    }
    Ok(())
}

/// Refuses more memory than this host has to give. Guests take it as they use it, so that the kernel
/// would not refuse but kill.
///
/// # Errors
/// [`Exit::HostLacks`].
pub fn check_memory(wanted: u64) -> Result<(), Error> {
    match available_memory_mib() {
        Some(available) if wanted > available => {
            let message = format!(
                "the guests want {wanted} MiB of memory together; {available} MiB are available"
            );
            Err(Error::new(Exit::HostLacks, message).help("lower `memory`, or start fewer guests"))
        }
        _ => Ok(()),
    }
}

/// What the host can give without swapping; `None` if it does not tell.
fn available_memory_mib() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}
