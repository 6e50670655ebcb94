//! A virtual processor and the thread that runs it.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvm_bindings::{
    CpuId, KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
    KVM_MAX_CPUID_ENTRIES, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KVMIO, kvm_device_attr, kvm_fpu,
};
use kvm_ioctls::{KvmRunWrapper, VcpuExit, VcpuFd};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::counters::LiveCounters;
use super::{ExitReason, Hypervisor, KvmError, VcpuCounters, Vm};
use crate::boot::Entry;
use crate::bus::Bus;
use crate::cpus;

/// Leaf 1 ECX: a hypervisor is present. Without it guests do not look for paravirtual clocks.
const CPUID_HYPERVISOR: u32 = 1 << 31;

// kvm-ioctls offers it for other architectures' vCPUs only.
ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);

/// A virtual processor that has not started yet.
pub struct Vcpu {
    fd: VcpuFd,
    vm: Arc<Vm>,
}

impl Vcpu {
    /// The only processor of `vm`, in the state after power-on.
    pub fn new(hypervisor: &Hypervisor, vm: Arc<Vm>) -> Result<Self, KvmError> {
        let fd = vm.fd().create_vcpu(0).map_err(KvmError::from_errno("KVM_CREATE_VCPU"))?;
        let mut cpuid = hypervisor
            .kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmError::from_errno("KVM_GET_SUPPORTED_CPUID"))?;
        describe_processor(&mut cpuid);
        fd.set_cpuid2(&cpuid).map_err(KvmError::from_errno("KVM_SET_CPUID2"))?;
        // As after FNINIT, SDM volume 1, sections 8.1.5 and 11.6.4: all exceptions masked.
        let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
        fd.set_fpu(&fpu).map_err(KvmError::from_errno("KVM_SET_FPU"))?;
        share_host_tsc(&fd);
        Ok(Self { fd, vm })
    }

    /// Frequency of the guest's time-stamp counter in kHz.
    pub(super) fn tsc_khz(&self) -> Result<u32, KvmError> {
        let refused = KvmError::from_errno("KVM_GET_TSC_KHZ");
        match self.fd.get_tsc_khz() {
            Ok(0) => Err(refused(kvm_ioctls::Error::new(libc::ENODATA))),
            result => result.map_err(refused),
        }
    }

    /// Puts the processor at `entry`, in the state that its boot protocol demands.
    pub fn enter(&self, entry: Entry) -> Result<(), KvmError> {
        let mut sregs = self.fd.get_sregs().map_err(KvmError::from_errno("KVM_GET_SREGS"))?;
        let regs = entry.set_state(&mut sregs);
        self.fd.set_sregs(&sregs).map_err(KvmError::from_errno("KVM_SET_SREGS"))?;
        self.fd.set_regs(&regs).map_err(KvmError::from_errno("KVM_SET_REGS"))
    }

    pub(super) fn fd(&self) -> &VcpuFd {
        &self.fd
    }
}

/// Makes what KVM can do into one processor with APIC ID 0.
fn describe_processor(cpuid: &mut CpuId) {
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            // SDM volume 2, CPUID: APIC ID in EBX[31:24], logical processors in EBX[23:16].
            1 => {
                entry.ecx |= CPUID_HYPERVISOR;
                entry.ebx = (entry.ebx & 0x0000_ffff) | 1 << 16;
            }
            // Topology leaves: EDX is the x2APIC ID.
            0xb | 0x1f => entry.edx = 0,
            // AMD's extended APIC ID: that of the host CPU we happen to run on.
            0x8000_001e => entry.eax = 0,
            _ => {}
        }
    }
}

/// Lets the guest see the host's time-stamp counter, so that the clocks of all guests agree.
///
/// Since Linux 5.16; page-table KVM has no offset to begin with. Where it fails only measurements
/// from one guest to another suffer.
fn share_host_tsc(fd: &VcpuFd) {
    let offset = 0u64;
    let attribute = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: &raw const offset as u64,
        flags: 0,
    };
    // SAFETY: the kernel reads the attribute and the 8 bytes it points to, both alive.
    if unsafe { ioctl_with_ref(fd, KVM_SET_DEVICE_ATTR(), &attribute) } != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, "guest time-stamp counter keeps its own offset");
    }
}

