use super::*;
use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use proptest::prelude::*;
use vm_memory::ByteValued;

use crate::platform::{PAGE_TABLES_ADDR, START_INFO_ADDR, ZERO_PAGE_ADDR};

const ENTRY: u32 = 0x10_0000;
const RAM: u64 = 2 << 20;

/// A minimal ELF kernel: one segment at `paddr` and, if asked for, the note that names its entry.
fn elf(paddr: u64, code: &[u8], zeroed: u64, note: bool) -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    const NOTE: usize = 20;
    let mut image = vec![0; HEADERS + NOTE];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(18, &62u16.to_le_bytes());
    put(24, &u64::from(ENTRY).to_le_bytes());
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

/// `code` at `paddr`, entered by PVH at 1 MiB.
pub(crate) fn pvh_kernel(paddr: u64, code: &[u8]) -> Kernel {
    image(elf(paddr, code, 0, true))
}

/// A minimal bzImage: one sector of setup, `code` behind it, and the fields that matter.
fn bzimage(init_size: u32, code: &[u8]) -> Vec<u8> {
    let code_len = code.len().next_multiple_of(16);
    let mut image = vec![0; 2 * 512 + code_len];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &(code_len as u32 / 16).to_le_bytes());
    put(0x1fe, &0xaa55u16.to_le_bytes());
    put(0x202, b"HdrS");
    put(0x206, &0x020fu16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &0x10_0000u64.to_le_bytes());
    put(0x260, &init_size.to_le_bytes());
    put(1024, code);
    image
}

fn image(image: Vec<u8>) -> Kernel {
    Kernel { image: image.into(), ..Kernel::default() }
}

fn ram() -> GuestRam {
    GuestRam::new(RAM).unwrap()
}

fn load_into(ram: &GuestRam, kernel: &Kernel) -> Result<Entry, BootError> {
    load(ram, kernel, 1)
}

fn refused(kernel: &Kernel) -> BootError {
    load_into(&ram(), kernel).unwrap_err()
}

fn read<T: ByteValued>(ram: &GuestRam, addr: u64) -> T {
    ram.as_guest_memory().read_obj(GuestAddress(addr)).unwrap()
}

fn bytes(ram: &GuestRam, addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ram.as_guest_memory().read_slice(&mut bytes, GuestAddress(addr)).unwrap();
    bytes
}

#[test]
fn an_elf_kernel_with_the_note_gets_what_pvh_promises() {
    let ram = ram();
    let mut kernel = image(elf(0x10_0000, &[1, 2, 3, 4], 16, true));
    kernel.cmdline = "role=tx sc=1".into();
    let entry = load_into(&ram, &kernel).unwrap();
    assert_eq!(entry, Entry::Pvh { address: u64::from(ENTRY), start_info: START_INFO_ADDR });
    assert_eq!(read::<u32>(&ram, 0x10_0000), 0x0403_0201);

    let info: hvm_start_info = read(&ram, START_INFO_ADDR);
    assert_eq!((info.magic, info.version), (0x336e_c578, 1));
    assert_eq!((info.nr_modules, info.rsdp_paddr), (0, 0));
    assert_eq!(bytes(&ram, info.cmdline_paddr, 13), b"role=tx sc=1\0");
    assert_eq!(info.memmap_entries, 2);
    let ranges = [0, 24].map(|offset| {
        let entry: hvm_memmap_table_entry = read(&ram, info.memmap_paddr + offset);
        (entry.addr, entry.size, entry.type_)
    });
    assert_eq!(ranges, [(0, 0x9_fc00, 1), (0x10_0000, 0x10_0000, 1)]);
    assert_eq!(bytes(&ram, 0x9_fc00, 4), b"_MP_");
}

#[test]
fn pvh_lists_an_initrd_as_its_first_module() {
    let ram = ram();
    let kernel = Kernel { initrd: b"cpio"[..].into(), ..pvh_kernel(0x10_0000, &[0xf4]) };
    load_into(&ram, &kernel).unwrap();
    let info: hvm_start_info = read(&ram, START_INFO_ADDR);
    assert_eq!(info.nr_modules, 1);
    let module: hvm_modlist_entry = read(&ram, info.modlist_paddr);
    assert_eq!((module.paddr, module.size, module.cmdline_paddr), (RAM - 4096, 4, 0));
    assert_eq!(bytes(&ram, module.paddr, 4), b"cpio");
}

