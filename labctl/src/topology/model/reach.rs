//! Who reaches whom, and through which NICs.

use super::{Guest, Lab, LinkEnd, Role};

/// A partition of things numbered from 0 (union-find).
#[derive(Clone, Debug)]
pub struct Segments(Vec<usize>);

impl Segments {
    /// `count` things, each for itself.
    pub fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    /// What stands for the segment that `thing` is in; a thing beyond the last is for itself.
    pub fn of(&self, mut thing: usize) -> usize {
        while let Some(parent) = self.0.get(thing).filter(|parent| **parent != thing) {
            thing = *parent;
        }
        thing
    }

    /// Joins two segments; false if they were one before.
    pub fn join(&mut self, one: usize, other: usize) -> bool {
        let [one, other] = [one, other].map(|thing| self.of(thing));
        if let Some(parent) = self.0.get_mut(one) {
            *parent = other;
        }
        one != other
    }
}

impl Lab {
    /// The switches that frames pass between, through links and forwarding guests.
    pub fn segments(&self) -> Segments {
        self.segments_through(|guest| self.forwards(guest))
    }

    /// Whether a guest passes frames from one of its NICs to another.
    fn forwards(&self, guest: usize) -> bool {
        let spec = self.guests.get(guest).and_then(Guest::pktguest);
        spec.is_some_and(|pktguest| pktguest.workload.role == Role::Forward)
    }

    fn segments_through(&self, passes: impl Fn(usize) -> bool) -> Segments {
        let mut segments = Segments::new(self.switches.len());
        for link in &self.links {
            if let [LinkEnd::Switch(one), LinkEnd::Switch(other)] = link.ends {
                segments.join(one, other);
            }
        }
        for (number, guest) in self.guests.iter().enumerate() {
            if let (true, [one, other, ..]) = (passes(number), guest.nics.as_slice()) {
                segments.join(one.switch, other.switch);
            }
        }
        segments
    }

    /// The forwarding guests that frames from one guest to another pass through.
    pub fn between(&self, from: usize, to: usize) -> Vec<usize> {
        let others = (0..self.guests.len()).filter(|guest| ![from, to].contains(guest));
        let forwarding = others.filter(|guest| self.forwards(*guest));
        // There is one way at most: without any guest on it there is none.
        let is_needed = |without: &usize| {
            let segments = self.segments_through(|guest| guest != *without && self.forwards(guest));
            self.link_in(&segments, from, to).is_none()
        };
        forwarding.filter(is_needed).collect()
    }

    /// The NIC of `from` and the NIC of `to` that reach each other: on one switch if there is one
    /// that both are on, or else the first ones with any way between them.
    pub fn link(&self, from: usize, to: usize) -> Option<(usize, usize)> {
        self.link_in(&self.segments(), from, to)
    }

    fn link_in(&self, segments: &Segments, from: usize, to: usize) -> Option<(usize, usize)> {
        let [from, to] = [self.guests.get(from)?, self.guests.get(to)?];
        let first = |near: &dyn Fn(usize, usize) -> bool| {
            from.nics.iter().enumerate().find_map(|(i, nic)| {
                Some((i, to.nics.iter().position(|other| near(nic.switch, other.switch))?))
            })
        };
        let connected = |one, other| segments.of(one) == segments.of(other);
        first(&|one, other| one == other).or_else(|| first(&connected))
    }

    /// The NIC that a guest's workload uses: the one towards its peer, or else towards the first guest
    /// that has it as a peer; for pings also towards any other that answers them.
    pub fn role_nic(&self, guest: usize) -> usize {
        let role = |guest: usize| Some(self.guests.get(guest)?.pktguest()?.workload.role);
        let peer = |guest: usize| role(guest).and_then(Role::to);
        let pings = |guest: &usize| matches!(role(*guest), Some(Role::Icmp { .. }));
        let others = || (0..self.guests.len()).filter(|other| *other != guest);
        let towards = peer(guest).and_then(|to| self.link(guest, to));
        let called = || others().find(|other| peer(*other) == Some(guest));
        let pinging = || others().filter(pings).find_map(|other| self.link(guest, other));
        towards
            .or_else(|| self.link(guest, called()?))
            .or_else(|| pings(&guest).then(pinging)?)
            .map_or(0, |(nic, _)| nic)
    }

    /// The guests that answer pings of `from`: they are connected with it and in its network.
    pub fn icmp_targets(&self, from: usize) -> Vec<usize> {
        let segments = self.segments();
        let place = |guest: usize| {
            let spec = self.guests.get(guest)?;
            let pktguest = spec.pktguest()?;
            let nic = spec.nics.get(self.role_nic(guest))?;
            let pings = matches!(pktguest.workload.role, Role::Icmp { .. });
            pings.then_some((pktguest.ip, segments.of(nic.switch)))
        };
        let Some((ours, segment)) = place(from) else { return Vec::new() };
        let others = (0..self.guests.len()).filter(|to| *to != from);
        let reached = others.filter(|to| {
            place(*to).is_some_and(|(theirs, there)| {
                let one_network = ours.contains(theirs.address) && theirs.contains(ours.address);
                one_network && there == segment
            })
        });
        reached.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_tells_a_loop() {
        let mut segments = Segments::new(4);
        assert!(segments.join(0, 1) && segments.join(2, 3) && segments.join(3, 1));
        assert!(!segments.join(0, 2), "they are one already");
        assert!((0..4).all(|thing| segments.of(thing) == segments.of(0)));
        assert_eq!(segments.of(9), 9);
    }
    #[test]
    fn frames_pass_through_those_guests_that_connect_their_ends() {
        let text = "name: t\nswitches: { s0: {}, s1: {}, s2: {}, s3: {} }\nlinks: [s1 -- s2]\n\
                    guests: { a: { nics: [s0] }, b: { nics: [s3] }, c: { nics: [s0] }, \
                    f: { nics: [s0, s1], workload: { role: forward } }, \
                    g: { nics: [s2, s3], workload: { role: forward } } }";
        let lab = Lab::parse(std::path::Path::new("t.lab.yaml"), text).unwrap();
        assert_eq!(lab.between(0, 1), [3, 4]);
        assert_eq!(lab.between(0, 2), [0; 0], "they share a switch");
        assert_eq!(lab.between(0, 4), [3], "the ends are not between");
    }
}
