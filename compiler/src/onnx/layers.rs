//! Orders the stages that an output depends on: from a graph to a chain of layers.
//!
//! A layer computes all stages that can be computed by then, and carries values of earlier stages that later layers
//! still need, each by a row that selects it. The stages that the client can compute come first.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::context::{Import, MAX_LAYER_NAME};
use super::value::{Features, Source};
use crate::Error;
use crate::network::{Activation, Activations, Affine, Layer, Matrix, shared_rows};

/// Maximum number of layers of a chain: a program has no more stages.
const MAX_LAYERS: usize = 1024;

/// The chain of layers from the input to `last`.
pub(super) fn layers(import: &mut Import, last: Features) -> Result<Vec<Layer>, Error> {
    let plan = Plan::new(import, &last)?;
    let mut layers = Vec::with_capacity(plan.depth);
    let mut before = Values::default();
    before.append(0, 0..plan.widths[0], None);
    for level in 1..=plan.depth {
        let mut rows = Rows::default();
        let mut values = Values::default();
        for &stage in plan.by_level.get(level).into_iter().flatten() {
            let source = std::mem::replace(&mut import.stages[stage].source, Source::Input);
            let Source::Activation(features, activations) = source else { continue };
            let width = features.len();
            let groups = rows.compute(import, &plan, &before, features, Some(activations))?;
            values.append(stage, 0..width, groups);
        }
        if level == plan.depth && !plan.ends_in_activation {
            rows.compute(import, &plan, &before, last.clone(), None)?;
        }
        rows.carry(import, &plan, level, &before, &mut values)?;
        layers.push(rows.layer(import, before.len)?);
        before = values;
    }
    Ok(layers)
}

/// The layer of each stage, and the last use of its values.
struct Plan {
    /// Number of layers.
    depth: usize,
    /// The layer that computes each stage; `None` if no output needs it. The input is layer 0.
    levels: Vec<Option<usize>>,
    /// The stages that each layer computes, without joins.
    by_level: Vec<Vec<usize>>,
    widths: Vec<usize>,
    /// The parts of each stage that is a join.
    parts: Vec<Vec<usize>>,
    /// The last layer that reads each value of a stage; 0 if none does.
    last_use: Vec<Vec<u32>>,
    ends_in_activation: bool,
}

impl Plan {
    fn new(import: &mut Import, last: &Features) -> Result<Self, Error> {
        let stages = import.stages.len();
        import.budget.allocate(&[stages, 8])?;
        let parts = (0..stages).map(|stage| import.parts(stage)).collect::<Vec<_>>();
        let needed = needed(import, last.stage);
        let ends_in_activation = last.affine.is_none()
            && matches!(import.stages[last.stage].source, Source::Activation(..));
        // Sources precede the stages that are computed from them.
        let mut levels = vec![None; stages];
        let mut at_client = 0;
        for plain in [true, false] {
            for stage in (0..stages).filter(|&stage| needed[stage]) {
                if import.stages[stage].plain != plain {
                    continue;
                }
                let highest = |parts: &[usize], levels: &[Option<usize>]| {
                    parts.iter().filter_map(|&part| levels[part]).max().unwrap_or(0)
                };
                levels[stage] = Some(match &import.stages[stage].source {
                    Source::Input => 0,
                    Source::Join(parts) => highest(parts, &levels),
                    Source::Activation(source, _) if plain => {
                        at_client = at_client.max(highest(&parts[source.stage], &levels) + 1);
                        highest(&parts[source.stage], &levels) + 1
                    }
                    Source::Activation(source, _) => {
                        highest(&parts[source.stage], &levels).max(at_client) + 1
                    }
                });
            }
        }
        let depth = levels[last.stage].unwrap_or(0) + usize::from(!ends_in_activation);
        if depth > MAX_LAYERS {
            return Err(Error::TooLarge { what: "layers in a row are", limit: MAX_LAYERS as u64 });
        }
        let mut by_level = vec![Vec::new(); depth + 1];
        for (stage, level) in levels.iter().enumerate() {
            if let Some(level) = level
                && parts[stage] == [stage]
            {
                by_level[*level].push(stage);
            }
        }
        let mut plan = Self {
            depth,
            levels,
            by_level,
            widths: import.stages.iter().map(|stage| stage.width).collect(),
            parts,
            last_use: Vec::new(),
            ends_in_activation,
        };
        plan.last_use = plan.uses(import, last)?;
        Ok(plan)
    }

