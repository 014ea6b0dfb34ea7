//! Deviations between numbers: encrypted, simulated, plain and targets.

use hermesh_client::data::Table;
use hermesh_client::terminal::TextTable;
use hermesh_compiler::network::Prediction;
use serde::Serialize;

use super::samples::Samples;

/// Figures of a model that predicts numbers.
#[derive(Serialize)]
pub(super) struct Numbers {
    /// All outputs together: mean R², mean deviation, and the largest deviation of any output.
    all: Figures,
    /// Each output separately.
    outputs: Vec<Figures>,
}

/// Comparisons with the model in floating point and with the targets.
#[derive(Clone, Copy, Serialize)]
struct Figures {
    simulated: Deviation,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<Deviation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    targets: Option<Targets>,
}

/// Comparisons with the targets.
#[derive(Clone, Copy, Serialize)]
struct Targets {
    plain: Deviation,
    simulated: Deviation,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<Deviation>,
}

/// Deviation of predicted numbers from reference numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Deviation {
    /// R²: 1 − the sum of squared deviations ÷ the sum of squares of the reference about its mean. `None` if all
    /// reference numbers are equal, as with one row.
    r2: Option<f64>,
    mean_absolute_deviation: f64,
    largest_deviation: f64,
}

impl Numbers {
    pub(super) fn new(samples: &Samples, targets: Option<&Table>) -> Self {
        let width = samples.plain.first().map_or(0, |first| first.scores.len());
        let outputs: Vec<Figures> =
            (0..width).map(|output| Figures::new(samples, targets, output)).collect();
        Self { all: Figures::all(&outputs), outputs }
    }

    pub(super) fn table(&self) -> TextTable {
        let mut table = TextTable::new(["numbers", "R²", "mean deviation", "largest"]);
        self.all.push(&mut table, "");
        if self.outputs.len() > 1 {
            for (index, figures) in self.outputs.iter().enumerate() {
                figures.push(&mut table, &format!("output {index}: "));
            }
        }
        table
    }
}

impl Figures {
    fn new(samples: &Samples, targets: Option<&Table>, output: usize) -> Self {
        let column =
            |all: &[Prediction]| all.iter().map(|p| p.scores[output]).collect::<Vec<f64>>();
        let (plain, simulated) = (column(&samples.plain), column(&samples.simulated));
        let encrypted = samples.encrypted.as_deref().map(column);
        let against = |other: &[f64]| encrypted.as_deref().map(|e| Deviation::new(e, other));
        let targets = targets.map(|table| {
            let rows = table.values.chunks_exact(table.columns);
            let truth: Vec<f64> = rows.map(|row| row[output]).collect();
            Targets {
                plain: Deviation::new(&plain, &truth),
                simulated: Deviation::new(&simulated, &truth),
                encrypted: against(&truth),
            }
        });
        Self { simulated: Deviation::new(&simulated, &plain), encrypted: against(&plain), targets }
    }

    fn all(outputs: &[Self]) -> Self {
        let targets = |of: fn(&Targets) -> Option<Deviation>| {
            Deviation::all(outputs.iter().map(|figures| figures.targets.as_ref().and_then(of)))
        };
        let simulated = Deviation::all(outputs.iter().map(|figures| Some(figures.simulated)));
        Self {
            simulated: simulated.unwrap_or_else(|| Deviation::new(&[], &[])),
            encrypted: Deviation::all(outputs.iter().map(|figures| figures.encrypted)),
            targets: targets(|t| Some(t.plain)).zip(targets(|t| Some(t.simulated))).map(
                |(plain, simulated)| {
                    let encrypted = targets(|t| t.encrypted);
                    Targets { plain, simulated, encrypted }
                },
            ),
        }
    }

