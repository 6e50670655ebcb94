//! The kernel command line: `key=value` words.

use core::fmt;
use core::net::Ipv4Addr;

/// What the guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends frames.
    Tx,
    /// Counts and checks frames.
    Rx,
    /// Sends requests and times the answers.
    Ping,
    /// Answers requests.
    Pong,
    /// Takes part in nothing.
    Idle,
    /// Sends UDP datagrams.
    UdpTx,
    /// Counts and checks UDP datagrams.
    UdpRx,
    /// Sends a TCP stream.
    TcpTx,
    /// Counts and checks what a TCP stream brings.
    TcpRx,
    /// Passes frames from one NIC to another.
    Forward,
    /// Answers ICMP echo requests, and sends them.
    Icmp,
}

const ROLES: [Role; 11] = [
    Role::Tx,
    Role::Rx,
    Role::Ping,
    Role::Pong,
    Role::Idle,
    Role::UdpTx,
    Role::UdpRx,
    Role::TcpTx,
    Role::TcpRx,
    Role::Forward,
    Role::Icmp,
];

impl Role {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tx => "tx",
            Self::Rx => "rx",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Idle => "idle",
            Self::UdpTx => "udp-tx",
            Self::UdpRx => "udp-rx",
            Self::TcpTx => "tcp-tx",
            Self::TcpRx => "tcp-rx",
            Self::Forward => "forward",
            Self::Icmp => "icmp",
        }
    }

    /// The shortest frame it can send or count.
    fn shortest_frame(self) -> u16 {
        match self {
            Self::TcpTx | Self::TcpRx => SHORTEST_TCP,
            _ => SHORTEST_FRAME,
        }
    }
}

/// Which network card to drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Intel 82540EM.
    E1000,
    /// virtio-net over PCI.
    Virtio,
}

const DRIVERS: [Driver; 2] = [Driver::E1000, Driver::Virtio];

impl Driver {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::E1000 => "e1000",
            Self::Virtio => "virtio",
        }
    }
}

/// The guest's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What to do.
    pub role: Role,
    /// Which network card to do it with.
    pub driver: Driver,
    /// Which NIC of that kind, in the order of their PCI slots; one that forwards drives the next,
    /// too.
    pub nic: u8,
    /// Send combining: hold TDT writes while one is outstanding.
    pub sc: bool,
    /// Use the shared-memory block instead of registers.
    pub csb: bool,
    /// Descriptors in each ring: 80 to 4096, a multiple of 8.
    pub ring: u16,
    /// Bytes per frame without the check sequence: 60 to 1514; 82 to 1514 with TCP.
    pub frame: u16,
    /// Frames handed to the driver per call: 1 to 512.
    pub burst: u16,
    /// Packets per second; 0: as many as possible.
    pub rate: u64,
    /// Packets or transactions after which to stop; 0: never.
    pub count: u64,
    /// Milliseconds after which to stop; 0: never.
    pub duration_ms: u64,
    /// Whether to stop when the link goes down, too; else it waits until the link is up again.
    pub ends_unplugged: bool,
    /// Destination address.
    pub dst: [u8; 6],
    /// The guest's IP address, a unicast one, and the bits in its network's prefix, 1 to 30. Roles
    /// that use sockets have it.
    pub ip: Option<(Ipv4Addr, u8)>,
    /// Destination IP addresses. Roles that send through sockets have one.
    pub to_ip: Option<Targets>,
    /// Microseconds to poll memory before arming the interrupt and halting.
    pub spin_us: u64,
    /// Interrupt moderation: value of register ITR, in 256 ns.
    pub itr: u16,
    /// Milliseconds between interval reports; 0: none.
    pub interval_ms: u64,
    /// TSC frequency; `None`: calibrate.
    pub tsc_khz: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::Idle,
            driver: Driver::E1000,
            nic: 0,
            sc: false,
            csb: false,
            ring: 256,
            frame: 60,
            burst: 1,
            rate: 0,
            count: 0,
            duration_ms: 0,
            ends_unplugged: false,
            dst: [0xff; 6],
            ip: None,
            to_ip: None,
            spin_us: 50,
            itr: 488,
            interval_ms: 0,
            tsc_khz: None,
        }
    }
}

