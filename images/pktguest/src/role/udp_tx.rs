//! Sends UDP datagrams through a socket, as fast as possible or at a rate.

use smoltcp::iface::SocketStorage;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket, UdpMetadata};

use super::pace::Pace;
use super::{BATCH, FINISH_US, Session, Tally};
use crate::net::{DISCARD_PORT, LONGEST_FRAME, SENDER_PORT, Stack};
use crate::nic::{Nic, Until};
use crate::payload::{LONGEST, Payload, UDP_HEADERS};
use crate::time;

/// Datagrams the socket holds: the longest burst.
const QUEUE: usize = 512;

/// Sends until the count is reached or the role is over.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    let config = session.config;
    // The command line was checked for these.
    let (Some(network), Some(to)) = (config.ip, config.to_ip) else { return };
    let to = UdpMetadata::from((to.first(), DISCARD_PORT));
    let mut payload = Payload::new(config.frame - UDP_HEADERS);
    let (mut heads, mut bodies) = ([PacketMetadata::EMPTY; QUEUE], [0; QUEUE * LONGEST]);
    let mut socket = Socket::new(
        PacketBuffer::new([].as_mut_slice(), [].as_mut_slice()),
        PacketBuffer::new(heads.as_mut_slice(), bodies.as_mut_slice()),
    );
    // Only a port 0 or a second call would be refused.
    let _ = socket.bind(SENDER_PORT);
    let mut storage = [SocketStorage::EMPTY];
    let mut stack = Stack::new(nic, network, LONGEST_FRAME, session.clock, &mut storage, socket);

    let burst = u64::from(config.burst);
    let bytes = payload.len() as u64;
    let tally = |sent| Tally { packets: sent, bytes: sent * bytes };
    let mut pace = Pace::new(&session);
    let (mut sent, mut blocked, mut start) = (0, 0u64, None);
    loop {
        nic.service();
        let now = time::now();
        stack.poll(nic, now, BATCH);
        if session.is_over(now, nic) || session.is_enough(sent) {
            break;
        }
        session.report(now, tally(sent));
        if session.is_paused(nic) {
            continue;
        }
        if stack.socket().send_queue() > 0 {
            // The ring is full, or ARP has not found the receiver yet.
            blocked += 1;
            stack.wait(nic, session.wake());
            continue;
        }
        if sent > 0 {
            start.get_or_insert(now);
        }
        if now < pace.due(now) {
            nic.wait(Until::Deadline, pace.due(now).min(session.wake()));
            continue;
        }
        let first = sent;
        let end = first.saturating_add(session.chunk(first));
        while sent < end && stack.socket().send_queue() == 0 {
            for _ in 0..burst.min(end - sent) {
                // An empty queue has room for a burst.
                let _ = stack.socket().send_slice(payload.numbered(sent), to);
                sent += 1;
            }
            stack.send(nic);
        }
        pace.advance(sent - first);
    }
    let limit = time::now() + session.clock.ticks(FINISH_US);
    let unsent = loop {
        let now = time::now();
        let queued = stack.socket().send_queue() as u64 / bytes;
        let unsent = queued + nic.unsent();
        if unsent == 0 || now >= limit || !nic.link_up() {
            break unsent;
        }
        match queued {
            0 => nic.wait(Until::Sent, limit),
            _ => stack.wait(nic, limit),
        }
        stack.poll(nic, now, BATCH);
    };
    let now = time::now();
    let elapsed = session.clock.ns(now - start.unwrap_or(now));
    session
        .final_line(nic, sent)
        .num("bytes", tally(sent).bytes)
        .num("elapsed_ns", elapsed)
        .num("blocked", blocked)
        .num("unsent", unsent)
        .end();
}
