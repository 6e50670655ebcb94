//! What each optimization changes: the 2^k factorial analysis of a run, and the paper's ladder.
//!
//! Effects multiply (an optimization that halves the cost of a packet does so whatever the rest
//! costs), so they are averaged on logarithms and reported as ratios (R. Jain, "The Art of
//! Computer Systems Performance Analysis", 1991, chapters 17 and 18).

use super::stats;
use crate::results::{
    Cell, Effect, Estimate, Optimization, Optimizations, Parameters, Ratio, Rung,
};

type Metric = fn(&Cell) -> Option<Estimate>;

fn throughput(cell: &Cell) -> Option<Estimate> {
    cell.metrics.throughput_mpps
}

fn rr(cell: &Cell) -> Option<Estimate> {
    cell.metrics.rr_us.map(|rr| rr.estimate())
}

/// Main effects of all optimizations that were switched, in ladder order, then the interactions
/// of all pairs of them, strongest throughput interaction first. An effect whose cells are not
/// all there has no figures. If other parameters were varied too, each setting has its own.
pub fn effects(cells: &[Cell]) -> Vec<Effect> {
    runs(cells).iter().flat_map(Run::effects).collect()
}

/// The paper's ladder, from none to all four, of an experiment that measured two of its rungs or
/// more. Those that were not measured have no figures. If other parameters were varied too, each
/// setting has its own ladder.
pub fn ladder(cells: &[Cell]) -> Vec<Rung> {
    runs(cells).iter().flat_map(Run::ladder).collect()
}

/// The lab file's ladder: the labels of its steps, and the cells they are.
pub fn steps(cells: &[Cell], steps: &[(String, usize)]) -> Vec<Rung> {
    let cells: Vec<_> =
        steps.iter().filter_map(|(label, cell)| Some((label, cells.get(*cell)?))).collect();
    let change = |from: &Cell, to: &Cell| stats::change(throughput(from)?, throughput(to)?);
    let rung = |(number, (label, cell)): (usize, &(&String, &Cell))| {
        let before = number.checked_sub(1).map(|before| cells[before].1);
        Rung {
            step: (*label).clone(),
            cell: cell.id.name.clone(),
            optimizations: cell.id.optimizations,
            parameters: Parameters::new(),
            throughput_mpps: throughput(cell),
            rr_us: cell.metrics.rr_us,
            to_previous: before.and_then(|before| change(before, cell)),
            to_first: before.and_then(|_| change(cells[0].1, cell)),
        }
    };
    cells.iter().enumerate().map(rung).collect()
}

/// One factorial experiment for each setting of the other parameters, in order of appearance. Cells
/// with names belong to none.
fn runs(cells: &[Cell]) -> Vec<Run<'_>> {
    let mut settings: Vec<&Parameters> = vec![];
    for cell in cells.iter().filter(|cell| cell.is_factorial()) {
        if !settings.contains(&&cell.id.parameters) {
            settings.push(&cell.id.parameters);
        }
    }
    settings.into_iter().map(|parameters| Run::new(cells, parameters)).collect()
}

/// The cells of a factorial experiment, addressed by combination.
struct Run<'a> {
    cells: Vec<&'a Cell>,
    parameters: &'a Parameters,
    /// The optimizations that are on in some cells and off in others.
    varied: Vec<Optimization>,
}

