//! Entry from the stub (`boot.S`) into Rust at CPL3, and where every ending leads.

use core::ffi::CStr;
use core::fmt::Display;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::json::Object;
use crate::serial::Serial;
use crate::{irq, run};

core::arch::global_asm!(
    include_str!("boot.S"),
    nic_vector = const irq::NIC_VECTORS[0],
    timer_vector = const irq::TIMER_VECTOR,
    link_vector = const irq::LINK_VECTOR,
    console_vector = const irq::CONSOLE_VECTOR,
    spurious_vector = const irq::SPURIOUS_VECTOR,
);

/// The part of PVH's `hvm_start_info` we use.
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    cmdline: u64,
}

const START_MAGIC: u32 = 0x336e_c578;
/// Memory below this is the supervisor's ...
const SUPERVISOR_END: u64 = 0x20_0000;
/// ... and readable at this distance (see `boot.S`, `pd_alias`).
const ALIAS_BASE: u64 = 0x4000_0000;
/// End of the user's identity-mapped memory.
const USER_END: u64 = 0x4000_0000;

/// Where CPL3 reads physical address `address`; `None` outside RAM the stub maps.
fn readable(address: u64) -> Option<usize> {
    let offset = if address < SUPERVISOR_END { ALIAS_BASE } else { 0 };
    (address != 0 && address < USER_END).then_some((address + offset) as usize)
}

fn cmdline(start_info: u64) -> Option<&'static CStr> {
    let info = readable(start_info)? as *const StartInfo;
    // SAFETY: PVH passes the address of a start_info structure; `readable` maps it for us, and
    // nobody writes it while the guest runs.
    let info = unsafe { info.read_unaligned() };
    if info.magic != START_MAGIC {
        return None;
    }
    let text = readable(info.cmdline)? as *const core::ffi::c_char;
    // SAFETY: PVH's command line is a NUL-terminated string in RAM that nobody writes.
    Some(unsafe { CStr::from_ptr(text) })
}

/// The first code at CPL3.
#[unsafe(no_mangle)]
extern "C" fn guest_main(start_info: u64) -> ! {
    let text = cmdline(start_info).and_then(|text| text.to_str().ok()).unwrap_or("");
    let Err(error) = run(text);
    fail(format_args!("{error}"))
}

/// Entered from the stub on any exception at CPL3 that is not a halt, and on any at CPL0.
#[unsafe(no_mangle)]
extern "C" fn guest_fault(vector: u64, error: u64, rip: u64, cr2: u64) -> ! {
    fail(format_args!("Exception {vector} at {rip:#x}, error code {error:#x}, CR2 {cr2:#x}"))
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"))
}

/// Prints one error line and stops the guest.
fn fail(message: impl Display) -> ! {
    static FAILING: AtomicBool = AtomicBool::new(false);
    // A fault while reporting a fault must not report for ever.
    if !FAILING.swap(true, Ordering::Relaxed) {
        let mut serial = Serial::open();
        // Whatever was being printed or typed ends here.
        serial.end_line();
        Object::event(&mut serial, "error").show("message", message).end();
    }
    irq::stop()
}
