//! One PCI bus behind configuration mechanism #1, and what its functions decode.
//!
//! PCI Local Bus Specification 3.0, section 3.2.2.3.2: a 32-bit write to port 0xcf8 selects a
//! register, ports 0xcfc to 0xcff access it. The vCPU thread owns the root, so there are no locks;
//! only the interrupt pins, which devices drive from any thread, are shared.

mod config;
mod intx;
mod nic;
mod windows;

pub use config::{Bar, ConfigSpace, Identity, Space};
pub use intx::Intx;
pub use nic::nic_function;
pub use windows::{Registers, Windows};

use std::sync::Arc;

use config::{COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, STATUS, STATUS_INTERRUPT};

/// Port of the address register.
pub const CONFIG_ADDRESS: u16 = 0xcf8;
/// First port of the data register.
pub const CONFIG_DATA: u16 = 0xcfc;
/// First port behind the data register.
pub const CONFIG_END: u16 = 0xd00;

/// Address register: configuration cycles are on.
const ENABLE: u32 = 1 << 31;

/// Intel 440FX: the host bridge that PC software knows best.
const HOST_BRIDGE: Identity = Identity {
    vendor: 0x8086,
    device: 0x1237,
    revision: 2,
    class: 0x06_0000,
    subsystem_vendor: 0,
    subsystem_device: 0,
};

/// A device on the bus: configuration space and what hangs on it.
pub struct Function {
    config: ConfigSpace,
    bars: Vec<Arc<dyn Registers>>,
    intx: Option<Arc<Intx>>,
    set_bus_master: Box<dyn Fn(bool) + Send>,
}

impl Function {
    /// A function whose base address registers, from BAR0 on, decode `bars`.
    ///
    /// `set_bus_master` is told whenever the guest permits or forbids it to access memory.
    pub fn new(
        config: ConfigSpace,
        bars: Vec<Arc<dyn Registers>>,
        intx: Option<Arc<Intx>>,
        set_bus_master: impl Fn(bool) + Send + 'static,
    ) -> Self {
        Self { config, bars, intx, set_bus_master: Box::new(set_bus_master) }
    }

    fn read(&self, offset: usize, data: &mut [u8]) {
        self.config.read(offset, data);
        if self.intx.as_ref().is_some_and(|intx| intx.wanted())
            && let Some(status) = STATUS.checked_sub(offset).and_then(|at| data.get_mut(at))
        {
            *status |= STATUS_INTERRUPT as u8;
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let before = self.config.command();
        self.config.write(offset, data);
        let after = self.config.command();
        if (before ^ after) & COMMAND_BUS_MASTER != 0 {
            (self.set_bus_master)(after & COMMAND_BUS_MASTER != 0);
        }
        if let Some(intx) = &self.intx {
            intx.set_disabled(after & COMMAND_INTX_DISABLE != 0);
        }
    }
}

/// Bus 0: a host bridge at 00:00.0 and one function per further device.
pub struct PciRoot {
    address: u32,
    functions: Vec<Function>,
    memory: Windows,
    ports: Windows,
}

impl PciRoot {
    /// A bus with nothing but its host bridge.
    pub fn new() -> Self {
        let bridge = Function::new(ConfigSpace::new(&HOST_BRIDGE, vec![]), vec![], None, |_| ());
        let (memory, ports) = (Windows::default(), Windows::default());
        Self { address: 0, functions: vec![bridge], memory, ports }
    }

    /// Puts `function` at the next free device number.
    pub fn add(&mut self, function: Function) {
        self.functions.push(function);
        self.decode();
    }

    /// What decodes memory addresses at present.
    #[inline]
    pub fn memory(&self) -> &Windows {
        &self.memory
    }

    /// What decodes I/O ports at present.
    #[inline]
    pub fn ports(&self) -> &Windows {
        &self.ports
    }

    /// Reads ports 0xcf8 to 0xcff.
    pub fn config_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if port < CONFIG_DATA {
            let at = usize::from(port - CONFIG_ADDRESS);
            for (byte, value) in data.iter_mut().zip(&self.address.to_le_bytes()[at..]) {
                *byte = *value;
            }
        } else if let Some((device, offset)) = self.selected(port, data.len())
            && let Some(function) = self.functions.get(device)
        {
            function.read(offset, data);
        }
    }

    /// Writes ports 0xcf8 to 0xcff.
    pub fn config_write(&mut self, port: u16, data: &[u8]) {
        if port < CONFIG_DATA {
            // Narrower accesses pass through to whatever else lives at these ports.
            if let (CONFIG_ADDRESS, Ok(value)) = (port, <[u8; 4]>::try_from(data)) {
                self.address = u32::from_le_bytes(value);
            }
        } else if let Some((device, offset)) = self.selected(port, data.len())
            && let Some(function) = self.functions.get_mut(device)
        {
            function.write(offset, data);
            self.decode();
        }
    }

    /// Device number and register that an access to the data port means, if any.
    fn selected(&self, port: u16, len: usize) -> Option<(usize, usize)> {
        let [register, devfn, bus, _] = self.address.to_le_bytes();
        let lane = usize::from(port - CONFIG_DATA);
        let ours = self.address & ENABLE != 0 && bus == 0 && devfn & 7 == 0 && lane + len <= 4;
        ours.then_some((usize::from(devfn >> 3), usize::from(register & 0xfc) + lane))
    }

    /// Takes over where the functions decode now.
    fn decode(&mut self) {
        self.memory.clear();
        self.ports.clear();
        for function in &self.functions {
            for (index, registers) in function.bars.iter().enumerate() {
                let mut decoded = function.config.decoded_bars();
                let base = decoded.find(|(decoded, ..)| *decoded == index).map(|(_, _, base)| base);
                registers.placed(base.map(u64::from));
            }
            for (index, bar, base) in function.config.decoded_bars() {
                let windows = match bar.space {
                    Space::Memory => &mut self.memory,
                    Space::Ports => &mut self.ports,
                };
                let registers = function.bars[index].clone();
                windows.add(u64::from(base), u64::from(bar.len), registers);
            }
        }
    }
}

impl Default for PciRoot {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
