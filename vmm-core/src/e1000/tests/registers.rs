//! The register file as drivers and their self-tests see it.

use super::*;

/// Writes four patterns through `written`; the bits in `kept` must read back and no others be set.
fn pattern_test(bench: &Bench, register: u32, kept: u32, written: u32) {
    for pattern in [0x5a5a_5a5a, 0xa5a5_a5a5, 0, u32::MAX] {
        bench.set(register, pattern & written);
        assert_eq!(bench.get(register), pattern & written & kept, "register {register:#x}");
    }
}

/// What the register test of drivers' `ethtool -t` demands.
#[test]
fn registers_keep_exactly_the_bits_they_have() {
    let bench = Bench::powered(true, false);
    for (register, kept, written) in [
        (FCAL, !0, !0),
        (FCAH, 0xffff, !0),
        (FCT, 0xffff, !0),
        (VET, 0xffff, !0),
        (RDTR, 0xffff, !0),
        (RDBAH, !0, !0),
        (RDLEN, 0xf_ff80, 0xf_ffff),
        (RDH, 0xffff, 0xffff),
        (RDT, 0xffff, 0xffff),
        (FCRTH, 0xfff8, 0xfff8),
        (FCTTV, 0xffff, 0xffff),
        (TIPG, 0x3fff_ffff, 0x3fff_ffff),
        (TDBAH, !0, !0),
        (TDLEN, 0xf_ff80, 0xf_ffff),
        (RDBAL, 0xffff_fff0, !0),
        (TDBAL, 0xffff_fff0, !0),
        (TXCW, 0xc000_ffff, 0xffff),
        (TIDV, 0xffff, 0xffff),
        (RCTL, 0x06df_b3fe, !0),
        (TCTL, 0x037f_fffa, !0),
    ] {
        pattern_test(&bench, register, kept, written);
    }
    (0..16).for_each(|entry| pattern_test(&bench, RA + 8 * entry + 4, 0x8003_ffff, !0));
    (0..128).for_each(|word| pattern_test(&bench, MTA + 4 * word, !0, !0));
    (0..128).for_each(|word| pattern_test(&bench, VFTA + 4 * word, !0, !0));
    let status = bench.get(STATUS);
    bench.set(STATUS, !status);
    assert_eq!(bench.get(STATUS), status, "STATUS is read-only");
}

/// Drivers' interrupt test sets each of the ten lowest causes through ICS.
#[test]
fn every_cause_can_be_forced_and_masked() {
    let bench = Bench::powered(true, false);
    for bit in 0..10 {
        bench.set(IMC, !0);
        bench.set(ICS, 1 << bit);
        assert!(!bench.line_is_high(), "bit {bit} is masked");
        bench.set(IMS, 1 << bit);
        assert!(bench.line_is_high(), "bit {bit}");
        assert_eq!(bench.get(ICR), 1 << bit);
        bench.set(ICS, !(1u32 << bit) & 0x7fff);
        assert!(!bench.line_is_high(), "only bit {bit} is unmasked");
        bench.get(ICR);
    }
}

#[test]
fn narrow_writes_to_cause_registers_leave_other_causes_alone() {
    let bench = Bench::powered(true, false);
    bench.set(IMS, 0x10085);
    bench.nic.write(u64::from(IMC), &[0x80]);
    assert_eq!(bench.get(IMS), 0x10005);
    bench.nic.write(u64::from(IMS) + 1, &[0x01]);
    assert_eq!(bench.get(IMS), 0x10105);
    bench.set(ICS, 0x84);
    bench.nic.write(u64::from(ICR), &[0x80]);
    assert_eq!(bench.get(ICS), 0x04);
}

#[test]
fn the_io_bar_reaches_every_register() {
    let bench = Bench::powered(true, false);
    let port = |at: u64, value: u32| bench.nic.io_write(at, &value.to_le_bytes());
    let read = |at: u64| {
        let mut bytes = [0; 4];
        bench.nic.io_read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    port(0, RA + 4);
    assert_eq!((read(0), read(4)), (RA + 4, 0x8000_0100));
    port(4, 0x1234);
    assert_eq!(bench.get(RA + 4), 0x1234);
    port(0, CTRL);
    port(4, ctrl::RST);
    assert_eq!(bench.get(RA + 4), 0x8000_0100, "a reset by this way is a reset");
    port(0, !0);
    port(4, !0);
    assert_eq!((read(4), read(8), read(0x3c)), (0, 0, 0));
    bench.nic.io_write(1, &[0]);
    bench.nic.io_write(2, &[0; 4]);
    assert_eq!(read(0), 0xf_fffc, "only whole aligned words count");
}

#[test]
fn reset_keeps_the_csb_the_phy_and_the_eeprom() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    let phy_write = |register: u32, value: u32| {
        bench.set(MDIC, 0b01 << 26 | 1 << 21 | register << 16 | value);
    };
    phy_write(4, 0x0001);
    for register in [CTRL, FCAL, VET, RXCSUM, VFTA, WUC, TXDCTL, RSRPD] {
        bench.set(register, 0x0000_0123);
    }
    bench.set(CTRL, ctrl::RST);
    assert_eq!(bench.get(CTRL) & (ctrl::RST | ctrl::SLU), ctrl::SLU);
    for register in [FCAL, RXCSUM, VFTA, WUC, TXDCTL, RSRPD, IMS, RCTL, TCTL] {
        assert_eq!(bench.get(register), 0, "{register:#x}");
    }
    assert_eq!(bench.get(VET), 0x8100);
    bench.set(MDIC, 0b10 << 26 | 1 << 21 | 4 << 16);
    assert_eq!(bench.get(MDIC) & 0xffff, 1, "the PHY has its own reset");
    bench.configure();
    bench.tx_frame(0);
    bench.set_csb(Field::GuestTdt, 1);
    bench.set(TDT, 0);
    assert_eq!(bench.wire.0.lock().len(), 1, "the CSB is still mapped: its tail counts");
}

