//! From a lab's experiment to an ordered list of trials.
//!
//! Trials run in rounds. A round tries every cell once for throughput and once for latency, in an
//! order shuffled anew for each round, so that whatever drifts on the host hits all cells alike.
//! Rounds repeat until there are enough of them or the time budget is used up.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::platform::{Link, NicModel, Platform, Vmm};
use crate::policy;
use crate::results::{CONFIDENCE, CellId, Settings, TrialKind, TrialSettings};
use crate::topology::{Assertion, Bench, Cell, Guest, Lab, TrialSpec};

/// What a trial of `lab` costs besides its duration: booting the guests and taking them down. Guests
/// boot at the same time, as far as there are CPUs for them. Measured on two of an AMD EPYC with
/// page-table KVM, 2 to 32 guests. Only the forecast rests on it; the run itself goes by the time that
/// rounds really took.
fn overhead(lab: &Lab, cpus: usize) -> Duration {
    let Platform { vmm, nic, link } = lab.platform();
    let (once, a_guest) = match (vmm, nic, link) {
        (Vmm::Labctl, _, Link::Vale) => (60, 100),
        (Vmm::Labctl, ..) => (60, 120),
        // Its NIC lets us wait: see `lab::qemu`.
        (Vmm::Qemu, NicModel::E1000, _) => (1000, 400),
        (Vmm::Qemu, NicModel::VirtioNet, _) => (0, 400),
    };
    let turns = (lab.guests.len() as f64 / cpus.max(1) as f64).max(1.0);
    Duration::from_millis(once) + Duration::from_millis(a_guest).mul_f64(turns)
}

/// One cell of the experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedCell {
    /// What tells it from the others.
    pub id: CellId,
    /// The lab with all that applied, its `bench` included.
    pub lab: Lab,
    /// The kinds of trial it gets, and how long they take.
    pub trials: Vec<(TrialKind, Duration)>,
    /// Why it is not to be measured on this host, if so.
    pub skipped: Option<String>,
}

/// One trial to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Index into [`Plan::cells`].
    pub cell: usize,
    /// What to measure.
    pub kind: TrialKind,
    /// How long.
    pub duration: Duration,
}

/// All trials of a run, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Decides the order of trials.
    pub seed: u64,
    /// The cells, in table order.
    pub cells: Vec<PlannedCell>,
    /// Name of the cell that those with names are compared with.
    pub reference: Option<String>,
    /// Version of the QEMU that runs some of them.
    pub qemu: Option<String>,
    /// The labels of the ladder's steps, and their cells; empty if the file has none.
    pub ladder: Vec<(String, usize)>,
    /// What the results must fulfil.
    pub assertions: Vec<Assertion>,
    /// Whether trials are as short as `--quick` says.
    pub quick: Option<Duration>,
    /// CPUs that guests can boot on.
    pub cpus: usize,
    /// Rounds to run, if time permits.
    pub rounds: u32,
    /// No round but the first is begun that would probably end later than this after the start.
    pub budget: Duration,
}

impl Plan {
    /// The plan for an experiment.
    pub fn new(bench: &Bench, quick: bool, seed: u64) -> Plan {
        let (rounds, budget) = match quick {
            true => (bench.quick.rounds, bench.quick.budget),
            false => (bench.rounds, bench.budget),
        };
        let quick = quick.then_some(bench.quick.duration);
        Plan {
            seed,
            cells: bench.cells.iter().map(|cell| planned(cell, quick)).collect(),
            reference: bench.reference.clone(),
            qemu: None,
            ladder: bench.ladder.iter().map(|step| (step.label.clone(), step.cell)).collect(),
            assertions: bench.assertions.clone(),
            quick,
            cpus: policy::cpus(),
            rounds,
            budget,
        }
    }

    /// Whether QEMU is to run any cell.
    pub fn wants_qemu(&self) -> bool {
        self.cells.iter().any(|cell| cell.id.platform.vmm == Vmm::Qemu)
    }

