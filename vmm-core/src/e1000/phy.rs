//! MDIO access to the internal copper PHY (Marvell 88E1000 family), manual 13.4.8 and chapter 8.

const OP_WRITE: u32 = 0b01;
const OP_READ: u32 = 0b10;
const READY: u32 = 1 << 28;
const ERROR: u32 = 1 << 30;

/// The only PHY on the bus answers at this address.
const PHY_ADDRESS: u32 = 1;

const PHY_CTRL: u32 = 0;
const PHY_STATUS: u32 = 1;
const PHY_ID1: u32 = 2;
const PHY_ID2: u32 = 3;
const AUTONEG_ADVERTISE: u32 = 4;
const LINK_PARTNER_ABILITY: u32 = 5;
const CTRL_1000T: u32 = 9;
const STATUS_1000T: u32 = 10;
const SPECIFIC_STATUS: u32 = 17;

const LINK_UP: u16 = 1 << 2;
const AUTONEG_DONE: u16 = 1 << 5;

/// PHY registers.
#[derive(Debug)]
pub struct Phy {
    control: u16,
    advertise: u16,
    control_1000t: u16,
}

impl Phy {
    /// A PHY after reset.
    pub fn new() -> Self {
        Self { control: 0x1140, advertise: 0x0de1, control_1000t: 0x0e00 }
    }

    /// Answers a write to MDIC: the value then read back.
    pub fn mdic(&mut self, written: u32, link: bool) -> u32 {
        let register = (written >> 16) & 0x1f;
        if (written >> 21) & 0x1f != PHY_ADDRESS {
            return written | READY | ERROR;
        }
        match (written >> 26) & 0b11 {
            OP_READ => (written & 0xffff_0000) | u32::from(self.read(register, link)) | READY,
            OP_WRITE => {
                self.write(register, written as u16);
                written | READY
            }
            _ => written | READY | ERROR,
        }
    }

    fn read(&self, register: u32, link: bool) -> u16 {
        let when_up = |bits: u16| if link { bits } else { 0 };
        match register {
            PHY_CTRL => self.control,
            PHY_STATUS => 0x7949 | when_up(LINK_UP | AUTONEG_DONE),
            PHY_ID1 => 0x0141,
            PHY_ID2 => 0x0c20,
            AUTONEG_ADVERTISE => self.advertise,
            LINK_PARTNER_ABILITY => when_up(0xcde1),
            CTRL_1000T => self.control_1000t,
            STATUS_1000T => when_up(0x3c00),
            // 1000 Mb/s, full duplex, resolved, link: what the M88 reports in real time.
            SPECIFIC_STATUS => when_up(0xac00),
            _ => 0,
        }
    }

    fn write(&mut self, register: u32, value: u16) {
        const SELF_CLEARING: u16 = 1 << 15 | 1 << 9; // reset, restart autonegotiation
        match register {
            PHY_CTRL => self.control = value & !SELF_CLEARING,
            AUTONEG_ADVERTISE => self.advertise = value,
            CTRL_1000T => self.control_1000t = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(phy: &mut Phy, register: u32, link: bool) -> u16 {
        let answer = phy.mdic(OP_READ << 26 | 1 << 21 | register << 16, link);
        assert_eq!(answer & (READY | ERROR), READY);
        answer as u16
    }

    #[test]
    fn link_shows_in_the_status_register() {
        let mut phy = Phy::new();
        assert_eq!(read(&mut phy, PHY_STATUS, false) & LINK_UP, 0);
        assert_eq!(read(&mut phy, PHY_STATUS, true) & LINK_UP, LINK_UP);
    }

    #[test]
    fn identifies_as_m88() {
        let mut phy = Phy::new();
        assert_eq!(
            (read(&mut phy, PHY_ID1, true), read(&mut phy, PHY_ID2, true)),
            (0x0141, 0x0c20)
        );
    }

    #[test]
    fn writes_stick_but_for_self_clearing_bits() {
        let mut phy = Phy::new();
        phy.mdic(OP_WRITE << 26 | 1 << 21 | 0x9340, true);
        assert_eq!(read(&mut phy, PHY_CTRL, true), 0x1140);
    }

    #[test]
    fn another_phy_address_is_an_error() {
        assert_ne!(Phy::new().mdic(OP_READ << 26 | 2 << 21, true) & ERROR, 0);
    }
}