impl<'a> Run<'a> {
    fn new(cells: &'a [Cell], parameters: &'a Parameters) -> Run<'a> {
        let cells: Vec<_> =
            cells.iter().filter(|c| c.is_factorial() && c.id.parameters == *parameters).collect();
        let takes = |which, on| cells.iter().any(|c| c.id.optimizations.get(which) == on);
        let varied = Optimization::ALL
            .into_iter()
            .filter(|&which| takes(which, true) && takes(which, false))
            .collect();
        Run { cells, parameters, varied }
    }

    fn effects(&self) -> Vec<Effect> {
        let effect = |of: &[Optimization]| Effect {
            of: of.to_vec(),
            parameters: self.parameters.clone(),
            throughput: self.contrast(of, throughput),
            rr: self.contrast(of, rr),
            alone: None,
            last: None,
        };
        let main = |&which: &Optimization| Effect {
            alone: self.switching(which, self.set_varied(|_| false)),
            last: self.switching(which, self.set_varied(|_| true)),
            ..effect(&[which])
        };
        let strength = |e: &Effect| e.throughput.map_or(-1.0, |r| r.ratio.ln().abs());
        let mut interactions: Vec<_> = self.pairs().map(|pair| effect(&pair)).collect();
        interactions.sort_by(|a, b| strength(b).total_cmp(&strength(a)));
        self.varied.iter().map(main).chain(interactions).collect()
    }

    fn ladder(&self) -> Vec<Rung> {
        let is_measured = |rung: &&Rung| rung.throughput_mpps.is_some() || rung.rr_us.is_some();
        let rungs = self.rungs();
        if rungs.iter().filter(is_measured).count() < 2 { vec![] } else { rungs }
    }

    fn rungs(&self) -> Vec<Rung> {
        let mut rungs = vec![self.rung("none".to_owned(), Optimizations::NONE, None)];
        let mut below = Optimizations::NONE;
        for which in Optimization::ALL {
            let on = below.with(which, true);
            rungs.push(self.rung(format!("+{which}"), on, Some(below)));
            below = on;
        }
        rungs
    }

    fn rung(&self, step: String, on: Optimizations, below: Option<Optimizations>) -> Rung {
        let change = |from| self.change(from, on);
        Rung {
            step,
            cell: None,
            optimizations: on,
            parameters: self.parameters.clone(),
            throughput_mpps: self.get(on, throughput),
            rr_us: self.cell(on).and_then(|cell| cell.metrics.rr_us),
            to_previous: below.and_then(change),
            to_first: below.and_then(|_| change(Optimizations::NONE)),
        }
    }

    fn cell(&self, optimizations: Optimizations) -> Option<&'a Cell> {
        self.cells.iter().copied().find(|c| c.id.optimizations == optimizations)
    }

    fn get(&self, optimizations: Optimizations, metric: Metric) -> Option<Estimate> {
        self.cell(optimizations).and_then(metric)
    }

    fn pairs(&self) -> impl Iterator<Item = [Optimization; 2]> {
        self.varied
            .iter()
            .enumerate()
            .flat_map(|(i, &a)| self.varied[i + 1..].iter().map(move |&b| [a, b]))
    }

    /// Effect (one optimization) or interaction (two): cells count upwards or downwards by the
    /// product of their signs, and the mean runs over all settings of the other optimizations.
    fn contrast(&self, of: &[Optimization], metric: Metric) -> Option<Ratio> {
        let corners: Vec<_> = self.corners().collect();
        let settings_of_the_rest = (corners.len() >> of.len()) as f64;
        let terms: Option<Vec<_>> = corners
            .into_iter()
            .map(|corner| {
                let off = of.iter().filter(|&&which| !corner.get(which)).count();
                let sign = if off % 2 == 0 { 1.0 } else { -1.0 };
                Some((sign / settings_of_the_rest, self.get(corner, metric)?))
            })
            .collect();
        stats::ratio(&terms?)
    }

    /// Switching one optimization on while the others stay as they are in `rest`.
    fn switching(&self, which: Optimization, rest: Optimizations) -> Option<Ratio> {
        self.change(rest.with(which, false), rest.with(which, true))
    }

    /// Throughput of one combination over that of another.
    fn change(&self, from: Optimizations, to: Optimizations) -> Option<Ratio> {
        stats::change(self.get(from, throughput)?, self.get(to, throughput)?)
    }

    /// All combinations of what was varied.
    fn corners(&self) -> impl Iterator<Item = Optimizations> {
        (0..1usize << self.varied.len()).map(|bits| self.set_varied(|i| bits >> i & 1 == 1))
    }

    /// The varied optimizations as told, the others as in every cell.
    fn set_varied(&self, on: impl Fn(usize) -> bool) -> Optimizations {
        let fixed = self.cells.first().map_or(Optimizations::NONE, |c| c.id.optimizations);
        self.varied.iter().enumerate().fold(fixed, |acc, (i, &which)| acc.with(which, on(i)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::summary;
    use crate::results::{CellId, Metrics, RoundTrip, Setting};
    use Optimization::{Csb, Itr, Sc, Vale};

    /// Cells whose throughput is given exactly, and whose latency is its inverse. Optimizations
    /// that are not varied are as in `fixed`.
    fn cells(
        varied: &[Optimization],
        fixed: Optimizations,
        throughput: impl Fn(Optimizations) -> f64,
    ) -> Vec<Cell> {
        let corner = |bits: usize| {
            varied
                .iter()
                .enumerate()
                .fold(fixed, |o, (i, &which)| o.with(which, bits >> i & 1 == 1))
        };
        let cell = |optimizations| {
            let median = throughput(optimizations);
            let (low, high) = (median / 1.1, median * 1.1);
            let estimate = Estimate { median, low, high, samples: 8, coverage: 0.99 };
            let rr = RoundTrip {
                median: 1.0 / median,
                p99: 2.0 / median,
                low: 1.0 / high,
                high: 1.0 / low,
                samples: 8,
                coverage: 0.99,
            };
            let metrics =
                Metrics { throughput_mpps: Some(estimate), rr_us: Some(rr), ..Metrics::default() };
            let id = CellId { optimizations, ..CellId::default() };
            Cell { metrics, ..summary::cell(id, vec![]) }
        };
        (0..1 << varied.len()).map(corner).map(cell).collect()
    }

    fn full(throughput: impl Fn(Optimizations) -> f64) -> Vec<Cell> {
        cells(&Optimization::ALL, Optimizations::NONE, throughput)
    }

    fn find<'a>(effects: &'a [Effect], of: &[Optimization]) -> &'a Effect {
        effects.iter().find(|e| e.of == of).unwrap()
    }

    fn close(ratio: Option<Ratio>, expected: f64) {
        let ratio = ratio.unwrap().ratio;
        assert!((ratio / expected - 1.0).abs() < 1e-9, "{ratio} instead of {expected}");
    }

    fn factor(on: bool, factor: f64) -> f64 {
        if on { factor } else { 1.0 }
    }

    #[test]
    fn independent_factors_are_recovered_and_do_not_interact() {
        let effects = effects(&full(|o| {
            0.03 * factor(o.itr, 1.5)
                * factor(o.sc, 2.0)
                * factor(o.csb, 10.0)
                * factor(o.vale, 3.0)
        }));
        assert_eq!(effects.len(), 4 + 6);
        for (which, expected) in [(Itr, 1.5), (Sc, 2.0), (Csb, 10.0), (Vale, 3.0)] {
            let effect = find(&effects, &[which]);
            close(effect.throughput, expected);
            close(effect.rr, 1.0 / expected);
            close(effect.alone, expected);
            close(effect.last, expected);
            assert!(effect.throughput.unwrap().is_significant());
        }
        for effect in effects.iter().filter(|e| e.of.len() == 2) {
            close(effect.throughput, 1.0);
            assert!(!effect.throughput.unwrap().is_significant());
        }
    }

    #[test]
    fn an_optimization_made_redundant_by_another_shows_as_their_interaction() {
        // Send combining doubles throughput, unless the CSB has already saved the writes.
        let effects = effects(&full(|o| {
            factor(o.sc && !o.csb, 2.0) * factor(o.csb, 10.0) * factor(o.vale, 3.0)
        }));
        let sc = find(&effects, &[Sc]);
        close(sc.throughput, 2f64.sqrt());
        close(sc.alone, 2.0);
        close(sc.last, 1.0);
        close(find(&effects, &[Sc, Csb]).throughput, 0.5);
        close(find(&effects, &[Sc, Vale]).throughput, 1.0);
        assert_eq!(effects[4].of, [Sc, Csb], "the strongest interaction comes first");
    }

    #[test]
    fn only_what_was_varied_has_an_effect() {
        let fixed = Optimizations::ALL.with(Sc, false);
        let effects = effects(&cells(&[Vale], fixed, |o| factor(o.vale, 4.0)));
        assert_eq!(effects.len(), 1);
        assert_eq!(effects[0].of, [Vale]);
        close(effects[0].throughput, 4.0);
        close(effects[0].alone, 4.0);
    }

    #[test]
    fn a_void_cell_takes_its_effects_with_it_and_no_others() {
        let mut cells = full(|o| factor(o.csb, 10.0));
        cells[0].metrics.throughput_mpps = None;
        let effects = effects(&cells);
        let csb = find(&effects, &[Csb]);
        assert_eq!((csb.throughput, csb.alone), (None, None));
        close(csb.rr, 0.1);
        close(csb.last, 10.0);
    }

    #[test]
    fn the_ladder_multiplies_up() {
        let ladder = ladder(&full(|o| {
            0.03 * factor(o.itr, 1.5)
                * factor(o.sc, 2.0)
                * factor(o.csb, 10.0)
                * factor(o.vale, 3.0)
        }));
        let steps: Vec<_> = ladder.iter().map(|r| r.step.as_str()).collect();
        assert_eq!(steps, ["none", "+itr", "+sc", "+csb", "+vale"]);
        assert_eq!((ladder[0].to_previous, ladder[0].to_first), (None, None));
        for (rung, step, total) in [(1, 1.5, 1.5), (2, 2.0, 3.0), (3, 10.0, 30.0), (4, 3.0, 90.0)] {
            close(ladder[rung].to_previous, step);
            close(ladder[rung].to_first, total);
        }
        assert_eq!(ladder[4].optimizations, Optimizations::ALL);
    }

    #[test]
    fn a_rung_that_was_not_measured_has_no_figures() {
        let some = cells(&[Itr, Sc, Vale], Optimizations::NONE, |_| 1.0);
        let ladder = ladder(&some);
        assert!(ladder[2].throughput_mpps.is_some());
        assert_eq!((ladder[3].throughput_mpps, ladder[3].to_previous), (None, None));
        assert_eq!(super::ladder(&[]), []);
    }

    #[test]
    fn one_rung_is_no_ladder() {
        assert_eq!(ladder(&cells(&[], Optimizations::ALL, |_| 1.0)), []);
        // Without the others send combining is on no rung.
        assert_eq!(ladder(&cells(&[Sc], Optimizations::NONE, |_| 1.0)), []);
        let mut two = cells(&[Vale], Optimizations::ALL, |_| 1.0);
        assert_eq!(ladder(&two).len(), 5);
        (two[0].metrics.throughput_mpps, two[0].metrics.rr_us) = (None, None);
        assert_eq!(ladder(&two), []);
    }

    #[test]
    fn a_ladder_of_the_file_climbs_from_cell_to_cell() {
        let cells = full(|o| factor(o.itr, 1.5) * factor(o.csb, 10.0));
        let order = [("first", 4), ("second", 0), ("third", 5)];
        let rungs = steps(&cells, &order.map(|(label, cell)| (label.to_owned(), cell)));
        assert_eq!((rungs[0].to_previous, rungs[0].to_first), (None, None));
        close(rungs[1].to_previous, 0.1);
        close(rungs[2].to_previous, 15.0);
        close(rungs[2].to_first, 1.5);
        assert_eq!(rungs[2].step, "third");
    }

    #[test]
    fn cells_with_names_are_no_part_of_the_experiment() {
        let mut cells = full(|o| factor(o.csb, 10.0));
        let alone = (effects(&cells), ladder(&cells));
        let mut peer = cells[0].clone();
        peer.id.name = Some("peer".into());
        peer.metrics.throughput_mpps = None;
        cells.insert(0, peer.clone());
        assert_eq!((effects(&cells), ladder(&cells)), alone);
        assert_eq!((effects(&[peer.clone()]), ladder(&[peer])), (vec![], vec![]));
    }

    #[test]
    fn settings_of_other_parameters_are_kept_apart() {
        let mut both = full(|o| factor(o.csb, 10.0));
        let mut larger = full(|o| factor(o.csb, 20.0));
        for cell in &mut larger {
            cell.id.parameters.insert("ring".into(), Setting::Number(4096));
        }
        both.append(&mut larger);
        let effects = effects(&both);
        assert_eq!(effects.len(), 20);
        close(effects[2].throughput, 10.0);
        close(effects[12].throughput, 20.0);
        assert_eq!(effects[12].parameters["ring"], Setting::Number(4096));
        let ladder = ladder(&both);
        assert_eq!(ladder.len(), 10);
        close(ladder[9].to_first, 20.0);
    }
}