#[test]
fn a_bzimage_gets_a_zero_page() {
    let ram = ram();
    let code: Vec<u8> = (0..=255).cycle().take(0x300).collect();
    let kernel = Kernel {
        image: bzimage(0x1_0000, &code).into(),
        initrd: vec![7; 5000].into(),
        cmdline: "console=ttyS0".into(),
    };
    let entry = load_into(&ram, &kernel).unwrap();
    assert_eq!(entry, Entry::Linux64 { address: 0x10_0200, zero_page: ZERO_PAGE_ADDR });
    assert_eq!(bytes(&ram, 0x10_0000, code.len()), code);

    let page: boot_params = read(&ram, ZERO_PAGE_ADDR);
    let header = page.hdr;
    let (magic, version, loader) = (header.header, header.version, header.type_of_loader);
    assert_eq!((magic, version, loader), (0x5372_6448, 0x020f, 0xff));
    let (start, address, size) = (header.code32_start, header.ramdisk_image, header.ramdisk_size);
    assert_eq!((start, u64::from(address), size), (0x10_0000, RAM - 8192, 5000));
    assert_eq!(bytes(&ram, address.into(), 5000), [7; 5000]);
    assert_eq!(bytes(&ram, header.cmd_line_ptr.into(), 14), b"console=ttyS0\0");
    assert_eq!(page.e820_entries, 2);
    let map = [0, 1].map(|i| {
        let entry = page.e820_table[i];
        (entry.addr, entry.size, entry.r#type)
    });
    assert_eq!(map, [(0, 0x9_fc00, 1), (0x10_0000, 0x10_0000, 1)]);
    assert_eq!(bytes(&ram, 0x9_fc00, 4), b"_MP_");
}

#[test]
fn an_elf_kernel_without_the_note_starts_in_64_bit_mode() {
    let ram = ram();
    let entry = load_into(&ram, &image(elf(0x10_0000, &[0xf4; 64], 0, false))).unwrap();
    assert_eq!(entry, Entry::Linux64 { address: ENTRY.into(), zero_page: ZERO_PAGE_ADDR });
    let page: boot_params = read(&ram, ZERO_PAGE_ADDR);
    let header = page.hdr;
    let (magic, flag, initrd) = (header.header, header.boot_flag, header.ramdisk_size);
    assert_eq!((magic, flag, initrd), (0x5372_6448, 0xaa55, 0));
}

#[test]
fn long_mode_maps_4_gib_to_themselves() {
    let ram = ram();
    entry::write_long_mode_tables(&ram.as_guest_memory()).unwrap();
    let entry_at = |table: u64, index: u64| {
        let entry: u64 = read(&ram, table + 8 * index);
        assert_eq!(entry & 3, 3, "present and writable");
        entry & !0xfff
    };
    for address in [0, 0x10_0000, 0x3fff_ffff, 0x8000_0000, 0xbfff_f000, 0xffff_ffff_u64] {
        let pointers = entry_at(PAGE_TABLES_ADDR, address >> 39);
        let directory = entry_at(pointers, address >> 30 & 0x1ff);
        let page: u64 = read(&ram, directory + 8 * (address >> 21 & 0x1ff));
        assert_eq!(page, address & !0x1f_ffff | 0x83, "a page of 2 MiB for {address:#x}");
    }
    assert_eq!(read::<u64>(&ram, PAGE_TABLES_ADDR + 8), 0, "nothing above");
}

#[test]
fn what_is_no_kernel_is_named_so() {
    let good = elf(0x10_0000, &[0xf4], 0, true);
    let mut other_machine = good.clone();
    other_machine[18] = 183;
    let mut zimage = bzimage(0, &[0; 0x300]);
    zimage[0x202] = 0;
    for bytes in [vec![], b"MZ and so on".to_vec(), vec![0; 4096], other_machine, zimage] {
        assert!(matches!(refused(&image(bytes)), BootError::UnknownFormat));
    }
}

#[test]
fn a_format_is_known_by_headers_alone() {
    let is = |bytes: &[u8]| super::format(&mut std::io::Cursor::new(bytes)).unwrap();
    assert_eq!(is(&elf(0x10_0000, &[0xf4], 0, true)), Format::PvhElf);
    assert_eq!(is(&elf(0x10_0000, &[0xf4], 0, false)), Format::Elf);
    assert_eq!(is(&bzimage(0, &[0; 0x300])), Format::BzImage);
    for none in [&b""[..], b"no kernel", &[0; 4096], b"\x7fELF", &bzimage(0, &[])[..0x200]] {
        assert_eq!(is(none), Format::Unknown);
    }
    // Cut short it may lose its note, but nothing breaks.
    let good = elf(0x10_0000, &[0xf4; 64], 0, true);
    for len in 0..good.len() {
        is(&good[..len]);
    }
}

#[test]
fn a_kernel_that_is_cut_short_is_refused() {
    let good = elf(0x10_0000, &[0xf4; 64], 0, true);
    for len in [40, 100, good.len() - 1] {
        let error = refused(&image(good[..len].to_vec()));
        assert!(matches!(error, BootError::BrokenElf { .. }), "{len}: {error}");
    }
    let good = bzimage(0x1_0000, &[0xf4; 0x300]);
    for len in [good.len() - 1, 1024] {
        let error = refused(&image(good[..len].to_vec()));
        assert!(matches!(error, BootError::BzImageCutShort { .. }), "{len}: {error}");
    }
}

#[test]
fn a_bzimage_must_have_a_64_bit_entry() {
    let mut old = bzimage(0, &[0; 0x300]);
    old[0x206] = 0x0b;
    let mut bits32 = bzimage(0, &[0; 0x300]);
    bits32[0x236] = 0;
    for bytes in [old, bits32] {
        let error = refused(&image(bytes));
        assert!(matches!(error, BootError::NotBootableIn64Bit { .. }), "{error}");
    }
}

#[test]
fn the_entry_must_be_part_of_the_kernel() {
    let error = refused(&pvh_kernel(0x11_0000, &[0xf4]));
    assert!(matches!(error, BootError::EntryOutside { address: 0x10_0000 }), "{error}");
}

#[test]
fn a_kernel_must_fit_between_the_boot_data_and_the_end_of_ram() {
    for (paddr, zeroed, fits) in [
        (0x10_0000, 0xf_ffff, true),
        (0x10_0000, 0x10_0000, false),
        (0x6000, 0, false),
        (0x10_0000, u64::MAX / 2, false),
        (3 << 30, 0, false),
    ] {
        let result = load_into(&ram(), &image(elf(paddr, &[0xf4], zeroed, true)));
        match result {
            Ok(_) => assert!(fits, "{paddr:#x}+{zeroed:#x}"),
            Err(error) => {
                assert!(!fits && matches!(error, BootError::DoesNotFit { .. }), "{error}");
            }
        }
    }
    let needs_more = bzimage(0x10_0001, &[0; 0x300]);
    assert!(matches!(refused(&image(needs_more)), BootError::DoesNotFit { end: 0x20_0001, .. }));
    assert!(load_into(&ram(), &image(bzimage(0x10_0000, &[0; 0x300]))).is_ok());
}

#[test]
fn an_initrd_must_fit_above_the_kernel() {
    let with_initrd =
        |len| Kernel { initrd: vec![1; len].into(), ..image(bzimage(0xf_0000, &[0; 0x300])) };
    assert!(load_into(&ram(), &with_initrd(0x1_0000)).is_ok());
    let error = refused(&with_initrd(0x1_0001));
    let BootError::InitrdDoesNotFit { len: 0x1_0001, room: 0x1_0000 } = error else {
        panic!("{error}")
    };
    let mut low = bzimage(0, &[0; 0x300]);
    low[0x22c..0x230].copy_from_slice(&0x17_ffffu32.to_le_bytes());
    let ram = ram();
    load_into(&ram, &Kernel { initrd: vec![1; 10].into(), ..image(low) }).unwrap();
    let page: boot_params = read(&ram, ZERO_PAGE_ADDR);
    let address = page.hdr.ramdisk_image;
    assert_eq!(address, 0x17_f000, "the kernel's own limit");
}

#[test]
fn the_command_line_has_limits() {
    let with = |image: Vec<u8>, cmdline: &str| {
        let cmdline = cmdline.to_owned();
        load_into(&ram(), &Kernel { image: image.into(), cmdline, ..Kernel::default() })
    };
    for (image, limit) in
        [(elf(0x10_0000, &[0xf4], 0, true), CMDLINE_MAX), (bzimage(0, &[0; 0x300]), 2047)]
    {
        assert!(with(image.clone(), &"x".repeat(limit)).is_ok());
        let error = with(image.clone(), &"x".repeat(limit + 1)).unwrap_err();
        let BootError::CmdlineTooLong { len, max } = error else { panic!("{error}") };
        assert_eq!((len, max), (limit + 1, limit));
        assert!(matches!(with(image, "a\0b"), Err(BootError::CmdlineNul)));
    }
}

fn state(entry: Entry) -> (kvm_bindings::kvm_sregs, kvm_bindings::kvm_regs) {
    let mut sregs = kvm_bindings::kvm_sregs::default();
    (sregs.cr0, sregs.cr4, sregs.efer) = (0x6000_0010, 0x20, 0x500);
    let regs = entry.set_state(&mut sregs);
    (sregs, regs)
}

#[test]
fn pvh_starts_in_flat_protected_mode_without_paging() {
    let (sregs, regs) = state(Entry::Pvh { address: 0x10_0000, start_info: 0x6000 });
    assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (0x11, 0, 0));
    for segment in [sregs.cs, sregs.ds, sregs.es, sregs.ss] {
        assert_eq!((segment.base, segment.limit), (0, 0xffff_ffff));
        assert_eq!((segment.db, segment.g, segment.l, segment.present), (1, 1, 0, 1));
    }
    assert_eq!((sregs.tr.type_, sregs.tr.s, sregs.tr.limit), (0xb, 0, 0x67));
    assert_eq!((regs.rip, regs.rbx, regs.rflags), (0x10_0000, 0x6000, 2));
}

