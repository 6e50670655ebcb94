//! Addresses, and what is at the ends of cables.

use std::{borrow::Cow, fmt, marker::PhantomData, net::Ipv4Addr};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::{Int, Scalar, ScalarVisitor, deserialize_scalar};

deserialize_scalar! {
    [] Mac,
    [] End,
    [] Ends,
    [] Network,
    [const MAX: usize] Line<MAX>,
}

/// An end of a cable, as a pattern.
const END: &str = "([A-Za-z0-9_.-]+(:[0-9]{1,3})?|host:[A-Za-z0-9_.-]{1,15}\
                   |netns:[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]{1,15})";

/// One end of a cable, as `links` has it.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// `sw0`: a port of the switch.
    Switch(String),
    /// `left:0`: a NIC of the guest.
    Nic {
        /// Whose.
        guest: String,
        /// Which of its NICs, from 0.
        nic: usize,
    },
    /// `host:tap0`: a TAP in the user's network namespace; `netns:red/tap0`: in a named one.
    Host {
        /// The network namespace that it is in; `None`: the one of whoever starts the lab.
        netns: Option<String>,
        /// Its name.
        tap: String,
    },
}

impl Scalar for End {
    fn parse(text: &str) -> Option<Self> {
        let name = |text: &str| {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            let dots = text.bytes().all(|b| b == b'.');
            (!dots && text.bytes().all(good)).then(|| text.to_owned())
        };
        Some(match text.split_once(':') {
            Some(("host", text)) => Self::Host { netns: None, tap: name(text)? },
            Some(("netns", text)) => {
                let (netns, text) = text.split_once('/')?;
                Self::Host { netns: Some(name(netns)?), tap: name(text)? }
            }
            Some((guest, nic)) => {
                let nic = Int::<0, 255>::parse(nic)?.get();
                Self::Nic { guest: name(guest)?, nic }
            }
            None => Self::Switch(name(text)?),
        })
    }

    fn expected() -> String {
        "an end such as sw0, left:0, host:tap0 or netns:red/tap0".to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": format!("^{END}$") })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Switch(name) => f.write_str(name),
            Self::Nic { guest, nic } => write!(f, "{guest}:{nic}"),
            Self::Host { netns: None, tap } => write!(f, "host:{tap}"),
            Self::Host { netns: Some(netns), tap } => write!(f, "netns:{netns}/{tap}"),
        }
    }
}

/// The two ends of a cable in their short form, `left:0 -- sw0`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ends(pub [End; 2]);

impl Scalar for Ends {
    fn parse(text: &str) -> Option<Self> {
        let (one, other) = text.split_once(" -- ")?;
        Some(Self([End::parse(one.trim())?, End::parse(other.trim())?]))
    }

    fn expected() -> String {
        "a cable such as \"left:0 -- sw0\", \"sw0 -- sw1\" or \"sw0 -- host:tap0\"".to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": format!("^ *{END} +-- +{END} *$") })
    }
}

/// A line of at most `MAX` printable ASCII characters; white space around it does not count, so that
/// it can be folded (`>`).
#[derive(Clone, Debug, PartialEq)]
pub struct Line<const MAX: usize>(pub String);

impl<const MAX: usize> Scalar for Line<MAX> {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        (printable && text.len() <= MAX).then(|| Self(text.to_owned()))
    }

    fn expected() -> String {
        format!("one line of at most {MAX} printable ASCII characters")
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^\\s*[ -~]*\\s*$", "maxLength": MAX })
    }
}

/// A unicast MAC address, `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mac(pub [u8; 6]);

impl Scalar for Mac {
    fn parse(text: &str) -> Option<Self> {
        let mut mac = [0; 6];
        let mut digits = text.split(':');
        for byte in &mut mac {
            let pair = digits.next()?;
            // from_str_radix would take a sign.
            (pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit())).then_some(())?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        let unicast = mac[0] & 1 == 0 && mac != [0; 6];
        (digits.next().is_none() && unicast).then_some(Self(mac))
    }

    fn expected() -> String {
        "a unicast MAC address, such as 02:00:00:00:00:01".to_owned()
    }

    fn schema() -> Value {
        let byte = "[0-9A-Fa-f]{2}";
        let pattern = format!("^[0-9A-Fa-f][02468ACEace](:{byte}){{5}}$");
        json!({ "type": "string", "pattern": pattern })
    }
}

/// Writes a MAC address in the usual notation.
pub fn human_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// An interface's IPv4 address and its network, `10.0.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// The address: one that a host may have.
    pub address: Ipv4Addr,
    /// Bits in the network's prefix, 1 to 30.
    pub prefix: u8,
}

impl Network {
    /// No address yet.
    pub const UNASSIGNED: Self = Self { address: Ipv4Addr::UNSPECIFIED, prefix: 1 };

    /// Whether `address` is in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let host_bits = 32 - u32::from(self.prefix);
        (self.address.to_bits() ^ address.to_bits()) >> host_bits == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scalar for Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix = prefix.parse().ok().filter(|prefix| (1..=30).contains(prefix))?;
        let host = u32::MAX >> prefix;
        // All zeros and all ones stand for the network and everyone in it.
        let in_range = (1..host).contains(&(address.to_bits() & host));
        let unicast = !address.is_multicast() && !address.is_loopback() && address.octets()[0] != 0;
        (in_range && unicast).then_some(Self { address, prefix })
    }

    fn expected() -> String {
        "a host's IPv4 address with its network's prefix, such as 10.0.0.1/24".to_owned()
    }

    fn schema() -> Value {
        let pattern = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/([1-9]|[12][0-9]|30)$";
        json!({ "type": "string", "pattern": pattern })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_cables_are_read_and_written() {
        for text in ["sw0", "left:0", "host:tap0", "netns:red/tap0"] {
            assert_eq!(End::parse(text).map(|end| end.to_string()).as_deref(), Some(text));
        }
        for text in
            ["", "left:", "left:x", "left:-1", "host:", "host:..", "netns:red", "a b", "a/b"]
        {
            assert_eq!(End::parse(text), None, "{text}");
        }
        assert!(Ends::parse("left:0  --  sw0").is_some());
        for text in ["left:0", "left:0--sw0", "a -- b -- c", " -- "] {
            assert_eq!(Ends::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_addresses_of_hosts_are_taken() {
        let network = Network::parse("10.0.1.7/23").unwrap();
        assert_eq!(network.to_string(), "10.0.1.7/23");
        assert!(network.contains(Ipv4Addr::new(10, 0, 0, 255)));
        assert!(!network.contains(Ipv4Addr::new(10, 0, 2, 0)));
        for text in ["10.0.0.1", "10.0.0.1/0", "10.0.0.1/31", "10.0.0.0/24", "10.0.0.255/24"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
        for text in ["224.0.0.1/24", "127.0.0.1/8", "0.0.0.1/8", "10.0.0/24", "a.b.c.d/24"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_unicast_macs_are_taken() {
        let mac = Mac::parse("52:54:00:aB:00:01").map(|mac| human_mac(mac.0));
        assert_eq!(mac.as_deref(), Some("52:54:00:ab:00:01"));
        for text in ["01:00:00:00:00:00", "00:00:00:00:00:00", "2:0:0:0:0:1", "+2:00:00:00:00:01"] {
            assert_eq!(Mac::parse(text), None, "{text}");
        }
        assert_eq!(Mac::parse("02:00:00:00:00:01:02"), None);
    }
}
