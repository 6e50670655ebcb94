//! The internal copper PHY, a Marvell 88E1000, and MDIC, the register that leads to it (manual
//! 13.4.7 and chapter 11; IEEE 802.3 clauses 22, 28 and 40).
//!
//! The cable leads to a port that offers every speed and both duplex modes but no PAUSE, and follows
//! a forced speed as well. Negotiation takes no time: the link is lost and back within one access,
//! which only the latching bits and the link status change interrupt tell.

/// Bits of MDIC.
mod mdic {
    pub const OP_WRITE: u32 = 0b01;
    pub const OP_READ: u32 = 0b10;
    pub const READY: u32 = 1 << 28;
    pub const INTERRUPT_ENABLE: u32 = 1 << 29;
    pub const ERROR: u32 = 1 << 30;
    /// Data, register, PHY address, operation and interrupt enable.
    pub const WRITABLE: u32 = 0x2fff_ffff;
}

/// The only PHY on the bus answers at this address.
const PHY_ADDRESS: u32 = 1;

/// PHY registers, by their names in the manual.
mod reg {
    pub const PCTRL: usize = 0;
    pub const PSTATUS: usize = 1;
    pub const PID: usize = 2;
    pub const EPID: usize = 3;
    pub const ANA: usize = 4;
    pub const LPA: usize = 5;
    pub const ANE: usize = 6;
    pub const NPT: usize = 7;
    pub const GCON: usize = 9;
    pub const GSTATUS: usize = 10;
    pub const EPSTATUS: usize = 15;
    pub const PSCON: usize = 16;
    pub const PSSTAT: usize = 17;
    pub const PINTE: usize = 18;
    pub const PINTS: usize = 19;
    pub const EPSCON1: usize = 20;
    pub const EPSCON2: usize = 26;
    pub const R30PS: usize = 29;
    pub const R30AW: usize = 30;
}

/// PHY control, register 0.
mod control {
    pub const RESET: u16 = 1 << 15;
    pub const LOOPBACK: u16 = 1 << 14;
    pub const SPEED_LOW: u16 = 1 << 13;
    pub const AUTONEG: u16 = 1 << 12;
    pub const POWER_DOWN: u16 = 1 << 11;
    pub const ISOLATE: u16 = 1 << 10;
    pub const RESTART: u16 = 1 << 9;
    pub const FULL_DUPLEX: u16 = 1 << 8;
    pub const COLLISION_TEST: u16 = 1 << 7;
    pub const SPEED_HIGH: u16 = 1 << 6;

    /// What a reset through bit 15 clears, were it written with it.
    pub const CLEARED_BY_RESET: u16 = LOOPBACK | POWER_DOWN | ISOLATE | COLLISION_TEST;
    pub const WRITABLE: u16 = CLEARED_BY_RESET | SPEED_LOW | AUTONEG | FULL_DUPLEX | SPEED_HIGH;
}

/// PHY status, register 1.
mod status {
    /// 10 and 100 Mb/s in both duplex modes, extended status, no preamble needed, negotiates.
    pub const ABILITIES: u16 = 0x7949;
    pub const AUTONEG_DONE: u16 = 1 << 5;
    pub const LINK: u16 = 1 << 2;
}

/// Speeds that registers 4, 5, 9 and 10 offer.
mod ability {
    pub const T10_HALF: u16 = 1 << 5;
    pub const T10_FULL: u16 = 1 << 6;
    pub const T100_HALF: u16 = 1 << 7;
    pub const T100_FULL: u16 = 1 << 8;
    pub const T1000_HALF: u16 = 1 << 8;
    pub const T1000_FULL: u16 = 1 << 9;
}

/// Negotiation expansion, register 6.
mod expansion {
    pub const LOCAL_NEXT_PAGE: u16 = 1 << 2;
    pub const PAGE_RECEIVED: u16 = 1 << 1;
    /// The partner negotiates and knows next pages.
    pub const PARTNER: u16 = 1 << 3 | 1 << 0;
}

