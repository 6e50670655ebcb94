//! Who says what of a guest: itself, its group, its kind, or the defaults. The most specific wins, key
//! by key; only `optimizations` are merged one by one.

use crate::error::did_you_mean;
use crate::optimizations::Optimization;
use crate::topology::{
    Overrides,
    file::{GuestSpec, KindSpec, Kinds, Toggles},
    resolve::Resolver,
    text::index::join,
};

impl Kinds {
    /// What all guests of a kind have in common.
    pub fn get(&self, kind: KindSpec) -> Option<&GuestSpec> {
        match kind {
            KindSpec::Pktguest => self.pktguest.as_ref(),
            KindSpec::Linux => self.linux.as_ref(),
            KindSpec::Pvh => self.pvh.as_ref(),
        }
    }
}

impl<'a> Resolver<'a> {
    /// What the file says of a guest, most specific first, and where.
    fn layers(&self, guest: &str) -> Vec<(String, &'a GuestSpec)> {
        let file = self.file;
        let Some((_, own)) = file.guests.0.iter().find(|(name, _)| name == guest) else {
            return Vec::new();
        };
        let group = own.group.as_ref();
        let group = group.and_then(|group| file.groups.0.iter().find(|(name, _)| name == group));
        let group = group.map(|(name, spec)| (join("/groups", name), spec));
        let own = (join("/guests", guest), own);
        let defaults = ("/defaults".to_owned(), &file.defaults);
        let mut layers: Vec<_> = [Some(own), group, Some(defaults)].into_iter().flatten().collect();
        let kind = layers.iter().find_map(|(_, spec)| spec.kind).unwrap_or_default();
        let of_kind = file.kinds.get(kind).map(|spec| (join("/kinds", kind.as_str()), spec));
        layers.splice(layers.len() - 1..layers.len() - 1, of_kind);
        layers
    }

    /// A guest's setting, its own or else inherited, and where it is written. `key` is a path below
    /// the guest, such as `optimizations/itr`. What is inherited does not stand in for what is wrong.
    pub fn setting<T>(
        &self,
        guest: &str,
        key: &str,
        get: fn(&GuestSpec) -> Option<&T>,
    ) -> Option<(String, &'a T)> {
        for (pointer, spec) in self.layers(guest) {
            let pointer = format!("{pointer}/{key}");
            if let Some(said) = get(spec) {
                return Some((pointer, said));
            }
            if self.document.is_lost(&pointer) {
                return None;
            }
        }
        None
    }

    /// Whether a guest's setting, which `is_said` looks for, may be another one only because what the
    /// file says of it is wrong.
    pub fn is_setting_lost(&self, guest: &str, key: &str, is_said: fn(&GuestSpec) -> bool) -> bool {
        let file = self.file;
        let own = join("/guests", guest);
        let Some((_, spec)) = file.guests.0.iter().find(|(name, _)| name == guest) else {
            return true;
        };
        let lost = |place: &str| self.document.is_lost(&format!("{place}/{key}"));
        if lost(&own) || is_said(spec) {
            return lost(&own);
        }
        if self.document.is_lost(&join(&own, "group")) {
            return true;
        }
        if let Some(group) = &spec.group {
            let Some((_, spec)) = file.groups.0.iter().find(|(name, _)| name == group) else {
                return true;
            };
            let place = join("/groups", group);
            if lost(&place) || is_said(spec) {
                return lost(&place);
            }
        }
        if key != "kind" {
            let kind = self.kind(guest);
            let mut kinds =
                KindSpec::ALL.into_iter().filter(|any| kind.is_none_or(|kind| kind == *any));
            let says = |kind: KindSpec| file.kinds.get(kind).is_some_and(is_said);
            if kinds.clone().any(|kind| lost(&join("/kinds", kind.as_str()))) {
                return true;
            }
            if kinds.any(says) {
                // Which of them is not known without the kind.
                return kind.is_none();
            }
        }
        lost("/defaults")
    }

    /// What a guest runs; `None` if what the file says of it could not be made sense of.
    pub fn kind(&self, guest: &str) -> Option<KindSpec> {
        if self.is_setting_lost(guest, "kind", |guest| guest.kind.is_some()) {
            return None;
        }
        let kind = self.setting(guest, "kind", |guest| guest.kind.as_ref());
        Some(kind.map_or(KindSpec::default(), |(_, kind)| *kind))
    }

