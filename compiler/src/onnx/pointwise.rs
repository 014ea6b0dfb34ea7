//! Fuses functions of functions of one value: the result is still one Lookup.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use super::context::Context;
use super::value::{Features, Source};
use crate::Error;
use crate::network::{Activation, Activations, Affine, Formula, Matrix, Sparse};

/// Maximum number of different activations of a fused stage: each is a table.
const MAX_KINDS: usize = 1024;
/// Memory of a term of a formula, in numbers.
const TERM: usize = 3;

/// Features that are each a function of one value before an activation.
struct Pointwise {
    /// Those values.
    base: Features,
    /// The function of each.
    formulas: Vec<Rc<Formula>>,
}

/// Activations of rows, without duplicates: each is identified by a key.
struct Kinds<K> {
    known: HashMap<K, u32>,
    kinds: Vec<Activation>,
    of: Vec<u32>,
}

impl<K> Default for Kinds<K> {
    fn default() -> Self {
        Self { known: HashMap::new(), kinds: Vec::new(), of: Vec::new() }
    }
}

impl<K: Eq + Hash> Kinds<K> {
    /// Adds a row's activation. `false` if there is none, or if there are too many.
    fn push(
        &mut self,
        cx: &mut Context<'_>,
        key: K,
        make: impl FnOnce() -> Option<Formula>,
    ) -> Result<bool, Error> {
        let kind = match self.known.get(&key) {
            Some(&kind) => kind,
            None if self.kinds.len() == MAX_KINDS => return Ok(false),
            None => {
                let Some(formula) = make() else { return Ok(false) };
                cx.allocate(&[formula.terms().len(), TERM])?;
                self.kinds.push(formula.into());
                self.known.insert(key, self.kinds.len() as u32 - 1);
                self.kinds.len() as u32 - 1
            }
        };
        self.of.push(kind);
        Ok(true)
    }

    fn activations(self) -> Activations {
        Activations::each(self.kinds, self.of).distinct()
    }
}

