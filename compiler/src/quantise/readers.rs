//! The later layers that read a value that passes a layer. Its scale is chosen with their weights in mind.

use std::collections::HashMap;

use super::rows::Rows;
use crate::calibration::Spans;
use crate::network::Network;

/// A row of a later layer that reads a value that passes this one.
pub(super) struct Reader {
    pub(super) column: usize,
    pub(super) weight: f64,
    /// The value of one turn of the reading row.
    pub(super) turn: f64,
    /// Number of rows of its layer.
    pub(super) rows: usize,
}

/// The readers of all values that pass layer `i`. The scale of these values is that of their encoding before the layer.
pub(super) fn readers(network: &Network, spans: &Spans, i: usize, rows: &Rows<'_>) -> Vec<Reader> {
    let passing = (0..rows.layer.affine.rows()).filter_map(|r| Some((r, rows.passing(r)?)));
    let mut carried = passing.collect::<HashMap<_, _>>();
    let mut readers = Vec::new();
    for (j, layer) in network.layers.iter().enumerate().skip(i + 1) {
        if carried.is_empty() {
            break;
        }
        let reading = Rows {
            layer,
            spans: &spans.before[j],
            before: &spans.after[j - 1],
            whole_turn: j + 1 == network.layers.len(),
            accumulator: rows.accumulator,
            noise: &[],
            passed: &[],
            waves: &[],
            correlation: None,
            first: false,
            turn_of_sums: None,
            readers: Vec::new(),
        };
        let mut still = HashMap::new();
        for r in 0..layer.affine.rows() {
            if let Some(column) = reading.passing(r) {
                still.extend(carried.get(&column).map(|&column| (r, column)));
                continue;
            }
            let entries = layer.affine.matrix.row(r).filter(|&(_, weight)| weight != 0.0);
            let mut entries =
                entries.filter_map(|(c, weight)| Some((*carried.get(&c)?, weight))).peekable();
            if entries.peek().is_some() {
                let (turn, rows) = (reading.frame(r).1, layer.affine.rows());
                let reader = |(column, weight)| Reader { column, weight, turn, rows };
                readers.extend(entries.map(reader));
            }
        }
        carried = still;
    }
    readers
}
