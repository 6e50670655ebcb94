//! IPv4 sockets: smoltcp's stack on our drivers.
//!
//! [`Stack`] is one interface with one socket, all that a role needs; `device` makes a driver look
//! as smoltcp wants it; [`echo`] is for who pings. Checksums are computed and verified here, by smoltcp.

mod device;
pub mod echo;

use core::marker::PhantomData;
use core::net::Ipv4Addr;

use smoltcp::iface::{
    Config, Context, Interface, PollResult, SocketHandle, SocketSet, SocketStorage,
};
use smoltcp::socket::AnySocket;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::nic::{Nic, Until};
use crate::time::{self, Clock};
use device::Device;
pub use echo::{Answer, Host};

/// The port that takes what it gets and throws it away (RFC 863).
pub const DISCARD_PORT: u16 = 9;
/// The port that senders send from: the first dynamic one (RFC 6335).
pub const SENDER_PORT: u16 = 49152;

/// Ethernet's longest frame, in bytes without the check sequence.
pub const LONGEST_FRAME: u16 = 1514;

/// An interface and its socket.
pub struct Stack<'a, S> {
    interface: Interface,
    sockets: SocketSet<'a>,
    handle: SocketHandle,
    /// The longest frame to send, in bytes without the check sequence.
    mtu: u16,
    clock: Clock,
    now: Instant,
    socket: PhantomData<S>,
}

impl<'a, S: AnySocket<'a>> Stack<'a, S> {
    /// Puts `socket` on an interface with the address `ip` in a network with a prefix of that many
    /// bits, which sends frames of up to `mtu` bytes without the check sequence through `nic`.
    pub fn new(
        nic: &mut impl Nic,
        (ip, prefix): (Ipv4Addr, u8),
        mtu: u16,
        clock: Clock,
        storage: &'a mut [SocketStorage<'a>; 1],
        socket: S,
    ) -> Self {
        let mut config = Config::new(EthernetAddress(nic.mac()).into());
        // Two runs of a guest should not begin a stream with the same sequence number (RFC 9293).
        config.random_seed = time::now();
        let now = instant(clock, time::now());
        let mut interface = Interface::new(config, &mut Device::new(None, nic.queue(), mtu), now);
        interface.update_ip_addrs(|addresses| {
            // There is room for one: smoltcp is built for two.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(ip), prefix));
        });
        let mut sockets = SocketSet::new(&mut storage[..]);
        let handle = sockets.add(socket);
        Self { interface, sockets, handle, mtu, clock, now, socket: PhantomData }
    }

    /// The socket.
    #[inline]
    pub fn socket(&mut self) -> &mut S {
        self.sockets.get_mut(self.handle)
    }

    /// The socket, and what it takes to connect it.
    pub fn socket_and_context(&mut self) -> (&mut S, &mut Context) {
        (self.sockets.get_mut(self.handle), self.interface.context())
    }

    /// Lets the stack go on at TSC time `now`: takes up to `max` frames, then sends all it can.
    #[inline]
    pub fn poll(&mut self, nic: &mut impl Nic, now: u64, max: u32) {
        self.set_time(now);
        self.receive(nic, max);
        self.send(nic);
    }

    /// Tells the TSC time, by which the stack goes until it is told anew.
    pub fn set_time(&mut self, now: u64) {
        self.now = instant(self.clock, now);
    }

    /// Takes up to `max` frames from the driver; returns how many descriptors that took.
    #[inline]
    pub fn receive<N: Nic>(&mut self, nic: &mut N, max: u32) -> u32 {
        self.receive_with(nic, max, |_| ())
    }

    /// As [`receive`](Self::receive); shows each frame to `look` first.
    #[inline]
    pub fn receive_with<N: Nic>(
        &mut self,
        nic: &mut N,
        max: u32,
        mut look: impl FnMut(&[u8]),
    ) -> u32 {
        let Self { interface, sockets, mtu, now, .. } = self;
        let count = nic.exchange(max, |frame, queue| {
            look(frame.bytes());
            let mut device = Device::new(Some(frame.bytes()), queue, *mtu);
            interface.poll_ingress_single(*now, &mut device, sockets);
        });
        if count > 0 {
            nic.flush();
        }
        count
    }

    /// Hands all that the socket wants sent to the driver, as far as it has room, with one doorbell.
    #[inline]
    pub fn send(&mut self, nic: &mut impl Nic) {
        let mut device = Device::new(None, nic.queue(), self.mtu);
        while self.interface.poll_egress(self.now, &mut device, &mut self.sockets)
            == PollResult::SocketStateChanged
        {}
        nic.flush();
    }

    /// After [`send`](Self::send), waits for what lets the stack go on: room for what it has to
    /// send, a frame, one of its timers; or for TSC time `deadline`, or the end of the link.
    pub fn wait(&mut self, nic: &mut impl Nic, deadline: u64) {
        let deadline = match self.interface.poll_at(self.now, &self.sockets) {
            Some(at) if at <= self.now => return nic.wait(Until::Room, deadline),
            // Rounded up, or the timer would still have a moment to go.
            Some(at) => deadline.min(self.clock.ticks(at.total_micros() as u64 + 1)),
            None => deadline,
        };
        // What we wait for may be the answer to a frame that the device has not looked at yet.
        if nic.unsent() > 0 {
            nic.wait(Until::Sent, 0);
        }
        nic.wait(Until::Frame, deadline);
    }
}

/// TSC time `now` as smoltcp has it.
fn instant(clock: Clock, now: u64) -> Instant {
    Instant::from_micros((clock.ns(now) / 1000) as i64)
}