/// PHY interrupt causes, registers 18 and 19.
mod interrupt {
    pub const SPEED: u16 = 1 << 14;
    pub const DUPLEX: u16 = 1 << 13;
    pub const PAGE_RECEIVED: u16 = 1 << 12;
    pub const AUTONEG_DONE: u16 = 1 << 11;
    pub const LINK: u16 = 1 << 10;
}

/// Base page of the partner: next page, acknowledge, 10 and 100 Mb/s in both duplex modes.
const PARTNER_BASE_PAGE: u16 = 0xc1e1;
/// Register 10: the partner does 1000BASE-T in both duplex modes.
const PARTNER_1000T: u16 = 0x0c00;
/// Register 10: local and remote receiver in order.
const RECEIVERS_OK: u16 = 0x3000;
/// Register 9: master by manual configuration; register 10: master.
const MANUAL_MASTER: u16 = 0x1800;
const MASTER: u16 = 1 << 14;

/// What each register holds after a hardware reset; those not named hold 0.
const RESET_VALUES: [(usize, u16); 12] = [
    (reg::PCTRL, control::AUTONEG | control::FULL_DUPLEX | control::SPEED_HIGH),
    (reg::PSTATUS, status::ABILITIES),
    (reg::PID, 0x0141),
    (reg::EPID, 0x0c20),
    (reg::ANA, 0x0de1),
    (reg::ANE, expansion::LOCAL_NEXT_PAGE),
    (reg::NPT, 0x2001),
    (reg::GCON, 0x0e00),
    (reg::EPSTATUS, 0x3000),
    (reg::PSCON, 0x0360),
    (reg::EPSCON1, 0x0d60),
    (reg::EPSCON2, 0x000a),
];

/// Which bits of a register software may change.
fn writable(register: usize) -> u16 {
    match register {
        reg::PCTRL => control::WRITABLE,
        reg::ANA => 0xade0,
        reg::NPT => 0xb7ff,
        reg::GCON => 0xff00,
        reg::R30PS => 0x001f,
        reg::PSCON | reg::PINTE | reg::EPSCON1 | reg::EPSCON2 => 0xffff,
        _ => 0,
    }
}

/// Speed of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// 10BASE-T.
    Mbps10,
    /// 100BASE-TX.
    Mbps100,
    /// 1000BASE-T.
    Mbps1000,
}

impl Speed {
    /// As PHY registers (and STATUS.SPEED) encode it.
    pub fn code(self) -> u16 {
        match self {
            Self::Mbps10 => 0b00,
            Self::Mbps100 => 0b01,
            Self::Mbps1000 => 0b10,
        }
    }
}

/// How a link runs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mode {
    speed: Speed,
    full_duplex: bool,
}

impl Mode {
    /// What the speed and duplex bits of register 0 ask for; the reserved code means the fastest.
    fn forced(control: u16) -> Self {
        let speed = match (control & control::SPEED_HIGH != 0, control & control::SPEED_LOW != 0) {
            (false, false) => Speed::Mbps10,
            (false, true) => Speed::Mbps100,
            (true, _) => Speed::Mbps1000,
        };
        Self { speed, full_duplex: control & control::FULL_DUPLEX != 0 }
    }

    /// The best that registers 4 and 9 offer (802.3 annex 28B.3): the partner offers everything.
    fn negotiated(advertised: u16, advertised_1000t: u16) -> Option<Self> {
        use Speed::*;
        [
            (advertised_1000t & ability::T1000_FULL, Mbps1000, true),
            (advertised_1000t & ability::T1000_HALF, Mbps1000, false),
            (advertised & ability::T100_FULL, Mbps100, true),
            (advertised & ability::T100_HALF, Mbps100, false),
            (advertised & ability::T10_FULL, Mbps10, true),
            (advertised & ability::T10_HALF, Mbps10, false),
        ]
        .into_iter()
        .find(|(offered, ..)| *offered != 0)
        .map(|(_, speed, full_duplex)| Self { speed, full_duplex })
    }
}