/// Most addresses to send to.
pub const MAX_TARGETS: usize = 4096;
/// Most ranges that they come in.
const MAX_RANGES: usize = 32;

/// Addresses to send to, all of them unicast, in ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The first address of each range, and how many follow; unused ones have none.
    ranges: [Option<(u32, u32)>; MAX_RANGES],
}

impl Targets {
    fn ranges(&self) -> impl Iterator<Item = (u32, u32)> {
        self.ranges.into_iter().flatten()
    }

    /// The first one.
    pub fn first(&self) -> Ipv4Addr {
        self.get(0)
    }

    /// The address number `index`, from 0, and round again.
    pub fn get(&self, index: u32) -> Ipv4Addr {
        let mut index = index % self.count().max(1);
        for (first, more) in self.ranges() {
            if index <= more {
                return Ipv4Addr::from_bits(first + index);
            }
            index -= more + 1;
        }
        Ipv4Addr::UNSPECIFIED
    }

    /// Which one `ip` is, if it is one.
    pub fn position(&self, ip: Ipv4Addr) -> Option<u32> {
        let mut before = 0;
        for (first, more) in self.ranges() {
            match ip.to_bits().checked_sub(first) {
                Some(index) if index <= more => return Some(before + index),
                _ => before += more + 1,
            }
        }
        None
    }

    /// Their number.
    pub fn count(&self) -> u32 {
        self.ranges().map(|(_, more)| more + 1).sum()
    }
}

/// What is wrong with a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<'a> {
    /// A word without `=`.
    NotAPair(&'a str),
    /// No such key.
    UnknownKey(&'a str),
    /// The key's value is not one of those `expected`.
    BadValue {
        /// The word's key.
        key: &'a str,
        /// The word's value.
        value: &'a str,
        /// What would do.
        expected: &'static str,
    },
    /// `role` is missing.
    NoRole,
    /// The role needs this key.
    Missing(Role, &'static str),
    /// The role sends to one address only.
    OneTarget(Role),
    /// The role cannot be played with this driver.
    NotWith(Role, Driver),
    /// Frames of this length are too short for the role.
    ShortFrame(Role, u16),
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPair(word) => write!(f, "Command line: '{word}' is not key=value"),
            Self::UnknownKey(key) => write!(f, "Command line: unknown key '{key}'"),
            Self::BadValue { key, value, expected } => {
                write!(f, "Command line: {key}={value}, expected {expected}")
            }
            Self::NoRole => f.write_str("Command line: role= is missing"),
            Self::Missing(role, key) => {
                write!(f, "Command line: role={} needs {key}=", role.name())
            }
            Self::OneTarget(role) => {
                write!(f, "Command line: role={} sends to one address, not a range", role.name())
            }
            Self::NotWith(role, driver) => {
                let (role, driver) = (role.name(), driver.name());
                write!(f, "Command line: role={role} does not know driver={driver}")
            }
            Self::ShortFrame(role, frame) => {
                let (role, shortest) = (role.name(), role.shortest_frame());
                write!(f, "Command line: frame={frame}, role={role} needs at least {shortest}")
            }
        }
    }
}

