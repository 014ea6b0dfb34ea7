//! Evaluates a program in the clear, on the torus, with or without predicted noise.

use crate::noise::{StageNoise, fresh};
use crate::{Lookup, Program};

/// The noise of a simulation.
pub enum Noise<'a> {
    /// No noise: the reference that an `exact` answer equals.
    Absent,
    /// Normal noise of the predicted variances.
    Predicted {
        /// [`Program::noise`].
        stages: &'a [StageNoise],
        /// Standard normal values.
        normal: &'a mut dyn FnMut() -> f64,
    },
}

impl Lookup {
    /// The result for torus element `x` (scaled by 2⁶⁴) at `index`: the entry of its table, or `x` if it passes.
    #[must_use]
    pub fn entry(&self, index: usize, x: u64) -> u64 {
        let Some(table) = self.table(index) else {
            return x;
        };
        let entry = table[((x << 1) >> 1 >> (63 - table.len().ilog2())) as usize];
        if x >> 63 == 0 { entry } else { entry.wrapping_neg() }
    }
}

/// The torus element of a real number: `x` modulo 1, scaled by 2⁶⁴.
#[must_use]
pub fn torus(x: f64) -> u64 {
    // The fraction is below 1 in absolute value, so this fits i128.
    ((x - x.round()) * 18_446_744_073_709_551_616.0) as i128 as u64
}

impl Program {
    /// Evaluates one row of torus elements (scaled by 2⁶⁴) in the clear.
    ///
    /// # Panics
    /// If the row does not have [`Program::inputs`] values.
    #[must_use]
    pub fn simulate(&self, row: &[u64], noise: &mut Noise<'_>) -> Vec<u64> {
        assert_eq!(row.len(), self.inputs(), "values in the row");
        let mut values = row.to_vec();
        if let Noise::Predicted { normal, .. } = &mut *noise {
            let fresh = fresh(self.parameter_set()).sqrt();
            values.iter_mut().for_each(|x| *x = x.wrapping_add(torus(fresh * normal())));
        }
        for (i, stage) in self.stages().iter().enumerate() {
            let matrix = &stage.linear.matrix;
            let shares = self.shares(i);
            let mut sums: Vec<u64> = Vec::with_capacity(matrix.rows());
            for r in 0..matrix.rows() {
                // Values that share a bootstrap have the same noise.
                if let Some(&shared) = shares.get(r).and_then(|share| sums.get(share.leader)) {
                    sums.push(shared);
                    continue;
                }
                let mut sum = matrix.row(r).fold(stage.linear.bias[r], |sum, (c, w)| {
                    sum.wrapping_add(values[c].wrapping_mul(i64::from(w) as u64))
                });
                let passes = stage.lookup.as_ref().is_some_and(|l| l.table(r).is_none());
                if let (Noise::Predicted { stages, normal }, false) = (&mut *noise, passes) {
                    sum = sum.wrapping_add(torus(stages[i].added.sqrt() * normal()));
                }
                sums.push(sum);
            }
            values = sums;
            let Some(lookup) = &stage.lookup else {
                continue;
            };
            for (index, value) in values.iter_mut().enumerate() {
                *value = lookup.entry(index, *value);
                if let (Noise::Predicted { stages, normal }, Some(_)) =
                    (&mut *noise, lookup.table(index))
                {
                    *value = value.wrapping_add(torus(stages[i].output.sqrt() * normal()));
                }
            }
        }
        values
    }
}
