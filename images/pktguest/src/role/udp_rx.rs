//! Counts the UDP datagrams that a socket gets, and checks their sequence numbers.

use smoltcp::iface::SocketStorage;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};

use super::sink::{self, Sink};
use super::{BATCH, Session};
use crate::net::{DISCARD_PORT, LONGEST_FRAME, Stack};
use crate::nic::Nic;
use crate::payload::{self, LONGEST};

/// Datagrams the socket holds: what one poll may bring, so that it never drops any.
const QUEUE: usize = BATCH as usize;

/// Receives until the role is over.
pub fn run<N: Nic>(session: Session<'_>, nic: &mut N) {
    // The command line was checked for it.
    let Some(network) = session.config.ip else { return };
    let (mut heads, mut bodies) = ([PacketMetadata::EMPTY; QUEUE], [0; QUEUE * LONGEST]);
    let mut socket = Socket::new(
        PacketBuffer::new(heads.as_mut_slice(), bodies.as_mut_slice()),
        PacketBuffer::new([].as_mut_slice(), [].as_mut_slice()),
    );
    // Only a port 0 or a second call would be refused.
    let _ = socket.bind(DISCARD_PORT);
    let mut storage = [SocketStorage::EMPTY];
    let mut stack = Stack::new(nic, network, LONGEST_FRAME, session.clock, &mut storage, socket);

    sink::run(session, nic, |nic: &mut N, sink: &mut Sink, now| {
        stack.set_time(now);
        let count = stack.receive(nic, BATCH);
        while let Ok((datagram, _)) = stack.socket().recv() {
            match payload::number(datagram) {
                Some(number) => sink.note(number, datagram.len()),
                None => sink.foreign += 1,
            }
        }
        count
    });
}