    /// Notes the version of the QEMU that is there, or why its cells have to be left out.
    pub fn with_qemu(mut self, found: Result<String, String>) -> Plan {
        match found {
            Ok(version) => self.qemu = Some(version),
            Err(reason) => {
                let theirs = self.cells.iter_mut().filter(|c| c.id.platform.vmm == Vmm::Qemu);
                theirs.for_each(|cell| cell.skipped = Some(reason.clone()));
            }
        }
        self
    }

    /// Trials to run first and forget. The two extreme cells between them touch everything that a
    /// host loads, allocates or clocks up on first use.
    pub fn warm_up(&self) -> Vec<Trial> {
        let mut measured =
            (0..).zip(&self.cells).filter(|(_, c)| c.skipped.is_none()).map(|(cell, _)| cell);
        let first = measured.next();
        self.trials_of(first.into_iter().chain(measured.last()))
    }

    /// The trials of a round, counted from 1: the same for the same seed and round, whatever ran
    /// before.
    pub fn round(&self, round: u32) -> Vec<Trial> {
        let mut trials = self.trials_of(0..self.cells.len());
        let mut rng = SmallRng::seed_from_u64(self.seed.wrapping_add(u64::from(round)));
        trials.shuffle(&mut rng);
        trials
    }

    /// Is there to be one more round? `elapsed` counts from the start, warm-up included.
    pub fn another_round(&self, done: u32, elapsed: Duration) -> bool {
        // Counting the warm-up into the mean makes the forecast a little cautious.
        done < self.rounds && (done == 0 || elapsed + elapsed / done <= self.budget)
    }

    /// Rounds that fit the budget if trials cost what they usually do.
    pub fn expected_rounds(&self) -> u32 {
        let mut rounds = 0;
        while self.another_round(rounds, self.time_of_rounds(rounds)) {
            rounds += 1;
        }
        rounds
    }

    /// Trials in [`expected_rounds`](Self::expected_rounds) and the warm-up.
    pub fn expected_trials(&self) -> usize {
        self.warm_up().len() + self.round(1).len() * self.expected_rounds() as usize
    }

    /// Wall-clock time those trials usually take.
    pub fn expected_duration(&self) -> Duration {
        self.time_of_rounds(self.expected_rounds())
    }

    /// Trials of one cell in [`expected_rounds`](Self::expected_rounds) and the warm-up, and the time
    /// they usually take.
    pub fn expected_of(&self, cell: usize) -> (usize, Duration) {
        let rounds = self.expected_rounds() as usize;
        let in_warm_up = self.warm_up().iter().filter(|trial| trial.cell == cell).count();
        let trials = self.trials_of([cell]);
        let times = rounds + in_warm_up.div_ceil(trials.len().max(1));
        (times * trials.len(), self.cost(&trials) * times as u32)
    }

    /// What the result document is to say of this plan; `lab` is the one it was made for.
    pub fn settings(&self, lab: &Lab, rounds_done: u32) -> Settings {
        let guest = |index: usize| lab.guests.get(index);
        let name = |index| guest(index).map_or_else(String::new, |guest| guest.name.clone());
        let spec = |kind| lab.bench.as_ref()?.trial(kind);
        let trial = |kind| -> Option<TrialSettings> {
            let spec = spec(kind)?;
            let &TrialSpec { pair, protocol, frame, burst, rate, duration, .. } = spec;
            let duration_ms = self.quick.unwrap_or(duration).as_millis() as u64;
            let (from, to, pairs) = (name(pair.from), name(pair.to), spec.pairs().count());
            Some(TrialSettings { from, to, pairs, protocol, frame, burst, rate, duration_ms })
        };
        let sender =
            TrialKind::ALL.into_iter().find_map(spec).and_then(|spec| guest(spec.pair.from));
        Settings {
            ring: sender.and_then(Guest::pktguest).map_or(0, |guest| guest.ring),
            throughput: trial(TrialKind::Throughput),
            rr: trial(TrialKind::Rr),
            budget_s: self.budget.as_secs_f64(),
            rounds: rounds_done,
            warm_up_trials: self.warm_up().len(),
            confidence: CONFIDENCE,
        }
    }

    fn time_of_rounds(&self, rounds: u32) -> Duration {
        self.cost(&self.warm_up()) + self.cost(&self.round(1)) * rounds
    }