    fn uses(&self, import: &mut Import, last: &Features) -> Result<Vec<Vec<u32>>, Error> {
        let mut last_use = Vec::with_capacity(self.widths.len());
        for (stage, &width) in self.widths.iter().enumerate() {
            let base = self.levels[stage].is_some() && self.parts[stage] == [stage];
            import.budget.allocate(&[if base { width } else { 0 }])?;
            last_use.push(vec![0; if base { width } else { 0 }]);
        }
        let mut read = |import: &mut Import, features: &Features, level: usize| {
            import.budget.work(self.widths[features.stage] as u64)?;
            for (stage, index) in self.read(features) {
                let use_of = &mut last_use[stage][index];
                *use_of = (*use_of).max(level as u32);
            }
            Ok::<_, Error>(())
        };
        for (stage, level) in self.levels.iter().enumerate() {
            if let (Source::Activation(source, _), Some(level)) =
                (&import.stages[stage].source, *level)
            {
                let source = source.clone();
                read(import, &source, level)?;
            }
        }
        if !self.ends_in_activation {
            read(import, last, self.depth)?;
        }
        Ok(last_use)
    }

    /// The values that features read: stage and index.
    fn read(&self, features: &Features) -> Vec<(usize, usize)> {
        let mut used = vec![features.affine.is_none(); self.widths[features.stage]];
        if let Some(affine) = &features.affine {
            let entries = (0..affine.rows()).flat_map(|r| affine.matrix.row(r));
            entries.filter(|&(_, w)| w != 0.0).for_each(|(column, _)| used[column] = true);
        }
        let values = self.parts[features.stage]
            .iter()
            .flat_map(|&part| (0..self.widths[part]).map(move |index| (part, index)));
        used.into_iter().zip(values).filter(|(used, _)| *used).map(|(_, value)| value).collect()
    }
}

/// The stages that the values of `last` depend on.
fn needed(import: &Import, last: usize) -> Vec<bool> {
    let mut needed = vec![false; import.stages.len()];
    needed[last] = true;
    needed[0] = true;
    for stage in (0..=last).rev().filter(|&stage| stage > 0) {
        if needed[stage] {
            match &import.stages[stage].source {
                Source::Input => {}
                Source::Activation(source, _) => needed[source.stage] = true,
                Source::Join(parts) => parts.iter().for_each(|&part| needed[part] = true),
            }
        }
    }
    needed
}

/// The values that exist after a layer.
#[derive(Default)]
struct Values {
    len: usize,
    /// By stage.
    of: BTreeMap<usize, Held>,
}

/// The values of a stage that still exist.
struct Held {
    /// Index of the first one; the others follow.
    first: usize,
    /// Their indices in the stage, ascending.
    values: Vec<usize>,
    /// The group of each value.
    groups: Option<Vec<u32>>,
}

impl Values {
    fn append(
        &mut self,
        stage: usize,
        values: impl Iterator<Item = usize>,
        groups: Option<Vec<u32>>,
    ) {
        let held = Held { first: self.len, values: values.collect(), groups };
        self.len += held.values.len();
        self.of.insert(stage, held);
    }

    /// Where the values of a stage are. Values that no longer exist are not read.
    fn places(&self, plan: &Plan, stage: usize) -> Vec<usize> {
        let mut places = Vec::with_capacity(plan.widths[stage]);
        for &part in &plan.parts[stage] {
            let start = places.len();
            places.resize(start + plan.widths[part], usize::MAX);
            if let Some(Held { first, values, .. }) = self.of.get(&part) {
                values.iter().enumerate().for_each(|(i, &v)| places[start + v] = first + i);
            }
        }
        places
    }
}

/// The rows of a layer, in blocks.
#[derive(Default)]
struct Rows {
    blocks: Vec<Block>,
    name: String,
    bounds: Option<Vec<(f64, f64)>>,
}

