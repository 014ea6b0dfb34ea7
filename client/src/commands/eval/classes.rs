//! Accuracy and agreement of labels.

use hermesh_client::terminal::{TextTable, units};
use hermesh_compiler::network::{Label, Prediction};
use serde::Serialize;

use super::samples::Samples;

/// Shares from 0 to 1. Accuracies are `None` without true labels; encrypted figures are `None` if nothing was
/// encrypted.
#[derive(Serialize)]
pub(super) struct Classes {
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    simulated_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted_accuracy: Option<f64>,
    /// Encrypted label equal to the simulated one.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<f64>,
    /// Encrypted label equal to the plain one.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement_plain: Option<f64>,
    /// Simulated label equal to the plain one.
    simulated_agreement_plain: f64,
}

impl Classes {
    pub(super) fn new(samples: &Samples, truth: Option<&[Label]>) -> Self {
        let labels = |all: &[Prediction]| all.iter().map(|p| p.label.clone()).collect::<Vec<_>>();
        let (plain, simulated) = (labels(&samples.plain), labels(&samples.simulated));
        let encrypted = samples.encrypted.as_deref().map(labels);
        let truth: Option<Vec<_>> = truth.map(|truth| truth.iter().cloned().map(Some).collect());
        let against = |all: &Option<Vec<Option<Label>>>, other: &Option<Vec<Option<Label>>>| {
            all.as_ref().zip(other.as_ref()).map(|(all, other)| share(all, other))
        };
        let simulated_agreement_plain = share(&simulated, &plain);
        let (plain, simulated) = (Some(plain), Some(simulated));
        Self {
            plain_accuracy: against(&plain, &truth),
            simulated_accuracy: against(&simulated, &truth),
            encrypted_accuracy: against(&encrypted, &truth),
            agreement: against(&encrypted, &simulated),
            agreement_plain: against(&encrypted, &plain),
            simulated_agreement_plain,
        }
    }

    pub(super) fn table(&self) -> TextTable {
        let mut table = TextTable::new(["labels", "share"]);
        for (name, share) in [
            ("right, plain, floating point", self.plain_accuracy),
            ("right, simulated", self.simulated_accuracy),
            ("right, encrypted", self.encrypted_accuracy),
            ("encrypted agrees with simulated", self.agreement),
            ("encrypted agrees with plain", self.agreement_plain),
            ("simulated agrees with plain", Some(self.simulated_agreement_plain)),
        ] {
            if let Some(share) = share {
                table.push([name, &units::percent(share)]);
            }
        }
        table
    }
}

fn share(a: &[Option<Label>], b: &[Option<Label>]) -> f64 {
    let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
    same as f64 / a.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let labels = |all: &[i64]| all.iter().map(|&l| Some(Label::Int(l))).collect::<Vec<_>>();
        assert_eq!(share(&labels(&[1, 2, 3, 4]), &labels(&[1, 0, 3, 0])), 0.5);
    }
}
