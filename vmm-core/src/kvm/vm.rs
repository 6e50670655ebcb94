//! A virtual machine: memory, interrupt controllers and timer.

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use super::{Hypervisor, KvmError};
use crate::memory::GuestRam;
use crate::platform::KVM_TSS_ADDR;

/// A KVM virtual machine with its RAM.
pub struct Vm {
    // Declared first, hence closed before the RAM that KVM has mapped goes away.
    fd: VmFd,
    ram: GuestRam,
}

impl Vm {
    /// A machine with `ram` from address 0, two 8259 PICs, an I/O APIC, a local APIC per vCPU and
    /// an 8254 timer with its gate and output at port 0x61.
    pub fn new(hypervisor: &Hypervisor, ram: GuestRam) -> Result<Self, KvmError> {
        let fd = hypervisor.create_vm().map_err(KvmError::from_errno("KVM_CREATE_VM"))?;
        // VMX wants it before the first vCPU exists.
        fd.set_tss_address(KVM_TSS_ADDR as usize)
            .map_err(KvmError::from_errno("KVM_SET_TSS_ADDR"))?;
        fd.create_irq_chip().map_err(KvmError::from_errno("KVM_CREATE_IRQCHIP"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        fd.create_pit2(pit).map_err(KvmError::from_errno("KVM_CREATE_PIT2"))?;

        let (userspace_addr, memory_size) = ram.host_mapping();
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size,
            userspace_addr,
        };
        // SAFETY: the range is a mapping of that size that `ram` keeps alive, and `ram` outlives
        // `fd` by the order of the fields. Rust never holds references into it.
        unsafe { fd.set_user_memory_region(region) }
            .map_err(KvmError::from_errno("KVM_SET_USER_MEMORY_REGION"))?;
        Ok(Self { fd, ram })
    }

    /// The guest's RAM.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    pub(super) fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Turns writes to `addr` into signals of `event`, inside KVM.
    pub(super) fn register_doorbell(&self, addr: u64, event: &EventFd) -> Result<(), KvmError> {
        self.fd
            .register_ioevent(event, &IoEventAddress::Mmio(addr), NoDatamatch)
            .map_err(KvmError::from_errno("KVM_IOEVENTFD"))
    }

    /// Ends what [`register_doorbell`](Self::register_doorbell) began.
    pub(super) fn unregister_doorbell(&self, addr: u64, event: &EventFd) -> Result<(), KvmError> {
        self.fd
            .unregister_ioevent(event, &IoEventAddress::Mmio(addr), NoDatamatch)
            .map_err(KvmError::from_errno("KVM_IOEVENTFD"))
    }

    pub(super) fn set_irq_line(&self, gsi: u32, high: bool) {
        // It has no way to fail on a line that exists; if it did, the guest would notice first.
        if let Err(error) = self.fd.set_irq_line(gsi, high) {
            tracing::error!(gsi, high, %error, "KVM_IRQ_LINE failed");
        }
    }
}
