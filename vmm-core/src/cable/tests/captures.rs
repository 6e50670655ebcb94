//! What captures see, and what their files say.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcap_parser::pcapng::{Block, InterfaceDescriptionBlock};
use pcap_parser::{Linktype, PcapBlockOwned, PcapNGSlice};

use super::Direction::{Inbound, Outbound};
use super::*;

fn tags_and_ways(capture: &Capture) -> Vec<(u8, Direction)> {
    let mut captured = Captured::default();
    capture.take(&mut captured);
    captured.iter().map(|frame| (frame.bytes[14], frame.direction)).collect()
}

fn readable(capture: &Capture) -> bool {
    let mut fd = libc::pollfd { fd: capture.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives across the call.
    unsafe { libc::poll(&mut fd, 1, 0) == 1 }
}

#[test]
fn each_end_sees_its_own_side() {
    let mut bench = Bench::new();
    let [at_nic, at_port] =
        [End::A, End::B].map(|end| bench.cable.capture(end, CaptureLimits::default()).unwrap());
    bench.send(&[1, 2]);
    bench.deliver(&[3]);
    assert!(readable(&at_nic));
    assert_eq!(tags_and_ways(&at_nic), [(1, Outbound), (2, Outbound), (3, Inbound)]);
    assert_eq!(tags_and_ways(&at_port), [(1, Inbound), (2, Inbound), (3, Outbound)]);
    assert!(!readable(&at_nic) && tags_and_ways(&at_nic).is_empty());

    let delay = Duration::from_millis(1);
    bench.impair(Impairments { delay, ..Impairments::default() });
    bench.send(&[4]);
    bench.deliver(&[5]);
    assert_eq!(tags_and_ways(&at_nic), [(4, Outbound)]);
    assert_eq!(tags_and_ways(&at_port), [(5, Outbound)]);
    bench.pass(MS);
    assert_eq!(tags_and_ways(&at_nic), [(5, Inbound)]);
    assert_eq!(tags_and_ways(&at_port), [(4, Inbound)]);
    bench.impair(Impairments { loss: 1.0, ..Impairments::default() });
    bench.send(&[6]);
    assert_eq!((tags_and_ways(&at_nic), tags_and_ways(&at_port)), (vec![(6, Outbound)], vec![]));
}

#[test]
fn a_capture_alone_changes_nothing() {
    let mut bench = Bench::new();
    let capture = bench.cable.capture(End::A, CaptureLimits::default()).unwrap();
    assert_eq!(bench.from_nic.transmit_while_room(&frames(&bench.ram, &[1, 2, 3], 60)), 2);
    assert_eq!(bench.port.take(), [1, 2]);
    assert_eq!(tags_and_ways(&capture), [(1, Outbound), (2, Outbound)], "what was sent");
    assert_eq!(bench.to_nic.room(Flow::Brought), 17);
    bench.nic.refuses.store(1, Relaxed);
    assert_eq!(bench.deliver(&[4, 5]), 1);
    let [sent, delivered] = bench.audit();
    assert_eq!((sent.delivered, delivered.delivered, delivered.refused), (2, 1, 1));
}

#[test]
fn a_dropped_capture_leaves_the_cable_idle() {
    let mut bench = Bench::new();
    let [one, other] =
        [End::A, End::A].map(|end| bench.cable.capture(end, CaptureLimits::default()).unwrap());
    drop(one);
    bench.send(&[1]);
    assert_eq!(tags_and_ways(&other).len(), 1);
    assert!(!bench.cable.lane(End::A).is_idle());
    drop(other);
    assert!([End::A, End::B].iter().all(|end| bench.cable.lane(*end).is_idle()));
    bench.send(&[2]);
    assert_eq!(bench.audit()[0].delivered, 2);
    assert_eq!(bench.port.take(), [1, 2]);
}

#[test]
fn a_slow_reader_loses_frames_and_nobody_waits() {
    let mut bench = Bench::new();
    let limits = CaptureLimits { snap_len: 20, buffer_bytes: 10 * (20 + 32) };
    let capture = bench.cable.capture(End::A, limits).unwrap();
    bench.send(&[7; 25]);
    assert_eq!((capture.recorded(), capture.missed()), (10, 15));
    let mut captured = Captured::default();
    capture.take(&mut captured);
    assert_eq!(captured.iter().len(), 10);
    assert!(captured.iter().all(|frame| frame.bytes.len() == 20 && frame.original_len == 60));
    bench.send(&[8]);
    capture.take(&mut captured);
    assert_eq!(captured.iter().map(|frame| frame.bytes[14]).collect::<Vec<_>>(), [8]);
}

#[test]
fn a_reader_in_another_thread_gets_everything_in_order() {
    let mut bench = Bench::new();
    let capture = bench.cable.capture(End::A, CaptureLimits::default()).unwrap();
    let mut expected = Vec::new();
    let got = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut got, mut captured, mut last) = (Vec::new(), Captured::default(), 0);
            while got.len() < 20_000 {
                capture.take(&mut captured);
                for frame in captured.iter() {
                    assert!(frame.timestamp >= last);
                    last = frame.timestamp;
                    got.push(frame.bytes[14]);
                }
            }
            got
        });
        for n in 0..10_000_u32 {
            let tags = [n as u8, !n as u8];
            bench.send(&tags);
            expected.extend(tags);
        }
        reader.join().unwrap()
    });
    assert!(got == expected);
}

