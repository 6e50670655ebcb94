//! The `bench` section: its trials and their limits. Its cells are made in `cells.rs`.

use std::time::Duration;

use crate::protocol::Protocol;
use crate::topology::{
    Axis, Bench, Lab, Pair, Quick, Role, TrialSpec,
    experiment::drafts::setting,
    file::{BenchSpec, KindSpec, Scalar, ThroughputSpec},
    resolve::{DEFAULT_BURST, Resolver, default_frame},
    text::index::join,
};
use crate::units::Int;

const DEFAULT_TRIAL: Duration = Duration::from_millis(500);
const DEFAULT_ROUNDS: u32 = 6;
const DEFAULT_BUDGET: Duration = Duration::from_secs(230);
const QUICK_TRIAL: Duration = Duration::from_millis(100);
const QUICK_ROUNDS: u32 = 2;
const QUICK_BUDGET: Duration = Duration::from_secs(40);

impl Resolver<'_> {
    /// Resolves the experiment.
    pub fn bench(&mut self, spec: &BenchSpec) -> Bench {
        self.check_guests_can_be_measured();
        let throughput = spec.throughput.as_ref().map(|trial| {
            let pair = self.pair("/bench/throughput", trial.from.as_deref(), trial.to.as_deref());
            self.check_pairs(trial);
            let protocol = trial.protocol.unwrap_or_default();
            TrialSpec {
                pair,
                also: self.further_pairs(trial),
                protocol,
                frame: trial.frame.map_or(default_frame(protocol), Int::get),
                burst: trial.burst.map_or(DEFAULT_BURST, Int::get),
                rate: trial.rate.map_or(0, |rate| rate.0),
                duration: trial.duration.map_or(DEFAULT_TRIAL, |time| time.get()),
            }
        });
        let rr = spec.rr.as_ref().map(|trial| TrialSpec {
            pair: self.pair("/bench/rr", trial.from.as_deref(), trial.to.as_deref()),
            also: Vec::new(),
            protocol: Protocol::Raw,
            frame: trial.frame.map_or(default_frame(Protocol::Raw), Int::get),
            burst: 1,
            rate: 0,
            duration: trial.duration.map_or(DEFAULT_TRIAL, |time| time.get()),
        });
        let lost = |key| self.document.is_damaged(&join("/bench", key));
        if throughput.is_none() && rr.is_none() && !lost("throughput") && !lost("rr") {
            self.document
                .key_problem("/bench", "nothing to measure", "needs `throughput`, `rr` or both")
                .help("for instance `throughput: { from: left, to: right }`");
        }
        Bench {
            matrix: spec.matrix.0.iter().map(axis).collect(),
            cells: Vec::new(),
            ladder: Vec::new(),
            reference: None,
            throughput,
            rr,
            rounds: spec.rounds.map_or(DEFAULT_ROUNDS, Int::get),
            budget: spec.budget.map_or(DEFAULT_BUDGET, |time| time.get()),
            seed: spec.seed.map(Int::get),
            assertions: Vec::new(),
            quick: Quick {
                rounds: spec.quick.rounds.map_or(QUICK_ROUNDS, Int::get),
                budget: spec.quick.budget.map_or(QUICK_BUDGET, |time| time.get()),
                duration: spec.quick.duration.map_or(QUICK_TRIAL, |time| time.get()),
            },
        }
    }

    /// A trial boots its guests anew and reads their reports, and only pktguest makes any.
    fn check_guests_can_be_measured(&mut self) {
        let file = self.file;
        let mut kinds = file.guests.names().filter_map(|name| Some((name, self.kind(name)?)));
        let other = kinds.find(|(_, kind)| *kind != KindSpec::Pktguest);
        if let Some((name, kind)) = other {
            let label = format!("`{name}` is of kind `{}`", kind.as_str());
            self.document
                .key_problem("/bench", "only guests of kind `pktguest` can be measured", label)
                .help("leave `bench` out and use `labctl up`");
        }
    }

    /// The two guests of a trial.
    fn pair(&mut self, pointer: &str, from: Option<&str>, to: Option<&str>) -> Pair {
        for (key, _) in [("from", from), ("to", to)].iter().filter(|(_, name)| name.is_none()) {
            self.document.missing_key(pointer, key);
        }
        let sender = from.and_then(|from| self.find_guest(&join(pointer, "from"), from));
        let to_at = join(pointer, "to");
        let receiver = to.and_then(|to| match from.filter(|_| sender.is_some()) {
            Some(from) => self.peer(&to_at, from, to),
            None => self.find_guest(&to_at, to),
        });
        Pair { from: sender.unwrap_or_default(), to: receiver.unwrap_or_default() }
    }

    /// The pairs of `also`. A guest has one role, so it can be in one pair.
    fn further_pairs(&mut self, trial: &ThroughputSpec) -> Vec<Pair> {
        let mut taken: Vec<_> = [&trial.from, &trial.to].into_iter().flatten().collect();
        let mut pairs = Vec::new();
        for (index, spec) in trial.also.iter().enumerate() {
            let Some(spec) = spec else { continue };
            let pointer = join("/bench/throughput/also", &index.to_string());
            let pair = self.pair(&pointer, spec.from.as_deref(), spec.to.as_deref());
            let ends = [("from", &spec.from), ("to", &spec.to)];
            let ends = ends.into_iter().filter_map(|(key, name)| Some((key, name.as_ref()?)));
            let known = |name: &String| self.file.guests.position(name).is_some();
            for (key, name) in ends.clone().filter(|(_, name)| known(name) && taken.contains(name))
            {
                let message = format!("`{name}` is in two pairs");
                self.document.value_problem(&join(&pointer, key), &message, "again here");
            }
            taken.extend(ends.map(|(_, name)| name));
            pairs.push(pair);
        }
        pairs
    }

    /// Whether the guests of the throughput trial are all there: others stand for those that are not.
    pub fn are_pairs_known(&self) -> bool {
        let trial = self.file.bench.as_ref().and_then(|bench| bench.throughput.as_ref());
        let Some(trial) = trial else { return false };
        let also = trial.also.iter().flatten().flat_map(|pair| [&pair.from, &pair.to]);
        let mut names = [&trial.from, &trial.to].into_iter().chain(also);
        names
            .all(|name| name.as_ref().is_some_and(|name| self.file.guests.position(name).is_some()))
    }

    fn check_pairs(&mut self, trial: &ThroughputSpec) {
        let there = 1 + trial.also.len();
        let Some(pairs) = trial.pairs.map(Int::get::<usize>) else { return };
        if pairs > there && !self.document.is_lost("/bench/throughput/also") {
            let message = format!("`bench.throughput` has fewer than {pairs} pairs");
            self.document
                .value_problem(
                    "/bench/throughput/pairs",
                    &message,
                    format!("expected at most {there}"),
                )
                .help("list further pairs in `also` of `bench.throughput`");
        }
    }

    /// A driver cannot be handed more frames at once than its ring holds.
    pub fn check_bursts(&mut self, lab: &Lab) {
        for guest in &lab.guests {
            let Some(pktguest) = guest.pktguest() else { continue };
            let ring = self.ring_of(&guest.name, pktguest.ring);
            let workload = self.setting(&guest.name, "workload", |guest| guest.workload.as_ref());
            let (Some((pointer, _)), Role::Tx { .. }) = (workload, pktguest.workload.role) else {
                continue;
            };
            self.check_burst(&join(&pointer, "burst"), pktguest.workload.burst, &ring);
        }
        let Some(bench) = &lab.bench else { return };
        let Some(trial) = bench.throughput.as_ref().filter(|_| self.are_pairs_known()) else {
            return;
        };
        let senders = trial.pairs().filter_map(|pair| lab.guests.get(pair.from));
        let senders = senders.filter_map(|sender| Some((sender, sender.pktguest()?)));
        let Some((sender, pktguest)) = senders.min_by_key(|(_, pktguest)| pktguest.ring) else {
            return;
        };
        let ring = self.ring_of(&sender.name, pktguest.ring);
        self.check_burst("/bench/throughput/burst", trial.burst, &ring);
    }

    fn ring_of(&self, guest: &str, ring: u16) -> (String, u16) {
        let setting = self.setting(guest, "ring", |guest| guest.ring.as_ref());
        (setting.map_or_else(String::new, |(pointer, _)| pointer), ring)
    }

    fn check_burst(&mut self, pointer: &str, burst: u16, (ring_at, ring): &(String, u16)) {
        // A ring of 0 stands for one already reported.
        if burst <= *ring || *ring == 0 {
            return;
        }
        let ring_at = self.document.index().value(ring_at);
        let message = format!("a burst of {burst} does not fit a ring of {ring}");
        self.document
            .value_problem(pointer, &message, format!("expected at most {ring}"))
            .also(ring_at, "the ring");
    }
}

fn axis((key, values): &(String, Vec<Option<Scalar>>)) -> Axis {
    let values = values.iter().flatten().map(|Scalar(value)| setting(value));
    Axis { key: key.clone(), values: values.collect() }
}
