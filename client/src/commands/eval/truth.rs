//! The true results given by `--labels`.

use anyhow::{Context, Result};
use hermesh_client::cli::Eval;
use hermesh_client::data::{self, Table};
use hermesh_client::{Error, model};
use hermesh_compiler::Model;
use hermesh_compiler::network::{Decision, Label};

/// The true results.
pub(super) enum Truth {
    /// Not given.
    Unknown,
    /// A class for each row.
    Labels(Vec<Label>),
    /// Numbers for each row, one per output.
    Targets(Table),
}

impl Truth {
    /// Reads the true results of `rows` inputs. If the model has several scores and no classes, the content of the file
    /// decides whether they are classes or numbers.
    pub(super) fn read(model: &Model, rows: usize, options: &Eval) -> Result<Self> {
        let Some(path) = &options.labels else {
            return Ok(Self::Unknown);
        };
        let limits = options.data.limits();
        let network = model.network();
        let targets = || data::read_targets(path, network.outputs(), limits).map(Self::Targets);
        let labels = || {
            let labels = data::read_labels(path, limits)?;
            Ok(Self::Labels(model::labels(&network.head, &labels)))
        };
        let truth = match (&network.head.decision, network.outputs()) {
            (Decision::Scores, 1) => targets(),
            (Decision::Scores, _) => labels().or_else(|error| targets().map_err(|_| error)),
            _ => labels(),
        }?;
        let found = match &truth {
            Self::Unknown => rows,
            Self::Labels(labels) => labels.len(),
            Self::Targets(table) => table.rows,
        };
        if found != rows {
            return Err(Error::LabelCount { rows, labels: found })
                .with_context(|| format!("cannot use {}", path.display()));
        }
        Ok(truth)
    }

    /// The true results of the selected rows.
    pub(super) fn select(self, rows: &[usize]) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Labels(labels) => {
                Self::Labels(rows.iter().map(|&row| labels[row].clone()).collect())
            }
            Self::Targets(table) => Self::Targets(table.select(rows)),
        }
    }

    /// True if the model's labels are evaluated.
    pub(super) fn concerns_labels(&self, model: &Model) -> bool {
        let network = model.network();
        let labelled = network.head.decision != Decision::Scores || network.outputs() > 1;
        labelled && !matches!(self, Self::Targets(_))
    }

    /// True if the model's scores are evaluated as numbers.
    pub(super) fn concerns_numbers(&self, model: &Model) -> bool {
        model.network().head.decision == Decision::Scores && !matches!(self, Self::Labels(_))
    }

    pub(super) fn labels(&self) -> Option<&[Label]> {
        match self {
            Self::Labels(labels) => Some(labels),
            _ => None,
        }
    }

    pub(super) fn targets(&self) -> Option<&Table> {
        match self {
            Self::Targets(table) => Some(table),
            _ => None,
        }
    }
}