impl Context<'_> {
    /// Fuses activations with earlier activations of the features, if the features are activations that are only scaled
    /// and shifted.
    pub(super) fn fuse(
        &mut self,
        features: Features,
        activations: Activations,
    ) -> Result<(Features, Activations), Error> {
        // A sigmoid may still move to the client's head.
        if activations.uniform() == Some(&Activation::Sigmoid) {
            return Ok((features, activations));
        }
        let Some(Pointwise { base, formulas }) = self.pointwise(&features)? else {
            return Ok((features, activations));
        };
        let outer = activations.kinds().iter().map(Activation::formula);
        let Some(outer) = outer.collect::<Option<Vec<_>>>() else {
            return Ok((features, activations));
        };
        let mut fused = Kinds::default();
        for (row, formula) in formulas.iter().enumerate() {
            let kind = activations.index(row);
            let key = (Rc::as_ptr(formula), kind);
            if !fused.push(self, key, || outer[kind].after(formula))? {
                return Ok((features, activations));
            }
        }
        Ok((base, fused.activations()))
    }

    /// Features as functions of the values before their stage; `None` if they are not.
    fn pointwise(&mut self, features: &Features) -> Result<Option<Pointwise>, Error> {
        let Source::Activation(source, activations) = &self.import.stages[features.stage].source
        else {
            return Ok(None);
        };
        let work = activations.kinds().len().saturating_add(features.len());
        self.import.budget.work(work as u64)?;
        let formulas = activations.kinds().iter().map(Activation::formula);
        let Some(inner) = formulas.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let (source, activations) = (source.clone(), activations.clone());
        self.allocate(&[features.len(), 4])?;
        let mut known = HashMap::new();
        let (mut rows, mut formulas) = (Vec::new(), Vec::new());
        for r in 0..features.len() {
            let (column, scale, shift) = match &features.affine {
                None => (r, 1.0, 0.0),
                Some(affine) => {
                    let mut row = affine.matrix.row(r).filter(|&(_, weight)| weight != 0.0);
                    match (row.next(), row.next()) {
                        (Some((column, scale)), None) => (column, scale, affine.bias[r]),
                        _ => return Ok(None),
                    }
                }
            };
            rows.push(column);
            let kind = activations.index(column);
            let formula = known
                .entry((kind, scale.to_bits(), shift.to_bits()))
                .or_insert_with(|| Rc::new(inner[kind].clone().linear(scale, shift)));
            formulas.push(formula.clone());
            if known.len() > MAX_KINDS {
                return Ok(None);
            }
        }
        let base = if rows.iter().copied().eq(0..source.len()) {
            self.reshape(source, features.shape.clone())
        } else {
            self.select(source, &rows, features.shape.clone())?
        };
        Ok(Some(Pointwise { base, formulas }))
    }

    /// a · b, of the same shape: one Lookup if both are functions of the same value, else two.
    pub(super) fn product(&mut self, a: Features, b: Features) -> Result<Features, Error> {
        let identity = Rc::new(Formula::of(&[]));
        let plain = |features: &Features| Pointwise {
            base: features.clone(),
            formulas: vec![identity.clone(); features.len()],
        };
        self.allocate(&[a.len(), 4])?;
        let of_a = std::iter::once(plain(&a)).chain(self.pointwise(&a)?).collect::<Vec<_>>();
        let of_b = std::iter::once(plain(&b)).chain(self.pointwise(&b)?).collect::<Vec<_>>();
        for one in &of_a {
            for other in &of_b {
                if let Some(activations) = self.product_of(one, other)? {
                    let base = self.reshape(one.base.clone(), a.shape.clone());
                    return self.activate(base, activations);
                }
            }
        }
        // a·b is the difference of the squares of (a + b) / 2 and (a − b) / 2.
        let (count, shape) = (a.len(), a.shape.clone());
        let both = self.combine(vec![a, b])?;
        let pairs = |first: f64, second: [f64; 2]| {
            let mut matrix = Sparse::new(2 * count);
            for sign in second {
                for i in 0..count {
                    matrix.push(i, first);
                    matrix.push(count + i, sign);
                    matrix.end_row();
                }
            }
            Affine { matrix: Matrix::Sparse(matrix), bias: vec![0.0; 2 * count] }
        };
        self.allocate(&[count, 8])?;
        let halves = self.then(both, pairs(0.5, [0.5, -0.5]), vec![2 * count])?;
        let square = Formula::of(&[]).times_x();
        let squares = self.activate(halves, Activation::from(square))?;
        let difference = pairs(1.0, [-1.0, -1.0]).select(&(0..count).collect::<Vec<_>>());
        self.then(squares, difference, shape)
    }

    /// The product as activations of the base of `one`, if the base of `other` is a multiple of it.
    fn product_of(
        &mut self,
        one: &Pointwise,
        other: &Pointwise,
    ) -> Result<Option<Activations>, Error> {
        if one.base.stage != other.base.stage {
            return Ok(None);
        }
        let entries = |features: &Features| {
            features.affine.as_ref().map_or(features.len(), |affine| affine.matrix.entries())
        };
        self.import.budget.work((entries(&one.base) + entries(&other.base)) as u64)?;
        let mut products = Kinds::default();
        for row in 0..one.base.len() {
            let Some((scale, shift)) = multiple(&one.base, &other.base, row) else {
                return Ok(None);
            };
            let (f, g) = (&one.formulas[row], &other.formulas[row]);
            let key = (Rc::as_ptr(f), Rc::as_ptr(g), scale.to_bits(), shift.to_bits());
            let product = || f.times(&g.after(&Formula::of(&[]).linear(scale, shift))?);
            if !products.push(self, key, product)? {
                return Ok(None);
            }
        }
        Ok(Some(products.activations()))
    }
}

/// Scale and shift from a row of one to the same row of the other, if they exist. Compared up to rounding, because
/// exporters round factors to 32 bits.
fn multiple(one: &Features, other: &Features, row: usize) -> Option<(f64, f64)> {
    let rows = [one, other].map(|features| match &features.affine {
        None => (vec![(row, 1.0)], 0.0),
        Some(affine) => {
            let entries = affine.matrix.row(row).filter(|&(_, weight)| weight != 0.0);
            (entries.collect::<Vec<_>>(), affine.bias[row])
        }
    });
    let [(one, from), (other, to)] = rows;
    let scale = other.first()?.1 / one.first()?.1;
    let near = |(a, b): (&(usize, f64), &(usize, f64))| {
        a.0 == b.0 && (a.1 * scale - b.1).abs() <= 1e-12 * b.1.abs()
    };
    let same = one.len() == other.len() && one.iter().zip(&other).all(near);
    let scale = if (scale - 1.0).abs() < 1e-12 { 1.0 } else { scale };
    let shift = to - scale * from;
    let shift = if shift.abs() <= 1e-12 * to.abs() { 0.0 } else { shift };
    (same && scale.is_finite() && shift.is_finite()).then_some((scale, shift))
}