    /// What a guest has for itself of the optimizations.
    pub fn overrides(&self, guest: &str) -> Overrides {
        let itr = self.setting(guest, "optimizations/itr", |g| g.optimizations.itr.as_ref());
        let sc = self.setting(guest, "optimizations/sc", |g| g.optimizations.sc.as_ref());
        let csb = self.setting(guest, "optimizations/csb", |g| g.optimizations.csb.as_ref());
        let value = |setting: Option<(String, &bool)>| setting.map(|(_, on)| *on);
        Overrides { itr: value(itr), sc: value(sc), csb: value(csb) }
    }

    /// Checks what is said of several guests: that there are any, and that they can use it.
    pub fn check_inheritance(&mut self) {
        let file = self.file;
        let groups = file.groups.0.iter().map(|(name, spec)| (join("/groups", name), spec));
        let groups: Vec<_> = groups.collect();
        let kinds =
            KindSpec::ALL.into_iter().filter_map(|kind| Some((kind, file.kinds.get(kind)?)));
        let kinds: Vec<_> =
            kinds.map(|(kind, spec)| (join("/kinds", kind.as_str()), kind, spec)).collect();
        let defaults = ("/defaults".to_owned(), &file.defaults);
        let of_kinds = kinds.iter().map(|(pointer, _, spec)| (pointer.clone(), *spec));
        let shared: Vec<_> = groups.iter().cloned().chain(of_kinds).chain([defaults]).collect();
        for (pointer, spec) in shared {
            if spec.group.is_some() {
                let message = "only a guest has a `group`";
                self.document
                    .key_problem(&join(&pointer, "group"), message, "not known here")
                    .help("a group is not in another one; `defaults` are for all guests");
            }
            self.check_vale(&pointer, &spec.optimizations);
        }
        for (name, spec) in &file.guests.0 {
            self.check_vale(&join("/guests", name), &spec.optimizations);
            let group = spec.group.as_deref();
            if let Some(group) = group.filter(|group| file.groups.position(group).is_none())
                && !self.is_lost("/groups", group)
            {
                let pointer = join(&join("/guests", name), "group");
                self.document.unknown(&pointer, "group", group, file.groups.names());
            }
        }
        for (pointer, kind, _) in kinds.iter().filter(|(_, _, spec)| spec.kind.is_some()) {
            let label = format!("this is about `kind: {}` already", kind.as_str());
            let message = "only guests, groups and defaults have a `kind`";
            self.document.key_problem(&join(pointer, "kind"), message, label);
        }
        self.check_unused_groups();
    }

    fn check_unused_groups(&mut self) {
        let file = self.file;
        let of_guests = || file.guests.0.iter().filter_map(|(_, guest)| guest.group.as_deref());
        let is_lost = |guest| self.document.is_lost(&join(&join("/guests", guest), "group"));
        if file.guests.0.is_empty()
            || self.document.lacks_some("/guests")
            || file.guests.names().any(is_lost)
        {
            return;
        }
        let groups = &file.groups;
        let is_known = |name: &&str| groups.position(name).is_some();
        let unknown: Vec<_> = of_guests().filter(|name| !is_known(name)).collect();
        let meant = |group: &str| {
            unknown.iter().any(|name| did_you_mean(name, groups.names()) == Some(group))
        };
        let used = |name: &str| of_guests().any(|group| group == name) || meant(name);
        for name in file.groups.names().filter(|name| !used(name)) {
            self.document
                .key_problem(&join("/groups", name), "no guest is in the group", "without effect")
                .help(format!("guests join it by `group: {name}`"));
        }
    }

    /// A guest does not choose what its switch is.
    fn check_vale(&mut self, pointer: &str, toggles: &Toggles) {
        if toggles.vale.is_some() {
            self.misplaced(pointer, Optimization::Vale, "belongs to the switch")
                .help("a switch has it by `kind: vale`, and not by `kind: bridge`");
        }
    }

    /// An optimization that something other has than what is at `pointer`.
    pub fn misplaced(
        &mut self,
        pointer: &str,
        which: Optimization,
        label: &str,
    ) -> &mut crate::error::Problem {
        let pointer = join(&join(pointer, "optimizations"), which.name());
        self.document.key_problem(&pointer, &format!("`{which}` is not said here"), label)
    }
}
