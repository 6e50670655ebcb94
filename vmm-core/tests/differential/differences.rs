//! Where we differ from QEMU 7.2 on purpose.

use crate::transcript::{Mismatch, matches};

/// A difference for which the manual is on our side. In patterns `*` stands for any text; in `qemu`
/// `{ours}` stands for what we show.
#[derive(Debug)]
pub struct Difference {
    /// The scripts that show it.
    pub scripts: &'static [&'static str],
    /// Pattern of the steps.
    pub at: &'static str,
    /// Pattern of what we show.
    pub ours: &'static str,
    /// Pattern of what QEMU shows.
    pub qemu: &'static str,
    /// The section of the manual, and what it says.
    pub because: &'static str,
}

impl Difference {
    /// Whether this is the difference that was found.
    pub fn explains(&self, found: &Mismatch) -> bool {
        matches(self.at, &found.at)
            && matches(self.ours, &found.ours)
            && matches(&self.qemu.replace("{ours}", &found.ours), &found.qemu)
    }
}

macro_rules! differences {
    ($($scripts:tt { $($at:literal: $ours:literal, $qemu:literal, $because:literal;)* })*) => {
        /// All of them, by script.
        pub const DIFFERENCES: &[Difference] = &[$($(Difference {
            scripts: &$scripts,
            at: $at,
            ours: $ours,
            qemu: $qemu,
            because: $because,
        }),*),*];
    };
}

