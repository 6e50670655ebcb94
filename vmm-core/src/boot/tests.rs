use super::*;
use vm_memory::ByteValued;

const ENTRY: u32 = 0x10_0000;

/// A minimal PVH kernel: one segment at `paddr` and, if asked for, the note that names its entry.
pub(crate) fn kernel(paddr: u64, code: &[u8], zeroed: u64, note: bool) -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    const NOTE: usize = 20;
    let mut image = vec![0; HEADERS + NOTE];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(18, &62u16.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &2u16.to_le_bytes());
    let mut segment = |at: usize, kind: u32, offset: usize, paddr: u64, file: u64, memory: u64| {
        put(at, &kind.to_le_bytes());
        put(at + 8, &(offset as u64).to_le_bytes());
        put(at + 24, &paddr.to_le_bytes());
        put(at + 32, &file.to_le_bytes());
        put(at + 40, &memory.to_le_bytes());
    };
    segment(64, 1, HEADERS + NOTE, paddr, code.len() as u64, code.len() as u64 + zeroed);
    segment(64 + 56, if note { 4 } else { 0 }, HEADERS, 0, NOTE as u64, NOTE as u64);
    put(HEADERS, &[4u32.to_le_bytes(), 4u32.to_le_bytes(), 18u32.to_le_bytes()].concat());
    put(HEADERS + 12, b"Xen\0");
    put(HEADERS + 16, &ENTRY.to_le_bytes());
    image.extend_from_slice(code);
    image
}

fn ram() -> GuestRam {
    GuestRam::new(2 << 20).unwrap()
}

fn read<T: ByteValued>(ram: &GuestRam, addr: u64) -> T {
    ram.as_guest_memory().read_obj(GuestAddress(addr)).unwrap()
}

#[test]
fn a_kernel_is_loaded_with_its_boot_data() {
    let ram = ram();
    let entry = load(&ram, &kernel(0x10_0000, &[1, 2, 3, 4], 16, true), "role=tx sc=1").unwrap();
    assert_eq!(entry, Entry { address: u64::from(ENTRY), start_info: START_INFO_ADDR });
    assert_eq!(read::<u32>(&ram, 0x10_0000), 0x0403_0201);

    let info: hvm_start_info = read(&ram, START_INFO_ADDR);
    assert_eq!((info.magic, info.version), (0x336e_c578, 1));
    assert_eq!((info.nr_modules, info.rsdp_paddr), (0, 0));
    let cmdline: [u8; 13] = read(&ram, info.cmdline_paddr);
    assert_eq!(&cmdline, b"role=tx sc=1\0");
    assert_eq!(info.memmap_entries, 2);
    let ranges = [0, 24].map(|offset| {
        let entry: hvm_memmap_table_entry = read(&ram, info.memmap_paddr + offset);
        (entry.addr, entry.size, entry.type_)
    });
    assert_eq!(ranges, [(0, 0x9_fc00, 1), (0x10_0000, 0x10_0000, 1)]);
}

#[test]
fn what_is_not_an_elf_file_is_named_so() {
    let good = kernel(0x10_0000, &[0xf4], 0, true);
    let other_machine = {
        let mut image = good.clone();
        image[18] = 183;
        image
    };
    for image in [&b""[..], b"MZ and so on", &[0; 4096], &good[..100], &other_machine] {
        assert!(matches!(load(&ram(), image, ""), Err(BootError::NotElf)));
    }
}

#[test]
fn a_kernel_without_the_note_or_cut_short_is_refused() {
    let image = kernel(0x10_0000, &[0xf4; 64], 0, false);
    assert!(matches!(load(&ram(), &image, ""), Err(BootError::NoPvhNote)));
    let image = kernel(0x10_0000, &[0xf4; 64], 0, true);
    let cut = &image[..image.len() - 1];
    assert!(matches!(load(&ram(), cut, ""), Err(BootError::Broken { .. })));
}

#[test]
fn a_kernel_must_fit_between_the_boot_data_and_the_end_of_ram() {
    let ram = ram();
    let last_page = (2 << 20) - 4096;
    for (paddr, zeroed, fits) in [
        (last_page, 4095, true),
        (last_page, 4096, false),
        (0x6000, 0, false),
        (0x10_0000, u64::MAX / 2, false),
        (3 << 30, 0, false),
    ] {
        let result = load(&ram, &kernel(paddr, &[0xf4], zeroed, true), "");
        match result {
            Ok(_) => assert!(fits, "{paddr:#x}+{zeroed:#x}"),
            Err(error) => {
                assert!(!fits && matches!(error, BootError::DoesNotFit { .. }), "{error}");
            }
        }
    }
}

#[test]
fn the_command_line_has_limits() {
    let image = kernel(0x10_0000, &[0xf4], 0, true);
    let load = |cmdline: &str| load(&ram(), &image, cmdline);
    assert!(load(&"x".repeat(CMDLINE_MAX)).is_ok());
    let error = load(&"x".repeat(CMDLINE_MAX + 1)).unwrap_err();
    assert!(matches!(error, BootError::CmdlineTooLong { len } if len == CMDLINE_MAX + 1));
    assert!(matches!(load("a\0b"), Err(BootError::CmdlineNul)));
}

#[test]
fn pvh_starts_in_flat_protected_mode_without_paging() {
    let mut sregs = kvm_sregs { cr4: 0x20, efer: 0x500, cr0: 0x8000_0001, ..Default::default() };
    set_pvh_state(&mut sregs);
    assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (0x11, 0, 0));
    for segment in [sregs.cs, sregs.ds, sregs.es, sregs.ss] {
        assert_eq!((segment.base, segment.limit), (0, 0xffff_ffff));
        assert_eq!((segment.db, segment.g, segment.l, segment.present), (1, 1, 0, 1));
    }
    assert_eq!((sregs.tr.type_, sregs.tr.s, sregs.tr.limit), (0xb, 0, 0x67));
}
