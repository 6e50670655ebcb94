//! What the MAC is connected to, and how it treats VLAN tags: known to both directions.

/// What the MAC is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Medium {
    /// Nothing: no cable, or the PHY has no link.
    #[default]
    Nothing,
    /// The cable.
    Network,
    /// Its own receive side: loopback in the MAC (RCTL.LBM) or in the PHY.
    Itself,
}

/// CTRL.VME and VET.
#[derive(Clone, Copy, Debug)]
pub struct VlanMode {
    /// CTRL.VME: tags are inserted and stripped.
    pub enabled: bool,
    /// VET: the type that makes four bytes a tag.
    pub ethertype: u16,
}

impl Default for VlanMode {
    fn default() -> Self {
        Self { enabled: false, ethertype: 0x8100 }
    }
}

impl VlanMode {
    /// The tag with the given control information, as it stands in a frame.
    pub fn tag(self, control: u16) -> [u8; 4] {
        let [a, b] = self.ethertype.to_be_bytes();
        let [c, d] = control.to_be_bytes();
        [a, b, c, d]
    }

    /// The control information, if the four bytes behind a frame's addresses are a tag.
    pub fn control(self, bytes: [u8; 4]) -> Option<u16> {
        let [a, b, c, d] = bytes;
        (u16::from_be_bytes([a, b]) == self.ethertype).then_some(u16::from_be_bytes([c, d]))
    }
}
