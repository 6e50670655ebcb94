//! The device on its bus: registers, doorbells, message-signalled interrupts. Section numbers refer
//! to Virtual I/O Device 1.2, those of MSI-X to PCI 3.0.

use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{
    ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::memory::Memory;
use crate::irq::{LINK_VECTOR, NIC_VECTORS};
use crate::{apic, mmio, pci};

const VENDOR: u16 = 0x1af4;
/// virtio-net that can also be driven as before version 1.0, and that cannot (4.1.2).
const DEVICES: [u16; 2] = [0x1000, 0x1041];

/// The receive and the transmit queue (5.1.2).
pub const RX: u16 = 0;
pub const TX: u16 = 1;

/// Features (5.1.3, 6): an address, link changes, notification by index, no legacy interface.
const FEATURES: u64 = 1 << 5 | LINK_STATUS | EVENT_IDX | 1 << 32;
const LINK_STATUS: u64 = 1 << 16;
const EVENT_IDX: u64 = 1 << 29;
/// Configuration (5.1.4): where address and status lie, and the status of a link that is up.
const MAC: usize = 0;
const STATUS: usize = 6;
const STATUS_UP: u16 = 1 << 0;

/// Capabilities (4.1.4): what a vendor-specific one describes, and its fields.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const CAP_BAR: u8 = 4;
const CAP_OFFSET: u8 = 8;
const CAP_MULTIPLIER: u8 = 16;
/// Common configuration (4.1.4.3).
const MSIX_CONFIG: usize = 0x10;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_MSIX_VECTOR: usize = 0x1a;
const QUEUE_NOTIFY_OFF: usize = 0x1e;
const QUEUE_DRIVER: usize = 0x28;
const QUEUE_DEVICE: usize = 0x30;

/// MSI-X (6.8.2): capability id, enable bit in its first word, where its table is, an entry's size.
const MSIX: u8 = 0x11;
const MSIX_ENABLE: u32 = 1 << 31;
const MSIX_TABLE: u8 = 4;
const MSIX_ENTRY: usize = 16;
/// The table's entries we use.
const QUEUE_ENTRY: u16 = 0;
const LINK_ENTRY: u16 = 1;

/// A virtio-net device, reset, with its features agreed on.
pub struct Device {
    transport: PciTransport,
    common: usize,
    /// Where doorbells start, and how far two are apart.
    notify: usize,
    multiplier: usize,
    has_link_status: bool,
}

impl Device {
    /// Finds virtio-net number `index` on bus 0 and resets it.
    ///
    /// # Errors
    /// What the machine lacks.
    pub fn open(index: u8) -> Result<Self, &'static str> {
        let device = pci::find(VENDOR, &DEVICES, index).ok_or("No such virtio-net on PCI bus 0")?;
        device.enable();
        let mut bus = Bus::new(&device);
        let (common, _) = bus.structure(COMMON).ok_or("The NIC has no virtio 1.0 registers")?;
        let (notify, capability) = bus.structure(NOTIFY).ok_or("The NIC has no doorbells")?;
        let multiplier = device.read(capability + CAP_MULTIPLIER) as usize;
        let mut transport = PciTransport::new::<Memory, _>(&mut bus.root, bus.function)
            .map_err(|_| "The NIC's virtio registers are not where they should be")?;

        let ours = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(DeviceStatus::empty());
        transport.set_status(ours);
        let features = transport.read_device_features() & FEATURES;
        transport.write_driver_features(features);
        transport.set_status(ours | DeviceStatus::FEATURES_OK);
        let agreed = transport.get_status().contains(DeviceStatus::FEATURES_OK);
        if !agreed || features & EVENT_IDX == 0 {
            return Err("The NIC and its driver do not agree on features");
        }
        bus.enable_messages(&device).ok_or("The NIC has no MSI-X")?;
        let has_link_status = features & LINK_STATUS != 0;
        let nic = Self { transport, common, notify, multiplier, has_link_status };
        nic.common_write(MSIX_CONFIG, LINK_ENTRY);
        Ok(nic)
    }

    /// The registers as the crate's queues want them.
    pub fn transport(&mut self) -> &mut PciTransport {
        &mut self.transport
    }

    /// Descriptors that the receive ring may have.
    pub fn max_rx(&mut self) -> u32 {
        self.transport.max_queue_size(RX)
    }

    /// Has `queue` interrupt us, and returns its doorbell; before it is set up.
    pub fn connect(&mut self, queue: u16) -> Doorbell {
        self.common_write(QUEUE_SELECT, queue);
        self.common_write(QUEUE_MSIX_VECTOR, QUEUE_ENTRY);
        // SAFETY: a register of the common configuration.
        let offset = unsafe { mmio::read16(self.common + QUEUE_NOTIFY_OFF) };
        Doorbell { address: self.notify + usize::from(offset) * self.multiplier, queue }
    }

    /// Where the driver's and the device's area of `queue` lie (2.7), after it was set up.
    pub fn areas(&mut self, queue: u16) -> [usize; 2] {
        self.common_write(QUEUE_SELECT, queue);
        // SAFETY: registers of the common configuration; rings lie below 4 GiB.
        [QUEUE_DRIVER, QUEUE_DEVICE].map(|area| unsafe { mmio::read(self.common + area) } as usize)
    }

    fn common_write(&self, register: usize, value: u16) {
        // SAFETY: a register of the common configuration, which `open` found in device space. The
        // device touches the memory of its queues only.
        unsafe { mmio::write16(self.common + register, value) }
    }

    /// Lets the device work on its queues.
    pub fn start(&mut self) {
        self.transport.finish_init();
    }

    /// The NIC's address; `None` if it has none.
    pub fn mac(&self) -> Option<[u8; 6]> {
        self.transport.read_config_space(MAC).ok()
    }

    /// Whether the link is up: a register read, if the device tells at all.
    pub fn link_up(&self) -> bool {
        let status = || self.transport.read_config_space::<u16>(STATUS);
        !self.has_link_status || status().is_ok_and(|status| status & STATUS_UP != 0)
    }
}

