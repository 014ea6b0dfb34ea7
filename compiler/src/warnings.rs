//! Warnings about calibration data that is too small or too uniform.

use std::collections::HashSet;

use crate::Error;
use crate::calibration::{Span, one_range};
use crate::client::interpret;
use crate::network::{Label, Network};

/// Fewer rows show little about the ranges of values.
const FEW_ROWS: usize = 100;
/// A feature is nearly constant if at most this part of the rows has another value.
const RARE: f64 = 0.005;
/// Maximum number of features that are listed.
const NAMED: usize = 8;

/// One sentence for each problem.
pub(crate) fn of(
    network: &Network,
    rows: &[&[f64]],
    labels: Option<&[Label]>,
    held_out: bool,
) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    if rows.len() < FEW_ROWS {
        warnings.push(format!(
            "{} calibration {}: ranges and accuracy are unreliable; use at least {FEW_ROWS}, better 1000",
            rows.len(),
            if rows.len() == 1 { "row" } else { "rows" }
        ));
    }
    if !held_out {
        warnings.push(
            "accuracy is measured on the calibration rows themselves, which overestimates it; from 200 rows on, half are kept \
             out for it"
                .into(),
        );
    }
    let (mut constant, mut rare) = (Vec::new(), Vec::new());
    for feature in 0..network.inputs {
        let first = rows.first().map_or(0.0, |row| row[feature]);
        let other = rows.iter().filter(|row| row[feature] != first).count();
        let least = other.min(rows.len() - other);
        match (other, least as f64 <= RARE * rows.len() as f64) {
            (0, _) => constant.push(feature),
            // The first row may have the rare value.
            (_, true) if is_rare(rows, feature) => rare.push(feature),
            _ => {}
        }
    }
    // Features in one unit (for example pixels) share one range, also a pixel at the edge that never changes.
    let one_unit = in_one_unit(rows);
    for (features, what) in [(constant, "constant"), (rare, "nearly constant")] {
        if features.is_empty() || one_unit {
            continue;
        }
        warnings.push(format!(
            "{} in the calibration rows: {}; rows in which {} differ may be refused or answered wrongly: add rows that \
             show what {} can be",
            what,
            named(&features),
            if features.len() == 1 { "it" } else { "they" },
            if features.len() == 1 { "it" } else { "they" },
        ));
    }
    let mut seen = HashSet::new();
    for row in rows.iter().take(1000) {
        seen.extend(interpret(&network.head, &network.evaluate(row)?).label);
    }
    if seen.len() == 1 && rows.len() > 1 {
        warnings.push(
            "the model gives all calibration rows the same label: agreement on them says nothing; add rows of every class"
                .into(),
        );
    }
    if labels
        .is_some_and(|labels| labels.iter().collect::<HashSet<_>>().len() == 1 && labels.len() > 1)
    {
        warnings.push(
            "all calibration labels are the same: accuracy says nothing; add rows of every class"
                .into(),
        );
    }
    Ok(warnings)
}

fn in_one_unit(rows: &[&[f64]]) -> bool {
    let spans = Span::of_columns(rows);
    spans.len() > 1 && one_range(&spans).is_some()
}

fn is_rare(rows: &[&[f64]], feature: usize) -> bool {
    let mut values: Vec<f64> = rows.iter().map(|row| row[feature]).collect();
    values.sort_by(f64::total_cmp);
    let middle = values[values.len() / 2];
    let other = values.iter().filter(|&&x| x != middle).count();
    other > 0 && other as f64 <= RARE * rows.len() as f64
}

fn named(features: &[usize]) -> String {
    let mut text = if features.len() == 1 { "feature " } else { "features " }.to_owned();
    let names: Vec<String> = features.iter().take(NAMED).map(usize::to_string).collect();
    text.push_str(&names.join(", "));
    if features.len() > NAMED {
        text.push_str(&format!(" and {} more", features.len() - NAMED));
    }
    text
}