/// What the vCPU's thread shares with its owner.
#[derive(Default)]
struct Shared {
    counters: LiveCounters,
    stop: AtomicBool,
    exit: OnceLock<ExitReason>,
}

/// A thread that runs a guest. Dropping it stops the guest.
pub struct VcpuThread {
    shared: Arc<Shared>,
    run: KvmRunWrapper,
    thread: Option<JoinHandle<()>>,
}

impl VcpuThread {
    /// Starts a thread `name` that runs `vcpu`, with `bus` for everything KVM does not emulate.
    pub fn spawn(name: String, vcpu: Vcpu, mut bus: Bus) -> io::Result<Self> {
        register_signal_handler(SIGRTMIN(), interrupt_run)?;
        let shared = Arc::<Shared>::default();
        let run = KvmRunWrapper::mmap_from_fd(vcpu.fd(), vcpu.vm.fd().run_size())?;
        let theirs = shared.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let exit = run_guest(vcpu, &mut bus, &theirs);
            tracing::debug!(%exit, "guest ended");
            // This thread is the only one to set it, once.
            let _ = theirs.exit.set(exit);
            // Only now: whoever sees the console end may ask for the reason.
            drop(bus);
        })?;
        Ok(Self { shared, run, thread: Some(thread) })
    }

    /// How often the guest needed us, so far.
    pub fn counters(&self) -> VcpuCounters {
        self.shared.counters.snapshot()
    }

    /// CPU time that the guest and its exits have used; `None` if the host does not tell.
    pub fn cpu_time(&self) -> Option<Duration> {
        let thread = self.thread.as_ref()?.pthread_handle();
        let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
        // SAFETY: the thread has not been joined, so its handle is valid; both calls only write to
        // what they are given.
        let told = unsafe {
            libc::pthread_getcpuclockid(thread, &mut clock) == 0
                && libc::clock_gettime(clock, &mut time) == 0
        };
        told.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// Keeps it on some of the host's CPUs, if it still runs.
    pub fn keep_on(&self, cpus: &[usize]) -> io::Result<()> {
        self.thread.as_ref().map_or(Ok(()), |thread| cpus::keep_on(thread, cpus))
    }

    /// Why the guest ended; `None` while it runs.
    pub fn exited(&self) -> Option<ExitReason> {
        let ended = self.thread.as_ref().is_none_or(|thread| thread.is_finished());
        // A thread that is finished has set its reason before, unless it panicked.
        self.shared.exit.get().cloned().or(ended.then_some(ExitReason::Panicked))
    }

    /// Stops the guest wherever it is, waits for its thread and tells why it ended.
    pub fn stop(&mut self) -> ExitReason {
        if let Some(thread) = self.thread.take() {
            self.shared.stop.store(true, Ordering::SeqCst);
            // The flag makes the next KVM_RUN return at once, the signal ends the present one.
            let immediate_exit = &raw mut self.run.as_mut_ref().immediate_exit;
            // SAFETY: the byte lies in a mapping that `self.run` owns. The vCPU's thread borrows the
            // structure around it now and then, but neither reads nor writes this byte; the kernel
            // does, and expects another thread to change it at any time (KVM API, 5).
            unsafe { AtomicU8::from_ptr(immediate_exit) }.store(1, Ordering::SeqCst);
            // It can only fail because the thread has ended already.
            let _ = thread.kill(SIGRTMIN());
            // A panic shows as a missing exit reason.
            let _ = thread.join();
        }
        self.shared.exit.get().cloned().unwrap_or(ExitReason::Panicked)
    }
}

