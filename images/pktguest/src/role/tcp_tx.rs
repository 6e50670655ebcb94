//! Sends a TCP stream, as fast as possible or at a rate.
//!
//! The stream is made of records of one length, numbered from 0; the length is what a segment
//! carries in a frame of the configured length.

use smoltcp::iface::SocketStorage;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

use super::pace::Pace;
use super::{BATCH, Session, Tally};
use crate::net::{DISCARD_PORT, SENDER_PORT, Stack};
use crate::nic::{Nic, Until};
use crate::payload::{Payload, TCP_HEADERS};
use crate::time;

/// Bytes written to the socket and not acknowledged yet, at most.
const BUFFER: usize = 512 * 1024;

/// How long the end of the stream may stand still: what is lost is sent again after a second, then
/// after twice as long each time (RFC 6298).
const STALL_US: u64 = 5_000_000;

/// Sends until the count is reached or the role is over; then closes the stream and waits until
/// the receiver has, too.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    let config = session.config;
    // The command line was checked for these.
    let (Some(network), Some(to)) = (config.ip, config.to_ip) else { return };
    let mut record = Payload::new(config.frame - TCP_HEADERS);
    let len = record.len();
    let mut buffer = [0; BUFFER];
    let mut socket =
        Socket::new(SocketBuffer::new([].as_mut_slice()), SocketBuffer::new(buffer.as_mut_slice()));
    socket.set_nagle_enabled(false);
    let mut storage = [SocketStorage::EMPTY];
    let mut stack = Stack::new(nic, network, config.frame, session.clock, &mut storage, socket);
    let (socket, context) = stack.socket_and_context();
    // Only ports of 0, an address of 0 or an open socket would be refused.
    let _ = socket.connect(context, (to.first(), DISCARD_PORT), SENDER_PORT);

    let burst = u64::from(config.burst);
    let tally = |sent| Tally { packets: sent, bytes: sent * len as u64 };
    let mut pace = Pace::new(&session);
    let (mut sent, mut blocked, mut start) = (0, 0u64, None);
    loop {
        nic.service();
        let now = time::now();
        stack.poll(nic, now, BATCH);
        let socket = stack.socket();
        if session.is_over(now, nic) || session.is_enough(sent) || !socket.is_active() {
            break;
        }
        session.report(now, tally(sent));
        if session.is_paused(nic) {
            continue;
        }
        if room(socket) < BUFFER / 3 {
            // Not connected yet, or the receiver is slower. Whoever fills every little gap sends
            // segments one by one, with a doorbell each.
            blocked += 1;
            stack.wait(nic, session.wake());
            continue;
        }
        start.get_or_insert(now);
        if now < pace.due(now) {
            nic.wait(Until::Deadline, pace.due(now).min(session.wake()));
            continue;
        }
        let first = sent;
        let end = first.saturating_add(session.chunk(first));
        while sent < end && room(stack.socket()) >= len {
            let socket = stack.socket();
            for _ in 0..burst.min(end - sent) {
                if room(socket) < len {
                    break;
                }
                // There is room for all of it.
                let _ = socket.send_slice(record.numbered(sent));
                sent += 1;
            }
            stack.send(nic);
        }
        pace.advance(sent - first);
    }
    stack.socket().close();
    let stall = session.clock.ticks(STALL_US);
    let mut end = time::now();
    let (mut limit, mut left) = (end + stall, stack.socket().send_queue());
    loop {
        let now = time::now();
        stack.poll(nic, now, BATCH);
        let queued = stack.socket().send_queue();
        if queued > 0 {
            end = now;
        }
        if queued < left {
            (limit, left) = (now + stall, queued);
        }
        let closed = matches!(stack.socket().state(), State::TimeWait | State::Closed);
        if closed || now >= limit || !nic.link_up() {
            break;
        }
        stack.wait(nic, limit);
    }
    let elapsed = session.clock.ns(end - start.unwrap_or(end));
    let unsent = stack.socket().send_queue().div_ceil(len) as u64;
    session
        .final_line(nic, sent)
        .num("bytes", tally(sent).bytes)
        .num("elapsed_ns", elapsed)
        .num("blocked", blocked)
        .num("unsent", unsent)
        .end();
}

/// Bytes that the socket would take; none before it is connected.
fn room(socket: &Socket<'_>) -> usize {
    if socket.may_send() { socket.send_capacity() - socket.send_queue() } else { 0 }
}
