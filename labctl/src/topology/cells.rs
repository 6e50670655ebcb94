//! What the guests run on, and cells of their own: `vmm`, `nic` and `link` at the top of the file and
//! in `bench.cells`, and which optimizations that leaves.

use super::{
    NamedCell, Qemu,
    file::{
        BenchSpec, CellSpec, CellThroughputSpec, File, KindSpec, LinkSpec, Matrix, NicModelSpec,
        Toggles, TrialName, VmmSpec,
    },
    index::join,
    resolve::Resolver,
    units::Int,
};
use crate::optimizations::{Optimization, Optimizations};
use crate::platform::{Link, NicModel};
use crate::policy::Choice;
use crate::results::TrialKind;

/// One place that says what guests run on: the file's top level, or a cell.
struct Place<'a> {
    pointer: &'a str,
    vmm: Option<VmmSpec>,
    nic: Option<NicModelSpec>,
    link: Option<LinkSpec>,
    policy: Option<Choice>,
    toggles: &'a Toggles,
}

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
        let file = self.file;
        let File { vmm, nic, link, policy, ref optimizations, .. } = *file;
        let place = Place { pointer: "", vmm, nic, link, policy, toggles: optimizations };
        let qemu = self.qemu(&place);
        if let Some(qemu) = qemu {
            self.check_matrix_of_qemu(qemu);
        }
        (qemu, self.optimizations(&place, qemu))
    }

    /// The cells of their own.
    pub fn cells(&mut self, bench: &BenchSpec) -> Vec<NamedCell> {
        bench.cells.0.iter().map(|(name, cell)| self.cell(bench, name, cell)).collect()
    }

    fn cell(&mut self, bench: &BenchSpec, name: &str, spec: &CellSpec) -> NamedCell {
        let pointer = join("/bench/cells", name);
        let file = self.file;
        let place = Place {
            pointer: &pointer,
            vmm: spec.vmm.or(file.vmm),
            nic: spec.nic,
            link: spec.link,
            policy: spec.policy,
            toggles: &spec.optimizations,
        };
        let qemu = self.qemu(&place);
        let CellThroughputSpec { protocol, frame, burst, pairs } = &spec.throughput;
        let changes_throughput =
            protocol.is_some() || frame.is_some() || burst.is_some() || pairs.is_some();
        let given = [("throughput", changes_throughput), ("rr", spec.rr.frame.is_some())];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            self.check_trial(bench, &join(&pointer, key), key);
        }
        let pairs = pairs.map(Int::get);
        if let (Some(pairs), Some(trial)) = (pairs, &bench.throughput) {
            self.check_pairs(&pointer, pairs, 1 + trial.also.len());
        }
        let only = spec.only.map(|only| match only {
            TrialName::Throughput => TrialKind::Throughput,
            TrialName::Rr => TrialKind::Rr,
        });
        if let Some(only) = only {
            self.check_trial(bench, &join(&pointer, "only"), &only.to_string());
        }
        NamedCell {
            name: name.to_owned(),
            qemu,
            optimizations: self.optimizations(&place, qemu),
            policy: spec.policy,
            ring: spec.ring.map(Int::get),
            spin_us: spec
                .spin
                .map(|spin| u32::try_from(spin.get().as_micros()).unwrap_or(u32::MAX)),
            throughput_protocol: *protocol,
            throughput_frame: frame.map(Int::get),
            throughput_burst: burst.map(Int::get),
            throughput_pairs: pairs,
            rr_frame: spec.rr.frame.map(Int::get),
            only,
        }
    }

    fn check_pairs(&mut self, cell: &str, pairs: u16, there: usize) {
        if usize::from(pairs) > there && !self.document.is_damaged("/bench/throughput/also") {
            let pointer = join(&join(cell, "throughput"), "pairs");
            let message = format!("`bench.throughput` has fewer than {pairs} pairs");
            self.document
                .value_problem(&pointer, &message, format!("expected at most {there}"))
                .help("list further pairs in `also` of `bench.throughput`");
        }
    }

    /// The cell that the others are compared with.
    pub fn reference(&mut self, bench: &BenchSpec) -> Option<usize> {
        let name = bench.reference.as_deref()?;
        let position = bench.cells.position(name);
        if position.is_none() && !self.is_lost("/bench/cells", name) {
            self.unknown("/bench/reference", "cell", name, bench.cells.names());
        }
        position
    }

    /// A change to a trial that the benchmark does not have is a misunderstanding.
    fn check_trial(&mut self, bench: &BenchSpec, pointer: &str, trial: &str) {
        let there = match trial {
            "throughput" => bench.throughput.is_some(),
            _ => bench.rr.is_some(),
        };
        if !there && !self.document.is_damaged(&join("/bench", trial)) {
            let label = format!("no `bench.{trial}`");
            self.document
                .key_problem(pointer, "is about a trial that is not there", label)
                .help(format!("add `{trial}` to `bench`, or remove this"));
        }
    }

    /// How QEMU runs a place's guests, if it does.
    fn qemu(&mut self, place: &Place<'_>) -> Option<Qemu> {
        let vmm = place.vmm.unwrap_or_default();
        if vmm == VmmSpec::Labctl {
            self.check_keys_of_qemu(place);
            return None;
        }
        let (nic, link) = (place.nic.or(self.file.nic), place.link.or(self.file.link));
        let nic = match nic.unwrap_or_default() {
            NicModelSpec::E1000 => NicModel::E1000,
            NicModelSpec::VirtioNet => NicModel::VirtioNet,
        };
        let link = match link.unwrap_or_default() {
            LinkSpec::Tap => Link::Tap,
            LinkSpec::Socket => Link::Socket,
        };
        self.check_guests_of_qemu(place);
        self.check_policy_of_qemu(place);
        if link == Link::Socket {
            self.check_socket_pairs(place);
        }
        Some(Qemu { nic, link })
    }

    /// `nic` and `link` choose among what QEMU has.
    fn check_keys_of_qemu(&mut self, place: &Place<'_>) {
        let helps = [
            ("nic", place.nic.is_some(), "labctl's own NIC is an e1000"),
            ("link", place.link.is_some(), "labctl links guests as `optimizations.vale` says"),
        ];
        // At the top they may be meant for the cells.
        let file = self.file;
        let cells = file.bench.iter().flat_map(|bench| &bench.cells.0);
        let used = cells.map(|(_, cell)| cell.vmm).any(|vmm| vmm == Some(VmmSpec::Qemu));
        if place.pointer.is_empty() && used {
            return;
        }
        for (key, _, help) in helps.into_iter().filter(|(_, given, _)| *given) {
            let pointer = join(place.pointer, key);
            let message = format!("vmm `labctl` has no `{key}`");
            self.document
                .key_problem(&pointer, &message, "without effect")
                .help(format!("`{key}` belongs to `vmm: qemu`; {help}"));
        }
    }

    fn check_guests_of_qemu(&mut self, place: &Place<'_>) {
        let file = self.file;
        let linux = file.guests.names().find(|name| self.kind(name) == Some(KindSpec::Linux));
        // A benchmark has none anyway, which is reported there.
        if let Some(name) = linux.filter(|_| place.pointer.is_empty()) {
            let message = "QEMU runs only guests of kind `pktguest` here";
            let label = format!("`{name}` runs Linux");
            self.document.value_problem("/vmm", message, label);
        }
    }

    /// QEMU's threads are its own.
    fn check_policy_of_qemu(&mut self, place: &Place<'_>) {
        let file = self.file;
        let cells = || file.bench.iter().flat_map(|bench| &bench.cells.0);
        // At the top it may be meant for the cells.
        let is_used =
            place.pointer.is_empty() && cells().any(|(_, c)| c.vmm == Some(VmmSpec::Labctl));
        let given = place.policy.is_some() && !is_used;
        let axis = file.bench.as_ref().is_some_and(|bench| bench.matrix.policy.is_some());
        let axis = (axis && place.pointer.is_empty()).then(|| "/bench/matrix/policy".to_owned());
        for pointer in given.then(|| join(place.pointer, "policy")).into_iter().chain(axis) {
            let message = "vmm `qemu` has no `policy`";
            self.document
                .key_problem(&pointer, message, "without effect")
                .help("`policy` says which of labctl's threads move frames; QEMU has its own");
        }
    }

    /// An axis must not turn on what QEMU cannot have.
    fn check_matrix_of_qemu(&mut self, qemu: Qemu) {
        let Some(Matrix { itr, sc, csb, vale, .. }) = self.file.bench.as_ref().map(|b| &b.matrix)
        else {
            return;
        };
        for (which, axis) in Optimization::ALL.into_iter().zip([itr, sc, csb, vale]) {
            let on = axis.iter().flatten().position(|value| *value == Some(true));
            if let (Some(index), Some(help)) = (on, lacks(qemu, which)) {
                let axis = join("/bench/matrix", &format!("optimizations.{which}"));
                self.cannot_have(&join(&axis, &index.to_string()), which, help);
            }
        }
    }

    fn cannot_have(&mut self, pointer: &str, which: Optimization, help: &str) {
        let message = format!("QEMU cannot have `{which}` here");
        let label = "cannot be true with `vmm: qemu`";
        self.document.value_problem(pointer, &message, label).help(help);
    }

    /// A pair of sockets has two ends.
    fn check_socket_pairs(&mut self, place: &Place<'_>) {
        let file = self.file;
        let mut ports = vec![0; file.switches.0.len()];
        for name in file.guests.names() {
            if self.nics_damaged(name) {
                return;
            }
            let nics = self.setting(name, "nics", |guest| guest.nics.as_ref());
            for nic in nics.into_iter().flat_map(|(_, nics)| nics.iter().flatten()) {
                if let Some(switch) = file.switches.position(&nic.switch) {
                    ports[switch] += 1;
                }
            }
        }
        let crowded = file.switches.names().zip(ports).find(|(_, ports)| *ports > 2);
        if let Some((switch, ports)) = crowded {
            let message = "a socket connects two NICs";
            let label = format!("`{switch}` has {ports}");
            self.document
                .value_problem(&join(place.pointer, "link"), message, label)
                .help("use `link: tap`");
        }
    }

    /// The optimizations of a place: what it says, else what the file says, else all; of those, what
    /// its NIC and links can have. To turn on what they cannot have is a misunderstanding.
    fn optimizations(&mut self, place: &Place<'_>, qemu: Option<Qemu>) -> Optimizations {
        let mut on = Optimizations::NONE;
        for which in Optimization::ALL {
            let said = place.toggles.get(which);
            let lacking = qemu.and_then(|qemu| lacks(qemu, which));
            let wanted = said.or(self.file.optimizations.get(which)).unwrap_or(true);
            on = on.with(which, wanted && lacking.is_none());
            if let Some(help) = lacking.filter(|_| said == Some(true)) {
                let pointer = join(&join(place.pointer, "optimizations"), which.name());
                self.cannot_have(&pointer, which, help);
            }
        }
        on
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
