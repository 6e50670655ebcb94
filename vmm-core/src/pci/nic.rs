//! The 82540EM as a PCI function.

use std::sync::Arc;

use super::{Bar, ConfigSpace, Function, Identity, Intx, Registers, Space};
use crate::e1000::{self, E1000};
use crate::platform::{NIC_GSIS, NIC_MMIO_BASE, NIC_PORT_BASE};

/// BAR0: the memory-mapped registers.
struct MemoryBar(Arc<E1000>);

impl Registers for MemoryBar {
    #[inline]
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.0.read(offset, data);
    }

    #[inline]
    fn write(&self, offset: u64, data: &[u8]) {
        self.0.write(offset, data);
    }

    fn placed(&self, base: Option<u64>) {
        self.0.set_window(base);
    }
}

/// BAR1: the window of I/O ports.
struct PortBar(Arc<E1000>);

impl Registers for PortBar {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.0.io_read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.io_write(offset, data);
    }
}

/// The function of a guest's NIC number `index`, which is PCI device 1 + `index`.
///
/// With `csb` its subsystem ID announces the paravirtual extension.
pub fn nic_function(nic: &Arc<E1000>, index: u8, csb: bool, intx: Arc<Intx>) -> Function {
    let (subsystem_vendor, subsystem_device) =
        if csb { e1000::CSB_SUBSYSTEM } else { e1000::PLAIN_SUBSYSTEM };
    let identity = Identity {
        vendor: e1000::VENDOR_ID,
        device: e1000::DEVICE_ID,
        revision: e1000::REVISION,
        class: e1000::CLASS,
        subsystem_vendor,
        subsystem_device,
    };
    let memory = Bar {
        space: Space::Memory,
        len: e1000::BAR0_SIZE,
        base: NIC_MMIO_BASE as u32 + u32::from(index) * e1000::BAR0_SIZE,
    };
    let ports = Bar {
        space: Space::Ports,
        len: e1000::BAR1_SIZE,
        base: u32::from(NIC_PORT_BASE) + u32::from(index) * e1000::BAR1_SIZE,
    };
    let gsi = NIC_GSIS[usize::from(index) % NIC_GSIS.len()];
    let config = ConfigSpace::new(&identity, vec![memory, ports]).with_inta(gsi as u8);
    let bars: Vec<Arc<dyn Registers>> =
        vec![Arc::new(MemoryBar(nic.clone())), Arc::new(PortBar(nic.clone()))];
    let nic = nic.clone();
    Function::new(config, bars, Some(intx), move |on| nic.set_bus_master(on))
}