#[test]
fn linux_starts_in_long_mode_with_its_own_selectors() {
    let (sregs, regs) = state(Entry::Linux64 { address: 0x10_0200, zero_page: 0x8000 });
    assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (0x8000_0011, 0x20, 0x500));
    assert_eq!(sregs.cr3, PAGE_TABLES_ADDR);
    assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.cs.db), (0x10, 1, 0));
    for segment in [sregs.ds, sregs.es, sregs.ss] {
        assert_eq!((segment.selector, segment.type_, segment.present), (0x18, 3, 1));
    }
    assert_eq!((regs.rip, regs.rsi, regs.rflags), (0x10_0200, 0x8000, 2));
    // The descriptors in memory are the ones in the registers.
    let ram = ram();
    entry::write_long_mode_tables(&ram.as_guest_memory()).unwrap();
    assert_eq!(u64::from(sregs.gdt.limit), 4 * 8 - 1);
    assert_eq!(read::<u64>(&ram, sregs.gdt.base + 0x10), 0x00af_9b00_0000_ffff);
    assert_eq!(read::<u64>(&ram, sregs.gdt.base + 0x18), 0x00cf_9300_0000_ffff);
}

/// A good image with a few bytes replaced, cut or extended: past the first checks it must still
/// never be trusted.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        any::<bool>().prop_map(|note| elf(0x10_0000, &[0xf4; 64], 100, note)),
        Just(bzimage(0x1_0000, &[0xf4; 0x300])),
        proptest::collection::vec(any::<u8>(), 0..2048),
    ];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12);
    (good, edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut image, edits, end, cut)| {
            // Most edits go to the headers.
            let head = image.len().min(0x280);
            for (at, byte) in edits.iter().filter(|_| head > 0) {
                image[at.index(head)] = *byte;
            }
            if cut && !image.is_empty() {
                image.truncate(end.index(image.len()));
            }
            image
        },
    )
}

proptest! {
    #[test]
    fn no_image_breaks_the_loader(bytes in damaged(), initrd in 0usize..0x12_0000) {
        let _ = super::format(&mut std::io::Cursor::new(&bytes));
        let ram = ram();
        let kernel = Kernel { initrd: vec![1; initrd].into(), ..image(bytes) };
        // What is accepted is entered inside RAM, above the boot data.
        if let Ok(Entry::Pvh { address, .. } | Entry::Linux64 { address, .. }) =
            load_into(&ram, &kernel)
        {
            prop_assert!((HIGH_RAM_START..RAM).contains(&address));
        }
    }
}
