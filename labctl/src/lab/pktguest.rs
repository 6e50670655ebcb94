//! What labctl and pktguest say to each other: a command line one way, JSON lines the other.

use std::net::Ipv4Addr;

use serde::Deserialize;

use crate::platform::NicModel;
use crate::topology::{Lab, Pktguest, Role, Target};
use crate::units::human_mac;

/// The command line of guest number `index`.
pub fn command_line(lab: &Lab, index: usize, guest: &Pktguest, tsc_khz: Option<u32>) -> String {
    let work = &guest.workload;
    let bit = u8::from;
    let nic = lab.role_nic(index);
    let of_nic = |nic| lab.optimizations_of(&lab.guests[index], nic);
    let on = lab.guests[index].nics.get(nic).map_or(lab.optimizations, of_nic);
    let driver = match lab.platform().nic {
        NicModel::E1000 => "e1000",
        NicModel::VirtioNet => "virtio",
    };
    let mut words = vec![
        format!("role={} driver={driver}", work.role.as_str()),
        format!("sc={} csb={}", bit(on.sc), bit(on.csb)),
        format!("ring={} spin_us={} itr={}", guest.ring, guest.spin_us, guest.itr_interval),
        format!("frame={} burst={} rate={}", work.frame, work.burst, work.rate),
        format!("count={} duration_ms={}", work.count, work.duration_ms),
    ];
    if work.until_unplugged {
        words.push("unplugged=end".to_owned());
    }
    if nic > 0 {
        words.push(format!("nic={nic}"));
    }
    let link = work.role.to().and_then(|to| Some((to, lab.link(index, to)?)));
    if let Some((to, (_, their_nic))) = link {
        words.push(format!("dst={}", human_mac(lab.guests[to].nics[their_nic].mac)));
    }
    if work.role.has_address() {
        words.push(format!("ip={}", guest.ip));
        let targets: Vec<usize> = match work.role {
            // It skips itself, and begins with whoever follows: nobody is asked by all at once.
            Role::Icmp { to: Some(Target::All) } => {
                lab.icmp_targets(index).into_iter().chain([index]).collect()
            }
            role => role.to().into_iter().collect(),
        };
        let peers = targets.into_iter().filter_map(|to| lab.guests.get(to)?.pktguest());
        let peers: Vec<_> = peers.map(|peer| peer.ip.address).collect();
        if !peers.is_empty() {
            words.push(format!("to_ip={}", addresses(peers)));
        }
    }
    if let Some(khz) = tsc_khz {
        words.push(format!("tsc_khz={khz}"));
    }
    words.join(" ")
}

/// Addresses in the form `A,B-C,D`: runs of them are ranges.
fn addresses(mut addresses: Vec<Ipv4Addr>) -> String {
    addresses.sort_unstable();
    let follows = |a: &Ipv4Addr, b: &Ipv4Addr| a.to_bits().checked_add(1) == Some(b.to_bits());
    let runs = addresses.chunk_by(follows).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        [only] => only.to_string(),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// A line that pktguest prints about itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Report {
    /// The driver is up; the guest waits for its link.
    Ready,
    /// Progress.
    Interval,
    /// The workload is over.
    Final(Box<Final>),
    /// The guest gave up.
    Error {
        /// Its words.
        message: String,
    },
}

impl Report {
    /// The report in a console line; `None` for any other text.
    pub fn parse(line: &str) -> Option<Self> {
        line.starts_with('{').then(|| serde_json::from_str(line).ok()).flatten()
    }
}

/// A guest's account of its workload. What a role does not count is 0.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are pktguest's, documented there")]
pub struct Final {
    pub packets: u64,
    pub bytes: u64,
    pub elapsed_ns: u64,
    pub sent: u64,
    pub unsent: u64,
    pub damaged: u64,
    pub next: u64,
    pub lost: u64,
    pub reordered: u64,
    pub duplicates: u64,
    pub drops_forth: u64,
    pub drops_back: u64,
    pub min_ns: u64,
    pub mean_ns: u64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    pub tx_frames: u64,
    pub rx_frames: u64,
    pub halts: u64,
    pub interrupts: u64,
    pub tdt_writes: u64,
    pub rdt_writes: u64,
}

