//! Exact sums of a program without wrapping around, for one row or as intervals.
//!
//! A sum is a fraction of the torus, where 1.1 turns and 0.1 turns are the same. A program is therefore only correct if
//! no sum leaves its frame: [0, ½) at a lookup table, [−½, ½) for an output. This module computes sums as integers that
//! do not wrap around, for one row ([`Program::trace`]) or for all rows of a domain ([`Program::reach`]). Callers
//! compare them with the frames. Noise is not included.
//!
//! Sums and values are integers in units of 2⁻⁶⁴ turns. A table entry is read as its representative in [−½, ½) of a
//! turn. A bias is read in the same way, plus the whole turns given with it.

use crate::{Lookup, Program, Stage};

/// Lowest and highest value, both included.
pub type Interval = (i128, i128);

/// Frame of a sum at a lookup table: [0, ½) in units of 2⁻⁶⁴ turns, both ends included.
pub const LOOKUP_FRAME: Interval = (0, (1 << 63) - 1);
/// Frame of an output: [−½, ½) in units of 2⁻⁶⁴ turns, both ends included.
pub const OUTPUT_FRAME: Interval = (-(1 << 63), (1 << 63) - 1);

impl Program {
    /// The sums of every stage for one input row, exact and without wrapping around. `turns[s][r]` is the number of
    /// whole turns of bias r of stage s.
    ///
    /// # Panics
    /// If the row does not have [`Program::inputs`] values, or `turns` lacks a bias.
    #[must_use]
    pub fn trace(&self, row: &[i128], turns: &[Vec<i32>]) -> Vec<Vec<i128>> {
        assert_eq!(row.len(), self.inputs(), "values in the row");
        let mut values = row.to_vec();
        let mut trace = Vec::with_capacity(self.stages().len());
        for (stage, turns) in self.stages().iter().zip(turns) {
            let sums: Vec<i128> = (0..stage.linear.matrix.rows())
                .map(|r| {
                    let row = stage.linear.matrix.row(r);
                    row.fold(stage.bias(r, turns[r]), |sum, (c, w)| {
                        sum.wrapping_add(values[c].wrapping_mul(i128::from(w)))
                    })
                })
                .collect();
            if let Some(lookup) = &stage.lookup {
                values =
                    sums.iter().enumerate().map(|(r, &sum)| looked_up(lookup, r, sum)).collect();
            }
            trace.push(sums);
        }
        trace
    }

    /// Bounds on the sums of every stage, by interval arithmetic, for all rows whose inputs lie in the given intervals.
    /// `turns` as in [`Program::trace`].
    ///
    /// # Panics
    /// If the number of intervals is not [`Program::inputs`], or `turns` lacks a bias.
    #[must_use]
    pub fn reach(&self, inputs: &[Interval], turns: &[Vec<i32>]) -> Vec<Vec<Interval>> {
        assert_eq!(inputs.len(), self.inputs(), "intervals");
        let mut values = inputs.to_vec();
        let mut reach = Vec::with_capacity(self.stages().len());
        for (stage, turns) in self.stages().iter().zip(turns) {
            let sums: Vec<Interval> = (0..stage.linear.matrix.rows())
                .map(|r| {
                    let bias = stage.bias(r, turns[r]);
                    stage.linear.matrix.row(r).fold((bias, bias), |(low, high), (c, w)| {
                        let ends = [values[c].0, values[c].1].map(|x| x.wrapping_mul(w.into()));
                        let (least, most) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
                        (low.saturating_add(least), high.saturating_add(most))
                    })
                })
                .collect();
            if let Some(lookup) = &stage.lookup {
                values = sums.iter().enumerate().map(|(r, &sum)| image(lookup, r, sum)).collect();
            }
            reach.push(sums);
        }
        reach
    }
}

impl Stage {
    fn bias(&self, row: usize, turns: i32) -> i128 {
        i128::from(self.linear.bias[row] as i64) + (i128::from(turns) << 64)
    }
}

fn looked_up(lookup: &Lookup, index: usize, sum: i128) -> i128 {
    match lookup.table(index) {
        Some(_) => i128::from(lookup.entry(index, sum as u64) as i64),
        None => sum,
    }
}

