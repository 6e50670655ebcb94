//! Takes a TCP stream and checks every byte of it.

use smoltcp::iface::SocketStorage;
use smoltcp::socket::tcp::{Socket, SocketBuffer};

use super::{BATCH, Session, Tally};
use crate::net::{DISCARD_PORT, LONGEST_FRAME, Stack};
use crate::nic::Nic;
use crate::payload::{Payload, TCP_HEADERS};
use crate::time;

/// Bytes received and not read yet, at most.
const BUFFER: usize = 512 * 1024;

/// Receives until the role is over.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    let config = session.config;
    // The command line was checked for it.
    let Some(network) = config.ip else { return };
    let mut expected = Payload::new(config.frame - TCP_HEADERS);
    let len = expected.len();
    // Whole records, so that none wraps around; and no more than the ring has buffers for, so that
    // a sender who fills the window does not overrun it.
    let records = (BUFFER / len).min(usize::from(config.ring) / 2);
    let mut buffer = [0; BUFFER];
    let mut socket = Socket::new(
        SocketBuffer::new(&mut buffer[..records * len]),
        SocketBuffer::new([].as_mut_slice()),
    );
    // Only a port of 0 or an open socket would be refused.
    let _ = socket.listen(DISCARD_PORT);
    let mut storage = [SocketStorage::EMPTY];
    let mut stack = Stack::new(nic, network, LONGEST_FRAME, session.clock, &mut storage, socket);

    let (mut received, mut damaged) = (0, 0u64);
    let (mut first, mut last) = (None, 0);
    let tally = |received| Tally { packets: received, bytes: received * len as u64 };
    loop {
        nic.service();
        let now = time::now();
        stack.set_time(now);
        let before = received;
        stack.receive(nic, BATCH);
        let socket = stack.socket();
        while socket.recv_queue() >= len {
            let intact = socket.recv(|bytes| match bytes.get(..len) {
                Some(record) => (len, record == expected.numbered(received)),
                None => (0, false),
            });
            received += 1;
            damaged += u64::from(intact != Ok(true));
        }
        if !socket.may_recv() && socket.may_send() && received > 0 {
            socket.close();
        }
        stack.send(nic);
        if received > before {
            first.get_or_insert(now);
            last = now;
        }
        if session.is_over(now, nic) {
            break;
        }
        session.report(now, tally(received));
        if received == before {
            stack.wait(nic, session.wake());
        }
    }
    let elapsed = session.clock.ns(last - first.unwrap_or(last));
    let left = stack.socket().recv_queue() as u64;
    session
        .final_line(nic, received)
        .num("bytes", tally(received).bytes + left)
        .num("elapsed_ns", elapsed)
        .num("damaged", damaged)
        .end();
}
