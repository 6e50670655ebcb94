//! The files that a guest with a kernel of its own boots.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use vmm_core::boot::{self, BootError, Format, Kernel};

use crate::error::{Error, Exit};
use crate::topology::{Boot, Guest};

/// Reads what a guest boots. `platform` comes first on its command line.
pub fn kernel(guest: &Guest, boot: &Boot, platform: &str) -> Result<Kernel, Error> {
    let initrd = boot.initrd.as_deref();
    Ok(Kernel {
        image: read(guest, &boot.kernel)?.into(),
        initrd: initrd.map(|path| read(guest, path)).transpose()?.unwrap_or_default().into(),
        cmdline: format!("{platform} {}", boot.cmdline).trim().to_owned(),
    })
}

/// Whether what a guest boots can be read.
///
/// # Errors
/// [`Exit::InvalidFile`] if a file is not there, or larger than the guest's memory.
pub fn check(guest: &Guest) -> Result<(), Error> {
    let files =
        guest.boot().into_iter().flat_map(|boot| [Some(&boot.kernel), boot.initrd.as_ref()]);
    files.flatten().try_for_each(|path| open(guest, path).map(drop))
}

fn read(guest: &Guest, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = open(guest, path)?.read_to_end(&mut bytes);
    read.map_err(|error| cannot_read(path, error))?;
    Ok(bytes)
}

fn open(guest: &Guest, path: &Path) -> Result<File, Error> {
    let file = File::open(path).map_err(|error| cannot_read(path, error))?;
    let len = file.metadata().map_or(0, |file| file.len());
    // Before it takes that much of our own memory.
    if len > u64::from(guest.memory_mib) << 20 {
        let name = path.display();
        let why = format!("{name} does not fit into the memory of guest `{}`", guest.name);
        return Err(Error::new(Exit::InvalidFile, why).help("raise `memory`"));
    }
    Ok(file)
}

fn cannot_read(path: &Path, error: io::Error) -> Error {
    Error::new(Exit::InvalidFile, format!("cannot read {}", path.display())).because(error)
}

/// Which of its files a guest could not boot, and what to do about it.
pub fn boot_help(boot: &Boot, error: &BootError) -> String {
    let kernel = boot.kernel.display();
    match (error, &boot.initrd) {
        (BootError::InitrdDoesNotFit { .. }, Some(initrd)) => {
            format!("raise `memory`; the initrd is {}", initrd.display())
        }
        // What wants to lie below where RAM for kernels begins, no size of memory helps.
        (BootError::DoesNotFit { start, ram_start, .. }, _) if start >= ram_start => {
            format!("raise `memory`; the kernel is {kernel}")
        }
        (BootError::DoesNotFit { .. }, _) if is_no_kernel(&boot.kernel) => {
            format!("{kernel} is an ELF file without a PVH note, and no kernel")
        }
        _ => format!("the kernel is {kernel}"),
    }
}

/// Whether a file is an ELF file that does not say where PVH enters it. Of such only vmlinux is a kernel.
fn is_no_kernel(path: &Path) -> bool {
    let format = File::open(path).and_then(|mut file| boot::format(&mut file));
    format.is_ok_and(|format| format == Format::Elf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Nic, Overrides, System};

    fn guest(kernel: &Path, cmdline: &str) -> (Guest, Boot) {
        let (kernel, cmdline) = (kernel.to_owned(), cmdline.to_owned());
        let boot = Boot { kernel, cmdline, ..Boot::default() };
        let system = System::Linux(boot.clone());
        let optimizations = Overrides::default();
        let nics =
            vec![Nic { switch: 0, mac: [2; 6], optimizations, impairments: Default::default() }];
        (Guest { name: "a".into(), memory_mib: 64, optimizations, nics, system }, boot)
    }

    #[test]
    fn the_files_words_come_last_on_the_command_line() {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let (a, boot) = guest(&ours, "run=\"ip link\"");
        let kernel = kernel(&a, &boot, "quiet").unwrap();
        assert_eq!(kernel.cmdline, "quiet run=\"ip link\"");
        assert_eq!(*kernel.image, *std::fs::read(ours).unwrap());
        assert!(kernel.initrd.is_empty());
    }

    #[test]
    fn a_file_that_went_away_or_cannot_fit_is_named() {
        let (a, boot) = guest(Path::new("/no/such/vmlinuz"), "");
        let error = kernel(&a, &boot, "quiet").unwrap_err();
        assert_eq!(
            (error.exit(), error.to_string().as_str()),
            (Exit::InvalidFile, "cannot read /no/such/vmlinuz")
        );
        let own = std::env::current_exe().unwrap();
        let (mut a, boot) = guest(&own, "");
        a.memory_mib = 1;
        let error = kernel(&a, &boot, "quiet").unwrap_err();
        assert!(
            error.to_string().ends_with("does not fit into the memory of guest `a`"),
            "{error}"
        );
    }

    #[test]
    fn a_kernel_that_does_not_boot_is_named_with_the_way_out() {
        let (_, mut boot) = guest(Path::new("vmlinuz"), "");
        boot.initrd = Some("initrd.img".into());
        assert_eq!(boot_help(&boot, &BootError::UnknownFormat), "the kernel is vmlinuz");
        let (start, end, ram_start, ram_end) = (0, 2, 0, 1);
        let error = BootError::DoesNotFit { start, end, ram_start, ram_end };
        assert_eq!(boot_help(&boot, &error), "raise `memory`; the kernel is vmlinuz");
        let low = BootError::DoesNotFit { start, end, ram_start: 1, ram_end };
        assert_eq!(boot_help(&boot, &low), "the kernel is vmlinuz");
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/kernels/plain.elf");
        let help = boot_help(&Boot { kernel: golden.into(), ..boot.clone() }, &low);
        assert_eq!(help, format!("{golden} is an ELF file without a PVH note, and no kernel"));
        let error = BootError::InitrdDoesNotFit { len: 2, room: 1 };
        assert_eq!(boot_help(&boot, &error), "raise `memory`; the initrd is initrd.img");
    }
}