impl Final {
    /// What several guests counted, added up. Of times it has none.
    pub fn total<'a>(reports: impl Iterator<Item = &'a Self>) -> Self {
        reports.fold(Self::default(), |sum, report| Self {
            packets: sum.packets + report.packets,
            bytes: sum.bytes + report.bytes,
            sent: sum.sent + report.sent,
            next: sum.next + report.next,
            lost: sum.lost + report.lost,
            reordered: sum.reordered + report.reordered,
            duplicates: sum.duplicates + report.duplicates,
            halts: sum.halts + report.halts,
            ..sum
        })
    }

    /// Packets received, each counted once however often it came.
    pub fn unique_packets(&self) -> u64 {
        self.packets.saturating_sub(self.duplicates)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn sockets_are_told_their_addresses_and_raw_roles_are_not() {
        let text = "name: t\nswitches: { sw0: {} }\ndefaults: { nics: [{ switch: sw0 }] }\n\
                    guests: { a: { workload: { role: tcp-tx, to: b } }, \
                    b: { ip: 10.0.9.9/16, workload: { role: tcp-rx } }, \
                    c: { workload: { role: tx, to: b } } }";
        let lab = Lab::parse(Path::new("t.lab.yaml"), text).unwrap();
        let line =
            |guest: usize| command_line(&lab, guest, lab.guests[guest].pktguest().unwrap(), None);
        assert!(line(0).ends_with(" ip=10.0.0.1/16 to_ip=10.0.9.9"), "{}", line(0));
        assert!(line(1).ends_with(" ip=10.0.9.9/16"), "{}", line(1));
        assert!(!line(2).contains("ip="), "{}", line(2));
    }

    #[test]
    fn a_role_has_the_nic_towards_its_peer() {
        let text = "name: t\nswitches: { s: {}, m: {}, n: {} }\nlinks: [m -- n]\nguests: \
                    { a: { nics: [s, m], workload: { role: tx, to: b } }, \
                    b: { nics: [n], workload: { role: rx } }, \
                    c: { nics: [s, n], workload: { role: ping, to: a } } }";
        let lab = Lab::parse(Path::new("t.lab.yaml"), text).unwrap();
        let line =
            |guest: usize| command_line(&lab, guest, lab.guests[guest].pktguest().unwrap(), None);
        let mac = |guest: usize, nic: usize| human_mac(lab.guests[guest].nics[nic].mac);
        assert!(line(0).ends_with(&format!(" nic=1 dst={}", mac(1, 0))), "{}", line(0));
        assert!(!line(1).contains("nic="), "{}", line(1));
        assert!(line(2).ends_with(&format!("duration_ms=0 dst={}", mac(0, 0))), "{}", line(2));
    }

    #[test]
    fn a_guest_ends_with_its_link_only_in_a_measurement() {
        let text = "name: t\nswitches: { s: {} }\ndefaults: { nics: [s] }\n\
                    guests: { a: { workload: { role: rx } } }";
        let mut lab = Lab::parse(Path::new("t.lab.yaml"), text).unwrap();
        let line = |lab: &Lab| command_line(lab, 0, lab.guests[0].pktguest().unwrap(), None);
        assert!(!line(&lab).contains("unplugged"), "{}", line(&lab));
        lab.guests[0].pktguest_mut().unwrap().workload.until_unplugged = true;
        assert!(line(&lab).ends_with(" duration_ms=0 unplugged=end"), "{}", line(&lab));
    }

    #[test]
    fn all_are_pinged_that_answer() {
        let text = "name: t\nswitches: { s: {}, far: {} }\ndefaults: { nics: [s] }\n\
                    groups: { g: { workload: { role: icmp, to: all, count: 3 } } }\nguests: \
                    { a: { group: g }, b: { group: g }, c: { group: g }, idle: {}, \
                    d: { group: g }, away: { nics: [far], workload: { role: icmp } }, \
                    other: { ip: 192.168.0.1/24, workload: { role: icmp } } }";
        let lab = Lab::parse(Path::new("t.lab.yaml"), text).unwrap();
        let line =
            |guest: usize| command_line(&lab, guest, lab.guests[guest].pktguest().unwrap(), None);
        assert!(
            line(0).ends_with(" ip=10.0.0.1/16 to_ip=10.0.0.1-10.0.0.3,10.0.0.5"),
            "{}",
            line(0)
        );
        assert!(line(1).ends_with(" to_ip=10.0.0.1-10.0.0.3,10.0.0.5"), "{}", line(1));
        assert!(line(5).ends_with(" ip=10.0.0.6/16"), "{}", line(5));
    }

    #[test]
    fn reports_are_told_from_other_output() {
        assert_eq!(
            Report::parse(r#"{"event":"ready","role":"rx","ring":1024}"#),
            Some(Report::Ready)
        );
        assert_eq!(Report::parse("Booting"), None);
        assert_eq!(Report::parse(r#"{"event":"party"}"#), None);
        assert_eq!(Report::parse("{"), None);
    }

    #[test]
    fn a_final_report_keeps_its_figures() {
        let line = r#"{"event":"final","role":"rx","packets":7,"lost":1,"histogram":[[1,2]]}"#;
        let Some(Report::Final(report)) = Report::parse(line) else { panic!("not final") };
        assert_eq!((report.packets, report.lost, report.sent), (7, 1, 0));
    }
}
