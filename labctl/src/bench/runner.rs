//! Runs a plan's trials in order and gathers them into results.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use vmm_core::kvm::Hypervisor;

use super::trial::{self, Place};
use super::{effects, summary};
use crate::error::{Error, Exit};
use crate::optimizations::Optimizations;
use crate::plan::{Plan, Trial};
use crate::results::{
    self, Counters, Host, Results, SCHEMA_VERSION, Sample, Settings, TrialKind, rfc3339,
};
use crate::topology::{Bench, Lab, TrialSpec};

/// Confidence that all intervals aim at.
const CONFIDENCE: f64 = 0.95;

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
    pub cell: Optimizations,
}

/// Runs `plan` on `lab` until its rounds or its time are over, or until `stop` completes.
///
/// # Errors
/// If the host cannot run the lab. A guest that fails makes its trial void, not the run.
pub async fn run(
    hypervisor: &Hypervisor,
    lab: &Lab,
    bench: &Bench,
    plan: &Plan,
    mut progress: impl FnMut(Progress<'_>),
    stop: impl Future<Output = ()>,
) -> Result<Results, Error> {
    let host = Host::probe();
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
            let Some(spec) = spec_of(bench, trial) else { continue };
            let place = Place { round, order };
            let sample = tokio::select! {
                biased;
                () = &mut stop => { complete = false; break 'rounds; }
                sample = run_one(hypervisor, lab, trial, &spec, place) => sample?,
            };
            order += 1;
            let cell = trial.optimizations;
            progress(Progress { round, done: order as usize, sample: &sample, cell });
            if !warming_up {
                samples[trial.cell].push(sample);
            }
        }
        if !warming_up {
            rounds += 1;
        }
    }

    let cells = plan.cells.iter().zip(samples);
    let cells: Vec<_> = cells.map(|(on, samples)| summary::cell(*on, samples)).collect();
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
        settings: settings(lab, bench, plan, rounds),
        effects: effects::effects(&cells),
        ladder: effects::ladder(&cells),
        cells,
    })
}

/// The trial's section of the file, with the plan's duration.
fn spec_of(bench: &Bench, trial: Trial) -> Option<TrialSpec> {
    let spec = match trial.kind {
        TrialKind::Throughput => bench.throughput.as_ref(),
        TrialKind::Rr => bench.rr.as_ref(),
    };
    spec.map(|spec| TrialSpec { duration: trial.duration, ..spec.clone() })
}

async fn run_one(
    hypervisor: &Hypervisor,
    lab: &Lab,
    trial: Trial,
    spec: &TrialSpec,
    place: Place,
) -> Result<Sample, Error> {
    let cell = Lab { optimizations: trial.optimizations, ..lab.clone() };
    match trial::run(hypervisor, &cell, trial.kind, spec, place).await {
        Err(error) if matches!(error.exit(), Exit::Failed | Exit::Timeout) => {
            tracing::warn!(cell = %trial.optimizations, kind = %trial.kind, "trial failed: {error}");
            Ok(trial::void(trial.kind, place, Vec::new(), Counters::default(), error.to_string()))
        }
        outcome => outcome,
    }
}

fn settings(lab: &Lab, bench: &Bench, plan: &Plan, rounds: u32) -> Settings {
    let spec = bench.throughput.as_ref().or(bench.rr.as_ref());
    let millis = |time: Duration| time.as_millis() as u64;
    Settings {
        frame: spec.map_or(0, |spec| spec.frame.into()),
        ring: spec.map_or(0, |spec| lab.guests[spec.from].ring.into()),
        burst: spec.map_or(0, |spec| spec.burst.into()),
        throughput_ms: millis(plan.timing.throughput),
        rr_ms: millis(plan.timing.rr),
        budget_s: plan.timing.budget.as_secs_f64(),
        rounds,
        warm_up_trials: plan.warm_up().len() as u32,
        confidence: CONFIDENCE,
    }
}