    fn cost(&self, trials: &[Trial]) -> Duration {
        trials
            .iter()
            .map(|trial| trial.duration + overhead(&self.cells[trial.cell].lab, self.cpus))
            .sum()
    }

    fn trials_of(&self, cells: impl IntoIterator<Item = usize>) -> Vec<Trial> {
        let of_cell = |cell: usize| {
            let planned = &self.cells[cell];
            let trials = planned.trials.iter().filter(|_| planned.skipped.is_none());
            trials.map(move |&(kind, duration)| Trial { cell, kind, duration })
        };
        cells.into_iter().flat_map(of_cell).collect()
    }
}

fn planned(cell: &Cell, quick: Option<Duration>) -> PlannedCell {
    let trial = |kind| Some((kind, quick.unwrap_or(cell.trial(kind)?.duration)));
    let trials = TrialKind::ALL.into_iter();
    let trials = trials.filter(|kind| cell.trial(*kind).is_some()).filter_map(trial);
    let (id, lab, trials) = (cell.id.clone(), cell.lab.clone(), trials.collect());
    PlannedCell { id, lab, trials, skipped: None }
}

/// A seed nobody chose, short enough to type again and exact in every JSON reader.
pub fn random_seed() -> u64 {
    u64::from(SmallRng::from_os_rng().random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Choice;
    use crate::results::{Results, Setting};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    const SECOND: Duration = Duration::from_secs(1);

    const PAIR: &str = "
name: pair
switches: { sw0: {} }
defaults: { nics: [{ switch: sw0 }] }
guests: { left: {}, right: {} }
bench:
  throughput: { from: left, to: right, frame: 60, duration: 500ms }
  rounds: 10
  budget: 200s
  quick: { rounds: 6, duration: 60ms, budget: 40s }
";

    const TOGGLES: &str = "
    optimizations.itr: [false, true]
    optimizations.sc: [false, true]
    optimizations.csb: [false, true]
    optimizations.vale: [false, true]
";

    /// The pair with more lines in its `bench`.
    fn lab(bench: &str) -> Lab {
        Lab::parse(Path::new("pair.lab.yaml"), &(PAIR.to_owned() + bench)).unwrap()
    }

    fn plan(bench: &str, quick: bool, seed: u64) -> Plan {
        let lab = lab(bench);
        Plan::new(lab.bench.as_ref().unwrap(), quick, seed)
    }

    fn full(quick: bool) -> Plan {
        let rr = "  rr: { from: left, to: right, duration: 400ms }\n  matrix:";
        plan(&(rr.to_owned() + TOGGLES), quick, 42)
    }

    #[test]
    fn the_full_matrix_has_16_cells_in_table_order() {
        let cells = full(false).cells;
        let indices: Vec<_> = cells.iter().map(|c| c.id.optimizations.index()).collect();
        assert_eq!(indices, (0..16).collect::<Vec<_>>());
        assert!(cells[9].lab.optimizations.itr && cells[9].lab.optimizations.vale);
    }

    #[test]
    fn numbers_become_parameters_and_reach_the_lab() {
        let matrix =
            "  matrix: { ring: [256, 80], throughput.frame: [1514], optimizations.sc: [true] }";
        let plan = plan(matrix, false, 1);
        assert_eq!(plan.cells.len(), 2);
        let cell = &plan.cells[0];
        assert!(cell.id.optimizations.sc);
        assert_eq!(
            (&cell.id.parameters["ring"], &cell.id.parameters["throughput.frame"]),
            (&Setting::Number(80), &Setting::Number(1514))
        );
        assert_eq!(cell.lab.guests[0].pktguest().unwrap().ring, 80);
        let bench = cell.lab.bench.as_ref().unwrap();
        assert_eq!(bench.throughput.as_ref().unwrap().frame, 1514);
    }

    #[test]
    fn policies_become_parameters_and_reach_the_lab() {
        let matrix = "  matrix: { policy: [auto, poller] }\n  cells: { own: { policy: thread } }";
        let cells = plan(matrix, false, 1).cells;
        let names: Vec<_> = cells.iter().map(|cell| cell.id.to_string()).collect();
        let on = "itr+sc+csb+vale";
        assert_eq!(
            names,
            [format!("{on}, policy auto"), format!("{on}, policy poller"), "own".into()]
        );
        let chosen: Vec<_> = cells.iter().map(|cell| cell.lab.policy).collect();
        assert_eq!(chosen, [Choice::Auto, Choice::Poller, Choice::Thread]);
        assert_eq!(cells[2].id.parameters["policy"], Setting::Text("thread".into()));
    }

    #[test]
    fn without_a_matrix_there_is_one_cell_and_one_warm_up_of_it() {
        let plan = plan("", false, 1);
        assert_eq!((plan.cells.len(), plan.warm_up().len(), plan.round(1).len()), (1, 1, 1));
        assert_eq!(plan.expected_trials(), 11);
    }

    #[test]
    fn the_forecast_counts_booting() {
        let default = Plan { cpus: 2, ..full(false) };
        assert_eq!(default.expected_rounds(), 9);
        // The warm-up and 9 rounds of 8 cells with VALE and 8 with TAPs: 160 ms or 180 ms a trial.
        let round = 8 * (2 * 500 + 2 * 400 + 2 * 160 + 2 * 180);
        let warm_up = round / 8;
        assert_eq!(default.expected_duration(), Duration::from_millis(warm_up + 9 * round));
        let quick = Plan { cpus: 2, ..full(true) };
        assert_eq!(quick.expected_rounds(), 5);
        assert_eq!(quick.expected_trials(), 4 + 5 * 32);
    }

    #[test]
    fn guests_that_share_a_cpu_boot_one_after_the_other() {
        let lab = lab("");
        let ms = |cpus| overhead(&lab, cpus).as_millis();
        assert_eq!([ms(1), ms(2), ms(64)], [260, 160, 160]);
    }

    #[test]
    fn a_slow_host_gets_fewer_rounds_but_one_in_any_case() {
        let plan = full(true);
        assert!(plan.another_round(3, 30 * SECOND));
        assert!(!plan.another_round(3, 31 * SECOND));
        assert!(plan.another_round(0, 100 * SECOND));
        assert!(!plan.another_round(6, SECOND));
    }

    #[test]
    fn the_settings_name_guests_and_the_lengths_in_use() {
        let rr = "  rr: { from: right, to: left, duration: 400ms }\n";
        let settings = plan(rr, true, 1).settings(&lab(rr), 5);
        let (load, rr) = (settings.throughput.unwrap(), settings.rr.unwrap());
        assert_eq!((load.from.as_str(), load.frame, load.duration_ms), ("left", 60, 60));
        assert_eq!((rr.from.as_str(), rr.duration_ms), ("right", 60));
        assert_eq!((settings.ring, settings.rounds, settings.warm_up_trials), (1024, 5, 2));
    }

    const NAMED: &str = "
  rr: { from: left, to: right, duration: 400ms }
  reference: theirs
  cells:
    ours: { ring: 80, throughput: { frame: 1514 } }
    theirs: { vmm: qemu }
    theirs-rr: { vmm: qemu, nic: virtio-net, link: socket, spin: 0, only: rr }
";

    #[test]
    fn cells_of_their_own_follow_those_of_the_matrix() {
        let alone = plan(NAMED, false, 1);
        let names: Vec<_> = alone.cells.iter().map(|cell| cell.id.to_string()).collect();
        assert_eq!(names, ["ours", "theirs", "theirs-rr"], "there is no matrix");
        let matrix = NAMED.to_owned() + "  matrix: { optimizations.csb: [false, true] }";
        let both = plan(&matrix, false, 1);
        let names: Vec<_> = both.cells.iter().map(|cell| cell.id.to_string()).collect();
        assert_eq!(names[..3], ["itr+sc+vale", "itr+sc+csb+vale", "ours"]);
        assert_eq!(both.reference.as_deref(), Some("theirs"));
    }

    #[test]
    fn a_cell_of_its_own_is_the_lab_with_its_changes() {
        let cells = plan(NAMED, false, 1).cells;
        let ours = &cells[0];
        assert_eq!(ours.id.platform.to_string(), "labctl e1000 vale");
        assert_eq!(
            (&ours.id.parameters["ring"], &ours.id.parameters["throughput.frame"]),
            (&Setting::Number(80), &Setting::Number(1514))
        );
        let bench = ours.lab.bench.as_ref().unwrap();
        assert_eq!(bench.throughput.as_ref().unwrap().frame, 1514);
        assert_eq!(bench.rr.as_ref().unwrap().frame, 60);
        assert_eq!(ours.lab.guests[1].pktguest().unwrap().ring, 80);
        let theirs = &cells[1];
        assert_eq!(theirs.id.platform.to_string(), "qemu e1000 tap");
        assert_eq!(theirs.id.optimizations.to_string(), "itr+sc", "what QEMU's e1000 can have");
        assert_eq!(cells[2].id.platform.to_string(), "qemu virtio-net socket");
        assert_eq!(cells[2].id.optimizations, Default::default());
        assert_eq!(cells[2].lab.guests[0].pktguest().unwrap().spin_us, 0);
    }

    #[test]
    fn the_reference_results_are_of_the_same_cells() {
        for name in ["paper-pair", "peers"] {
            let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let lab = Lab::load(&here.join(format!("topologies/{name}.lab.yaml"))).unwrap();
            let results = Results::read(&here.join(format!("results/{name}.json"))).unwrap();
            let measured: Vec<_> = results.cells.into_iter().map(|cell| cell.id).collect();
            let planned = Plan::new(lab.bench.as_ref().unwrap(), false, 1).cells;
            let planned: Vec<_> = planned.into_iter().map(|cell| cell.id).collect();
            assert_eq!(planned, measured, "{name}");
        }
    }

    #[test]
    fn a_cell_may_want_one_kind_of_trial() {
        let trials = plan(NAMED, false, 1).round(1);
        let kinds = |cell| trials.iter().filter(|trial| trial.cell == cell).count();
        assert_eq!([0, 1, 2].map(kinds), [2, 2, 1]);
    }

    #[test]
    fn without_qemu_its_cells_are_skipped_and_the_others_are_not() {
        let there = plan(NAMED, false, 1).with_qemu(Ok("7.2".into()));
        assert!(there.wants_qemu() && there.cells.iter().all(|cell| cell.skipped.is_none()));
        assert_eq!(there.qemu.as_deref(), Some("7.2"));
        let missing = plan(NAMED, false, 1).with_qemu(Err("no QEMU".into()));
        assert_eq!(missing.cells[1].skipped.as_deref(), Some("no QEMU"));
        assert!(missing.round(1).iter().chain(&missing.warm_up()).all(|trial| trial.cell == 0));
        assert!(missing.expected_duration() < there.expected_duration());
    }

    #[test]
    fn rounds_differ_in_order() {
        let plan = full(false);
        assert_ne!(plan.round(1), plan.round(2));
        assert_ne!(plan.round(1), Plan { seed: 1000, ..plan.clone() }.round(1));
        assert_eq!(plan.round(3), plan.clone().round(3));
    }

    #[test]
    fn no_cell_is_favoured_by_its_place_in_the_round() {
        // Mean position of each of 32 trials over 1000 rounds: 15.5, standard error 0.29.
        let plan = full(false);
        let mut sums = [0; 32];
        for round in 1..=1000 {
            for (position, trial) in plan.round(round).iter().enumerate() {
                sums[trial.cell * 2 + usize::from(trial.kind == TrialKind::Rr)] += position;
            }
        }
        for sum in sums {
            assert!((14_000..17_000).contains(&sum), "{sums:?}");
        }
    }

    proptest! {
        #[test]
        fn every_round_tries_each_cell_once_per_kind(seed: u64, round in 1..u32::MAX) {
            let trials = Plan { seed, ..full(true) }.round(round);
            let distinct: BTreeSet<_> = trials.iter().map(|t| (t.cell, t.kind)).collect();
            prop_assert_eq!((trials.len(), distinct.len()), (32, 32));
        }
    }
}
