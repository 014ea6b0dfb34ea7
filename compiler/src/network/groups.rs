//! Groups equal rows of a convolution, so that one lookup table serves each group.

use super::affine::Affine;

/// With more kinds of row in one channel, the rows are not those of a convolution.
const MAX_GROUPS_PER_CHANNEL: usize = 16;

/// Maximum comparisons of weights for each kind of row. Rows of a convolution have similar lengths, so this is about
/// the number of its weights; one long row among many short ones is not a convolution.
const MAX_COMPARISONS: usize = 1 << 27;

/// Numbers the rows of `affine` so that rows with one number have the same bias and the same weights up to a shift of
/// their columns. A row may lack the weights that fall on padding. `plane` rows make one channel. `None` if no rows are
/// equal.
pub(crate) fn shared_rows(affine: &Affine, plane: usize) -> Option<Vec<u32>> {
    if plane < 2 {
        return None;
    }
    let starts = (0..affine.rows()).step_by(plane);
    let comparisons = starts.map(|start| {
        let rows = start..affine.rows().min(start + plane);
        let longest = rows.clone().map(|r| affine.matrix.row(r).len()).max();
        rows.len().saturating_mul(longest.unwrap_or_default())
    });
    if comparisons.fold(0, usize::saturating_add) > MAX_COMPARISONS {
        return None;
    }
    let mut groups = vec![0; affine.rows()];
    let mut next = 0;
    for start in (0..affine.rows()).step_by(plane) {
        let mut rows = (start..affine.rows().min(start + plane)).collect::<Vec<_>>();
        // The longest rows first: the others are parts of them.
        rows.sort_by_key(|&r| std::cmp::Reverse(affine.matrix.row(r).len()));
        let mut models: Vec<usize> = Vec::new();
        for r in rows {
            let known = models.iter().position(|&model| is_part(affine, r, model));
            let group = known.unwrap_or(models.len());
            if known.is_none() {
                models.push(r);
                if models.len() > MAX_GROUPS_PER_CHANNEL {
                    return None;
                }
            }
            groups[r] = next + group as u32;
        }
        next += models.len() as u32;
    }
    ((next as usize) < affine.rows()).then_some(groups)
}

/// Whether the weights of row `r` are those of row `model` with some left out, and the biases are equal.
fn is_part(affine: &Affine, r: usize, model: usize) -> bool {
    let mut rest = affine.matrix.row(model).map(|(_, value)| value);
    affine.bias[r] == affine.bias[model]
        && affine.matrix.row(r).all(|(_, value)| rest.any(|other| other == value))
}
