//! The `bench` section: its trials, its axes, and their limits.

use std::time::Duration;

use super::{
    Axis, AxisKey, AxisValue, Bench, Lab, Pair, Quick, Role, TrialSpec,
    file::{BenchSpec, KindSpec, Matrix, PairSpec},
    index::join,
    resolve::{DEFAULT_BURST, Resolver, default_frame},
    units::Int,
};
use crate::protocol::Protocol;

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
            let pair = self.pair("/bench/throughput", &trial.from, &trial.to);
            let protocol = trial.protocol.unwrap_or_default();
            TrialSpec {
                pair,
                also: self.further_pairs(pair, &trial.also),
                protocol,
                frame: trial.frame.map_or(default_frame(protocol), Int::get),
                burst: trial.burst.map_or(DEFAULT_BURST, Int::get),
                rate: trial.rate.map_or(0, |rate| rate.0),
                duration: trial.duration.map_or(DEFAULT_TRIAL, |time| time.get()),
            }
        });
        let rr = spec.rr.as_ref().map(|trial| TrialSpec {
            pair: self.pair("/bench/rr", &trial.from, &trial.to),
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
            matrix: self.matrix(&spec.matrix),
            cells: self.cells(spec),
            reference: self.reference(spec),
            throughput,
            rr,
            rounds: spec.rounds.map_or(DEFAULT_ROUNDS, Int::get),
            budget: spec.budget.map_or(DEFAULT_BUDGET, |time| time.get()),
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
        let linux = file.guests.names().find(|name| self.kind(name) == Some(KindSpec::Linux));
        if let Some(name) = linux {
            let label = format!("`{name}` runs Linux");
            self.document
                .key_problem("/bench", "only guests of kind `pktguest` can be measured", label)
                .help("leave `bench` out and use `labctl up`");
        }
    }

    /// The two guests of a trial.
    fn pair(&mut self, pointer: &str, from: &str, to: &str) -> Pair {
        let sender = self.find_guest(&join(pointer, "from"), from);
        let receiver = match sender {
            Some(_) => self.peer(&join(pointer, "to"), from, to),
            None => self.find_guest(&join(pointer, "to"), to),
        };
        Pair { from: sender.unwrap_or_default(), to: receiver.unwrap_or_default() }
    }

    /// The pairs of `also`. A guest has one role, so it can be in one pair.
    fn further_pairs(&mut self, first: Pair, specs: &[Option<PairSpec>]) -> Vec<Pair> {
        let mut taken = first.guests().to_vec();
        let mut pairs = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let Some(spec) = spec else { continue };
            let pointer = join("/bench/throughput/also", &index.to_string());
            let pair = self.pair(&pointer, &spec.from, &spec.to);
            for (key, name, guest) in [("from", &spec.from, pair.from), ("to", &spec.to, pair.to)] {
                let known = self.file.guests.position(name) == Some(guest);
                if known && taken.contains(&guest) {
                    let message = format!("`{name}` is in two pairs");
                    self.document.value_problem(&join(&pointer, key), &message, "again here");
                }
            }
            taken.extend(pair.guests());
            pairs.push(pair);
        }
        pairs
    }

    fn matrix(&mut self, matrix: &Matrix) -> Vec<Axis> {
        let axes = [
            self.axis(AxisKey::Itr, &matrix.itr, AxisValue::Toggle),
            self.axis(AxisKey::Sc, &matrix.sc, AxisValue::Toggle),
            self.axis(AxisKey::Csb, &matrix.csb, AxisValue::Toggle),
            self.axis(AxisKey::Vale, &matrix.vale, AxisValue::Toggle),
            self.axis(AxisKey::Policy, &matrix.policy, AxisValue::Policy),
            self.axis(AxisKey::Ring, &matrix.ring, number),
            self.axis(AxisKey::ThroughputFrame, &matrix.throughput_frame, number),
            self.axis(AxisKey::ThroughputBurst, &matrix.throughput_burst, number),
        ];
        axes.into_iter().flatten().collect()
    }

    fn axis<T: Copy>(
        &mut self,
        key: AxisKey,
        items: &Option<Vec<Option<T>>>,
        value: fn(T) -> AxisValue,
    ) -> Option<Axis> {
        let items = items.as_ref()?;
        let pointer = axis_pointer(key);
        if items.is_empty() {
            let message = "an axis needs at least one value";
            self.document.key_problem(&pointer, message, "no values");
        }
        let trial = "/bench/throughput";
        let varies_trial = matches!(key, AxisKey::ThroughputFrame | AxisKey::ThroughputBurst);
        let has_trial = self.document.index().contains(trial) || self.document.is_damaged(trial);
        if varies_trial && !has_trial {
            let message = "varies a trial that is not there";
            self.document
                .key_problem(&pointer, message, "no `bench.throughput`")
                .help("add `throughput` to `bench`, or remove this axis");
        }
        let mut values = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let pointer_to = |i: usize| join(&pointer, &i.to_string());
            let Some(item) = item.map(value) else {
                if !self.document.is_damaged(&pointer_to(i)) {
                    let message = "expected a value";
                    self.document.value_problem(&pointer_to(i), message, "found nothing");
                }
                // Keeps later values at their numbers; the file is refused anyway.
                values.push(AxisValue::Number(0));
                continue;
            };
            if let Some(first) = values.iter().position(|known| *known == item) {
                let first = self.document.index().value(&pointer_to(first));
                self.document
                    .value_problem(&pointer_to(i), "the value is there twice", "again here")
                    .also(first, "first here")
                    .help("every value of an axis makes its own cells");
            }
            values.push(item);
        }
        Some(Axis { key, values })
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
        let Some(trial) = &bench.throughput else {
            return;
        };
        let senders = trial.pairs().filter_map(|pair| lab.guests.get(pair.from));
        let senders = senders.filter_map(|sender| Some((sender, sender.pktguest()?)));
        let Some((sender, pktguest)) = senders.min_by_key(|(_, pktguest)| pktguest.ring) else {
            return;
        };
        for cell in &bench.cells {
            let pointer = join("/bench/cells", &cell.name);
            let ring = match cell.ring {
                Some(ring) => (join(&pointer, "ring"), ring),
                None => self.ring_of(&sender.name, pktguest.ring),
            };
            let own = join(&join(&pointer, "throughput"), "burst");
            let (at, burst) = match cell.throughput_burst {
                Some(burst) => (own, burst),
                None => ("/bench/throughput/burst".to_owned(), trial.burst),
            };
            self.check_burst(&at, burst, &ring);
        }
        if !bench.has_matrix() {
            return;
        }
        let rings = axis_values(bench, AxisKey::Ring);
        let smallest = rings.into_iter().min_by_key(|(_, ring)| *ring);
        let ring = smallest.unwrap_or_else(|| self.ring_of(&sender.name, pktguest.ring));
        let mut bursts = axis_values(bench, AxisKey::ThroughputBurst);
        if bursts.is_empty() {
            bursts.push(("/bench/throughput/burst".to_owned(), trial.burst));
        }
        for (pointer, burst) in bursts {
            self.check_burst(&pointer, burst, &ring);
        }
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

fn number<const MIN: u64, const MAX: u64, const STEP: u64>(
    value: Int<MIN, MAX, STEP>,
) -> AxisValue {
    AxisValue::Number(value.get())
}

fn axis_pointer(key: AxisKey) -> String {
    join("/bench/matrix", key.as_str())
}

/// The numbers an axis takes, with their places; none if there is no such axis.
pub(super) fn axis_values(bench: &Bench, key: AxisKey) -> Vec<(String, u16)> {
    let axis = bench.matrix.iter().find(|axis| axis.key == key);
    let values = axis.into_iter().flat_map(|axis| axis.values.iter().enumerate());
    values
        .filter_map(|(i, value)| match value {
            AxisValue::Number(number) => Some((join(&axis_pointer(key), &i.to_string()), *number)),
            AxisValue::Toggle(_) | AxisValue::Policy(_) => None,
        })
        .collect()
}