struct Block {
    affine: Affine,
    activations: Option<Activations>,
    groups: Option<Vec<u32>>,
}

impl Rows {
    /// Adds rows that compute features; returns their groups.
    fn compute(
        &mut self,
        import: &mut Import,
        plan: &Plan,
        before: &Values,
        features: Features,
        activations: Option<Activations>,
    ) -> Result<Option<Vec<u32>>, Error> {
        let width = plan.widths[features.stage];
        let affine = match features.affine {
            Some(affine) => Rc::unwrap_or_clone(affine),
            None => Affine::diagonal(&vec![1.0; features.shape.iter().product()]),
        };
        import.budget.allocate(&[affine.matrix.entries()])?;
        import.budget.work(width as u64)?;
        let places = before.places(plan, features.stage);
        let in_place = before.len == width && places.iter().copied().eq(0..width);
        let affine = if in_place { affine } else { affine.read_from(&places, before.len) };
        let plane = features.shape.iter().skip(1).product();
        let sparse = matches!(affine.matrix, Matrix::Sparse(_));
        let groups = if sparse { shared_rows(&affine, plane) } else { None };
        if !self.name.contains(&features.nodes) && self.name.len() < MAX_LAYER_NAME {
            let separator = if self.name.is_empty() { "" } else { ", " };
            self.name = format!("{}{separator}{}", self.name, features.nodes);
        }
        self.bounds = features.bounds.map(Rc::unwrap_or_clone);
        self.blocks.push(Block { affine, activations, groups: groups.clone() });
        Ok(groups)
    }

    /// Adds rows that carry values needed after `level`.
    fn carry(
        &mut self,
        import: &mut Import,
        plan: &Plan,
        level: usize,
        before: &Values,
        after: &mut Values,
    ) -> Result<(), Error> {
        for (&stage, Held { first, values, groups }) in &before.of {
            let kept = (0..values.len())
                .filter(|&i| plan.last_use[stage][values[i]] > level as u32)
                .collect::<Vec<_>>();
            if kept.is_empty() {
                continue;
            }
            import.budget.allocate(&[kept.len(), 4])?;
            let columns = kept.iter().map(|i| first + i).collect::<Vec<_>>();
            let groups =
                groups.as_ref().map(|groups| kept.iter().map(|&i| groups[i]).collect::<Vec<_>>());
            self.blocks.push(Block {
                affine: Affine::selection(&columns, before.len),
                activations: Some(Activation::Identity.into()),
                groups: groups.clone(),
            });
            after.append(stage, kept.iter().map(|&i| values[i]), groups);
        }
        Ok(())
    }

    fn layer(mut self, import: &mut Import, cols: usize) -> Result<Layer, Error> {
        let name = self.name;
        if self.blocks.len() == 1 {
            let Block { affine, activations, groups } = self.blocks.remove(0);
            return Ok(Layer {
                name,
                affine,
                activation: activations,
                groups,
                bounds: self.bounds,
            });
        }
        let rows = self.blocks.iter().map(|block| block.affine.rows());
        let counts = rows.clone().collect::<Vec<_>>();
        let entries = self.blocks.iter().map(|block| block.affine.matrix.entries());
        import.budget.allocate(&[entries.fold(rows.sum(), usize::saturating_add)])?;
        let mut groups = None;
        if self.blocks.iter().any(|block| block.groups.is_some()) {
            let mut all = Vec::new();
            let mut next = 0;
            for (block, &count) in self.blocks.iter().zip(&counts) {
                let own = (0..count as u32).collect();
                let groups = block.groups.as_ref().unwrap_or(&own);
                all.extend(groups.iter().map(|group| next + group));
                next += groups.iter().max().map_or(0, |last| last + 1);
            }
            groups = Some(all);
        }
        let parts = self.blocks.iter().map(|block| &block.affine).collect::<Vec<_>>();
        let affine = Affine::stack_sparse(&parts, cols);
        let activations = self.blocks.iter().zip(&counts);
        let activation = Activations::stack(
            activations.filter_map(|(block, &count)| Some((block.activations.as_ref()?, count))),
        );
        Ok(Layer { name, affine, activation: Some(activation), groups, bounds: None })
    }
}