    fn push(&self, table: &mut TextTable, output: &str) {
        let targets = self.targets;
        for (name, deviation) in [
            ("simulated against plain", Some(self.simulated)),
            ("encrypted against plain", self.encrypted),
            ("plain against targets", targets.map(|t| t.plain)),
            ("simulated against targets", targets.map(|t| t.simulated)),
            ("encrypted against targets", targets.and_then(|t| t.encrypted)),
        ] {
            let Some(deviation) = deviation else { continue };
            table.push([
                format!("{output}{name}"),
                deviation.r2.map_or_else(|| "–".to_owned(), |r2| format!("{r2:.4}")),
                short(deviation.mean_absolute_deviation),
                short(deviation.largest_deviation),
            ]);
        }
    }
}

impl Deviation {
    fn new(found: &[f64], expected: &[f64]) -> Self {
        let count = expected.len().max(1) as f64;
        let differences = || found.iter().zip(expected).map(|(found, expected)| found - expected);
        let mean = expected.iter().sum::<f64>() / count;
        let spread: f64 = expected.iter().map(|x| (x - mean).powi(2)).sum();
        let squares: f64 = differences().map(|d| d * d).sum();
        Self {
            r2: (spread > 0.0).then(|| 1.0 - squares / spread),
            mean_absolute_deviation: differences().map(f64::abs).sum::<f64>() / count,
            largest_deviation: differences().map(f64::abs).fold(0.0, f64::max),
        }
    }

    /// Combines the figures of all outputs; `None` if any is missing.
    fn all(outputs: impl Iterator<Item = Option<Self>>) -> Option<Self> {
        let outputs: Vec<Self> = outputs.collect::<Option<_>>()?;
        let count = outputs.len();
        let mean = |sum: f64| sum / count as f64;
        (count > 0).then(|| Self {
            r2: outputs.iter().map(|d| d.r2).sum::<Option<f64>>().map(mean),
            mean_absolute_deviation: mean(outputs.iter().map(|d| d.mean_absolute_deviation).sum()),
            largest_deviation: outputs.iter().map(|d| d.largest_deviation).fold(0.0, f64::max),
        })
    }
}

/// Four significant digits, whatever the unit of the predictions.
fn short(x: f64) -> String {
    match x {
        0.0 => "0".to_owned(),
        x if (1e-3..1e5).contains(&x) => {
            let decimals = (3.0 - x.log10().floor()).clamp(0.0, 6.0);
            format!("{x:.*}", decimals as usize)
        }
        x => format!("{x:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations() {
        let found = Deviation::new(&[1.0, 2.0, 5.0], &[1.0, 3.0, 5.0]);
        let expected = Deviation {
            r2: Some(1.0 - 1.0 / 8.0),
            mean_absolute_deviation: 1.0 / 3.0,
            largest_deviation: 1.0,
        };
        assert_eq!(found, expected);
        // Predicting the mean gives R² = 0.
        assert_eq!(Deviation::new(&[2.0, 2.0], &[1.0, 3.0]).r2, Some(0.0));
        // No variance in the reference.
        assert_eq!(Deviation::new(&[1.0, 2.0], &[3.0, 3.0]).r2, None);
    }

    #[test]
    fn outputs_together() {
        let outputs =
            [Deviation::new(&[1.0, 3.0], &[1.0, 3.0]), Deviation::new(&[0.0, 2.0], &[1.0, 3.0])];
        let all = Deviation::all(outputs.into_iter().map(Some)).unwrap();
        assert_eq!((all.r2, all.mean_absolute_deviation), (Some(0.5), 0.5));
        assert_eq!(all.largest_deviation, 1.0);
        assert_eq!(Deviation::all([Some(outputs[0]), None].into_iter()), None);
        assert_eq!(Deviation::all(std::iter::empty()), None);
    }

    #[test]
    fn digits() {
        assert_eq!([0.0, 0.012345, 12.3456, 1234.5].map(short), ["0", "0.01235", "12.35", "1234"]);
        assert_eq!(short(1.5e-7), "1.500e-7");
    }
}
