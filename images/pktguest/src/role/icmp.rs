//! Answers ICMP echo requests; and sends them, one at a time, to one host or to a network's hosts in
//! turn.

use core::net::Ipv4Addr;

use smoltcp::iface::SocketStorage;
use smoltcp::socket::udp::{PacketBuffer, Socket};

use super::{BATCH, Session, Tally};
use crate::cmdline::{Config, MAX_TARGETS, Targets};
use crate::histogram::Histogram;
use crate::json::Object;
use crate::net::{Answer, Host, LONGEST_FRAME, Stack, echo};
use crate::nic::{Nic, Queue};
use crate::serial::Serial;
use crate::time::{self, Clock};

/// How long to wait for an echo reply.
const TIMEOUT_US: u64 = 1_000_000;
/// How long to wait for an ARP reply before asking again, and how often to ask: many guests that
/// start together may drown each other's broadcasts.
const ASK_AGAIN_US: u64 = 200_000;
const ASKS: u32 = 10;
/// Addresses that a report names.
const NAMED: usize = 8;

/// Answers, and pings whom it is to, until the role is over.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    let config = session.config;
    // The command line was checked for it.
    let Some(network) = config.ip else { return };
    // Nothing is sent to a socket that is not bound: the interface answers by itself.
    let nothing = || PacketBuffer::new([].as_mut_slice(), [].as_mut_slice());
    let mut storage = [SocketStorage::EMPTY];
    let socket = Socket::new(nothing(), nothing());
    let mut stack = Stack::new(nic, network, LONGEST_FRAME, session.clock, &mut storage, socket);
    let mut pinger = Pinger::new(config, session.clock, Host { mac: nic.mac(), ip: network.0 });
    let mut reported = config.to_ip.is_none();
    loop {
        nic.service();
        let now = time::now();
        stack.set_time(now);
        let count = stack.receive_with(nic, BATCH, |frame| pinger.hear(frame));
        pinger.go_on(nic.queue());
        stack.send(nic);
        if session.is_over(now, nic) {
            break;
        }
        session.report(now, pinger.tally());
        if !reported && pinger.is_done() {
            reported = true;
            pinger.account(session.event("done")).end();
        }
        let wake = pinger.wake().min(session.wake());
        if count == 0 {
            stack.wait(nic, wake);
        }
    }
    let Tally { packets, bytes } = pinger.tally();
    let line = session.final_line(nic, packets).num("bytes", bytes);
    pinger.account(line).pairs("histogram", pinger.histogram.buckets()).end();
}

/// Whom it pings, and what came of it.
struct Pinger {
    us: Host,
    clock: Clock,
    /// Bytes of a frame with a request.
    frame: u16,
    /// TSC ticks between requests.
    period: u64,
    /// Requests to each target; 0: no end.
    each: u64,
    targets: Option<Targets>,
    /// The target at hand, and how many follow.
    target: u32,
    left: u32,
    /// Where it is, if it has said so.
    host: Option<Host>,
    /// Where targets seem to be: they have asked for others.
    hints: [[u8; 6]; MAX_TARGETS],
    /// Requests to it so far, and whether it has answered one.
    tries: u64,
    answered: bool,
    step: Step,
    /// TSC time at which the next request is due.
    due: u64,
    sent: u64,
    reached: u64,
    missing: u64,
    /// The first that are missing.
    named: [Ipv4Addr; NAMED],
    histogram: Histogram,
}

/// What it waits for.
#[derive(Clone, Copy)]
enum Step {
    /// The time of the next request.
    Due,
    /// The target's address, asked for that often, until a TSC time.
    Address { asks: u32, until: u64 },
    /// The answer to a request sent at a TSC time.
    Echo { sent_at: u64 },
    /// Nothing.
    Done,
}

impl Pinger {
    fn new(config: &Config, clock: Clock, us: Host) -> Self {
        let targets = config.to_ip;
        let own = targets.and_then(|targets| targets.position(us.ip));
        let left = targets.map_or(0, |targets| targets.count()) - u32::from(own.is_some());
        let is_range = targets.is_some_and(|targets| targets.count() > 1);
        Self {
            us,
            clock,
            frame: config.frame,
            period: clock.ticks(1_000_000).checked_div(config.rate).unwrap_or(0),
            each: if config.count == 0 && is_range { 1 } else { config.count },
            targets,
            // Each guest of a network begins with its neighbour: nobody is asked by all at once.
            target: own.map_or(0, |own| own + 1),
            left,
            host: None,
            hints: [echo::BROADCAST; MAX_TARGETS],
            tries: 0,
            answered: false,
            step: if left == 0 { Step::Done } else { Step::Due },
            due: time::now(),
            sent: 0,
            reached: 0,
            missing: 0,
            named: [Ipv4Addr::UNSPECIFIED; NAMED],
            histogram: Histogram::new(),
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.step, Step::Done)
    }