/// What a write to MDIC did beyond the registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MdicEffect {
    /// The access is done and asked for an interrupt (MDAC).
    pub done_interrupt: bool,
    /// The link went up or down, or down and up again (LSC).
    pub link_changed: bool,
}

/// The PHY.
#[derive(Clone, Debug)]
pub struct Phy {
    mdic: u32,
    registers: [u16; 32],
    /// Register 30, a window on analogue settings that register 29 moves. Only stored.
    window: [u16; 32],
    cable: bool,
    /// Whether the link is negotiated, how it runs if there is one, and which side gives the clock
    /// of 1000BASE-T: the settings in force, see [`Self::relink`].
    negotiates: bool,
    wire: Option<Mode>,
    master: bool,
    /// The link was lost since register 1 was read last.
    link_lost: bool,
}

impl Phy {
    /// A PHY after power-on, its cable out.
    pub fn new() -> Self {
        let mut phy = Self {
            mdic: 0,
            registers: [0; 32],
            window: [0; 32],
            cable: false,
            negotiates: true,
            wire: None,
            master: false,
            link_lost: true,
        };
        phy.load_reset_values();
        phy
    }

    /// MDIC.
    pub fn mdic(&self) -> u32 {
        self.mdic
    }

    /// Writes MDIC, which starts an access to a PHY register. It is done when MDIC is next read.
    pub fn set_mdic(&mut self, value: u32) -> MdicEffect {
        self.mdic = value & mdic::WRITABLE | mdic::READY;
        let register = (value >> 16) as usize & 0x1f;
        let present = (value >> 21) & 0x1f == PHY_ADDRESS;
        let mut link_changed = false;
        match (value >> 26) & 0b11 {
            mdic::OP_READ if present => {
                self.mdic = self.mdic & !0xffff | u32::from(self.read(register));
            }
            mdic::OP_WRITE if present => link_changed = self.write(register, value as u16),
            _ => self.mdic |= mdic::ERROR,
        }
        MdicEffect { done_interrupt: value & mdic::INTERRUPT_ENABLE != 0, link_changed }
    }

    /// CTRL.PHY_RST: everything restarts but the cable. True if the link changed.
    pub fn reset(&mut self) -> bool {
        self.load_reset_values();
        self.link_lost = true;
        self.relink()
    }

    /// Plugs the cable in or out. True if the link changed.
    pub fn set_cable(&mut self, plugged: bool) -> bool {
        let moved = self.cable != plugged;
        self.cable = plugged;
        moved && self.relink()
    }

    /// Whether the MAC has a link. Loopback breaks it, and so does isolating the PHY from the MAC.
    pub fn link(&self) -> bool {
        self.wire.is_some() && self.control() & control::ISOLATE == 0
    }

    /// Whether the PHY returns to the MAC what that sends.
    pub fn loopback(&self) -> bool {
        const OFF: u16 = control::POWER_DOWN | control::ISOLATE;
        self.control() & (control::LOOPBACK | OFF) == control::LOOPBACK
    }

    /// Speed of the link, or without one what register 0 asks for.
    pub fn speed(&self) -> Speed {
        self.mode().speed
    }

    /// Duplex mode of the link, or without one what register 0 asks for.
    pub fn full_duplex(&self) -> bool {
        self.mode().full_duplex
    }

    fn mode(&self) -> Mode {
        self.wire.unwrap_or_else(|| Mode::forced(self.control()))
    }

    fn control(&self) -> u16 {
        self.registers[reg::PCTRL]
    }

    fn load_reset_values(&mut self) {
        self.registers = [0; 32];
        self.window = [0; 32];
        for (register, value) in RESET_VALUES {
            self.registers[register] = value;
        }
    }

