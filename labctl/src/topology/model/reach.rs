//! Who reaches whom, and through which NICs.

use super::{Lab, LinkEnd, Role};

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
        let mut segments = Segments::new(self.switches.len());
        for link in &self.links {
            if let [LinkEnd::Switch(one), LinkEnd::Switch(other)] = link.ends {
                segments.join(one, other);
            }
        }
        for guest in &self.guests {
            let forwards = guest.pktguest().is_some_and(|g| g.workload.role == Role::Forward);
            if let (true, [one, other, ..]) = (forwards, guest.nics.as_slice()) {
                segments.join(one.switch, other.switch);
            }
        }
        segments
    }

    /// The NIC of `from` and the NIC of `to` that reach each other: on one switch if there is one
    /// that both are on, or else the first ones with any way between them.
    pub fn link(&self, from: usize, to: usize) -> Option<(usize, usize)> {
        let segments = self.segments();
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
}
