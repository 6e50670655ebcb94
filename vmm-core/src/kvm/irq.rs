//! An input of the guest's interrupt controllers, driven by `KVM_IRQ_LINE`.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Vm;
use crate::irq::InterruptLine;

/// A GSI: the input of that number of both the PICs and the I/O APIC.
///
/// `KVM_IRQ_LINE` costs as much as an irqfd write, needs no thread to resample, and its level is
/// exactly what was last set. Several devices may share a line, each calling on its own changes
/// only: it is high while any of them drives it high, as a wired OR.
pub struct KvmIrqLine {
    vm: Arc<Vm>,
    gsi: u32,
    drivers: Mutex<u32>,
}

impl KvmIrqLine {
    /// Input `gsi` of `vm`; low.
    pub fn new(vm: Arc<Vm>, gsi: u32) -> Self {
        Self { vm, gsi, drivers: Mutex::new(0) }
    }
}

impl InterruptLine for KvmIrqLine {
    fn set_level(&self, high: bool) {
        // Held across the call, so that the last level KVM sees is the last one decided.
        let mut drivers = self.drivers.lock();
        let before = *drivers;
        *drivers = if high { before + 1 } else { before.saturating_sub(1) };
        if (before > 0) != (*drivers > 0) {
            self.vm.set_irq_line(self.gsi, high);
        }
    }
}
