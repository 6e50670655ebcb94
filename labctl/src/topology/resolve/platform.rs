//! What the guests run on: `vmm`, `nic` and `link`, and which optimizations that leaves.

use crate::optimizations::{Optimization, Optimizations};
use crate::platform::{Link, NicModel};
use crate::topology::{
    Qemu,
    file::{File, KindSpec, LinkSpec, NicModelSpec, Toggles, VmmSpec},
    resolve::Resolver,
    text::index::join,
};

impl Toggles {
    fn get(&self, which: Optimization) -> Option<bool> {
        match which {
            Optimization::Itr => self.itr,
            Optimization::Sc => self.sc,
            Optimization::Csb => self.csb,
            Optimization::Vale => self.vale,
        }
    }
}

impl Resolver<'_> {
    /// What the lab runs on, and the optimizations that are on.
    pub fn platform(&mut self) -> (Option<Qemu>, Optimizations) {
        let qemu = self.qemu();
        (qemu, self.optimizations(qemu))
    }

    /// How QEMU runs the guests, if it does.
    fn qemu(&mut self) -> Option<Qemu> {
        let File { vmm, nic, link, .. } = *self.file;
        if vmm.unwrap_or_default() == VmmSpec::Labctl {
            let help = "`nic` belongs to `vmm: qemu`; labctl's own NIC is an e1000";
            self.check_effect("nic", nic.is_some(), VmmSpec::Labctl, help);
            let help =
                "`link` belongs to `vmm: qemu`; labctl links guests as `optimizations.vale` says";
            self.check_effect("link", link.is_some(), VmmSpec::Labctl, help);
            return None;
        }
        let nic = match nic.unwrap_or_default() {
            NicModelSpec::E1000 => NicModel::E1000,
            NicModelSpec::VirtioNet => NicModel::VirtioNet,
        };
        let link = match link.unwrap_or_default() {
            LinkSpec::Tap => Link::Tap,
            LinkSpec::Socket => Link::Socket,
        };
        self.check_guests_of_qemu();
        // QEMU's threads are its own.
        let help = "`policy` says which of labctl's threads move frames; QEMU has its own";
        self.check_effect("policy", self.file.policy.is_some(), VmmSpec::Qemu, help);
        if link == Link::Socket {
            self.check_socket_pairs();
        }
        Some(Qemu { nic, link })
    }

    /// A key that the lab's `vmm` has no use for is a misunderstanding, unless it is meant for cells
    /// with the other one.
    fn check_effect(&mut self, key: &str, given: bool, vmm: VmmSpec, help: &str) {
        let pointer = join("", key);
        if !given || !self.document.speaks_of(&pointer) || self.has_cells_without(vmm) {
            return;
        }
        let name = if vmm == VmmSpec::Qemu { "qemu" } else { "labctl" };
        let message = format!("vmm `{name}` has no `{key}`");
        self.document.key_problem(&pointer, &message, "without effect").help(help);
    }

    fn has_cells_without(&self, vmm: VmmSpec) -> bool {
        let Some(bench) = &self.file.bench else { return false };
        let own = bench.cells.0.iter().filter_map(|(_, cell)| cell.vmm).any(|own| own != vmm);
        let sets = bench.cells.0.iter().map(|(_, cell)| &cell.set);
        let steps = bench.ladder.iter().flatten();
        let varies = sets.chain(steps).any(|changes| changes.position("vmm").is_some());
        own || varies || bench.matrix.position("vmm").is_some()
    }

    fn check_guests_of_qemu(&mut self) {
        let file = self.file;
        let mut kinds = file.guests.names().filter_map(|name| Some((name, self.kind(name)?)));
        if let Some((name, kind)) = kinds.find(|(_, kind)| *kind != KindSpec::Pktguest) {
            let message = "QEMU runs only guests of kind `pktguest` here";
            let label = format!("`{name}` is of kind `{}`", kind.as_str());
            self.document.value_problem("/vmm", message, label);
        }
    }

    /// A pair of sockets has two ends.
    fn check_socket_pairs(&mut self) {
        let file = self.file;
        if file.guests.names().any(|name| self.nics_damaged(name)) {
            return;
        }
        let ports = &self.cabling.ports;
        let crowded = file.switches.names().zip(ports).find(|(_, ports)| **ports > 2);
        if let Some((switch, ports)) = crowded {
            let message = "a socket connects two NICs";
            let label = format!("`{switch}` has {ports}");
            self.document.value_problem("/link", message, label).help("use `link: tap`");
        }
    }

    /// The optimizations that the file wants, else all; of those, what its NICs and links can have. To
    /// turn on what they cannot have is a misunderstanding.
    fn optimizations(&mut self, qemu: Option<Qemu>) -> Optimizations {
        let mut on = Optimizations::NONE;
        for which in Optimization::ALL {
            let said = self.file.optimizations.get(which);
            let lacking = qemu.and_then(|qemu| lacks(qemu, which));
            on = on.with(which, said.unwrap_or(true) && lacking.is_none());
            let pointer = join("/optimizations", which.name());
            let asked = said == Some(true) && self.document.speaks_of(&pointer);
            if let Some(help) = lacking.filter(|_| asked) {
                let message = format!("QEMU cannot have `{which}` here");
                let label = "cannot be true with `vmm: qemu`";
                self.document.value_problem(&pointer, &message, label).help(help);
            }
        }
        if qemu.is_none() && self.file.optimizations.vale.is_some() {
            self.check_switches_without_kind();
        }
        on
    }

    /// `vale` is about the switches that do not say themselves what they are.
    fn check_switches_without_kind(&mut self) {
        let pointer = "/optimizations/vale";
        let switches = &self.cabling.switches;
        let none_asks = !switches.is_empty() && switches.iter().all(|switch| switch.kind.is_some());
        if none_asks && self.document.speaks_of(pointer) {
            self.document
                .key_problem(pointer, "every switch has a `kind` of its own", "without effect")
                .help("leave `kind` out where `vale` is to say it");
        }
    }
}

/// Why QEMU's guests cannot have an optimization; `None` if they can.
fn lacks(Qemu { nic, .. }: Qemu, which: Optimization) -> Option<&'static str> {
    match (which, nic) {
        (Optimization::Csb, _) => Some("QEMU's NICs have no CSB"),
        (Optimization::Vale, _) => {
            Some("the VALE switch is labctl's own; `link` connects QEMU's guests")
        }
        (Optimization::Itr, NicModel::VirtioNet) => Some("virtio-net has no ITR register"),
        (Optimization::Sc, NicModel::VirtioNet) => {
            Some("with virtio-net the device says when it wants to be told of packets")
        }
        (Optimization::Itr | Optimization::Sc, NicModel::E1000) => None,
    }
}