/// Reads a command line.
///
/// # Errors
/// The first word that is wrong, or that there is no role.
pub fn parse(text: &str) -> Result<Config, Error<'_>> {
    let mut config = Config::default();
    let mut role = None;
    for word in text.split_ascii_whitespace() {
        let (key, value) = word.split_once('=').ok_or(Error::NotAPair(word))?;
        let expected = match key {
            "role" => set(&mut role, find_role(value).map(Some), EXPECTED_ROLE),
            "driver" => set(&mut config.driver, find_driver(value), "e1000 or virtio"),
            "nic" => set(&mut config.nic, number(value, 0, 7).map(|n| n as u8), "0 to 7"),
            "sc" => set(&mut config.sc, flag(value), "0 or 1"),
            "csb" => set(&mut config.csb, flag(value), "0 or 1"),
            "ring" => {
                let ring = number(value, 80, 4096).filter(|ring| ring % 8 == 0);
                set(&mut config.ring, ring.map(|n| n as u16), "80 to 4096, a multiple of 8")
            }
            "frame" => {
                set(&mut config.frame, number(value, 60, 1514).map(|n| n as u16), "60 to 1514")
            }
            "burst" => set(&mut config.burst, number(value, 1, 512).map(|n| n as u16), "1 to 512"),
            "rate" => set(&mut config.rate, number(value, 0, u64::MAX), "packets per second"),
            "count" => set(&mut config.count, number(value, 0, u64::MAX), "a number"),
            "duration_ms" => set(&mut config.duration_ms, milliseconds(value), "milliseconds"),
            "unplugged" => set(&mut config.ends_unplugged, ends(value), "wait or end"),
            "dst" => set(&mut config.dst, mac(value), "aa:bb:cc:dd:ee:ff"),
            "ip" => set(&mut config.ip, network(value).map(Some), "10.0.0.1/24"),
            "to_ip" => set(
                &mut config.to_ip,
                targets(value).map(Some),
                "up to 4096 addresses in up to 32 ranges, 10.0.0.1-10.0.0.9,10.0.0.11",
            ),
            "spin_us" => set(&mut config.spin_us, number(value, 0, MAX_SPIN_US), "0 to 1000000000"),
            "itr" => set(&mut config.itr, number(value, 0, 65535).map(|n| n as u16), "0 to 65535"),
            "interval_ms" => set(&mut config.interval_ms, milliseconds(value), "milliseconds"),
            "tsc_khz" => {
                let khz = number(value, 1000, MAX_TSC_KHZ).map(Some);
                set(&mut config.tsc_khz, khz, "1000 to 100000000")
            }
            _ => return Err(Error::UnknownKey(key)),
        };
        if let Err(expected) = expected {
            return Err(Error::BadValue { key, value, expected });
        }
    }
    config.role = role.ok_or(Error::NoRole)?;
    check(&config)?;
    Ok(config)
}

/// Checks what the role wants of the other keys.
fn check<'a>(config: &Config) -> Result<(), Error<'a>> {
    let role = config.role;
    if config.frame < role.shortest_frame() {
        return Err(Error::ShortFrame(role, config.frame));
    }
    let (ip, to_ip) = match role {
        Role::UdpTx | Role::TcpTx => (true, true),
        Role::UdpRx | Role::TcpRx | Role::Icmp => (true, false),
        Role::Tx | Role::Rx | Role::Ping | Role::Pong | Role::Idle | Role::Forward => {
            (false, false)
        }
    };
    if ip && config.ip.is_none() {
        return Err(Error::Missing(role, "ip"));
    }
    if to_ip && config.to_ip.is_none() {
        return Err(Error::Missing(role, "to_ip"));
    }
    if role != Role::Icmp && config.to_ip.is_some_and(|targets| targets.count() > 1) {
        return Err(Error::OneTarget(role));
    }
    if role == Role::Forward && config.driver != Driver::E1000 {
        return Err(Error::NotWith(role, config.driver));
    }
    Ok(())
}

const EXPECTED_ROLE: &str =
    "tx, rx, ping, pong, idle, udp-tx, udp-rx, tcp-tx, tcp-rx, forward or icmp";
