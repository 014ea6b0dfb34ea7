//! Synthetic rows that differ from the calibration rows, to measure a program on.

use crate::domain::Domain;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Number of rows of each kind.
const ROWS: usize = 200;

/// Rows from a whole domain: drawn uniformly, at its corners, and calibration rows mirrored within it.
pub(crate) fn everywhere(domain: &Domain, rows: &[&[f64]], whole: &[bool]) -> Vec<Vec<Vec<f64>>> {
    let mut rng = StdRng::seed_from_u64(0);
    let features = domain.low.len();
    let draw = |rng: &mut StdRng, i: usize| {
        let x = rng.random_range(0.0..=1.0) * (domain.high[i] - domain.low[i]) + domain.low[i];
        if whole[i] { x.round().clamp(domain.low[i], domain.high[i]) } else { x }
    };
    let uniform = (0..ROWS).map(|_| (0..features).map(|i| draw(&mut rng, i)).collect()).collect();
    let corner = |rng: &mut StdRng, i: usize| {
        if rng.random_bool(0.5) { domain.low[i] } else { domain.high[i] }
    };
    let corners = (0..ROWS).map(|_| (0..features).map(|i| corner(&mut rng, i)).collect()).collect();
    let inverted = |row: &&[f64]| {
        let mirrored = row.iter().enumerate().map(|(i, x)| domain.low[i] + domain.high[i] - x);
        mirrored.collect::<Vec<f64>>()
    };
    let inverted = rows.iter().take(ROWS).map(inverted).collect();
    vec![uniform, corners, inverted]
}

/// Rows between calibration rows: each interpolates between two of them.
pub(crate) fn between(rows: &[&[f64]], whole: &[bool]) -> Vec<Vec<f64>> {
    let mut rng = StdRng::seed_from_u64(1);
    let one = |rng: &mut StdRng| {
        let (a, b) = (rng.random_range(0..rows.len()), rng.random_range(0..rows.len()));
        let part: f64 = rng.random_range(0.0..0.5);
        let mix =
            |((a, b), &whole): ((&f64, &f64), &bool)| if whole { *a } else { a + part * (b - a) };
        rows[a].iter().zip(rows[b]).zip(whole).map(mix).collect()
    };
    (0..ROWS).map(|_| one(&mut rng)).collect()
}
