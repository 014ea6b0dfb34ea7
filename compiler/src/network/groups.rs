//! Which rows of a convolution are the same, so that one lookup table serves them all.

use super::affine::Affine;

/// More kinds of row than this in one channel and the rows are not a convolution's.
const MAX_GROUPS_PER_CHANNEL: usize = 16;

/// Most comparisons of weights, for each kind of row: rows of a convolution are all of about one length, so that this
/// is about the number of its weights. One long row among many short ones is no convolution's.
const MAX_COMPARISONS: usize = 1 << 27;

/// Numbers the rows of `affine` so that rows of one number have the same bias and the same weights up to a shift of
/// their columns, where a row may lack the weights that fell on padding. `plane` rows make one channel. `None` if the
/// rows have nothing in common.
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

/// Whether the values of row `r` are those of row `model` with some left out.
fn is_part(affine: &Affine, r: usize, model: usize) -> bool {
    let mut rest = affine.matrix.row(model).map(|(_, value)| value);
    affine.bias[r] == affine.bias[model]
        && affine.matrix.row(r).all(|(_, value)| rest.any(|other| other == value))
}