/// Ethernet's shortest frame.
const SHORTEST_FRAME: u16 = 60;
/// The shortest datagram that IPv4 must be able to send whole (RFC 791: 68 bytes), in a frame.
const SHORTEST_TCP: u16 = 14 + 68;
const MAX_SPIN_US: u64 = 1_000_000_000;
const MAX_TSC_KHZ: u64 = 100_000_000;
/// About a year: far below where TSC arithmetic would overflow.
const MAX_MS: u64 = 30_000_000_000;

fn set<T>(field: &mut T, value: Option<T>, expected: &'static str) -> Result<(), &'static str> {
    *field = value.ok_or(expected)?;
    Ok(())
}

fn number(value: &str, min: u64, max: u64) -> Option<u64> {
    value.parse().ok().filter(|n| (min..=max).contains(n))
}

fn milliseconds(value: &str) -> Option<u64> {
    number(value, 0, MAX_MS)
}

fn flag(value: &str) -> Option<bool> {
    number(value, 0, 1).map(|n| n == 1)
}

fn ends(value: &str) -> Option<bool> {
    match value {
        "wait" => Some(false),
        "end" => Some(true),
        _ => None,
    }
}

fn find_role(value: &str) -> Option<Role> {
    ROLES.into_iter().find(|role| role.name() == value)
}

fn find_driver(value: &str) -> Option<Driver> {
    DRIVERS.into_iter().find(|driver| driver.name() == value)
}

fn mac(value: &str) -> Option<[u8; 6]> {
    let mut address = [0; 6];
    let mut parts = value.split(':');
    for byte in &mut address {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(address)
}

fn network(value: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = value.split_once('/')?;
    Some((unicast(address)?, number(prefix, 1, 30)? as u8))
}

fn unicast(value: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = value.parse().ok()?;
    let other = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    (!other).then_some(address)
}

fn targets(value: &str) -> Option<Targets> {
    let mut targets = Targets::default();
    let mut free = targets.ranges.iter_mut();
    let mut count = 0;
    for range in value.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (unicast(first)?.to_bits(), unicast(last)?.to_bits());
        let more = last.checked_sub(first).filter(|more| *more < MAX_TARGETS as u32)?;
        count += more + 1;
        *free.next()? = Some((first, more));
    }
    (count <= MAX_TARGETS as u32).then_some(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_lands_in_its_field() {
        let text = "role=ping driver=virtio nic=3 sc=1 csb=1 ring=4096 frame=1514 burst=512 rate=7 \
                    count=8 duration_ms=9 unplugged=end dst=02:00:0a:00:00:FF ip=10.0.0.1/16 \
                    to_ip=10.0.1.2 spin_us=10 itr=11 interval_ms=12 tsc_khz=2000000";
        let expected = Config {
            role: Role::Ping,
            driver: Driver::Virtio,
            nic: 3,
            sc: true,
            csb: true,
            ring: 4096,
            frame: 1514,
            burst: 512,
            rate: 7,
            count: 8,
            duration_ms: 9,
            ends_unplugged: true,
            dst: [2, 0, 10, 0, 0, 255],
            ip: Some((Ipv4Addr::new(10, 0, 0, 1), 16)),
            to_ip: targets("10.0.1.2"),
            spin_us: 10,
            itr: 11,
            interval_ms: 12,
            tsc_khz: Some(2_000_000),
        };
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn only_the_role_is_required() {
        let expected = Config { role: Role::Rx, ..Config::default() };
        assert_eq!(parse("  role=rx\n"), Ok(expected));
        assert_eq!(parse("sc=1"), Err(Error::NoRole));
    }

    #[test]
    fn sockets_need_addresses() {
        assert_eq!(parse("role=udp-rx"), Err(Error::Missing(Role::UdpRx, "ip")));
        assert_eq!(parse("role=udp-rx ip=10.0.0.1/24").map(|config| config.role), Ok(Role::UdpRx));
        let sender = "role=tcp-tx frame=82 ip=10.0.0.1/24";
        assert_eq!(parse(sender), Err(Error::Missing(Role::TcpTx, "to_ip")));
    }

    #[test]
    fn a_range_of_targets_is_for_icmp_and_goes_round() {
        let text = "ip=10.0.0.1/16 to_ip=10.0.0.254-10.0.1.1 role=";
        let targets = parse(&format!("{text}icmp")).unwrap().to_ip.unwrap();
        let addresses = [0, 1, 2, 3, 4].map(|index| targets.get(index).to_string());
        assert_eq!(addresses, ["10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1", "10.0.0.254"]);
        assert_eq!(targets.count(), 4);
        let position = |ip: &str| targets.position(ip.parse().unwrap());
        assert_eq!(position("10.0.1.0"), Some(2));
        assert_eq!((position("10.0.0.253"), position("10.0.1.2")), (None, None));
        assert_eq!(parse(&format!("{text}udp-tx")), Err(Error::OneTarget(Role::UdpTx)));
        let targets = super::targets("10.0.0.1,10.0.0.3-10.0.0.4,10.0.0.9").unwrap();
        let addresses = [1, 2, 3, 4].map(|index| targets.get(index).to_string());
        assert_eq!(addresses, ["10.0.0.3", "10.0.0.4", "10.0.0.9", "10.0.0.1"]);
        assert_eq!(targets.first().to_string(), "10.0.0.1");
        assert_eq!(targets.position("10.0.0.9".parse().unwrap()), Some(3));
        assert_eq!(super::targets(&"10.0.0.1,".repeat(33)), None);
        assert_eq!(parse("role=icmp"), Err(Error::Missing(Role::Icmp, "ip")));
    }

    #[test]
    fn forwarding_takes_two_of_our_nics() {
        assert!(parse("role=forward").is_ok());
        let error = Error::NotWith(Role::Forward, Driver::Virtio);
        assert_eq!(parse("role=forward driver=virtio"), Err(error));
    }

    #[test]
    fn tcp_needs_room_for_its_headers() {
        let text = "ip=10.0.0.1/24 to_ip=10.0.0.2 frame=81 role=";
        assert!(parse(&format!("{text}udp-tx")).is_ok());
        let error = Error::ShortFrame(Role::TcpTx, 81);
        assert_eq!(parse(&format!("{text}tcp-tx")), Err(error));
    }

    #[test]
    fn a_wrong_word_is_named() {
        assert_eq!(parse("role=tx quiet"), Err(Error::NotAPair("quiet")));
        assert_eq!(parse("role=tx rings=80"), Err(Error::UnknownKey("rings")));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for word in [
            "role=sender",
            "driver=rtl8139",
            "sc=2",
            "csb=yes",
            "ring=72",
            "ring=84",
            "ring=4104",
            "frame=59",
            "frame=1515",
            "burst=0",
            "burst=513",
            "rate=-1",
            "rate=",
            "unplugged=1",
            "itr=65536",
            "dst=02:00:0a:00:00",
            "dst=02:00:0a:00:00:01:02",
            "dst=02:00:0a:00:00:1",
            "dst=02:00:0a:00:00:xx",
            "ip=10.0.0.1",
            "ip=10.0.0.1/0",
            "ip=10.0.0.1/31",
            "ip=224.0.0.1/24",
            "to_ip=0.0.0.0",
            "to_ip=255.255.255.255",
            "to_ip=10.0.0.1/24",
            "to_ip=10.0.0.2-10.0.0.1",
            "to_ip=10.0.0.0-10.0.16.0",
            "to_ip=10.0.0.1-",
            "nic=8",
            "tsc_khz=0",
        ] {
            let (key, value) = word.split_once('=').unwrap();
            match parse(word) {
                Err(Error::BadValue { key: k, value: v, .. }) => assert_eq!((k, v), (key, value)),
                other => panic!("{word}: {other:?}"),
            }
        }
    }
}
