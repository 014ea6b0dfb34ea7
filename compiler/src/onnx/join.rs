//! Joins: stages that combine the values of several stages.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::context::{Context, Import, MAX_LAYER_NAME};
use super::value::{Features, Source, Stage};
use crate::Error;
use crate::network::{Activation, Affine, Matrix, Sparse};

/// The stage of the model's inputs.
pub(super) fn input(width: usize) -> Vec<Stage> {
    vec![Stage { width, source: Source::Input, plain: true }]
}

impl Import {
    /// The stages that a join consists of; for another stage, itself.
    pub(super) fn parts(&self, stage: usize) -> Vec<usize> {
        match &self.stages[stage].source {
            Source::Join(parts) => parts.clone(),
            Source::Input | Source::Activation(..) => vec![stage],
        }
    }

    /// Number of stages that a stage consists of.
    fn parts_of(&self, stage: usize) -> usize {
        match &self.stages[stage].source {
            Source::Join(parts) => parts.len(),
            Source::Input | Source::Activation(..) => 1,
        }
    }

    /// The stage with the values of all these stages.
    fn join(&mut self, stages: impl Iterator<Item = usize>) -> Result<usize, Error> {
        let stages = stages.collect::<BTreeSet<_>>();
        if stages.len() == 1 {
            return Ok(stages.into_iter().sum());
        }
        let count = stages.iter().map(|&stage| self.parts_of(stage)).fold(0, usize::saturating_add);
        self.budget.allocate(&[count])?;
        let mut parts = stages.iter().flat_map(|&stage| self.parts(stage)).collect::<Vec<_>>();
        parts.sort_unstable();
        parts.dedup();
        if let [only] = parts[..] {
            return Ok(only);
        }
        if let Some(&known) = self.joins.get(&parts) {
            return Ok(known);
        }
        self.budget.allocate(&[parts.len(), 2])?;
        let width = parts.iter().map(|&part| self.stages[part].width).sum();
        let plain = parts.iter().all(|&part| self.stages[part].plain);
        self.joins.insert(parts.clone(), self.stages.len());
        self.stages.push(Stage { width, source: Source::Join(parts), plain });
        Ok(self.stages.len() - 1)
    }

    /// The columns of a stage's values in a join that contains them all. Ascending.
    fn columns(&mut self, stage: usize, join: usize) -> Result<Vec<usize>, Error> {
        let count = self.parts_of(stage).saturating_add(self.parts_of(join));
        self.budget.allocate(&[count])?;
        let mut columns = Vec::with_capacity(self.budget.allocate(&[self.stages[stage].width])?);
        let parts = self.parts(stage);
        let mut start = 0;
        for part in self.parts(join) {
            let end = start + self.stages[part].width;
            if parts.binary_search(&part).is_ok() {
                columns.extend(start..end);
            }
            start = end;
        }
        Ok(columns)
    }
}

impl Context<'_> {
    /// Concatenates features, possibly of different stages.
    pub(super) fn combine(&mut self, parts: Vec<Features>) -> Result<Features, Error> {
        let parts = self.settle(parts)?;
        let nodes = names(&parts);
        let stage = self.import.join(parts.iter().map(|part| part.stage))?;
        let rows = parts.iter().map(Features::len).fold(0, usize::saturating_add);
        let width = self.import.stages[stage].width;
        let identity = |part: &Features| Rc::new(Affine::diagonal(&vec![1.0; part.len()]));
        let affines = parts
            .iter()
            .map(|part| part.affine.clone().unwrap_or_else(|| identity(part)))
            .collect::<Vec<_>>();
        let entries = affines.iter().map(|affine| affine.matrix.entries());
        let entries = entries.fold(rows, usize::saturating_add).max(1);
        let affine = if parts.iter().all(|part| part.stage == stage) {
            let dense = affines.iter().any(|affine| matches!(affine.matrix, Matrix::Dense { .. }));
            self.allocate(&[if dense { rows.saturating_mul(width) } else { entries }])?;
            Affine::stack(&affines.iter().map(Rc::as_ref).collect::<Vec<_>>(), width)
        } else {
            self.allocate(&[entries])?;
            let mut matrix = Sparse::new(width);
            let mut known = HashMap::new();
            for (part, affine) in parts.iter().zip(&affines) {
                let columns = match known.entry(part.stage) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => entry.insert(self.import.columns(part.stage, stage)?),
                };
                for r in 0..affine.rows() {
                    let row = affine.matrix.row(r);
                    row.for_each(|(column, value)| matrix.push(columns[column], value));
                    matrix.end_row();
                }
            }
            let bias = affines.iter().flat_map(|affine| &affine.bias).copied().collect();
            Affine { matrix: Matrix::Sparse(matrix), bias }
        };
        Ok(Features {
            stage,
            shape: vec![rows],
            affine: Some(Rc::new(affine)),
            nodes,
            bounds: None,
        })
    }

    /// Features that the client computes must be carried if they are read together with later values. That costs one
    /// Lookup per carried value. This carries the features themselves if they are fewer than the inputs that they are
    /// computed from.
    fn settle(&mut self, parts: Vec<Features>) -> Result<Vec<Features>, Error> {
        let plain = |cx: &Self, part: &Features| cx.import.stages[part.stage].plain;
        if parts.iter().all(|part| plain(self, part)) {
            return Ok(parts);
        }
        let settled = parts.into_iter().map(|part| {
            let affine = match &part.affine {
                // With at least as many rows as weights, the inputs are not more than the rows.
                Some(affine) if plain(self, &part) && affine.rows() < affine.matrix.entries() => {
                    affine
                }
                _ => return Ok(part),
            };
            let work = affine.matrix.entries().saturating_add(affine.cols());
            self.import.budget.work(work as u64)?;
            if affine.rows() < affine.used_columns() {
                self.activate(part, Activation::Identity)
            } else {
                Ok(part)
            }
        });
        settled.collect()
    }
}

fn names(parts: &[Features]) -> String {
    let mut names = String::new();
    for part in parts.iter().filter(|part| !part.nodes.is_empty()) {
        if names.len() < MAX_LAYER_NAME && !names.contains(&part.nodes) {
            let separator = if names.is_empty() { "" } else { "+" };
            names = names + separator + &part.nodes;
        }
    }
    names
}
