//! Frames of a program that pings: ARP requests and ICMP echo requests, and what answers them.
//!
//! smoltcp's own ARP asks for one address a second (`Cache::SILENT_TIME`): who pings a whole network
//! asks by itself.

use core::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
};

use crate::nic::Queue;

/// What a frame has of Ethernet, IPv4 and ICMP besides the payload, in bytes.
pub const HEADERS: u16 = 14 + 20 + 8;
/// Marks our requests among others from the same address.
const IDENT: u16 = 0x4c43;
const FILLER: [u8; 1514 - HEADERS as usize] = [0x5a; 1514 - HEADERS as usize];

/// A host's addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Ethernet's.
    pub mac: [u8; 6],
    /// IP's.
    pub ip: Ipv4Addr,
}

/// What a frame brings to whoever pings.
pub enum Answer {
    /// Where a host is.
    Address {
        /// The host.
        host: Host,
        /// Whether we have asked for it: then it knows where we are, too.
        asked: bool,
    },
    /// An echo reply.
    Echo {
        /// Who has sent it.
        from: Ipv4Addr,
        /// The request's number.
        sequence: u16,
    },
}

/// To anyone.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Asks `to` whether it has the IP address; if that is [`BROADCAST`], who has it.
pub fn ask(queue: &mut impl Queue, us: Host, to: Host) {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(us.mac),
        source_protocol_addr: us.ip,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: to.ip,
    };
    let len = EthernetFrame::<&[u8]>::buffer_len(arp.buffer_len());
    queue.push(len as u16, |bytes| {
        let mut frame = EthernetFrame::new_unchecked(bytes);
        frame.set_src_addr(EthernetAddress(us.mac));
        frame.set_dst_addr(EthernetAddress(to.mac));
        frame.set_ethertype(EthernetProtocol::Arp);
        arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    });
}

/// Sends `to` an echo request in a frame of `len` bytes: [`HEADERS`] to 1514.
pub fn request(queue: &mut impl Queue, us: Host, to: Host, sequence: u16, len: u16) {
    let payload = usize::from(len.saturating_sub(HEADERS)).min(FILLER.len());
    let icmp = Icmpv4Repr::EchoRequest { ident: IDENT, seq_no: sequence, data: &FILLER[..payload] };
    let ip = Ipv4Repr {
        src_addr: us.ip,
        dst_addr: to.ip,
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let checksums = ChecksumCapabilities::default();
    let len = EthernetFrame::<&[u8]>::buffer_len(ip.buffer_len() + icmp.buffer_len());
    queue.push(len as u16, |bytes| {
        let mut frame = EthernetFrame::new_unchecked(bytes);
        frame.set_src_addr(EthernetAddress(us.mac));
        frame.set_dst_addr(EthernetAddress(to.mac));
        frame.set_ethertype(EthernetProtocol::Ipv4);
        let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
        ip.emit(&mut packet, &checksums);
        icmp.emit(&mut Icmpv4Packet::new_unchecked(packet.payload_mut()), &checksums);
    });
}

/// What a frame says to us; `None` if it is nothing of the kind.
pub fn answer(bytes: &[u8], us: Host) -> Option<Answer> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Arp => {
            let arp = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).ok()?).ok()?;
            let ArpRepr::EthernetIpv4 {
                operation,
                source_hardware_addr: EthernetAddress(mac),
                source_protocol_addr: ip,
                target_protocol_addr,
                ..
            } = arp
            else {
                return None;
            };
            let asked = operation == ArpOperation::Reply && target_protocol_addr == us.ip;
            Some(Answer::Address { host: Host { mac, ip }, asked })
        }
        EthernetProtocol::Ipv4 => {
            let checksums = ChecksumCapabilities::default();
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            let ip = Ipv4Repr::parse(&packet, &checksums).ok()?;
            if ip.dst_addr != us.ip || ip.next_header != IpProtocol::Icmp {
                return None;
            }
            let icmp = Icmpv4Packet::new_checked(packet.payload()).ok()?;
            match Icmpv4Repr::parse(&icmp, &checksums).ok()? {
                Icmpv4Repr::EchoReply { ident: IDENT, seq_no: sequence, .. } => {
                    Some(Answer::Echo { from: ip.src_addr, sequence })
                }
                _ => None,
            }
        }
        _ => None,
    }
}
