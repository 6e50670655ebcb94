//! The register file: every register once, with its section of the manual and its behaviour.
//!
//! Registers are 32 bits wide and lie on multiples of 8 or 4 bytes. An address that the table does
//! not have reads as 0 and ignores writes. Statistics (manual 13.7) show how far a count has come
//! since they were read last, and stick at their highest value.

use super::counters::NicCounters;
use super::regs::{cause, rctl, tctl, txdctl};
use super::{E1000, RxCounters, Traffic};

/// A register, or an array of them.
pub struct Register {
    /// Its name in the manual.
    pub name: &'static str,
    /// Offset in BAR 0 in bytes.
    pub offset: u32,
    /// 32-bit words: more than one for an array.
    pub words: u32,
    /// Where the manual describes it; "CSB" for the paravirtual extension.
    pub section: &'static str,
    behaviour: Behaviour,
}

type Read = fn(&E1000, usize) -> u32;
type Write = fn(&E1000, usize, u32);
type Count = fn(&NicCounters) -> u64;

/// How a register answers.
enum Behaviour {
    /// Keeps the writable bits for the driver to read back.
    Stored { reset: u32, writable: u32 },
    /// Reads and writes reach the device's state.
    Live(Read, Write),
    /// Live, and each bit written as 1 acts on its own: bytes that a narrow write leaves out are 0.
    Command(Read, Write),
    /// Statistic; reading clears it.
    Counter(Count),
    /// Low half of a 64-bit statistic.
    CounterLow(Count),
    /// High half of the statistic whose low half stands just before; reading clears both.
    CounterHigh(Count),
}

use Behaviour::{Command, Counter, CounterHigh, CounterLow, Live, Stored};

impl Register {
    /// The register at `offset`, and which word of it that is.
    pub(super) fn find(offset: u64) -> Option<(&'static Register, usize)> {
        let offset = u32::try_from(offset).ok()?;
        let behind = REGISTERS.partition_point(|register| register.offset <= offset);
        let register = &REGISTERS[behind.checked_sub(1)?];
        let word = (offset - register.offset) / 4;
        (word < register.words).then_some((register, word as usize))
    }

    /// Reads word `word`, with the side effects that has.
    pub(super) fn read(&self, nic: &E1000, word: usize) -> u32 {
        match &self.behaviour {
            Stored { reset, .. } => nic.general.lock().stored(self.address(word), *reset),
            Live(read, _) | Command(read, _) => read(nic, word),
            Counter(count) => {
                let total = count(&nic.counters());
                nic.general.lock().take_count(self.offset, total).min(u32::MAX.into()) as u32
            }
            CounterLow(count) => {
                let total = count(&nic.counters());
                nic.general.lock().begin_count(self.offset, total) as u32
            }
            CounterHigh(count) => {
                let total = count(&nic.counters());
                (nic.general.lock().end_count(self.offset - 4, total) >> 32) as u32
            }
        }
    }

    /// Writes all of word `word`.
    pub(super) fn write(&self, nic: &E1000, word: usize, value: u32) {
        match &self.behaviour {
            Stored { writable, .. } => {
                nic.general.lock().store(self.address(word), value & writable);
            }
            Live(_, write) | Command(_, write) => write(nic, word, value),
            Counter(_) | CounterLow(_) | CounterHigh(_) => {}
        }
    }

    /// Writes some bytes of word `word`; the others keep their value.
    pub(super) fn write_bytes(&self, nic: &E1000, word: usize, lane: usize, bytes: &[u8]) {
        let kept = match &self.behaviour {
            Stored { .. } | Live(..) => self.read(nic, word),
            Command(..) => 0,
            Counter(_) | CounterLow(_) | CounterHigh(_) => return,
        };
        let mut merged = kept.to_le_bytes();
        if let Some(target) = merged.get_mut(lane..lane + bytes.len()) {
            target.copy_from_slice(bytes);
            self.write(nic, word, u32::from_le_bytes(merged));
        }
    }

