//! What people are told of rows before they are encrypted.

use hermesh_client::cli::Rows;
use hermesh_client::model::Moved;
use hermesh_compiler::{Artifact, OutOfRange};

use super::{count, warn as say};

/// Says on standard error what was done to rows, and what could not be checked.
pub(super) fn warn(model: &Artifact, moved: Moved, rows: Rows) {
    if moved.clamped_values > 0 {
        say(&format!(
            "{} beyond the calibrated span moved to its edge; the answers hold all the same",
            count(moved.clamped_values, "value")
        ));
    }
    if moved.rows_out_of_frame > 0 {
        say(&format!(
            "{} kept although the answer will be wrong",
            count(moved.rows_out_of_frame, "row")
        ));
    }
    if model.whole().is_none() && !model.client().vouches() && rows.policy() != OutOfRange::Keep {
        say(
            "this client's half of the model cannot check rows: rows unlike those that the model was \
             calibrated on may be answered wrongly",
        );
    }
}