impl Drop for VcpuThread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Signal handler: that the signal arrives is all that matters.
extern "C" fn interrupt_run(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Runs the guest until it ends or is stopped.
fn run_guest(mut vcpu: Vcpu, bus: &mut Bus, shared: &Shared) -> ExitReason {
    let counters = &shared.counters;
    loop {
        match vcpu.fd.run() {
            Ok(VcpuExit::MmioWrite(addr, data)) => {
                counters.mmio_write.increment();
                bus.mmio_write(addr, data);
            }
            Ok(VcpuExit::MmioRead(addr, data)) => {
                counters.mmio_read.increment();
                bus.mmio_read(addr, data);
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                counters.pio_out.increment();
                let data: *const [u8] = data;
                let unit = port_access_size(&mut vcpu.fd);
                // SAFETY: the bytes lie in the kvm_run mapping, behind the structure whose field
                // was just read, and the kernel leaves them alone until the next KVM_RUN.
                for part in unsafe { &*data }.chunks_exact(unit) {
                    if let ControlFlow::Break(_reset) = bus.port_write(port, part) {
                        return ExitReason::Reset;
                    }
                }
            }
            Ok(VcpuExit::IoIn(port, data)) => {
                counters.pio_in.increment();
                let data: *mut [u8] = data;
                let unit = port_access_size(&mut vcpu.fd);
                // SAFETY: as above, and no other reference to these bytes exists.
                for part in unsafe { &mut *data }.chunks_exact_mut(unit) {
                    bus.port_read(port, part);
                }
            }
            Ok(exit) => {
                counters.other.increment();
                let kind = Ended::from(exit);
                return kind.explain(&mut vcpu.fd);
            }
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                counters.signal.increment();
                if shared.stop.load(Ordering::SeqCst) {
                    return ExitReason::Stopped;
                }
            }
            Err(error) => {
                let rip = instruction_pointer(&vcpu.fd);
                return ExitReason::RunFailed { errno: error.errno(), rip };
            }
        }
    }
}

/// Bytes per port access of the exit at hand: kvm-ioctls hands over all repetitions of a string
/// instruction as one slice.
fn port_access_size(fd: &mut VcpuFd) -> usize {
    // SAFETY: the exit was KVM_EXIT_IO, so this is the union's live member.
    let size = unsafe { fd.get_kvm_run().__bindgen_anon_1.io.size };
    usize::from(size.max(1))
}

/// An exit that ends the guest, freed from the borrow of its vCPU.
enum Ended {
    Shutdown,
    InternalError,
    FailedEntry(u64),
    Other,
}

impl From<VcpuExit<'_>> for Ended {
    fn from(exit: VcpuExit<'_>) -> Self {
        match exit {
            VcpuExit::Shutdown => Ended::Shutdown,
            VcpuExit::InternalError => Ended::InternalError,
            VcpuExit::FailEntry(hardware_reason, _cpu) => Ended::FailedEntry(hardware_reason),
            _ => Ended::Other,
        }
    }
}

impl Ended {
    fn explain(self, fd: &mut VcpuFd) -> ExitReason {
        let rip = instruction_pointer(fd);
        match self {
            Ended::Shutdown => ExitReason::TripleFault { rip },
            Ended::FailedEntry(hardware_reason) => ExitReason::FailedEntry { hardware_reason, rip },
            Ended::InternalError => internal_error(fd, rip),
            Ended::Other => ExitReason::Unexpected { kvm_exit: fd.get_kvm_run().exit_reason, rip },
        }
    }
}

fn internal_error(fd: &mut VcpuFd, rip: u64) -> ExitReason {
    // SAFETY: the exit was KVM_EXIT_INTERNAL_ERROR, for which both members are live: the second
    // gives names to the first's data words. All of it is plain integers.
    let (internal, emulation) = unsafe {
        let exit = &fd.get_kvm_run().__bindgen_anon_1;
        (exit.internal, exit.emulation_failure)
    };
    let has_bytes = internal.suberror == KVM_INTERNAL_ERROR_EMULATION
        && internal.ndata >= 1
        && emulation.flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0;
    let instruction = if has_bytes {
        // SAFETY: the flag says that the kernel filled this member in.
        let found = unsafe { emulation.__bindgen_anon_1.__bindgen_anon_1 };
        let len = usize::from(found.insn_size).min(found.insn_bytes.len());
        found.insn_bytes[..len].to_vec()
    } else {
        Vec::new()
    };
    ExitReason::InternalError { suberror: internal.suberror, rip, instruction }
}

fn instruction_pointer(fd: &VcpuFd) -> u64 {
    fd.get_regs().map_or(0, |regs| regs.rip)
}