    /// CTRL.RST: a statistic restarts.
    pub(super) fn restart(&self, nic: &E1000, counters: &NicCounters) {
        if let Counter(count) | CounterLow(count) = &self.behaviour {
            nic.general.lock().take_count(self.offset, count(counters));
        }
    }

    fn address(&self, word: usize) -> u32 {
        self.offset + 4 * word as u32
    }
}

/// For registers that only report.
fn ignore(_: &E1000, _: usize, _: u32) {}

/// Reads as 0: the virtual wire never has what this register would count, or software cannot see it.
const NEVER: Behaviour = Counter(|_| 0);

const fn words(count: &[u32]) -> u32 {
    if count.is_empty() { 1 } else { count[0] }
}

macro_rules! registers {
    ($($name:ident $([$words:literal])? @ $offset:literal, $section:literal, $behaviour:expr;)*) => {
        /// Offsets of the registers, by name.
        #[allow(missing_docs, reason = "the names are the manual's")]
        pub mod offset {
            $(pub const $name: u32 = $offset;)*
        }

        /// The register file, by ascending offset.
        pub static REGISTERS: &[Register] = &[$(Register {
            name: stringify!($name),
            offset: $offset,
            words: words(&[$($words)?]),
            section: $section,
            behaviour: $behaviour,
        }),*];
    };
}

