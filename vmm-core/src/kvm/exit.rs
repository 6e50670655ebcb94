//! Why a guest no longer runs.

use std::fmt;

use kvm_bindings::{
    KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_SIMUL_EX,
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
};

/// Why a guest no longer runs.
///
/// `rip` is the guest's instruction pointer at that moment, 0 if KVM could not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was stopped from outside.
    Stopped,
    /// It asked for a reset through the keyboard controller.
    Reset,
    /// It faulted while handling a double fault.
    TripleFault {
        /// Where.
        rip: u64,
    },
    /// KVM gave up on it (`KVM_EXIT_INTERNAL_ERROR`).
    InternalError {
        /// KVM's sub-reason.
        suberror: u32,
        /// Where.
        rip: u64,
        /// The instruction that KVM could not emulate and what follows it, where KVM tells.
        instruction: Vec<u8>,
    },
    /// The processor refused the guest's state (`KVM_EXIT_FAIL_ENTRY`).
    FailedEntry {
        /// The hardware's reason.
        hardware_reason: u64,
        /// Where.
        rip: u64,
    },
    /// An exit that no guest of ours can cause.
    Unexpected {
        /// `kvm_run.exit_reason`.
        kvm_exit: u32,
        /// Where.
        rip: u64,
    },
    /// `KVM_RUN` failed.
    RunFailed {
        /// The error number.
        errno: i32,
        /// Where.
        rip: u64,
    },
    /// The monitor's own thread panicked: a bug of ours.
    Panicked,
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitReason::Stopped => write!(f, "the guest was stopped"),
            ExitReason::Reset => write!(f, "the guest reset itself"),
            ExitReason::TripleFault { rip } => write!(f, "the guest triple-faulted at {rip:#x}"),
            ExitReason::InternalError { suberror, rip, instruction } => {
                let what = match *suberror {
                    KVM_INTERNAL_ERROR_EMULATION => "could not emulate an instruction of the guest",
                    KVM_INTERNAL_ERROR_SIMUL_EX => "met an exception while delivering another",
                    KVM_INTERNAL_ERROR_DELIVERY_EV => "could not deliver an event to the guest",
                    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "met an exit it does not know",
                    _ => "gave up on the guest",
                };
                write!(f, "KVM {what} at {rip:#x} (internal error {suberror}")?;
                if !instruction.is_empty() {
                    write!(f, ", bytes")?;
                    instruction.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
                }
                write!(f, ")")
            }
            ExitReason::FailedEntry { hardware_reason, rip } => {
                write!(f, "the processor refused to enter the guest at {rip:#x}")?;
                write!(f, " (hardware reason {hardware_reason:#x})")
            }
            ExitReason::Unexpected { kvm_exit, rip } => {
                write!(f, "KVM left the guest at {rip:#x} for reason {kvm_exit}, unknown to us")
            }
            ExitReason::RunFailed { errno, rip } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "KVM cannot run the guest at {rip:#x}: {error}")
            }
            ExitReason::Panicked => write!(f, "the thread that runs the guest panicked"),
        }
    }
}