/// Where a queue's notifications are written; KVM makes an event of it, with no exit to userspace.
pub struct Doorbell {
    address: usize,
    queue: u16,
}

impl Doorbell {
    /// Notifies the device.
    #[inline]
    pub fn ring(&self) {
        // SAFETY: a doorbell register; the device's memory accesses go to what its rings hold.
        unsafe { mmio::write16(self.address, self.queue) }
    }
}

/// The bus as the crate sees it.
struct Bus {
    root: PciRoot<Ports>,
    function: DeviceFunction,
}

impl Bus {
    fn new(device: &pci::Device) -> Self {
        let function = DeviceFunction { bus: 0, device: device.slot(), function: 0 };
        Self { root: PciRoot::new(Ports), function }
    }

    /// Physical address `offset` into memory BAR `bar`, if the stub maps it.
    fn address(&mut self, bar: u8, offset: u32) -> Option<usize> {
        let (start, _) = self.root.bar_info(self.function, bar).ok()??.memory_address_size()?;
        let address = start + u64::from(offset);
        mmio::DEVICES.contains(&address).then_some(address as usize)
    }

    /// Where the structure of this kind lies, and the capability that says so.
    fn structure(&mut self, kind: u8) -> Option<(usize, u8)> {
        let is_wanted = |id, header: u16| id == PCI_CAP_ID_VNDR && header >> 8 == kind.into();
        let mut capabilities = self.root.capabilities(self.function);
        let at = capabilities.find(|found| is_wanted(found.id, found.private_header))?.offset;
        let device = pci::Device::at(self.function.device);
        let bar = device.read(at + CAP_BAR) as u8;
        Some((self.address(bar, device.read(at + CAP_OFFSET))?, at))
    }

    /// Has the device interrupt by messages: nothing needs to be read to learn an interrupt's cause.
    fn enable_messages(&mut self, device: &pci::Device) -> Option<()> {
        let at = self.root.capabilities(self.function).find(|found| found.id == MSIX)?.offset;
        let table = device.read(at + MSIX_TABLE);
        let table = self.address(table as u8 & 7, table & !7)?;
        device.write(at, device.read(at) | MSIX_ENABLE);
        for (entry, vector) in [(QUEUE_ENTRY, NIC_VECTORS[0]), (LINK_ENTRY, LINK_VECTOR)] {
            let entry = table + MSIX_ENTRY * usize::from(entry);
            let words = [apic::message_address(), 0, vector.into(), 0];
            for (address, word) in (entry..).step_by(4).zip(words) {
                // SAFETY: a word of the MSI-X table; messages go to the local APIC.
                unsafe { mmio::write(address, word) }
            }
        }
        Some(())
    }
}

/// Configuration space, through the ports.
struct Ports;

impl ConfigurationAccess for Ports {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        pci::Device::at(function.device).read(register)
    }

    fn write_word(&mut self, function: DeviceFunction, register: u8, value: u32) {
        pci::Device::at(function.device).write(register, value);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}