registers! {
    CTRL @ 0x0000, "13.4.1", Live(|nic, _| nic.general.lock().ctrl, |nic, _, v| nic.write_ctrl(v));
    STATUS @ 0x0008, "13.4.2", Live(|nic, _| nic.general.lock().status(), ignore);
    EECD @ 0x0010, "13.4.3", Live(
        |nic, _| nic.general.lock().eeprom.eecd(),
        |nic, _, v| nic.general.lock().eeprom.set_eecd(v));
    EERD @ 0x0014, "13.4.4", Live(
        |nic, _| nic.general.lock().eeprom.eerd(),
        |nic, _, v| nic.general.lock().eeprom.set_eerd(v));
    CTRL_EXT @ 0x0018, "13.4.6", Live(
        |nic, _| nic.general.lock().ctrl_ext,
        |nic, _, v| nic.write_ctrl_ext(v));
    MDIC @ 0x0020, "13.4.7", Live(
        |nic, _| nic.general.lock().phy.mdic(),
        |nic, _, v| nic.write_mdic(v));
    FCAL @ 0x0028, "13.4.8", Stored { reset: 0, writable: u32::MAX };
    FCAH @ 0x002c, "13.4.9", Stored { reset: 0, writable: 0xffff };
    FCT @ 0x0030, "13.4.10", Stored { reset: 0, writable: 0xffff };
    VET @ 0x0038, "13.4.11", Live(
        |nic, _| nic.general.lock().vlan.ethertype.into(),
        |nic, _, v| nic.set_vlan_type(v as u16));
    ICR @ 0x00c0, "13.4.17", Command(
        |nic, _| nic.read_icr(),
        |nic, _, v| nic.with_interrupts(|irq, now| irq.clear_causes(v, now)));
    ITR @ 0x00c4, "13.4.18", Live(
        |nic, _| nic.irq.0.lock().itr().into(),
        |nic, _, v| nic.with_interrupts(|irq, now| irq.set_itr(v as u16, now)));
    ICS @ 0x00c8, "13.4.19", Command(
        |nic, _| nic.irq.0.lock().icr(),
        |nic, _, v| nic.with_interrupts(|irq, now| irq.raise(v & cause::ALL, now)));
    IMS @ 0x00d0, "13.4.20", Command(
        |nic, _| nic.irq.0.lock().ims(),
        |nic, _, v| nic.with_interrupts(|irq, now| irq.unmask(v, now)));
    IMC @ 0x00d8, "13.4.21", Command(
        |_, _| 0,
        |nic, _, v| nic.with_interrupts(|irq, now| irq.mask(v, now)));
    RCTL @ 0x0100, "13.4.22", Live(
        |nic, _| nic.rx.0.lock().rctl,
        |nic, _, v| nic.write_rctl(v & rctl::WRITABLE));
    FCTTV @ 0x0170, "13.4.12", Stored { reset: 0, writable: 0xffff };
    TXCW @ 0x0178, "13.4.13", Stored { reset: 0, writable: 0xc000_ffff };
    TCTL @ 0x0400, "13.4.33", Live(
        |nic, _| nic.tx.0.lock().tctl,
        |nic, _, v| nic.write_tctl(v & tctl::WRITABLE));
    TIPG @ 0x0410, "13.4.34", Stored { reset: 0, writable: 0x3fff_ffff };
    AIFS @ 0x0458, "13.4.35", Stored { reset: 0, writable: 0xffff };
    LEDCTL @ 0x0e00, "13.4.15", Stored { reset: 0x0706_8302, writable: 0xcfcf_cfcf };
    PBA @ 0x1000, "13.4.16", Live(
        |nic, _| packet_buffer_split(nic.general.lock().stored(offset::PBA, 48)),
        |nic, _, v| nic.general.lock().store(offset::PBA, v & 0x7f));
    FCRTL @ 0x2160, "13.4.23", Stored { reset: 0, writable: 0xfff8 };
    FCRTH @ 0x2168, "13.4.24", Stored { reset: 0, writable: 0xfff8 };
    RDFH @ 0x2410, "13.8.1", Stored { reset: 0, writable: 0x1fff };
    RDFT @ 0x2418, "13.8.2", Stored { reset: 0, writable: 0x1fff };
    RDFHS @ 0x2420, "13.8.3", Stored { reset: 0, writable: 0x1fff };
    RDFTS @ 0x2428, "13.8.4", Stored { reset: 0, writable: 0x1fff };
    RDFPC @ 0x2430, "13.8.5", Stored { reset: 0, writable: 0x1fff };
    RDBAL @ 0x2800, "13.4.25", Live(
        |nic, _| nic.rx.0.lock().ring.base[0],
        |nic, _, v| nic.rx.0.lock().ring.base[0] = v & !0xf);
    RDBAH @ 0x2804, "13.4.26", Live(
        |nic, _| nic.rx.0.lock().ring.base[1],
        |nic, _, v| nic.rx.0.lock().ring.base[1] = v);
    RDLEN @ 0x2808, "13.4.27", Live(
        |nic, _| nic.rx.0.lock().ring.length,
        |nic, _, v| nic.rx.0.lock().ring.length = v & 0xf_ff80);
    RDH @ 0x2810, "13.4.28", Live(
        |nic, _| nic.rx.0.lock().ring.head,
        |nic, _, v| nic.rx.0.lock().ring.head = v & 0xffff);
    RDT @ 0x2818, "13.4.29", Live(
        |nic, _| nic.rx.0.lock().ring.tail,
        |nic, _, v| nic.write_rdt(v & 0xffff));
    RDTR @ 0x2820, "13.4.30", Live(
        |nic, _| nic.irq.0.lock().delays()[0].into(),
        |nic, _, v| nic.with_interrupts(|irq, now| irq.set_rdtr(v, now)));
    RXDCTL @ 0x2828, "13.4.46", Stored { reset: 0x0001_0000, writable: 0x013f_3f3f };
    RADV @ 0x282c, "13.4.31", Live(
        |nic, _| nic.irq.0.lock().delays()[1].into(),
        |nic, _, v| nic.irq.0.lock().set_radv(v as u16));
    CSBAL @ 0x2830, "CSB", Live(
        |nic, _| nic.general.lock().csb as u32,
        |nic, _, v| nic.write_csbal(v));
    CSBAH @ 0x2834, "CSB", Live(
        |nic, _| nic.general.lock().csbah,
        |nic, _, v| nic.general.lock().csbah = v);
    RSRPD @ 0x2c00, "13.4.32", Live(
        |nic, _| nic.rx.0.lock().rsrpd,
        |nic, _, v| nic.rx.0.lock().rsrpd = v & 0xfff);
    TDFH @ 0x3410, "13.8.6", Stored { reset: 0, writable: 0x1fff };
    TDFT @ 0x3418, "13.8.7", Stored { reset: 0, writable: 0x1fff };
    TDFHS @ 0x3420, "13.8.8", Stored { reset: 0, writable: 0x1fff };
    TDFTS @ 0x3428, "13.8.9", Stored { reset: 0, writable: 0x1fff };
    TDFPC @ 0x3430, "13.8.10", Stored { reset: 0, writable: 0x1fff };
    TDBAL @ 0x3800, "13.4.36", Live(
        |nic, _| nic.tx.0.lock().ring.base[0],
        |nic, _, v| nic.tx.0.lock().ring.base[0] = v & !0xf);
    TDBAH @ 0x3804, "13.4.37", Live(
        |nic, _| nic.tx.0.lock().ring.base[1],
        |nic, _, v| nic.tx.0.lock().ring.base[1] = v);
    TDLEN @ 0x3808, "13.4.38", Live(
        |nic, _| nic.tx.0.lock().ring.length,
        |nic, _, v| nic.tx.0.lock().ring.length = v & 0xf_ff80);
    TDH @ 0x3810, "13.4.39", Live(
        |nic, _| nic.tx.0.lock().ring.head,
        |nic, _, v| nic.tx.0.lock().ring.head = v & 0xffff);
    TDT @ 0x3818, "13.4.40", Live(
        |nic, _| nic.read_tdt(),
        |nic, _, v| nic.write_tdt(v & 0xffff));
    TIDV @ 0x3820, "13.4.41", Live(
        |nic, _| nic.irq.0.lock().delays()[2].into(),
        |nic, _, v| nic.irq.0.lock().set_tidv(v as u16));
    TXDCTL @ 0x3828, "13.4.43", Live(
        |nic, _| nic.tx.0.lock().txdctl,
        |nic, _, v| nic.tx.0.lock().txdctl = v & txdctl::WRITABLE);
    TADV @ 0x382c, "13.4.44", Live(
        |nic, _| nic.irq.0.lock().delays()[3].into(),
        |nic, _, v| nic.irq.0.lock().set_tadv(v as u16));
    TSPMT @ 0x3830, "13.4.45", Stored { reset: 0x0100_0400, writable: u32::MAX };

    CRCERRS @ 0x4000, "13.7.1", NEVER;
    ALGNERRC @ 0x4004, "13.7.2", NEVER;
    SYMERRS @ 0x4008, "13.7.3", NEVER;
    RXERRC @ 0x400c, "13.7.4", NEVER;
    MPC @ 0x4010, "13.7.5", Counter(|c| missed(&c.rx));
    SCC @ 0x4014, "13.7.6", NEVER;
    ECOL @ 0x4018, "13.7.7", NEVER;
    MCC @ 0x401c, "13.7.8", NEVER;
    LATECOL @ 0x4020, "13.7.9", NEVER;
    COLC @ 0x4028, "13.7.10", NEVER;
    DC @ 0x4030, "13.7.11", NEVER;
    TNCRS @ 0x4034, "13.7.12", NEVER;
    SEC @ 0x4038, "13.7.13", NEVER;
    CEXTERR @ 0x403c, "13.7.14", NEVER;
    RLEC @ 0x4040, "13.7.15", NEVER;
    XONRXC @ 0x4048, "13.7.16", NEVER;
    XONTXC @ 0x404c, "13.7.17", NEVER;
    XOFFRXC @ 0x4050, "13.7.18", NEVER;
    XOFFTXC @ 0x4054, "13.7.19", NEVER;
    FCRUC @ 0x4058, "13.7.20", NEVER;
    PRC64 @ 0x405c, "13.7.21", Counter(|c| c.rx.traffic.by_size[0]);
    PRC127 @ 0x4060, "13.7.22", Counter(|c| c.rx.traffic.by_size[1]);
    PRC255 @ 0x4064, "13.7.23", Counter(|c| c.rx.traffic.by_size[2]);
    PRC511 @ 0x4068, "13.7.24", Counter(|c| c.rx.traffic.by_size[3]);
    PRC1023 @ 0x406c, "13.7.25", Counter(|c| c.rx.traffic.by_size[4]);
    PRC1522 @ 0x4070, "13.7.26", Counter(|c| c.rx.traffic.by_size[5]);
    GPRC @ 0x4074, "13.7.27", Counter(|c| c.rx.frames);
    BPRC @ 0x4078, "13.7.28", Counter(|c| c.rx.traffic.broadcast);
    MPRC @ 0x407c, "13.7.29", Counter(|c| c.rx.traffic.multicast);
    GPTC @ 0x4080, "13.7.30", Counter(|c| good_frames(&c.tx.traffic));
    GORCL @ 0x4088, "13.7.31", CounterLow(|c| c.rx.traffic.octets);
    GORCH @ 0x408c, "13.7.31", CounterHigh(|c| c.rx.traffic.octets);
    GOTCL @ 0x4090, "13.7.32", CounterLow(|c| good_octets(&c.tx.traffic));
    GOTCH @ 0x4094, "13.7.32", CounterHigh(|c| good_octets(&c.tx.traffic));
    RNBC @ 0x40a0, "13.7.33", Counter(|c| missed(&c.rx));
    RUC @ 0x40a4, "13.7.34", NEVER;
    RFC @ 0x40a8, "13.7.35", NEVER;
    ROC @ 0x40ac, "13.7.36", Counter(|c| c.rx.dropped.oversize);
    RJC @ 0x40b0, "13.7.37", NEVER;
    MGTPRC @ 0x40b4, "13.7.38", NEVER;
    MGTPDC @ 0x40b8, "13.7.39", NEVER;
    MGTPTC @ 0x40bc, "13.7.40", NEVER;
    TORL @ 0x40c0, "13.7.41", CounterLow(|c| all_octets(&c.rx));
    TORH @ 0x40c4, "13.7.41", CounterHigh(|c| all_octets(&c.rx));
    TOTL @ 0x40c8, "13.7.42", CounterLow(|c| c.tx.traffic.octets);
    TOTH @ 0x40cc, "13.7.42", CounterHigh(|c| c.tx.traffic.octets);
    TPR @ 0x40d0, "13.7.43", Counter(|c| all_frames(&c.rx));
    TPT @ 0x40d4, "13.7.44", Counter(|c| c.tx.frames);
    PTC64 @ 0x40d8, "13.7.45", Counter(|c| c.tx.traffic.by_size[0]);
    PTC127 @ 0x40dc, "13.7.46", Counter(|c| c.tx.traffic.by_size[1]);
    PTC255 @ 0x40e0, "13.7.47", Counter(|c| c.tx.traffic.by_size[2]);
    PTC511 @ 0x40e4, "13.7.48", Counter(|c| c.tx.traffic.by_size[3]);
    PTC1023 @ 0x40e8, "13.7.49", Counter(|c| c.tx.traffic.by_size[4]);
    PTC1522 @ 0x40ec, "13.7.50", Counter(|c| c.tx.traffic.by_size[5]);
    MPTC @ 0x40f0, "13.7.51", Counter(|c| c.tx.traffic.multicast);
    BPTC @ 0x40f4, "13.7.52", Counter(|c| c.tx.traffic.broadcast);
    TSCTC @ 0x40f8, "13.7.53", Counter(|c| c.tx.segmented);
    TSCTFC @ 0x40fc, "13.7.54", Counter(|c| c.tx.dropped.segmentation);

    RXCSUM @ 0x5000, "13.4.47", Live(
        |nic, _| nic.rx.0.lock().rxcsum,
        |nic, _, v| nic.rx.0.lock().rxcsum = v & 0x3ff);
    MTA[128] @ 0x5200, "13.5.1", Live(
        |nic, i| nic.rx.0.lock().filter.multicast_word(i),
        |nic, i, v| nic.rx.0.lock().filter.set_multicast_word(i, v));
    RA[32] @ 0x5400, "13.5.2", Live(
        |nic, i| nic.rx.0.lock().filter.receive_address(i),
        |nic, i, v| nic.rx.0.lock().filter.set_receive_address(i, v));
    VFTA[128] @ 0x5600, "13.5.4", Live(
        |nic, i| nic.rx.0.lock().filter.vlan_word(i),
        |nic, i, v| nic.rx.0.lock().filter.set_vlan_word(i, v));
    WUC @ 0x5800, "13.6.1", Stored { reset: 0, writable: 0xf };
    WUFC @ 0x5808, "13.6.2", Stored { reset: 0, writable: 0x000f_80ff };
    WUS @ 0x5810, "13.6.3", Live(|_, _| 0, ignore);
    MANC @ 0x5820, "13.5.6", Stored { reset: 0, writable: u32::MAX };
    IPAV @ 0x5838, "13.6.4", Stored { reset: 0, writable: 0x0001_000f };
    IP4AT[8] @ 0x5840, "13.6.5", Stored { reset: 0, writable: u32::MAX };
    IP6AT[4] @ 0x5880, "13.6.6", Stored { reset: 0, writable: u32::MAX };
    WUPL @ 0x5900, "13.6.7", Live(|_, _| 0, ignore);
    FFLT[8] @ 0x5f00, "13.6.9", Stored { reset: 0, writable: 0x7ff };
    FFMT[256] @ 0x9000, "13.6.10", Stored { reset: 0, writable: 0xf };
    FFVT[256] @ 0x9800, "13.6.11", Stored { reset: 0, writable: u32::MAX };
    PBM[16384] @ 0x1_0000, "13.8.11", Stored { reset: 0, writable: u32::MAX };
}

