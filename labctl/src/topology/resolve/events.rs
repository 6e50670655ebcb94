//! `events`: what happens by itself while the lab runs.

use crate::error::did_you_mean;
use crate::topology::{
    Action, CableId, TimedEvent, file::EventSpec, resolve::Resolver, text::index::join,
};

impl Resolver<'_> {
    /// The events in the order of time; those of one time in the file's order.
    pub fn events(&mut self) -> Vec<TimedEvent> {
        let mut events = Vec::new();
        for (i, item) in self.file.events.0.iter().enumerate() {
            let pointer = join("/events", &i.to_string());
            match item {
                Some(spec) => {
                    let action = self.action(&pointer, spec);
                    let Some(at) = spec.at else {
                        self.document.missing_key(&pointer, "at");
                        continue;
                    };
                    let event = |action| TimedEvent { at: at.get(), action };
                    events.extend(action.map(|action| (pointer, event(action))));
                }
                None => self.missing_item(&pointer, "an event, such as { at: 5s, restart: left }"),
            }
        }
        self.check_effects(&events);
        events.sort_by_key(|(_, event)| event.at);
        events.into_iter().map(|(_, event)| event).collect()
    }

    /// An event that changes nothing is a misunderstanding: say so.
    fn check_effects(&mut self, events: &[(String, TimedEvent)]) {
        for (i, (pointer, event)) in events.iter().enumerate() {
            if let Some((first, _)) = events[..i].iter().find(|(_, other)| other == event) {
                let first = self.document.index().key(first);
                self.document
                    .key_problem(pointer, "the event is there twice", "again here")
                    .also(first, "first here");
                continue;
            }
            let Action::Impair { cable, impairments } = &event.action else { continue };
            // After an earlier one it takes away what that has brought.
            let is_earlier = |(at, other): &(String, TimedEvent)| {
                let sets_it =
                    matches!(&other.action, Action::Impair { cable: own, .. } if own == cable);
                at != pointer && other.at <= event.at && sets_it
            };
            let is_first = !events.iter().any(is_earlier) && !self.document.is_damaged("/events");
            let set = join(pointer, "set");
            if is_first && impairments.is_none() && self.cable_is_good(*cable) {
                self.document
                    .key_problem(&set, "the cable has no impairments by then", "without effect")
                    .help("for instance `set: { loss: 10% }`");
            }
        }
    }

    /// Whether a cable has no impairments by the file.
    fn cable_is_good(&self, cable: CableId) -> bool {
        match cable {
            CableId::Nic { guest, nic } => {
                let nic = self.cabling.nics.get(guest).and_then(|nics| nics.get(&nic));
                nic.is_some_and(|nic| {
                    nic.impairments.is_none() && !self.document.is_damaged(&nic.pointer)
                })
            }
            CableId::Link(link) => self.cabling.links.get(link).is_some_and(|(pointer, link)| {
                link.impairments.is_none() && !self.document.is_damaged(pointer)
            }),
        }
    }

    fn action(&mut self, pointer: &str, spec: &EventSpec) -> Option<Action> {
        let given = [
            ("set", spec.set.is_some()),
            ("up", spec.up.is_some()),
            ("restart", spec.restart.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key);
        let (action, second) = (given.next(), given.next());
        if let (Some(first), Some(second)) = (action, second) {
            let message = format!("an event does one thing, and this has `{first}` and `{second}`");
            let first = self.document.index().key(&join(pointer, first));
            self.document
                .key_problem(&join(pointer, second), &message, "a second one")
                .also(first, "the first")
                .help("several events may have the same `at`");
            return None;
        }
        match (action, &spec.link) {
            (Some("restart"), None) => {
                let guest = self.find_guest(&join(pointer, "restart"), spec.restart.as_deref()?)?;
                Some(Action::Restart { guest })
            }
            (Some("restart"), Some(_)) => {
                let message = "`restart` is about a guest";
                self.document.key_problem(&join(pointer, "link"), message, "without effect");
                None
            }
            (Some(action), None) => {
                let at = join(pointer, "link");
                if !self.document.is_damaged(&at) {
                    let label = format!("`{action}` of which?");
                    self.document
                        .key_problem(&join(pointer, action), "missing key `link`", label)
                        .help("name a cable, such as left:0 or sw0--sw1");
                }
                None
            }
            (Some(_), Some(link)) => {
                let cable = self.find_cable(&join(pointer, "link"), link)?;
                Some(match (&spec.set, spec.up) {
                    (Some(set), _) => {
                        let impairments = self.impairments(&join(pointer, "set"), set);
                        Action::Impair { cable, impairments }
                    }
                    (None, up) => Action::Plug { cable, up: up.unwrap_or_default() },
                })
            }
            (None, _) => {
                if !self.document.is_damaged(pointer) {
                    let expected = "an event needs something to do";
                    self.document
                        .key_problem(&join(pointer, "at"), expected, "nothing happens")
                        .help(
                            "`link` with `set: { loss: 10% }` or `up: false`, or `restart: left`",
                        );
                }
                None
            }
        }
    }

    /// Whether a cable of this name may be missing because the file is wrong about it.
    fn is_cable_lost(&self, name: &str) -> bool {
        let file = self.file;
        match name.split_once(':') {
            Some((guest, nic)) if !name.contains("--") => {
                let lost = self.is_lost("/guests", guest);
                let known = file.guests.position(guest).is_some();
                lost || known && nic.parse().is_ok_and(|nic| self.is_nic_lost(guest, nic))
            }
            _ => {
                let named = |i| self.document.is_lost(&format!("/links/{i}/name"));
                self.links_damaged() || (0..file.links.0.len()).any(named)
            }
        }
    }

    /// Finds a cable by its name; spaces around `--` do not matter.
    fn find_cable(&mut self, pointer: &str, name: &str) -> Option<CableId> {
        let wanted = name.replace(' ', "");
        let mut known = Vec::new();
        for (guest, (name, nics)) in self.file.guests.names().zip(&self.cabling.nics).enumerate() {
            let names =
                nics.keys().map(|nic| (format!("{name}:{nic}"), CableId::Nic { guest, nic: *nic }));
            known.extend(names);
        }
        let links = self.cabling.links.iter().enumerate();
        known.extend(links.map(|(i, (_, link))| (link.name.clone(), CableId::Link(i))));
        if let Some((_, cable)) = known.iter().find(|(name, _)| *name == wanted) {
            return Some(*cable);
        }
        if self.is_cable_lost(&wanted) {
            return None;
        }
        let names = || known.iter().map(|(name, _)| name.as_str());
        let message = format!("no cable is called `{name}`");
        // Of a NIC's cable it is the guest whose name may be misspelt.
        let meant = match wanted.split_once(':') {
            Some((guest, nic)) if !wanted.contains("--") => {
                let guest = did_you_mean(guest, self.file.guests.names());
                guest.map(|guest| format!("{guest}:{nic}"))
            }
            _ => did_you_mean(&wanted, names()).map(str::to_owned),
        };
        let meant = meant.filter(|meant| names().any(|name| name == meant));
        let problem = self.document.value_problem(pointer, &message, "unknown cable");
        match meant {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem.help(
                "a cable is called by its guest and NIC, as left:0, or by its ends, as sw0--sw1",
            ),
        };
        None
    }
}
