//! Warnings about rows before they are encrypted.

use hermesh_client::cli::Rows;
use hermesh_client::model::Moved;
use hermesh_compiler::{Artifact, OutOfRange};

use super::{count, warn as say};

/// Warns about changed rows and about missing checks.
pub(super) fn warn(model: &Artifact, moved: Moved, rows: Rows) {
    if moved.clamped_values > 0 {
        let checked = model.whole().is_some() || model.client().vouches();
        let harmless = match checked && moved.rows_out_of_frame == 0 {
            true => ": the answers are as exact as stated",
            false => "",
        };
        say(&format!(
            "{} outside the calibrated range moved to its edge{harmless}",
            count(moved.clamped_values, "value")
        ));
    }
    if moved.rows_out_of_frame > 0 {
        say(&format!(
            "{} kept although the answers will be wrong",
            count(moved.rows_out_of_frame, "row")
        ));
    }
    if model.whole().is_none() && !model.client().vouches() && rows.policy() != OutOfRange::Keep {
        say(
            "this client model cannot check rows: rows unlike the calibration data may get wrong answers",
        );
    }
}