    /// Breaks the link and establishes it anew if it can be. Only this puts the speed, duplex and
    /// negotiation settings into force (manual 11.1.3). True if there was or is a link.
    fn relink(&mut self) -> bool {
        let before = self.wire;
        let control = self.control();
        let broken = control & (control::POWER_DOWN | control::LOOPBACK) != 0;
        self.negotiates = control & control::AUTONEG != 0;
        // The partner, a switch, is master unless told otherwise.
        self.master = self.registers[reg::GCON] & MANUAL_MASTER == MANUAL_MASTER;
        self.wire = match () {
            () if !self.cable || broken => None,
            () if self.negotiates => {
                Mode::negotiated(self.registers[reg::ANA], self.registers[reg::GCON])
            }
            () => Some(Mode::forced(control)),
        };
        self.link_lost |= before.is_some();
        self.latch_events(before);
        before.is_some() || self.wire.is_some()
    }

    /// Registers 6 and 19: what happened since they were read.
    fn latch_events(&mut self, before: Option<Mode>) {
        let mut events = if before.or(self.wire).is_some() { interrupt::LINK } else { 0 };
        if let Some(now) = self.wire {
            if self.negotiates {
                events |= interrupt::AUTONEG_DONE | interrupt::PAGE_RECEIVED;
                self.registers[reg::ANE] |= expansion::PAGE_RECEIVED;
            }
            if before.is_none_or(|before| before.speed != now.speed) {
                events |= interrupt::SPEED;
            }
            if before.is_none_or(|before| before.full_duplex != now.full_duplex) {
                events |= interrupt::DUPLEX;
            }
        }
        self.registers[reg::PINTS] |= events;
    }

    fn read(&mut self, register: usize) -> u16 {
        let stored = self.registers[register];
        let partner = self.wire.filter(|_| self.negotiates);
        match register {
            reg::PSTATUS => {
                let lost = std::mem::take(&mut self.link_lost);
                let link = if self.wire.is_some() && !lost { status::LINK } else { 0 };
                stored | link | partner.map_or(0, |_| status::AUTONEG_DONE)
            }
            reg::LPA => partner.map_or(0, |_| PARTNER_BASE_PAGE),
            reg::ANE => {
                self.registers[register] &= !expansion::PAGE_RECEIVED;
                stored | partner.map_or(0, |_| expansion::PARTNER)
            }
            reg::GSTATUS => partner.map_or(0, |_| PARTNER_1000T) | self.gigabit_status(),
            reg::PSSTAT => self.specific_status(),
            reg::PINTS => std::mem::take(&mut self.registers[register]),
            reg::R30AW => self.window[self.page()],
            _ => stored,
        }
    }

    /// Register 10, the link's part.
    fn gigabit_status(&self) -> u16 {
        match self.wire {
            Some(Mode { speed: Speed::Mbps1000, .. }) if self.master => RECEIVERS_OK | MASTER,
            Some(Mode { speed: Speed::Mbps1000, .. }) => RECEIVERS_OK,
            _ => 0,
        }
    }

    /// Register 17: how the link runs right now. The cable is shorter than 50 m, not crossed, of
    /// normal polarity, and carries every speed (no downshift).
    fn specific_status(&self) -> u16 {
        const DUPLEX: u16 = 1 << 13;
        const RESOLVED: u16 = 1 << 11;
        const LINK: u16 = 1 << 10;
        let bits = |mode: Mode| {
            mode.speed.code() << 14 | if mode.full_duplex { DUPLEX } else { 0 } | RESOLVED
        };
        match self.wire {
            Some(mode) => bits(mode) | LINK,
            None if !self.negotiates => bits(Mode::forced(self.control())),
            None => 0,
        }
    }

    fn page(&self) -> usize {
        usize::from(self.registers[reg::R30PS] & writable(reg::R30PS))
    }

