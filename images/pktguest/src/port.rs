//! I/O ports. The TSS opens all of them to CPL3; each access costs an exit.

use core::arch::asm;

/// Defines a read and a write of one width.
macro_rules! port_access {
    ($read:ident, $write:ident, $type:ty, $register:tt, $in:literal, $out:literal) => {
        /// Reads a port.
        pub fn $read(port: u16) -> $type {
            let value;
            // SAFETY: `in` touches no memory of ours; the ports used belong to this guest alone.
            unsafe {
                asm!($in, out($register) value, in("dx") port, options(nostack, preserves_flags));
            }
            value
        }

        /// Writes a port.
        pub fn $write(port: u16, value: $type) {
            // SAFETY: as for reads; no port used here starts DMA.
            unsafe {
                asm!($out, in($register) value, in("dx") port, options(nostack, preserves_flags));
            }
        }
    };
}

port_access!(read8, write8, u8, "al", "in al, dx", "out dx, al");
port_access!(read32, write32, u32, "eax", "in eax, dx", "out dx, eax");
