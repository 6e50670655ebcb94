//! The fixed platform of every guest: a PC without firmware, legacy video or disks.
//!
//! ```text
//! 0x0000_0000  RAM: boot data below 640 KiB, the kernel from 1 MiB, an initrd at its end
//! 0xc000_0000  memory-mapped I/O
//! 0xfeb0_0000    BAR0 of NIC 0, then one per 128 KiB
//! 0xfec0_0000    I/O APIC    (in KVM)
//! 0xfee0_0000    local APIC  (in KVM)
//! 0xfffb_d000    three pages that KVM on VMX needs for real mode
//! ```

/// What Linux must be told of this platform: the console is COM1, there are no ACPI tables and one PCI
/// bus, the keyboard controller can reset the machine but do nothing else, which its driver would
/// take half a second to find out, and nobody is there to look at a panic.
pub const LINUX_CMDLINE: &str = "console=ttyS0 acpi=off pci=lastbus=0 \
     initcall_blacklist=i8042_init reboot=k panic=-1";

/// The longest command line that Linux keeps (`COMMAND_LINE_SIZE` - 1), [`LINUX_CMDLINE`] included.
pub const LINUX_CMDLINE_MAX: usize = 2047;

/// The segment descriptors of the 64-bit boot protocol.
pub const GDT_ADDR: u64 = 0x500;
/// The `hvm_start_info` of the PVH boot protocol.
pub const START_INFO_ADDR: u64 = 0x6000;
/// The list of modules that `hvm_start_info` refers to.
pub const MODULES_ADDR: u64 = 0x6040;
/// The memory map that `hvm_start_info` refers to.
pub const MEMORY_MAP_ADDR: u64 = 0x7000;
/// The `boot_params` of the 64-bit boot protocol.
pub const ZERO_PAGE_ADDR: u64 = 0x8000;
/// The page tables of the 64-bit boot protocol, six pages.
pub const PAGE_TABLES_ADDR: u64 = 0x9000;
/// The kernel's command line, NUL-terminated.
pub const CMDLINE_ADDR: u64 = 0x2_0000;
/// Longest command line in bytes, without its NUL.
pub const CMDLINE_MAX: usize = 4095;
/// First byte that is not ordinary RAM: where a PC keeps its extended BIOS data area.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// The MP table, in the last KiB below 640 KiB, where kernels look for it.
pub const MP_TABLE_ADDR: u64 = LOW_RAM_END;
/// First byte above the legacy video and ROM area; kernels are loaded from here on.
pub const HIGH_RAM_START: u64 = 0x10_0000;

/// Where KVM keeps a task state segment for guests in real mode, in no one else's way.
pub const KVM_TSS_ADDR: u64 = 0xfffb_d000;

/// BAR0 of the first NIC.
pub const NIC_MMIO_BASE: u64 = 0xfeb0_0000;
/// BAR1 of the first NIC.
pub const NIC_PORT_BASE: u16 = 0xc000;
/// Most NICs of a guest: their BARs must end below the I/O APIC.
pub const MAX_NICS: usize = 8;

/// First I/O port of the serial console, COM1.
pub const COM1_PORT: u16 = 0x3f8;
/// COM1's interrupt.
pub const COM1_GSI: u32 = 4;
/// First I/O port of the second serial port, COM2, of a guest that has it.
pub const COM2_PORT: u16 = 0x2f8;
/// COM2's interrupt.
pub const COM2_GSI: u32 = 3;

/// The interrupts of the NICs' INTA#, in turn: GSI, and PIC and I/O APIC input alike.
pub const NIC_GSIS: [u32; 2] = [10, 11];