    /// True if the link changed.
    fn write(&mut self, register: usize, value: u16) -> bool {
        match register {
            reg::PCTRL => return self.write_control(value),
            reg::R30AW => self.window[self.page()] = value,
            _ => {
                let mask = writable(register);
                let stored = &mut self.registers[register];
                *stored = *stored & !mask | value & mask;
            }
        }
        false
    }

    fn write_control(&mut self, value: u16) -> bool {
        let before = self.control();
        let link = self.link();
        let reset = value & control::RESET != 0;
        let cleared = if reset { control::CLEARED_BY_RESET } else { 0 };
        self.registers[reg::PCTRL] = value & control::WRITABLE & !cleared;
        let switched = (before ^ self.control()) & (control::POWER_DOWN | control::LOOPBACK) != 0;
        let restart = value & control::RESTART != 0 && value & control::AUTONEG != 0;
        let relinked = (reset || restart || switched) && self.relink();
        relinked || link != self.link()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(phy: &mut Phy, operation: u32, register: usize, data: u16) -> MdicEffect {
        let value = operation << 26 | PHY_ADDRESS << 21 | (register as u32) << 16;
        let effect = phy.set_mdic(value | u32::from(data));
        assert_eq!(phy.mdic() & (mdic::READY | mdic::ERROR), mdic::READY);
        effect
    }

    fn read(phy: &mut Phy, register: usize) -> u16 {
        access(phy, mdic::OP_READ, register, 0);
        phy.mdic() as u16
    }

    /// True if the link changed.
    fn write(phy: &mut Phy, register: usize, data: u16) -> bool {
        access(phy, mdic::OP_WRITE, register, data).link_changed
    }

    /// As drivers read register 1: twice, for the latch.
    fn link_up(phy: &mut Phy) -> bool {
        read(phy, reg::PSTATUS);
        read(phy, reg::PSTATUS) & status::LINK != 0
    }

    /// A PHY with its link up and its latches read.
    fn linked() -> Phy {
        let mut phy = Phy::new();
        assert!(phy.set_cable(true));
        for register in [reg::PSTATUS, reg::ANE, reg::PINTS] {
            read(&mut phy, register);
        }
        phy
    }

    #[test]
    fn power_on_values() {
        let mut phy = Phy::new();
        let expected = [
            (reg::PCTRL, 0x1140),
            (reg::PSTATUS, 0x7949),
            (reg::PID, 0x0141),
            (reg::EPID, 0x0c20),
            (reg::ANA, 0x0de1),
            (reg::LPA, 0),
            (reg::ANE, 0x0004),
            (reg::NPT, 0x2001),
            (8, 0),
            (reg::GCON, 0x0e00),
            (reg::GSTATUS, 0),
            (reg::EPSTATUS, 0x3000),
            (reg::PSCON, 0x0360),
            (reg::PSSTAT, 0),
            (21, 0),
            (31, 0),
        ];
        for (register, value) in expected {
            assert_eq!(read(&mut phy, register), value, "register {register}");
        }
        assert!(!phy.link());
    }

    #[test]
    fn the_cable_brings_the_fastest_link() {
        let mut phy = Phy::new();
        assert!(phy.set_cable(true));
        assert!(!phy.set_cable(true), "no change");
        assert!(phy.link() && phy.full_duplex());
        assert_eq!(phy.speed(), Speed::Mbps1000);
        read(&mut phy, reg::PSTATUS);
        assert_eq!(read(&mut phy, reg::PSTATUS), 0x796d);
        assert_eq!(read(&mut phy, reg::LPA), 0xc1e1);
        assert_eq!(read(&mut phy, reg::GSTATUS), 0x3c00);
        assert_eq!(read(&mut phy, reg::PSSTAT), 0xac00);
    }

    #[test]
    fn link_status_latches_low_and_page_received_high() {
        let mut phy = linked();
        assert!(phy.set_cable(false));
        assert!(phy.set_cable(true));
        assert_eq!(read(&mut phy, reg::PSSTAT) & 0x0400, 0x0400, "register 17 is real time");
        assert_eq!(read(&mut phy, reg::PSTATUS) & status::LINK, 0);
        assert_eq!(read(&mut phy, reg::PSTATUS) & status::LINK, status::LINK);
        assert_eq!((read(&mut phy, reg::ANE), read(&mut phy, reg::ANE)), (0x000f, 0x000d));
        assert_eq!((read(&mut phy, reg::PINTS), read(&mut phy, reg::PINTS)), (0x7c00, 0));
    }

    #[test]
    fn negotiation_takes_the_best_that_is_advertised() {
        use Speed::*;
        let cases = [
            (0x0de1, 0x0300, Some((Mbps1000, true))),
            (0x0de1, 0x0100, Some((Mbps1000, false))),
            (0x0de1, 0x0000, Some((Mbps100, true))),
            (0x00e1, 0x0000, Some((Mbps100, false))),
            (0x0061, 0x0000, Some((Mbps10, true))),
            (0x0021, 0x0000, Some((Mbps10, false))),
            (0x0c01, 0x0000, None),
        ];
        for (advertised, advertised_1000t, expected) in cases {
            let mut phy = linked();
            write(&mut phy, reg::ANA, advertised);
            write(&mut phy, reg::GCON, advertised_1000t);
            assert_eq!(phy.speed(), Mbps1000, "nothing happens before the restart");
            assert!(write(&mut phy, reg::PCTRL, 0x1340));
            assert_eq!(read(&mut phy, reg::PCTRL), 0x1140, "the restart bit clears itself");
            let result = phy.link().then(|| (phy.speed(), phy.full_duplex()));
            assert_eq!(result, expected, "{advertised:#x} {advertised_1000t:#x}");
            assert_eq!(link_up(&mut phy), expected.is_some());
            let done = read(&mut phy, reg::PSTATUS) & status::AUTONEG_DONE != 0;
            assert_eq!(done, expected.is_some());
        }
    }

    #[test]
    fn forced_settings_wait_for_a_reset() {
        let mut phy = linked();
        assert!(!write(&mut phy, reg::PCTRL, 0x2100));
        assert_eq!(phy.speed(), Speed::Mbps1000, "manual 11.1.3");
        assert!(write(&mut phy, reg::PCTRL, 0xa100));
        assert_eq!(read(&mut phy, reg::PCTRL), 0x2100);
        assert_eq!((phy.link(), phy.speed(), phy.full_duplex()), (true, Speed::Mbps100, true));
        assert_eq!(read(&mut phy, reg::PSSTAT), 0x6c00);
        assert_eq!(read(&mut phy, reg::PSTATUS) & status::AUTONEG_DONE, 0);
        assert_eq!((read(&mut phy, reg::LPA), read(&mut phy, reg::GSTATUS)), (0, 0));
        assert!(write(&mut phy, reg::PCTRL, 0x8000));
        assert_eq!((phy.speed(), phy.full_duplex()), (Speed::Mbps10, false));
    }

    #[test]
    fn a_soft_reset_keeps_what_a_hard_reset_does_not() {
        let mut phy = linked();
        write(&mut phy, reg::PSCON, 0x0808);
        write(&mut phy, reg::ANA, 0x0061);
        assert!(write(&mut phy, reg::PCTRL, 0xdd40), "with loopback, power-down and isolate");
        assert_eq!(read(&mut phy, reg::PCTRL), 0x1140);
        assert_eq!(read(&mut phy, reg::PSCON), 0x0808);
        assert_eq!(read(&mut phy, reg::ANA), 0x0061);
        assert!(phy.reset());
        assert_eq!(read(&mut phy, reg::PSCON), 0x0360);
        assert_eq!(read(&mut phy, reg::ANA), 0x0de1);
        assert!(link_up(&mut phy), "the cable is still in");
    }

    #[test]
    fn power_down_and_isolate_take_the_link() {
        let mut phy = linked();
        assert!(write(&mut phy, reg::PCTRL, 0x1940));
        assert!(!phy.link() && !link_up(&mut phy));
        assert!(!phy.set_cable(false) && !phy.set_cable(true), "nobody listens");
        assert_eq!(read(&mut phy, reg::PID), 0x0141, "the registers still answer");
        assert!(write(&mut phy, reg::PCTRL, 0x1140));
        assert!(phy.link() && link_up(&mut phy));
        assert!(write(&mut phy, reg::PCTRL, 0x1540));
        assert!(!phy.link() && link_up(&mut phy), "the wire is up, the MAC is cut off");
        assert!(write(&mut phy, reg::PCTRL, 0x1140));
        assert!(phy.link());
    }

    /// What Linux's `ethtool -t offline` does, and its clean-up.
    #[test]
    fn the_drivers_loopback_test() {
        let mut phy = linked();
        write(&mut phy, reg::PSCON, 0x0808);
        write(&mut phy, reg::PCTRL, 0x9140);
        assert!(!phy.loopback());
        write(&mut phy, reg::PCTRL, 0x8140);
        assert!(!phy.loopback());
        write(&mut phy, reg::PCTRL, 0x4140);
        assert!(phy.loopback() && !phy.link());
        assert_eq!((phy.speed(), phy.full_duplex()), (Speed::Mbps1000, true));
        for (page, value) in [(0x1f, 0x8ffc), (0x1a, 0x8ff0)] {
            write(&mut phy, reg::R30PS, page);
            write(&mut phy, reg::R30AW, value);
        }
        assert_eq!(read(&mut phy, reg::R30AW), 0x8ff0);
        write(&mut phy, reg::R30PS, 0x1f);
        assert_eq!(read(&mut phy, reg::R30AW), 0x8ffc);

        let control = read(&mut phy, reg::PCTRL);
        assert_eq!(control, 0x4140);
        write(&mut phy, reg::PCTRL, control & !control::LOOPBACK);
        phy.reset();
        assert!(!phy.loopback() && link_up(&mut phy));
    }

    #[test]
    fn master_when_configured_so() {
        let mut phy = linked();
        write(&mut phy, reg::GCON, 0x1e00);
        write(&mut phy, reg::PCTRL, 0x1340);
        assert_eq!(read(&mut phy, reg::GSTATUS), 0x7c00);
    }

    #[test]
    fn read_only_bits_stay() {
        let mut phy = linked();
        let mut values = |written: u16| -> Vec<u16> {
            for register in 1..32 {
                write(&mut phy, register, written);
            }
            (1..32).map(|register| read(&mut phy, register)).collect()
        };
        let (zeros, ones) = (values(0), values(0xffff));
        for register in 1..32 {
            let expected = if register == reg::R30AW { 0xffff } else { writable(register) };
            assert_eq!(zeros[register - 1] ^ ones[register - 1], expected, "register {register}");
        }
    }

    #[test]
    fn mdic_reports_errors_and_asks_for_its_interrupt() {
        let mut phy = Phy::new();
        for (operation, address) in [(mdic::OP_READ, 2), (mdic::OP_WRITE, 0), (0b00, 1), (0b11, 1)]
        {
            let effect = phy.set_mdic(operation << 26 | address << 21 | 0x8000);
            assert_eq!(phy.mdic() & (mdic::READY | mdic::ERROR), mdic::READY | mdic::ERROR);
            assert_eq!(effect, MdicEffect::default());
        }
        let command = mdic::OP_READ << 26 | PHY_ADDRESS << 21 | 2 << 16;
        assert!(phy.set_mdic(command | mdic::INTERRUPT_ENABLE | mdic::ERROR).done_interrupt);
        assert_eq!(phy.mdic(), command | mdic::INTERRUPT_ENABLE | mdic::READY | 0x0141);
    }
}
