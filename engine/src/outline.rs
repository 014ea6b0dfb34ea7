//! The outline of a program: its digest and its widths, without weights.

use crate::{Digest, ParameterSet, Precision, Program};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A program without its weights. Encrypting an input and decrypting an answer need no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outline {
    /// The program's parameter set.
    #[serde(serialize_with = "write_set", deserialize_with = "read_set")]
    pub parameter_set: &'static ParameterSet,
    /// The program's digest, which identifies it.
    pub digest: Digest,
    /// See [`Program::precision`].
    pub precision: Precision,
    /// See [`Program::inputs`].
    pub inputs: usize,
    /// See [`Program::outputs`].
    pub outputs: usize,
    /// See [`Program::max_rows`].
    pub max_rows: usize,
    /// See [`Program::lookups_per_row`].
    pub lookups_per_row: usize,
}

impl Outline {
    /// Checks that the widths are valid for a program.
    ///
    /// # Errors
    /// [`crate::Error::Malformed`] if a width or the number of rows is out of range.
    pub fn validate(&self) -> Result<(), crate::Error> {
        let width = |n: usize| (1..=crate::MAX_WIDTH).contains(&n);
        let rows = (1..=crate::program::MAX_ROWS).contains(&self.max_rows);
        if !width(self.inputs) || !width(self.outputs) || !rows {
            return Err(crate::Error::Malformed {
                what: "the outline of a program",
                why: format!(
                    "{} inputs, {} outputs, {} rows",
                    self.inputs, self.outputs, self.max_rows
                ),
            });
        }
        Ok(())
    }

    /// See [`Program::input_bytes`].
    #[must_use]
    pub fn input_bytes(&self, rows: usize) -> usize {
        crate::input::input_bytes(rows, self.inputs)
    }

    /// See [`Program::answer_bytes`].
    #[must_use]
    pub fn answer_bytes(&self, rows: usize) -> usize {
        crate::answer::answer_bytes(rows, self.outputs)
    }
}

impl AsRef<Outline> for Outline {
    fn as_ref(&self) -> &Outline {
        self
    }
}

impl AsRef<Outline> for Program {
    fn as_ref(&self) -> &Outline {
        self.outline()
    }
}

fn write_set<S: Serializer>(set: &&'static ParameterSet, s: S) -> Result<S::Ok, S::Error> {
    set.id.serialize(s)
}

fn read_set<'a, D: Deserializer<'a>>(d: D) -> Result<&'static ParameterSet, D::Error> {
    let id = u16::deserialize(d)?;
    ParameterSet::by_id(id)
        .ok_or_else(|| D::Error::custom(format_args!("parameter set {id} is not in the catalogue")))
}
