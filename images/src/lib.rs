//! Guest images, built from source and embedded.

#![warn(missing_docs)]

/// The packet I/O guest, a static x86-64 ELF with a PVH entry: boots on vmm-core, and with
/// `qemu-system-x86_64 -kernel`. Configured on its kernel command line, reports JSON lines on COM1;
/// see `pktguest/README.md`.
pub const PKTGUEST: &[u8] = include_bytes!(env!("PKTGUEST_PATH"));

// The guest's logic that needs no hardware is tested here, on the host.
#[cfg(test)]
#[path = "../pktguest/src/bytes.rs"]
mod bytes;
#[cfg(test)]
#[path = "../pktguest/src/cmdline.rs"]
mod cmdline;
#[cfg(test)]
#[path = "../pktguest/src/frame.rs"]
mod frame;
#[cfg(test)]
#[path = "../pktguest/src/histogram.rs"]
mod histogram;
#[cfg(test)]
#[path = "../pktguest/src/json.rs"]
mod json;
#[cfg(test)]
#[path = "../pktguest/src/payload.rs"]
mod payload;
#[cfg(test)]
#[path = "../pktguest/src/sequence.rs"]
mod sequence;

#[cfg(test)]
mod tests {
    use super::PKTGUEST;

    #[test]
    fn the_image_is_an_elf_with_a_pvh_note() {
        assert!(PKTGUEST.starts_with(b"\x7fELF\x02\x01"));
        // Name size 4, descriptor size 8, type 18, "Xen": the note QEMU and our loader look for.
        let note = b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0";
        assert!(PKTGUEST.windows(note.len()).any(|window| window == note));
    }

    #[test]
    fn the_image_stays_small() {
        // Buffers and rings belong into .bss: they must not reach the file.
        assert!(PKTGUEST.len() < 512 * 1024, "{} bytes", PKTGUEST.len());
    }
}