/// Read back by somebody else's parser.
#[test]
fn a_file_says_everything_about_its_frames() {
    let mut bench = Bench::new();
    let limits = CaptureLimits { snap_len: 61, buffer_bytes: 2 * (61 + 32) };
    let capture = bench.cable.capture(End::B, limits).unwrap();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    bench.from_nic.transmit(&frames(&bench.ram, &[1], 99));
    bench.deliver(&[2, 3]);
    let mut captured = Captured::default();
    capture.take(&mut captured);
    let mut writer = PcapngWriter::new(Vec::new(), "labctl 0.1", "sw0:3", limits.snap_len).unwrap();
    writer.write(&captured).unwrap();
    let file = writer.finish(&capture).unwrap();
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();

    let blocks: Vec<_> = PcapNGSlice::from_slice(&file)
        .unwrap()
        .map(|block| match block.unwrap() {
            PcapBlockOwned::NG(block) => block,
            _ => panic!("not pcapng"),
        })
        .collect();
    let [
        Block::SectionHeader(section),
        Block::InterfaceDescription(interface),
        Block::EnhancedPacket(sent),
        Block::EnhancedPacket(received),
        Block::InterfaceStatistics(statistics),
    ] = &blocks[..]
    else {
        panic!("{blocks:?}")
    };
    assert_eq!((section.major_version, section.minor_version), (1, 0));
    let InterfaceDescriptionBlock { linktype, snaplen, .. } = *interface;
    assert_eq!((linktype, snaplen), (Linktype::ETHERNET, 61));
    assert_eq!(interface.if_name().unwrap().unwrap(), "sw0:3");
    assert_eq!(interface.ts_resolution(), Some(1_000_000_000));
    for (packet, (caplen, origlen, direction)) in [(sent, (61, 99, 1)), (received, (60, 60, 2))] {
        assert_eq!((packet.if_id, packet.caplen, packet.origlen), (0, caplen, origlen));
        let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
        assert!((before..=after).contains(&Duration::from_nanos(time)));
        let flags = packet.options.iter().find(|option| option.code.0 == 2).unwrap();
        assert_eq!(flags.value(), u32::to_le_bytes(direction));
    }
    assert_eq!(&sent.data[..15], captured.iter().next().unwrap().bytes[..15].as_ref());
    assert_eq!(statistics.isb_ifrecv().unwrap().unwrap(), 3);
    assert_eq!(statistics.isb_ifdrop().unwrap().unwrap(), 1);
}