/// PBA: the transmit side has what the receive side leaves of 64 KiB. Nothing is kept there.
fn packet_buffer_split(receive: u32) -> u32 {
    64u32.saturating_sub(receive) << 16 | receive
}

/// Frames that found no free descriptor: there is no packet buffer where they could wait, so each is
/// both missed (MPC) and short of a buffer (RNBC).
fn missed(rx: &RxCounters) -> u64 {
    rx.dropped.no_buffer
}

/// Frames of a legal length.
fn good_frames(traffic: &Traffic) -> u64 {
    traffic.by_size.iter().sum()
}

fn good_octets(traffic: &Traffic) -> u64 {
    traffic.octets - traffic.short_octets
}

/// Every frame that came while reception was on, whatever became of it.
fn all_frames(rx: &RxCounters) -> u64 {
    rx.frames + rx.dropped.total() - rx.dropped.disabled - rx.dropped.link_down
}

fn all_octets(rx: &RxCounters) -> u64 {
    rx.traffic.octets + rx.refused_octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_nothing_overlaps() {
        for pair in REGISTERS.windows(2) {
            let end = pair[0].offset + 4 * pair[0].words;
            assert!(end <= pair[1].offset, "{} and {}", pair[0].name, pair[1].name);
        }
        assert!(REGISTERS.iter().all(|register| register.offset.is_multiple_of(4)));
    }

    #[test]
    fn every_word_is_found_and_gaps_are_not() {
        for register in REGISTERS {
            for word in 0..register.words {
                let (found, at) = Register::find((register.offset + 4 * word).into()).unwrap();
                assert_eq!((found.name, at), (register.name, word as usize));
            }
        }
        for gap in [0x0004, 0x00cc, 0x5480, 0xfffc, 0x2_0000, u64::MAX] {
            assert!(Register::find(gap).is_none(), "{gap:#x}");
        }
    }
}
