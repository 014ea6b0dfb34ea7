//! Which of the programs that were tried to take.

use super::{Compilation, Framed, Tried};
use crate::Error;
use crate::report::{Candidate, Unbounded};

/// Percentage points of agreement with the plain model that a more expensive set must gain for each doubling of the
/// time, if no budget is given. Agreement is stricter than accuracy: it counts every changed label as lost, even if as
/// many become right as wrong.
pub(crate) const DEFAULT_SLACK: f64 = 0.3;
/// A bounded program is as good as another if the errors of its scores are at most this many times as large, or at most
/// a small part of the scores' spread.
const COARSER: f64 = 1.5;
const FINE: f64 = 0.01;
/// Simulations to estimate the loss of a bounded program that was not requested.
const FEW_SIMULATIONS: usize = 400;

impl Compilation<'_> {
    /// The loss in percentage points: of accuracy if a budget and labels were given, otherwise of agreement with the
    /// plain model.
    pub(super) fn loss(&self, tried: &Tried, plain: Option<f64>) -> f64 {
        match (self.options.accuracy_budget, plain, tried.measured.accuracy) {
            (Some(_), Some(plain), Some(simulated)) => 100.0 * (plain - simulated),
            _ => 100.0 * (1.0 - tried.measured.agreement),
        }
    }

    /// Chooses one of the programs; returns its index and the reason.
    pub(super) fn choose(
        &self,
        tried: &[Tried],
        frontier: &[Candidate],
        plain: Option<f64>,
    ) -> Result<(usize, String), Error> {
        let losses: Vec<f64> = tried.iter().map(|t| self.loss(t, plain)).collect();
        let Some(best) = losses.iter().copied().min_by(f64::total_cmp) else {
            return Err(Error::NoParameterSet);
        };
        let asked = self.options.accuracy_budget;
        let good_enough = |&at: &usize| match asked {
            Some(budget) => losses[at] <= budget + 1e-9,
            None => (0..tried.len()).all(|other| {
                let times = frontier[other].relative_cost / frontier[at].relative_cost;
                // Less than twice the time counts as twice. The same holds for sets without Lookups, whose ratio is
                // NaN.
                let doublings = times.log2().max(1.0);
                losses[at] - losses[other] <= doublings * DEFAULT_SLACK + 1e-9
            }),
        };
        let Some(chosen) = (0..tried.len()).find(good_enough) else {
            let at = losses.iter().position(|&loss| loss == best).unwrap_or_default();
            return Err(Error::Budget {
                budget: asked.unwrap_or_default(),
                best,
                set: tried[at].set.name,
            });
        };
        let loss = losses[chosen];
        let why = match asked {
            Some(budget) => format!("the cheapest that loses at most {budget} points ({loss:.2})"),
            None => format!(
                "loses {loss:.2} points of agreement with the plain model; more time gains less than {DEFAULT_SLACK} points for each doubling"
            ),
        };
        Ok((chosen, why))
    }

    pub(super) fn is_as_good(&self, other: &Tried, chosen: &Tried, plain: Option<f64>) -> bool {
        let loss = self.loss(other, plain);
        let (off, least) = (other.measured.off.mean(), chosen.measured.off.mean());
        if off > COARSER * least && off > FINE * other.measured.spread {
            return false;
        }
        match self.options.accuracy_budget {
            Some(budget) => loss <= budget + 1e-9,
            None => loss <= self.loss(chosen, plain) + DEFAULT_SLACK + 1e-9,
        }
    }

    /// Searches the cheapest bounded program that is as good as the chosen one.
    pub(super) fn price_of_bounds(
        &self,
        bounded: &Framed,
        chosen: &Tried,
        plain: Option<f64>,
    ) -> Result<Unbounded, Error> {
        for set in self.sets().filter(|set| set.relative_cost > chosen.set.relative_cost) {
            let Some(other) = self.attempt(bounded, set, FEW_SIMULATIONS)? else {
                continue;
            };
            if other.is_bounded() && self.is_as_good(&other, chosen, plain) {
                let times = Some(other.cost() / chosen.cost());
                return Ok(Unbounded { cheapest: Some(other.candidate()), times });
            }
        }
        Ok(Unbounded { cheapest: None, times: None })
    }
}
