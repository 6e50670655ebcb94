//! Runs a plan's trials in order and gathers them into results.

use std::future::Future;
use std::pin::pin;
use std::time::{Instant, SystemTime};

use vmm_core::kvm::Hypervisor;

use super::trial::{self, Turn};
use super::{assertions, effects, side_by_side, summary};
use crate::error::{Error, Exit};
use crate::lab;
use crate::plan::{Plan, PlannedCell, Trial};
use crate::results::{
    self, Cell, Counters, Host, Results, SCHEMA_VERSION, Sample, TrialKind, rfc3339,
};
use crate::topology::{Lab, TrialSpec};

/// How far a run has got.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The round, from 1; 0 is the warm-up.
    pub round: u32,
    /// Trials done.
    pub done: usize,
    /// The trial that was just finished.
    pub sample: &'a Sample,
    /// Its cell.
    pub cell: &'a PlannedCell,
}

/// Runs `plan` on `lab` until its rounds or its time are over, or until `stop` completes.
///
/// # Errors
/// If the host cannot run the lab, before a round is complete; later that ends the run early. A guest
/// that fails makes its trial void, not the run.
pub async fn run(
    hypervisor: &Hypervisor,
    lab: &Lab,
    plan: &Plan,
    mut progress: impl FnMut(Progress<'_>),
    stop: impl Future<Output = ()>,
) -> Result<Results, Error> {
    let host = Host { qemu: plan.qemu.clone(), ..Host::probe() };
    let started = SystemTime::now();
    let clock = Instant::now();
    let mut stop = pin!(stop);
    let mut samples = vec![Vec::new(); plan.cells.len()];
    let mut rounds = 0;
    let mut order = 0;
    let mut complete = true;

    'rounds: while rounds == 0 || plan.another_round(rounds, clock.elapsed()) {
        let warming_up = order == 0;
        let round = if warming_up { 0 } else { rounds + 1 };
        let trials = if warming_up { plan.warm_up() } else { plan.round(round) };
        for trial in trials {
            let cell = &plan.cells[trial.cell];
            let Some(spec) = spec_of(&cell.lab, trial) else {
                continue;
            };
            let turn = Turn { round, order };
            let sample = tokio::select! {
                biased;
                () = &mut stop => { complete = false; break 'rounds; }
                sample = run_one(hypervisor, &cell.lab, trial.kind, &spec, turn) => sample,
            };
            let sample = match sample {
                Ok(sample) => sample,
                Err(error) if rounds == 0 => return Err(error),
                Err(error) => {
                    // What was measured so far is worth more than a tidy end.
                    tracing::error!("the run ends early: {}", error.in_one_line());
                    complete = false;
                    break 'rounds;
                }
            };
            order += 1;
            progress(Progress { round, done: order as usize, sample: &sample, cell });
            if !warming_up {
                samples[trial.cell].push(sample);
            }
        }
        if !warming_up {
            rounds += 1;
        }
    }

    let settings = plan.settings(lab, rounds);
    let cells = plan.cells.iter().zip(samples);
    let mut cells: Vec<_> = cells
        .map(|(cell, samples)| match &cell.skipped {
            Some(reason) => summary::skipped(cell.id.clone(), reason.clone()),
            None => {
                let ours = cell.lab.qemu.is_none();
                let policy = ours.then(|| lab::policy_of(&cell.lab, hypervisor.kind()));
                Cell { policy, ..summary::cell(cell.id.clone(), samples) }
            }
        })
        .collect();
    if let Some(reference) = &plan.reference {
        side_by_side::compare(&mut cells, reference, &settings);
    }
    Ok(Results {
        schema_version: SCHEMA_VERSION,
        vmm: "labctl".to_owned(),
        lab: results::Lab {
            name: lab.name.clone(),
            file: lab.path.display().to_string(),
            size: std::fs::metadata(&lab.path).ok().map(|file| file.len()),
        },
        host,
        seed: plan.seed,
        started: rfc3339(started),
        duration_s: clock.elapsed().as_secs_f64(),
        complete,
        settings,
        effects: effects::effects(&cells),
        ladder: match &plan.ladder[..] {
            [] => effects::ladder(&cells),
            steps => effects::steps(&cells, steps),
        },
        assertions: assertions::judge(&plan.assertions, &cells),
        cells,
        reference: plan.reference.clone(),
    })
}

/// The trial's section of the file, with the plan's duration.
fn spec_of(lab: &Lab, trial: Trial) -> Option<TrialSpec> {
    let spec = lab.bench.as_ref()?.trial(trial.kind);
    spec.map(|spec| TrialSpec { duration: trial.duration, ..spec.clone() })
}

async fn run_one(
    hypervisor: &Hypervisor,
    lab: &Lab,
    kind: TrialKind,
    spec: &TrialSpec,
    turn: Turn,
) -> Result<Sample, Error> {
    match trial::run(hypervisor, lab, kind, spec, turn).await {
        Err(error) if matches!(error.exit(), Exit::Failed | Exit::Timeout) => {
            tracing::warn!(on = %lab.platform(), %kind, "trial failed: {error}");
            Ok(trial::void(kind, turn, Vec::new(), Counters::default(), error.to_string()))
        }
        outcome => outcome,
    }
}
