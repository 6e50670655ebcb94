//! The local APIC and the I/O APIC. KVM handles both in the kernel: an access costs a tenth of a
//! userspace exit. Registers: Intel SDM volume 3, chapter 11; 82093AA data sheet.

use crate::irq::{Events, SPURIOUS_VECTOR, TIMER_VECTOR};
use crate::mmio;
use crate::time::{self, Clock};

const LOCAL_APIC: usize = 0xfee0_0000;
const ID: usize = 0x20;
const TASK_PRIORITY: usize = 0x80;
const EOI: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;

const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const DIVIDE_BY_1: u32 = 0b1011;

/// How long to measure the timer's frequency.
const CALIBRATION_US: u64 = 1000;

const IO_APIC: usize = 0xfec0_0000;
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
const REDIRECTION: u32 = 0x10;

fn local(register: usize) -> u32 {
    // SAFETY: a local APIC register.
    unsafe { mmio::read(LOCAL_APIC + register) }
}

fn set_local(register: usize, value: u32) {
    // SAFETY: a local APIC register; the APIC touches no memory.
    unsafe { mmio::write(LOCAL_APIC + register, value) }
}

fn set_io(register: u32, value: u32) {
    // SAFETY: I/O APIC registers; it touches no memory.
    unsafe {
        mmio::write(IO_APIC + SELECT, register);
        mmio::write(IO_APIC + WINDOW, value);
    }
}

/// Enables the local APIC with everything but the timer masked.
pub fn enable() {
    set_local(LVT_LINT0, MASKED);
    set_local(LVT_LINT1, MASKED);
    set_local(TASK_PRIORITY, 0);
    set_local(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
}

/// Routes I/O APIC pin `pin` to `vector`.
///
/// Edge-triggered, although a NIC's INTx is a level: reading ICR clears all causes and drops the line, so
/// whatever comes next is a new edge and none is lost. Meanwhile a line that stays high cannot
/// interrupt again; KVM without VMX or SVM ends a level-triggered interrupt by itself as it delivers
/// it, and would deliver it for ever until the driver gets to read ICR.
pub fn route(pin: u8, vector: u8) {
    let register = REDIRECTION + 2 * u32::from(pin);
    set_io(register + 1, local(ID) & 0xff00_0000);
    set_io(register, vector.into());
}

/// Where a device writes a vector to interrupt us with it: the address of an MSI.
pub fn message_address() -> u32 {
    LOCAL_APIC as u32 | local(ID) >> 24 << 12
}

/// Ends a NIC's interrupt: the next may come.
pub fn end_of_interrupt() {
    set_local(EOI, 0);
}

/// The local APIC's one-shot timer: what ends a halt in time. There is one: of several values, only
/// one may be used.
#[derive(Clone)]
pub struct Timer {
    /// TSC ticks per timer count, in 2^-20ths.
    ticks_per_count: u64,
    /// The TSC time it was set to and the timer interrupts before that.
    armed: Option<(u64, u16)>,
}

impl Timer {
    /// Measures the timer's frequency against `clock`.
    pub fn new(clock: Clock) -> Self {
        set_local(DIVIDE, DIVIDE_BY_1);
        set_local(LVT_TIMER, MASKED | u32::from(TIMER_VECTOR));
        set_local(INITIAL_COUNT, u32::MAX);
        let (first, start) = time::sample(|| local(CURRENT_COUNT));
        let end = start + clock.ticks(CALIBRATION_US);
        while time::now() < end {}
        let (last, stop) = time::sample(|| local(CURRENT_COUNT));
        let counted = u64::from(first.wrapping_sub(last).max(1));
        set_local(INITIAL_COUNT, 0);
        set_local(LVT_TIMER, u32::from(TIMER_VECTOR));
        Self { ticks_per_count: (((stop - start) << 20) / counted).max(1), armed: None }
    }

    /// Makes sure an interrupt comes at TSC time `deadline` or earlier (then ask again).
    ///
    /// A timer that is set to an earlier time stays so: a wait that ends by an event then costs no
    /// access to the timer, and the next wait finds it armed.
    pub fn ensure(&mut self, deadline: u64) {
        let fired = Events::now().timer();
        if self.armed.is_some_and(|(at, before)| at <= deadline && before == fired) {
            return;
        }
        let now = time::now();
        let ticks = u128::from(deadline.saturating_sub(now));
        let count = (ticks << 20) / u128::from(self.ticks_per_count);
        // 1: a count of 0 would stop the timer. Half the range keeps an overlong wait in steps.
        let count = count.clamp(1, u128::from(u32::MAX / 2)) as u32;
        set_local(INITIAL_COUNT, count);
        let at = now + ((u128::from(count) * u128::from(self.ticks_per_count)) >> 20) as u64;
        self.armed = Some((at.min(deadline), fired));
    }
}