// Step: what we show, what QEMU shows, the manual's section and its words in ours.
differences! {
    ["reset_values", "device_reset"] {
        "*EECD": "0x00000118", "0x00000188", "13.4.3: FWE is 01b; GNT answers REQ, which is clear";
        "*STATUS": "0x00000283", "0x80080783", "13.4.2: the bits above ASDV are 0 on this part";
        "*RXDCTL": "0x00010000", "0x00000000", "13.4.46: WTHRESH is 1";
        "*TSPMT": "0x01000400", "0x00000000", "13.4.45: TSPBP is 100h and TSMT 400h";
        "*MANC": "0x00000000", "0x00222300",
            "13.5.6: loaded from the EEPROM, which asks for nothing";
    }
    ["reset_values"] {
        "CTRL": "0x00000241", "0x00140240", "13.4.1: FD is 1b; nothing drives the SDP pins";
        "LEDCTL": "0x07068302", "0x00000602", "13.4.15: the modes of four LEDs";
    }
    ["device_reset"] {
        // QEMU 7.2 clears the bit and does nothing else.
        "after CTRL.RST: INTA#": "low", "high", "13.4.1: RST resets the interrupts";
        "after CTRL.RST: *": "0x00000000", "0x*", "13.4.1: RST resets all registers";
        "after CTRL.RST: CTRL": "0x00000241", "0x00000000", "13.4.1: RST resets all registers";
        "after CTRL.RST: VET": "0x00008100", "0x5a5a5a5a", "13.4.1: RST resets all registers";
        "after CTRL.RST: LEDCTL": "0x07068302", "0x5a5a5a5a", "13.4.1: RST resets all registers";
        "after CTRL.RST: PBA": "0x00100030", "0x5a5a5a5a", "13.4.1: RST resets all registers";
        "after CTRL.RST: RA[0]": "0x12005452", "0xa5a5a5a5", "13.5.2: loaded from the EEPROM";
        "after CTRL.RST: RA[1]": "0x80005634", "0xa5a5a5a5", "13.5.3: loaded from the EEPROM";
    }
    ["writable_bits"] {
        "STATUS": "00000283, 00000283, 00000283", "80080783, 80080783, 80080783",
            "13.4.2: see reset values";
        "CTRL_EXT": "ffffcfff, 5a5a4a5a, 00000000", "00000000, *",
            "13.4.6: R/W but for self-clearing bits";
        "FCAL": "ffffffff, 5a5a5a5a, 00000000", "00000000, *", "13.4.8: R/W";
        "FCAH": "0000ffff, 00005a5a, 00000000", "00000000, *", "13.4.9: R/W";
        "FCT": "0000ffff, 00005a5a, 00000000", "00000000, *", "13.4.10: R/W";
        "VET": "0000ffff, 00005a5a, 00000000", "ffffffff, *", "13.4.11: bits 31:16 are reserved";
        "FCTTV": "0000ffff, 00005a5a, 00000000", "00000000, *", "13.4.12: R/W";
        "TXCW": "c000ffff, 40005a5a, 00000000", "00000000, *", "13.4.13: R/W";
        "LEDCTL": "cfcfcfcf, 4a4a4a4a, 00000000", "ffffffff, *", "13.4.15: reserved bits";
        "FCRTL": "0000fff8, 00005a58, 00000000", "00000000, *", "13.4.23: R/W";
        "FCRTH": "0000fff8, 00005a58, 00000000", "00000000, *", "13.4.24: R/W";
        "RDBAL": "fffffff0, 5a5a5a50, 00000000", "ffffffff, *", "13.4.25: bits 3:0 are 0";
        "TIPG": "3fffffff, 1a5a5a5a, 00000000", "00000000, *", "13.4.34: R/W";
        "TDBAL": "fffffff0, 5a5a5a50, 00000000", "ffffffff, *", "13.4.36: bits 3:0 are 0";
        "RSRPD": "00000fff, 00000a5a, 00000000", "00000000, *", "13.4.32: R/W";
        "TIDV": "0000ffff, 00005a5a, 00000000", "00000000, *", "13.4.41: R/W";
        "TXDCTL": "ff3f3f3f, 5a1a1a1a, 00000000", "ffffffff, *", "13.4.43: reserved bits";
        "TSPMT": "ffffffff, 5a5a5a5a, 00000000", "00000000, *", "13.4.45: R/W";
        "RXDCTL": "013f3f3f, 001a1a1a, 00000000", "00000000, *", "13.4.46: R/W";
        "RXCSUM": "000003ff, 0000025a, 00000000", "00000000, *", "13.4.47: R/W";
        "PBA": "0000007f, 0000005a, 00400000", "ffffffff, *", "13.4.16: TXA is what RXA leaves";
        "RA[*]": "8003ffff, 00025a5a, 00000000", "ffffffff, *", "13.5.3: RAH has reserved bits";
        "MANC": "ffffffff, 5a5a5a5a, 00000000", "00222300, *", "13.5.6: R/W";
        "WUC": "0000000f, 0000000a, 00000000", "ffffffff, *", "13.6.1: reserved bits";
        "WUFC": "000f80ff, 000a005a, 00000000", "ffffffff, *", "13.6.2: reserved bits";
        "WUS": "00000000, 00000000, 00000000", "ffffffff, *", "13.6.3: R; nothing wakes us";
        "IPAV": "0001000f, 0000000a, 00000000", "ffffffff, *", "13.6.4: reserved bits";
        "WUPM[*]": "00000000, 00000000, 00000000", "ffffffff, *", "13.6.8: R; nothing wakes us";
        "FCRUC": "00000000, 00000000, 00000000", "ffffffff, *", "13.7.20: R";
        "TDFH": "00001fff, 00001a5a, 00000000", "000007ff, *", "13.8.6: 13 bits";
        "TDFT": "00001fff, 00001a5a, 00000000", "000007ff, *", "13.8.7: 13 bits";
        "RCTL": "06dfb3fe, 025a125a, 00000000", "ffffffff, *", "13.4.22: reserved bits";
        "TCTL": "037ffffa, 025a5a5a, 00000000", "ffffffff, *", "13.4.33: reserved bits";
    }
    ["access_sizes"] {
        "* bytes read at *": "the registers' bytes", "[*",
            "13.2.1: memory; QEMU repeats byte 0 in other lanes";
        "* bytes written at *": "these bytes and no other", "[*",
            "13.2.1: memory; QEMU writes 0 to the other lanes";
    }
    ["io_window"] {
        "IOADDR": "0x00005408", "0x00000000", "13.2.2.1: QEMU has no such registers";
        "IODATA": "0x87654321", "0x00000000", "13.2.2.2: QEMU has no such registers";
        "after a write to IODATA: RA[2]": "0x12345678", "0x87654321",
            "13.2.2.2: QEMU has no such registers";
    }
    ["interrupt_acknowledgement"] {
        "IMS all ones: IMS": "0x0001ffff", "0xffffffff", "13.4.20: bits 31:17 are reserved";
        "ICS all ones: ICR": "0x0001ffff", "0xffffffff", "13.4.17: bits 31:17 are reserved";
    }
    ["interrupt_causes"] {
        "no cause: INTA#": "low", "high", "13.4.17: bits 31:17 are reserved";
        "no cause: *": "0x00000000", "0xfffe0000", "13.4.17: bits 31:17 are reserved";
    }
    ["eeprom_by_register", "eeprom_by_wire"] {
        "word 0x03": "0x0210*", "0x0000*", "5.6: what the board's maker chose";
        "word 0x05": "0xffff*", "0x0000*", "5.6: what the board's maker chose";
        "word 0x06": "0xffff*", "0x0000*", "5.6: what the board's maker chose";
        "word 0x07": "0xffff*", "0x0000*", "5.6: what the board's maker chose";
        "word 0x08": "0xffff*", "0x3000*", "5.6: what the board's maker chose";
        "word 0x09": "0xffff*", "0x1000*", "5.6: what the board's maker chose";
        "word 0x0a": "0x4603*", "0x6403*", "5.6: what the board's maker chose";
        "word 0x0b": "0x001e*", "0x100e*", "5.6: what the board's maker chose";
        "word 0x0f": "0x3000*", "0x3040*", "5.6: what the board's maker chose";
        "word 0x10": "0xffff*", "0x0008*", "5.6: what the board's maker chose";
        "word 0x11": "0xffff*", "0x2000*", "5.6: what the board's maker chose";
        "word 0x12": "0xffff*", "0x7e14*", "5.6: what the board's maker chose";
        "word 0x13": "0xffff*", "0x0048*", "5.6: what the board's maker chose";
        "word 0x14": "0xffff*", "0x1000*", "5.6: what the board's maker chose";
        "word 0x15": "0xffff*", "0x00d8*", "5.6: what the board's maker chose";
        "word 0x16": "0xffff*", "0x0000*", "5.6: what the board's maker chose";
        "word 0x17": "0xffff*", "0x2700*", "5.6: what the board's maker chose";
        "word 0x18": "0xffff*", "0x6cc9*", "5.6: what the board's maker chose";
        "word 0x19": "0xffff*", "0x3150*", "5.6: what the board's maker chose";
        "word 0x1a": "0xffff*", "0x0722*", "5.6: what the board's maker chose";
        "word 0x1b": "0xffff*", "0x040b*", "5.6: what the board's maker chose";
        "word 0x1c": "0xffff*", "0x0984*", "5.6: what the board's maker chose";
        "word 0x1d": "0xffff*", "0x0000*", "5.6: what the board's maker chose";
        "word 0x1e": "0xffff*", "0xc000*", "5.6: what the board's maker chose";
        "word 0x1f": "0xffff*", "0x0706*", "5.6: what the board's maker chose";
        "word 0x20": "0xc30c*", "0x1008*", "5.6: what the board's maker chose";
        "word 0x21": "0x7861*", "0x0000*", "5.6: what the board's maker chose";
        "word 0x22": "0x1c08*", "0x0f04*", "5.6: what the board's maker chose";
        "word 0x23": "0x0000*", "0x7fff*", "5.6: what the board's maker chose";
        "word 0x24": "0x08c8*", "0x4d01*", "5.6: what the board's maker chose";
        "word 0x30": "0xffff*", "0x0100*", "5.6: what the board's maker chose";
        "word 0x31": "0xffff*", "0x4000*", "5.6: what the board's maker chose";
        "word 0x32": "0xffff*", "0x121c*", "5.6: what the board's maker chose";
        "word 0x3f": "0x14dc*", "0x79ad*", "5.6: what the board's maker chose";
    }
    ["eeprom_by_register"] {
        "beyond the part: EERD": "0x54524010", "0x00004010", "5.3: 64 words have six address bits";
        "last address: EERD": "0x*ff10", "0x0000ff10", "5.3: 64 words have six address bits";
        "done written: EERD": "0x00000000", "0x00000010", "13.4.4: DONE is set by the part";
        "data written: EERD": "0x54520010", "0x12340010", "13.4.4: DATA comes from the EEPROM";
    }
    ["eeprom_by_wire"] {
        "request: EECD": "0x00000108", "0x00000188", "13.4.3: GNT answers REQ, which is clear";
    }
    ["phy_values"] {
        "PHY register 1: MDIC": "0x18217969", "0x1821794d",
            "13.4.7: negotiated; link down since power-on is latched";
        "PHY register 5: MDIC": "0x1825c1e1", "0x182501e0",
            "13.4.7: a partner that offers all but half duplex 1000";
        "PHY register 6: MDIC": "0x1826000f", "0x18260000", "13.4.7: the partner negotiates, too";
        "PHY register *: MDIC": "0x18*", "0x58*", "13.4.7: it exists";
    }
    ["phy_writable_bits"] {
        "PHY register *": "*", "{ours}, error", "13.4.7: E means that no PHY answered";
        "PHY register 6": "000f, 000d, 000d", "0000, 0000, 0000, error", "13.4.7: it exists";
        "PHY register 7": "b7ff, 125a, 0000", "0000, 0000, 0000, error", "13.4.7: it exists";
        "PHY register 15": "3000, 3000, 3000", "0000, 0000, 0000, error", "13.4.7: it exists";
        "PHY register 18": "ffff, 5a5a, 0000", "0000, 0000, 0000, error", "13.4.7: it exists";
        "PHY register 19": "7c00, 0000, 0000", "0000, 0000, 0000, error", "13.4.7: it exists";
        "PHY register 26": "ffff, 5a5a, 0000", "0000, 0000, 0000, error", "13.4.7: it exists";
        "PHY register 29": "001f, 001a, 0000", "0000, 0000, 0000, error", "13.4.7: it exists";
        "PHY register 30": "ffff, 5a5a, 0000", "0000, 0000, 0000, error", "13.4.7: it exists";
        "PHY register 1": "7969, 796d, 796d", "794d, 794d, 794d, error",
            "13.4.7: as in phy_values; latched until read";
        "PHY register 4": "ade1, 0841, 0001", "ffff, 5a5a, 0000",
            "13.4.7: the selector says 802.3; reserved bits";
        "PHY register 5": "c1e1, c1e1, c1e1", "01e0, 01e0, 01e0, error", "13.4.7: as in phy_values";
        "PHY register 9": "ff00, 5a00, 0000", "ffff, 5a5a, 0000", "13.4.7: bits 7:0 are reserved";
    }
    ["phy_access"] {
        "address *: MDIC": "0x5*", "0x50000000", "13.4.7: the command stays readable";
        "no operation: MDIC": "0x50220000", "0x10220000", "13.4.7: OP 00b is no operation";
        "both operations: MDIC": "0x5c220000", "0x1c220141", "13.4.7: OP 11b is no operation";
        "interrupt after a write: MDIC": "0x34220000", "0x74220000",
            "13.4.7: E means that no PHY answered";
        "interrupt after an error: MDIC": "0x78020000", "0x74220000",
            "13.4.7: the command stays readable";
    }
    ["phy_link"] {
        "*PHY register 1": "0x7969", "0x79*d", "13.4.7: link down is latched until read";
        "PHY register 1": "0x796d", "0x794d", "13.4.7: negotiated since power-on";
        "*PHY register 5": "0xc1e1", "0x*1e0", "13.4.7: as in phy_values";
        "*PHY register 5": "0x0000", "0x*1e0", "13.4.7: no partner";
        "*PHY register 10": "0x0000", "0x3c00", "13.4.7: no partner";
        "*PHY register 17": "0x0000", "0xac00", "13.4.7: no link";
        "* down: PHY register 1": "0x7949", "0x796d", "13.4.7: a PHY without power has no link";
        "powered down: STATUS.LU": "false", "true", "13.4.2: LU follows the PHY";
        "loopback: PHY register 1": "0x7949", "0x796d", "13.4.7: nothing is negotiated in loopback";
        "loopback: PHY register 17": "0xa800", "0xac00", "13.4.7: no link on the cable in loopback";
        "*: ICR": "0x00000004", "0x00000000", "13.4.17: LSC; the link went or came";
        "CTRL.PHY_RST: MDIC": "0x18240de1", "0x182401e1",
            "13.4.1: PHY_RST resets the PHY's registers";
    }
    ["transmit_legacy"] {
        "*, command 0x12: descriptor *": "*001300000000", "*001301000000",
            "3.3.3.1: RPS is the 82544's alone";
        "*, command 0x12: ICR": "0x00000002", "0x00000003", "3.3.3.1: RPS is the 82544's alone";
    }
    ["transmit_short"] {
        "*, padded: sent": "60 bytes *", "* bytes *", "13.4.33: PSP pads to 64 bytes with the CRC";
        "*, padded: GOTCL": "0x00000040", "0x*", "13.7.32: the padding counts";
        "*, padded: TOTL": "0x00000040", "0x*", "13.7.42: the padding counts";
        "*, padded: PTC64": "0x00000001", "0x00000000", "13.7.45: 64 bytes with padding and CRC";
    }
    ["transmit_short"] {
        "*, not padded: GPTC": "0x00000000", "0x00000001", "13.7.30: from 64 bytes on";
        "*, not padded: GOTCL": "0x00000000", "0x*", "13.7.32: of the frames that GPTC counts";
    }
    ["checksum_offload"] {
        "statistics: GPTC": "0x00000030", "0x00000040", "13.7.30: from 64 bytes on";
        "statistics: GOTCL": "0x00006a08", "0x00006d50", "13.7.32: of the frames that GPTC counts";
    }
    ["transmit_null"] {
        "no buffer, no length: frames sent": "0", "1", "3.3.3.1: no length transfers no data";
        "no buffer, no length: sent": "", "0 bytes ", "3.3.3.1: no length transfers no data";
        "*: GPTC": "0x00000000", "0x00000001", "13.7.30: no frame, no count";
        "*: GOTCL": "0x00000000", "0x00000004", "13.7.32: no frame, no count";
        "*: TOTL": "0x00000000", "0x00000004", "13.7.42: no frame, no count";
        "*: TPT": "0x00000000", "0x00000001", "13.7.44: no frame, no count";
    }
    ["transmit_gates"] {
        "tail written again: INTA#": "low", "high",
            "3.4.3: TXQE, when descriptors have been processed";
        "tail written again: ICR": "0x00000000", "0x00000002",
            "3.4.3: TXQE, when descriptors have been processed";
        "link down: GPTC": "0x00000002", "0x00000003",
            "13.7.30: what no cable takes is not transmitted";
        "link down: GOTCL": "0x00000080", "0x000000c0", "13.7.32: as above";
        "link down: TOTL": "0x00000080", "0x000000c0", "13.7.42: as above";
        "link down: TPT": "0x00000002", "0x00000003", "13.7.44: as above";
        "link down: PTC64": "0x00000002", "0x00000003", "13.7.45: as above";
    }
    ["transmit_legacy_checksum"] {
        "CSS 14, CSO 24: sent": "*17c0a91a*", "*1718191a*", "3.3.3.1: IC inserts a checksum";
        "CSS 14, CSO 16: sent": "*0fc0a912*", "*0f101112*", "3.3.3.1: IC inserts a checksum";
        "CSS 0, CSO 50: sent": "*31af3034*", "*31323334*", "3.3.3.1: IC inserts a checksum";
        "CSS 34, CSO 34: sent": "*21a79a24*", "*21222324*", "3.3.3.1: IC inserts a checksum";
        "CSS 14, CSO 58: sent": "*39c0a9", "*393a3b", "3.3.3.1: IC inserts a checksum";
    }
    ["transmit_vlan"] {
        "another VET: GOTCL": "0x00000a12", "0x000009ee",
            "13.7.32: from destination to CRC, nine tags included";
        "another VET: TOTL": "0x00000a12", "0x000009ee",
            "13.7.42: from destination to CRC, nine tags included";
    }
    ["transmit_thresholds"] {
        "LWTHRESH *: ICR": "0x00008003", "0x00000003",
            "13.4.43: TXD_LOW when the pending descriptors reach it";
    }
    ["checksum_context"] {
        "a checksum behind its bytes: sent": "*4d259a50*", "*4d4e4f50*",
            "3.6: IPCSO may be anywhere in the packet";
    }
    ["segmentation", "segmentation_pieces"] {
        // QEMU sends headers without data after a payload that is a multiple of the segment size.
        "*: sent": "*", "{ours} | 54 bytes *", "3.5.4: a segment is sent while there is payload";
    }
    ["segmentation"] {
        "* 4000 bytes by 1000: frames sent": "4", "5",
            "3.5.4: a segment is sent while there is payload";
        "* 1448 bytes by 1448: frames sent": "1", "2",
            "3.5.4: a segment is sent while there is payload";
        "V6 *: sent": "*", "{ours} | 74 bytes *", "3.5.4: a segment is sent while there is payload";
        // 3.5.9 says the same of IPv6's length as of IPv4's, which no receiver would take (RFC 8200,
        // section 3); the manuals of later parts take off the 40 bytes.
        "V6 4000 bytes by 1000: payload lengths": "[1020, 1020, 1020, 1020]", "[1060, *",
            "3.5.9, mended: without the IPv6 header";
        "V6 4001 bytes by 1448: payload lengths": "[1468, 1468, 1125]", "[1508, *",
            "3.5.9, mended: without the IPv6 header";
        "V6 1448 bytes by 1448: payload lengths": "[1468]", "[1508, 60]",
            "3.5.9, mended: without the IPv6 header";
        "V6 100 bytes by 1448: payload lengths": "[120]", "[160]",
            "3.5.9, mended: without the IPv6 header";
        "V6 3000 bytes by 536: payload lengths": "[556, 556, 556, 556, 556, 340]", "[596, *",
            "3.5.9, mended: without the IPv6 header";
        "statistics: GPTC": "0x0000001e", "0x00000022", "3.5.4: four frames without data";
        "statistics: GOTCL": "0x00006a02", "0x00006b12", "3.5.4: four frames without data";
        "statistics: TOTL": "0x00006a02", "0x00006b12", "3.5.4: four frames without data";
        "statistics: TPT": "0x0000001e", "0x00000022", "3.5.4: four frames without data";
        "statistics: PTC127": "0x00000000", "0x00000002", "3.5.4: four frames without data";
    }
    ["segmentation_pieces"] {
        "*: frames sent": "3", "4", "3.5.4: a segment is sent while there is payload";
        "UDP segments: sent": "*", "{ours} | 42 bytes *",
            "3.5.4: a segment is sent while there is payload";
        "statistics: GPTC": "0x00000016", "0x0000001d", "3.5.4: seven frames without data";
        "statistics: GOTCL": "0x00005706", "0x00005890", "3.5.4: seven frames without data";
        "statistics: TOTL": "0x00005706", "0x00005890", "3.5.4: seven frames without data";
        "statistics: TPT": "0x00000016", "0x0000001d", "3.5.4: seven frames without data";
        "statistics: TSCTC": "0x00000007", "0x0000000c", "13.7.53: one per context";
    }
    ["receive_sizes", "receive_crc", "receive_buffer_sizes", "receive_long", "receive_addresses",
     "receive_multicast", "receive_vlan", "receive_checksums", "receive_null", "loopback"] {
        "*packet checksum": "0x*", "0xbeef", "3.2.3: the part writes the field";
    }
    ["receive_sizes"] {
        "*: PRC*": "0x00000001", "0x00000000", "13.7.21: lengths have the CRC in them";
        "*: PRC*": "0x00000000", "0x00000001", "13.7.21: lengths have the CRC in them";
    }
    ["receive_crc"] {
        "SECRC false: frame check sequence": "62f2ec5d", "00000000",
            "13.4.22: SECRC clear, the CRC is stored";
    }
    ["receive_buffer_sizes", "receive_null"] {
        "*status": "0x05", "0x01", "3.2.3.1: without EOP only DD means anything";
    }
    ["receive_long"] {
        // QEMU compares lengths without CRC.
        "RCTL 0x0, 15*: RDH": "0x00000000", "0x00000001",
            "13.4.22: LPE clear, at most 1522 bytes with CRC";
        "RCTL 0x0, 15*: descriptor 0 length": "0", "15*", "13.4.22: as above";
        "RCTL 0x0, 15*: descriptor 0 status": "0x00", "0x07", "13.4.22: as above";
        "RCTL 0x0, 15*: descriptor 0 special": "0xdead", "0x0000", "13.4.22: as above";
        "RCTL 0x0, 15*: buffer 0": "cccc*", "5254*", "13.4.22: as above";
        "RCTL 0x0, 15*: INTA#": "low", "high", "13.4.22: as above";
        "RCTL 0x0, 15*: ICR": "0x00000000", "0x00000080", "13.4.22: as above";
        "RCTL 0x0, 15*: PRC1522": "0x00000000", "0x00000001", "13.4.22: as above";
        "RCTL 0x0, 15*: GPRC": "0x00000000", "0x00000001", "13.4.22: as above";
        "RCTL 0x0, 15*: GORCL": "0x00000000", "0x000005f*", "13.4.22: as above";
        "RCTL 0x0, 15*: ROC": "0x00000001", "0x00000000", "13.7.36: longer than 1522 bytes";
        "RCTL 0x0, *: TORL": "0x0000*", "0x00000000", "13.7.41: regardless of length";
        "RCTL 0x0, *: TPR": "0x00000001", "0x00000000", "13.7.43: regardless of length";
    }
    ["receive_addresses"] {
        "AS source, *: RDH": "0x00000001", "0x00000000", "13.5.3: AS 01b, the source";
        "AS source, *: descriptor 0 length": "60", "0", "13.5.3: AS 01b, the source";
        "AS source, *: descriptor 0 status": "0x07", "0x00", "13.5.3: AS 01b, the source";
        "AS source, *: descriptor 0 special": "0x0000", "0xdead", "13.5.3: AS 01b, the source";
        "AS source, *: buffer 0": "020000000057*", "cccc*", "13.5.3: AS 01b, the source";
        "AS source, *: INTA#": "high", "low", "13.5.3: AS 01b, the source";
        "AS source, *: ICR": "0x00000080", "0x00000000", "13.5.3: AS 01b, the source";
        "statistics: BPRC": "0x00000004", "0x00000002", "13.7.28: while RCTL.BAM is set";
        "statistics: PRC64": "0x0000001f", "0x00000000", "13.7.21: lengths have the CRC in them";
        "statistics: MPRC": "0x00000004", "0x00000008", "13.7.29: broadcast is not multicast";
        "statistics: TORL": "0x00000c80", "0x000007c0", "13.7.41: all octets on the cable";
        "statistics: TPR": "0x00000032", "0x0000001f", "13.7.43: all packets on the cable";
    }
    ["receive_multicast"] {
        "*, only its bit: descriptor 0 status": "0x87", "0x07", "3.2.3.1: PIF, by the hash alone";
        "statistics: PRC64": "0x0000000c", "0x00000000", "13.7.21: lengths have the CRC in them";
        "statistics: TORL": "0x00000600", "0x00000300", "13.7.41: all octets on the cable";
        "statistics: TPR": "0x00000018", "0x0000000c", "13.7.43: all packets on the cable";
    }
    ["receive_multicast"] {
        "to one station*: RDH": "0x00000000", "0x00000001", "3.2.1: the hash is for multicast";
        "to one station*: descriptor 0 length": "0", "60", "3.2.1: the hash is for multicast";
        "to one station*: descriptor 0 status": "0x00", "0x07", "3.2.1: the hash is for multicast";
        "to one station*: descriptor 0 special": "0xdead", "0x0000",
            "3.2.1: the hash is for multicast";
        "to one station*: buffer 0": "cccc*", "0200*", "3.2.1: the hash is for multicast";
        "to one station*: INTA#": "low", "high", "3.2.1: the hash is for multicast";
        "to one station*: ICR": "0x00000000", "0x00000080", "3.2.1: the hash is for multicast";
    }
    ["receive_vlan"] {
        "statistics: PRC127": "0x0000000e", "0x00000010", "13.4.22: two frames less by CFIEN";
        "statistics: GPRC": "0x0000000f", "0x00000011", "13.4.22: two frames less by CFIEN";
        "statistics: GORCL": "0x00000bca", "0x00000c7e",
            "13.7.31: from destination to CRC, tags included";
        "statistics: TORL": "0x00000d7a", "0x00000c7e", "13.7.41: all octets on the cable";
        "statistics: TPR": "0x00000013", "0x00000011", "13.7.43: all packets on the cable";
        "CFIEN*: RDH": "0x00000000", "0x00000001", "13.4.22: CFIEN, only tags with this CFI";
        "CFIEN*: descriptor 0 length": "0", "100", "13.4.22: CFIEN, only tags with this CFI";
        "CFIEN*: descriptor 0 status": "0x00", "0x0f", "13.4.22: CFIEN, only tags with this CFI";
        "CFIEN*: descriptor 0 special": "0xdead", "0x*", "13.4.22: CFIEN, only tags with this CFI";
        "CFIEN*: buffer 0": "cccc*", "5254*", "13.4.22: CFIEN, only tags with this CFI";
        "CFIEN*: INTA#": "low", "high", "13.4.22: CFIEN, only tags with this CFI";
        "CFIEN*: ICR": "0x00000000", "0x00000080", "13.4.22: CFIEN, only tags with this CFI";
    }
    ["receive_checksums"] {
        "RXCSUM 0x100, V4 *: descriptor 0 status": "0x43", "0x07",
            "13.4.47: IPOFLD; QEMU checks nothing";
        "RXCSUM 0x200, V4 *: descriptor 0 status": "0x23", "0x07",
            "13.4.47: TUOFLD; QEMU checks nothing";
        "RXCSUM 0x300, V4 *: descriptor 0 status": "0x63", "0x07",
            "13.4.47: both; QEMU checks nothing";
        "RXCSUM *, V4 * wrong: descriptor 0 errors": "0x20", "0x00", "3.2.3.2: TCPE";
    }
    ["receive_threshold"] {
        "RDMTS *: ICR": "0x00000080", "0x00000090",
            "3.2.7.3: RXDMT0 when the free ones become equal to it";
    }
    ["receive_overrun"] {
        "read again: *": "0x00000000", "0x00000001", "13.7: cleared by the read before";
        // QEMU keeps a frame back until there is a buffer.
        "no buffers: INTA#": "high", "low", "13.4.17: RXO, no buffers";
        "no buffers: ICR": "0x00000040", "0x00000000", "13.4.17: RXO, no buffers";
        "*: TORL": "0x*", "0x00000000", "13.7.41: all octets on the cable";
        "*: TPR": "0x00000001", "0x00000000", "13.7.43: all packets on the cable";
    }
    ["receive_null"] {
        "*: descriptor * special": "0xdead", "0x0000", "3.2.5.2: only DD changes without a buffer";
        "*: PRC64": "0x00000001", "0x00000000", "13.7.21: lengths have the CRC in them";
        "no buffer at all: RDH": "0x00000004", "0x00000000",
            "3.2.6: the part owns none behind the tail; QEMU goes round";
    }
    ["loopback"] {
        "MAC loopback, *: frames sent": "0", "1", "13.4.22: LBM 01b; QEMU lacks it";
        "MAC loopback, *: sent": "", "* bytes *", "13.4.22: LBM 01b; QEMU lacks it";
        "MAC loopback, *: ICR": "0x00000083", "0x00000003", "13.4.22: LBM 01b; QEMU lacks it";
        "MAC loopback, *: RDH": "0x0000000*", "0x00000000", "13.4.22: LBM 01b; QEMU lacks it";
        "MAC loopback, *: descriptor 0 length": "*", "0", "13.4.22: LBM 01b; QEMU lacks it";
        "MAC loopback, *: descriptor 0 status": "0x07", "0x00", "13.4.22: LBM 01b; QEMU lacks it";
        "MAC loopback, *: descriptor 0 special": "0x0000", "0xdead",
            "13.4.22: LBM 01b; QEMU lacks it";
        "MAC loopback, *: buffer 0": "52540012*", "cccc*", "13.4.22: LBM 01b; QEMU lacks it";
        "statistics: PRC64": "0x00000002", "0x00000000", "13.7.21: lengths have the CRC in them";
        "statistics: PRC1522": "0x00000002", "0x00000001", "13.7.26: by the PHY and by the MAC";
        "statistics: GPRC": "0x00000004", "0x00000002", "13.7.27: by the PHY and by the MAC";
        "statistics: GORCL": "0x00000c5c", "0x0000062e", "13.7.31: by the PHY and by the MAC";
        "statistics: TORL": "0x00000c5c", "0x0000062e", "13.7.41: by the PHY and by the MAC";
        "statistics: TPR": "0x00000004", "0x00000002", "13.7.43: by the PHY and by the MAC";
    }
}