#[test]
fn statistics_count_and_clear_on_read() {
    let bench = Bench::new(true, false);
    bench.tx_frame(0);
    bench.tx_frame(1);
    bench.set(TDT, 2);
    for (to, length) in [(MAC, 60), (MAC, 61), (MAC, 1514), ([0xff; 6], 42), ([9; 6], 100)] {
        bench.receive(&frame(to, 0, length));
    }
    let once = |register, value| {
        assert_eq!(bench.get(register), value, "{register:#x}");
        assert_eq!(bench.get(register), 0, "{register:#x} is cleared");
    };
    for (register, value) in [
        (GPTC, 2),
        (TPT, 2),
        (PTC64, 2),
        (BPTC, 2),
        (MPTC, 0),
        (GPRC, 4),
        (PRC64, 2),
        (PRC127, 1),
        (PRC1522, 1),
        (BPRC, 1),
        (TPR, 5),
        (ROC, 0),
    ] {
        once(register, value);
    }
    let octets = 64 + 65 + 1518 + 64;
    assert_eq!(
        (bench.get(GORCL), bench.get(GORCL)),
        (octets, octets),
        "the low half clears nothing"
    );
    assert_eq!((bench.get(GORCH), bench.get(GORCL)), (0, 0), "the high half clears both");
    assert_eq!((bench.get(TORL), bench.get(TORH)), (octets + 104, 0));
    assert_eq!((bench.get(TOTL), bench.get(TOTH)), (128, 0));

    (0..8).for_each(|_| _ = bench.receive(&frame(MAC, 0, 60)));
    let missed = 8 - (SLOTS as u32 - 1 - 4);
    once(MPC, missed);
    once(RNBC, missed);
    bench.receive(&frame(MAC, 0, 1519));
    once(ROC, 1);
    bench.set(CTRL, ctrl::RST);
    assert_eq!((bench.get(GPRC), bench.get(TORL)), (0, 0), "a reset starts anew");
}

#[test]
fn loopback_returns_frames_to_their_sender_alone() {
    for phy in [false, true] {
        let bench = Bench::new(true, false);
        bench.nic.set_link(false);
        if phy {
            bench.set(MDIC, 0b01 << 26 | 1 << 21 | 0x4140);
        } else {
            bench.set(RCTL, rctl::EN | rctl::BAM | rctl::SECRC | rctl::LBM_MAC);
        }
        bench.tx_frame(0);
        bench.set(TDT, 1);
        assert!(bench.wire.0.lock().is_empty());
        assert_eq!(bench.rx_bytes(0, 60), frame([0xff; 6], 0, 60));
        assert_eq!(bench.get(ICR) & (cause::RXT0 | cause::TXDW), cause::RXT0 | cause::TXDW);
        assert_eq!(bench.receive(&frame(MAC, 0, 60)), 0, "the network is not heard");
    }
}

#[test]
fn the_ring_running_low_and_empty_is_reported() {
    let bench = Bench::new(true, false);
    bench.tx_frame(0);
    bench.set(TDT, 1);
    assert_eq!(bench.get(ICR) & (cause::TXQE | cause::TXD_LOW), cause::TXQE | cause::TXD_LOW);
    // A mark of 8: seven descriptors are below it from the beginning.
    bench.set(TXDCTL, 1 << txdctl::LWTHRESH_SHIFT);
    (1..SLOTS).for_each(|slot| bench.tx_frame(slot));
    bench.set(TDT, 0);
    assert_eq!(bench.get(ICR) & (cause::TXQE | cause::TXD_LOW), cause::TXQE);
}

#[test]
fn octets_between_the_halves_of_a_reading_are_counted_later() {
    let bench = Bench::new(true, false);
    let receive = || bench.receive(&frame(MAC, 0, 60));
    receive();
    let first = bench.get(GORCL);
    receive();
    let high = bench.get(GORCH);
    let second = bench.get(GORCL);
    assert_eq!((first, high, second), (64, 0, 64));
    bench.set(CTRL, ctrl::RST);
    assert_eq!((bench.get(GORCH), bench.get(GORCL)), (0, 0), "a reset forgets the first half");
}