/// The range of a Lookup's results for sums in an interval.
fn image(lookup: &Lookup, index: usize, (low, high): Interval) -> Interval {
    let Some(table) = lookup.table(index) else {
        return (low, high);
    };
    let shift = 63 - table.len().ilog2();
    let inside = LOOKUP_FRAME.0 <= low && high <= LOOKUP_FRAME.1;
    let entries = match inside {
        true => &table[(low >> shift) as usize..=(high >> shift) as usize],
        false => table,
    };
    let ends = entries.iter().map(|&entry| i128::from(entry as i64));
    let (least, most) = ends.fold((i128::MAX, i128::MIN), |(l, h), x| (l.min(x), h.max(x)));
    // A sum outside the frame can also select negated entries.
    if inside { (least, most) } else { (least.min(-most), most.max(-least)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::INSECURE_TEST;
    use crate::{Linear, Matrix, Noise, Precision};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn no_turns() -> Vec<Vec<i32>> {
        vec![vec![0; 3], vec![0; 2]]
    }

    fn program(rng: &mut StdRng) -> Program {
        let linear = |rng: &mut StdRng, rows: u32, columns: u32, most: i32, bias: u64| Linear {
            matrix: Matrix::Dense {
                rows,
                columns,
                weights: (0..rows * columns).map(|_| rng.random_range(-most..=most)).collect(),
            },
            bias: (0..rows).map(|_| bias).collect(),
        };
        let tables = (0..2).map(|_| (0..64).map(|_| rng.random_range(0..1u64 << 58)).collect());
        let lookup = Lookup { tables: tables.collect(), table_of: vec![0, 1, 1] };
        let stages = vec![
            Stage { linear: linear(rng, 3, 4, 9, 1 << 62), lookup: Some(lookup) },
            Stage { linear: linear(rng, 2, 3, 40, 0), lookup: None },
        ];
        Program::new(&INSECURE_TEST, Precision::Approximate, stages).unwrap()
    }

    #[test]
    fn a_trace_is_the_simulation_that_does_not_go_round_and_lies_within_the_reach() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut left_a_frame = 0;
        for _ in 0..50 {
            let program = program(&mut rng);
            let most = 1i128 << 59;
            let reach = program.reach(&[(0, most); 4], &no_turns());
            for _ in 0..50 {
                let row: Vec<i128> = (0..4).map(|_| rng.random_range(0..=most)).collect();
                let torus: Vec<u64> = row.iter().map(|&x| x as u64).collect();
                let trace = program.trace(&row, &no_turns());
                let outputs: Vec<u64> = trace[1].iter().map(|&x| x as u64).collect();
                assert_eq!(outputs, program.simulate(&torus, &mut Noise::Absent));
                for (sums, bounds) in trace.iter().flatten().zip(reach.iter().flatten()) {
                    assert!((bounds.0..=bounds.1).contains(sums), "{sums} {bounds:?}");
                }
                let outside = |sum: &i128| *sum < LOOKUP_FRAME.0 || *sum > LOOKUP_FRAME.1;
                left_a_frame += usize::from(trace[0].iter().any(outside));
            }
        }
        assert!(left_a_frame > 100, "{left_a_frame} rows");
    }

    #[test]
    fn bounds_are_met_at_the_corners_of_the_domain() {
        let mut rng = StdRng::seed_from_u64(2);
        let program = program(&mut rng);
        let domain = [(-5, 7), (0, 1 << 59), (3, 3), (-(1 << 58), 0)];
        let turns = vec![vec![3; 3], vec![-2; 2]];
        let reach = program.reach(&domain, &turns);
        for (r, &bounds) in reach[0].iter().enumerate() {
            let corner = |highest: bool| -> Vec<i128> {
                let row = program.stages()[0].linear.matrix.row(r).zip(domain);
                row.map(|((_, w), (low, high))| if (w > 0) == highest { high } else { low })
                    .collect()
            };
            let ends = [false, true].map(|highest| program.trace(&corner(highest), &turns)[0][r]);
            assert_eq!((ends[0], ends[1]), bounds);
        }
    }
}
