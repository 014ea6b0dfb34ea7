//! Synthetic rows that resemble the calibration rows, for measurements with few other rows.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// `count` smoothed calibration rows: every value that occurs only once is drawn anew from the interval between the
/// midpoints to its neighbours, a smoothed bootstrap (Silverman and Young, "The bootstrap: to smooth or not to
/// smooth?", 1987). A grid made from the rows has points between all their values, so it looks better on the rows
/// themselves than it is. A row that is used again takes each value from itself or from another row, because a few rows
/// alone may all be far from where the answer changes. Whole numbers stay unchanged. The same rows give the same
/// result.
pub(super) fn rows(rows: &[&[f64]], count: usize) -> Vec<Vec<f64>> {
    let mut rng = StdRng::seed_from_u64(0);
    let features = rows.first().map_or(0, |row| row.len());
    let mut smoothed: Vec<Vec<f64>> = (0..count)
        .map(|i| {
            let mut row = rows[i % rows.len()].to_vec();
            if i >= rows.len() {
                let other = rows[rng.random_range(0..rows.len())];
                row.iter_mut().zip(other).filter(|_| rng.random()).for_each(|(x, &y)| *x = y);
            }
            row
        })
        .collect();
    for feature in 0..features {
        let mut column: Vec<f64> = rows.iter().map(|row| row[feature]).collect();
        if column.iter().all(|x| x.fract() == 0.0) {
            continue;
        }
        column.sort_unstable_by(f64::total_cmp);
        for row in &mut smoothed {
            let x = row[feature];
            let (at, end) =
                (column.partition_point(|&y| y < x), column.partition_point(|&y| y <= x));
            if end - at > 1 {
                continue;
            }
            let halfway =
                |i: Option<usize>| i.and_then(|i| column.get(i)).map_or(x, |&y| x / 2.0 + y / 2.0);
            let (low, high) = (halfway(at.checked_sub(1)), halfway(Some(end)));
            let part = rng.random::<f64>();
            row[feature] = low * (1.0 - part) + high * part;
        }
    }
    smoothed
}
