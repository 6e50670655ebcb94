//! Receive checksum offload: what the device finds out about a frame (manual 3.2.9).

use super::checksum::Sum;
use super::regs::{rxcsum, rxd};
use crate::backend::Frame;

const ETHERTYPE_AT: usize = 12;
const HEADER_LEN: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Status and error bits of `frame` under RXCSUM, in a receive descriptor's second word. `stripped`
/// bytes of VLAN tag stand in front of its type. IPv6 is not inspected, as in the part (table 3-5).
pub fn checksums(frame: &Frame<'_>, stripped: usize, rxcsum: u32) -> u64 {
    match inspect(frame, stripped, rxcsum) {
        Some(0) | None => rxd::IXSM,
        Some(found) => found,
    }
}

fn inspect(frame: &Frame<'_>, stripped: usize, rxcsum: u32) -> Option<u64> {
    let mut ethertype = [0; 2];
    frame.copy_out(ETHERTYPE_AT + stripped, &mut ethertype);
    let at = HEADER_LEN + stripped;
    let mut header = [0; 60];
    let copied = frame.copy_out(at, &mut header);
    let header = header.get(..copied)?;
    if ethertype != IPV4 || header.first()? >> 4 != 4 {
        return None;
    }
    let header_len = usize::from(header.first()? & 0xf) * 4;
    let header = header.get(..header_len).filter(|header| header.len() >= 20)?;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if total_len < header_len || at + total_len > frame.len() {
        return None;
    }

    let mut found = 0;
    if rxcsum & rxcsum::IPOFL != 0 {
        let mut sum = Sum::default();
        sum.add(header);
        found |= rxd::IPCS | if sum.is_right() { 0 } else { rxd::IPE };
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let protocol = header[9];
    if rxcsum & rxcsum::TUOFL != 0 && !fragment && (protocol == TCP || protocol == UDP) {
        let segment_at = at + header_len;
        let segment_len = total_len - header_len;
        let mut udp_checksum = [0; 2];
        frame.copy_out(segment_at + 6, &mut udp_checksum);
        let unchecked = protocol == UDP && udp_checksum == [0; 2];
        if !unchecked {
            let mut sum = Sum::default();
            sum.add(&header[12..20]);
            sum.add(&[0, protocol]);
            sum.add(&(segment_len as u16).to_be_bytes());
            sum.add_frame(frame, segment_at, segment_at + segment_len);
            found |= rxd::TCPCS | if sum.is_right() { 0 } else { rxd::TCPE };
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GuestRam;
    use vm_memory::Bytes;

    const BOTH: u32 = rxcsum::IPOFL | rxcsum::TUOFL;

    /// A right IPv4 packet of `protocol` with 5 bytes of payload.
    fn packet(protocol: u8) -> Vec<u8> {
        let segment_len = if protocol == TCP { 25 } else { 13 };
        let mut bytes = vec![0; 14 + 20 + segment_len];
        bytes[12..14].copy_from_slice(&IPV4);
        bytes[14..24].copy_from_slice(&[
            0x45,
            0,
            0,
            20 + segment_len as u8,
            7,
            7,
            0,
            0,
            64,
            protocol,
        ]);
        bytes[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        bytes[34 + segment_len - 5..].copy_from_slice(b"hello");
        let mut ip = Sum::default();
        ip.add(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&ip.checksum());
        let mut sum = Sum::default();
        sum.add(&[10, 0, 0, 1, 10, 0, 0, 2, 0, protocol, 0, segment_len as u8]);
        sum.add(&bytes[34..]);
        let at = if protocol == TCP { 50 } else { 40 };
        bytes[at..at + 2].copy_from_slice(&sum.checksum());
        bytes
    }

    fn found(bytes: &[u8], stripped: usize, rxcsum: u32) -> u64 {
        let ram = GuestRam::new(4096).unwrap();
        let slice = ram.slice(0, bytes.len()).unwrap();
        slice.write_slice(bytes, 0).unwrap();
        checksums(&Frame::new(&[slice]), stripped, rxcsum)
    }

    #[test]
    fn right_checksums_are_reported_without_error() {
        for protocol in [TCP, UDP] {
            let right = packet(protocol);
            assert_eq!(found(&right, 0, BOTH), rxd::IPCS | rxd::TCPCS);
            assert_eq!(found(&right, 0, rxcsum::IPOFL), rxd::IPCS);
            assert_eq!(found(&right, 0, rxcsum::TUOFL), rxd::TCPCS);
        }
    }

    #[test]
    fn a_flipped_bit_is_found_where_it_is() {
        let mut header = packet(TCP);
        header[22] ^= 1;
        assert_eq!(found(&header, 0, BOTH), rxd::IPCS | rxd::IPE | rxd::TCPCS);
        let mut payload = packet(UDP);
        payload[46] ^= 0x80;
        assert_eq!(found(&payload, 0, BOTH), rxd::IPCS | rxd::TCPCS | rxd::TCPE);
    }

    #[test]
    fn a_tag_moves_the_packet() {
        let mut tagged = packet(TCP);
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(found(&tagged, 4, BOTH), rxd::IPCS | rxd::TCPCS);
        assert_eq!(found(&tagged, 0, BOTH), rxd::IXSM);
    }

    #[test]
    fn what_has_no_checksum_is_not_judged() {
        let mut fragment = packet(UDP);
        fragment[20] = 0x20;
        assert_eq!(found(&fragment, 0, rxcsum::TUOFL), rxd::IXSM);
        let mut unchecked = packet(UDP);
        unchecked[40..42].fill(0);
        assert_eq!(found(&unchecked, 0, rxcsum::TUOFL), rxd::IXSM);
        let mut truncated = packet(TCP);
        truncated.truncate(40);
        assert_eq!(found(&truncated, 0, BOTH), rxd::IXSM);
        assert_eq!(found(&[0; 60], 0, BOTH), rxd::IXSM);
        assert_eq!(found(&packet(TCP)[..14], 0, BOTH), rxd::IXSM);
    }
}