    fn ip(&self) -> Option<Ipv4Addr> {
        self.targets.map(|targets| targets.get(self.target))
    }

    /// Takes a received frame.
    fn hear(&mut self, frame: &[u8]) {
        if self.is_done() {
            return;
        }
        match echo::answer(frame, self.us) {
            Some(Answer::Address { host, asked }) => {
                let index = self.targets.and_then(|targets| targets.position(host.ip));
                if let Some(hint) = index.and_then(|index| self.hints.get_mut(index as usize)) {
                    *hint = host.mac;
                }
                if asked && Some(host.ip) == self.ip() {
                    self.host = Some(host);
                }
            }
            Some(Answer::Echo { from, sequence })
                if Some(from) == self.ip() && sequence == self.sent as u16 =>
            {
                if let Step::Echo { sent_at } = self.step {
                    self.histogram.record(self.clock.ns(time::now() - sent_at));
                    self.answered = true;
                    self.conclude();
                }
            }
            _ => (),
        }
    }

    /// Does what is due.
    fn go_on(&mut self, queue: &mut impl Queue) {
        let Some(ip) = self.ip() else { return };
        let now = time::now();
        let asks = match self.step {
            Step::Due if now >= self.due => {
                self.due = now.max(self.due + self.period);
                self.sent += 1;
                0
            }
            Step::Address { asks, until } if self.host.is_some() || now >= until => asks,
            Step::Echo { sent_at } if now >= sent_at + self.clock.ticks(TIMEOUT_US) => {
                return self.give_up();
            }
            _ => return,
        };
        if let Some(host) = self.host {
            self.step = Step::Echo { sent_at: now };
            echo::request(queue, self.us, host, self.sent as u16, self.frame);
        } else if asks < ASKS {
            let until = now + self.clock.ticks(ASK_AGAIN_US);
            self.step = Step::Address { asks: asks + 1, until };
            // Whose address we have overheard is asked alone: if everyone disturbed everyone, a
            // network would be busy with the square of its size.
            let index = self.targets.and_then(|targets| targets.position(ip));
            let hint = index.and_then(|index| self.hints.get(index as usize));
            let mac = hint.filter(|_| asks == 0).map_or(echo::BROADCAST, |mac| *mac);
            echo::ask(queue, self.us, Host { mac, ip });
        } else {
            self.give_up();
        }
    }

    /// There was no answer: next time the target may be elsewhere.
    fn give_up(&mut self) {
        self.host = None;
        self.conclude();
    }

    /// A request was answered, or was not.
    fn conclude(&mut self) {
        self.step = Step::Due;
        self.tries += 1;
        if self.each == 0 || self.tries < self.each {
            return;
        }
        if self.answered {
            self.reached += 1;
        } else {
            let ip = self.ip();
            if let Some((name, ip)) = self.named.get_mut(self.missing as usize).zip(ip) {
                *name = ip;
            }
            self.missing += 1;
        }
        self.left -= 1;
        if self.left == 0 {
            self.step = Step::Done;
        }
        (self.target, self.host, self.tries, self.answered) = (self.target + 1, None, 0, false);
    }

    /// The TSC time at which it has something to do of itself.
    fn wake(&self) -> u64 {
        match self.step {
            Step::Due => self.due,
            Step::Address { until, .. } => until,
            Step::Echo { sent_at } => sent_at + self.clock.ticks(TIMEOUT_US),
            Step::Done => u64::MAX,
        }
    }

    fn tally(&self) -> Tally {
        let packets = self.histogram.count();
        Tally { packets, bytes: packets * u64::from(self.frame) }
    }

    /// Adds what came of it to a report.
    fn account<'w>(&self, report: Object<'w, Serial>) -> Object<'w, Serial> {
        let (received, times) = (self.histogram.count(), &self.histogram);
        // Of the request that is on its way nothing is known.
        let waiting = matches!(self.step, Step::Address { .. } | Step::Echo { .. });
        let lost = self.sent - u64::from(waiting) - received;
        report
            .num("sent", self.sent)
            .num("received", received)
            .num("lost", lost)
            .num("reached", self.reached)
            .num("unreached", self.missing)
            .list("missing", self.named.iter().take(self.missing as usize))
            .num("min_ns", times.min())
            .num("p50_ns", times.quantile(500))
            .num("p90_ns", times.quantile(900))
            .num("p99_ns", times.quantile(990))
            .num("p999_ns", times.quantile(999))
            .num("max_ns", times.max())
            .num("mean_ns", times.mean())
    }
}
