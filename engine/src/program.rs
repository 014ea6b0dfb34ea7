//! Programs: the compiled form of a model.

use crate::codec::{Kind, Reader, Writer};
use crate::share::Share;
use crate::{Digest, Error, Outline, ParameterSet};
use serde::{Deserialize, Serialize};

/// Largest program that is decoded, in bytes.
pub const MAX_PROGRAM_BYTES: u64 = 64 << 20;
const MAX_STAGES: usize = 1024;
/// Largest number of values that enter or leave an operator, for one input row.
pub const MAX_WIDTH: usize = 1 << 16;

/// Limits on the memory of a job: the number of rows of an input, and the number of values over all rows at the widest
/// point of a program.
pub(crate) const MAX_ROWS: usize = 1024;
const MAX_VALUES: usize = 1 << 17;

/// How much the answer may differ from the plain computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// A Lookup returns f(x + e) for a small random error e.
    Approximate,
    /// All values are integers, and the answer equals that of integer arithmetic, except with the failure probability
    /// in the report. Outputs are multiples of 2^−`output_bits` of the torus.
    Exact {
        /// Bits of each output.
        output_bits: u32,
    },
}

/// An integer matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Matrix {
    /// All weights, row by row.
    Dense {
        /// Number of rows.
        rows: u32,
        /// Number of columns.
        columns: u32,
        /// `rows × columns` weights.
        weights: Vec<i32>,
    },
    /// Compressed sparse rows. Convolutions and poolings have this form.
    Sparse {
        /// Number of columns.
        columns: u32,
        /// Where each row starts in `indices` and `weights`, and where the last one ends.
        offsets: Vec<u32>,
        /// Column of each weight, ascending within a row.
        indices: Vec<u32>,
        /// The weights.
        weights: Vec<i32>,
    },
}

impl Matrix {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense { rows, .. } => *rows as usize,
            Self::Sparse { offsets, .. } => offsets.len().saturating_sub(1),
        }
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        match self {
            Self::Dense { columns, .. } | Self::Sparse { columns, .. } => *columns as usize,
        }
    }

    /// `(column, weight)` of each stored weight of a row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, i32)> + '_ {
        let (indices, weights) = match self {
            Self::Dense { columns, weights, .. } => {
                let start = row * *columns as usize;
                (None, &weights[start..start + *columns as usize])
            }
            Self::Sparse { offsets, indices, weights, .. } => {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                (Some(&indices[range.clone()]), &weights[range])
            }
        };
        weights.iter().enumerate().map(move |(i, &w)| (indices.map_or(i, |x| x[i] as usize), w))
    }

    /// Squared 2-norm of a row: the factor by which it multiplies the variance of noise.
    #[must_use]
    pub fn squared_norm(&self, row: usize) -> f64 {
        self.row(row).map(|(_, w)| f64::from(w) * f64::from(w)).sum()
    }

    fn check(&self) -> Result<(), String> {
        let size = |n: usize| (1..=MAX_WIDTH).contains(&n);
        match self {
            Self::Dense { rows, columns, weights } => {
                let expected = u64::from(*rows) * u64::from(*columns);
                if weights.len() as u64 != expected {
                    return Err(format!("{} weights instead of {rows} × {columns}", weights.len()));
                }
            }
            Self::Sparse { columns, offsets, indices, weights } => {
                let ends = (offsets.first(), offsets.last().map(|&o| o as usize));
                if ends != (Some(&0), Some(indices.len())) || indices.len() != weights.len() {
                    return Err("row offsets do not cover the weights".into());
                }
                if !offsets.is_sorted() {
                    return Err("row offsets are not ascending".into());
                }
                for row in offsets.windows(2) {
                    let indices = &indices[row[0] as usize..row[1] as usize];
                    let ascending = indices.windows(2).all(|pair| pair[0] < pair[1]);
                    if !ascending || indices.last().is_some_and(|last| last >= columns) {
                        return Err("column indices are out of order or range".into());
                    }
                }
            }
        }
        if !size(self.rows()) || !size(self.columns()) {
            return Err(format!("{} × {} is outside 1..={MAX_WIDTH}", self.rows(), self.columns()));
        }
        Ok(())
    }
}

/// The operator Linear: y = W·x + b, with an integer matrix W and a bias b. No bootstrap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linear {
    /// The weights.
    pub matrix: Matrix,
    /// Added to the value of each row: torus elements scaled by 2⁶⁴.
    pub bias: Vec<u64>,
}

/// The operator Lookup: y = T(x), one programmable bootstrap per value, with a lookup table T for each value.
///
/// A table of 2^t entries maps x in [0, ½) of the torus to entry ⌊x · 2^(t+1)⌋, and x in [½, 1) to the negative of its
/// result for x − ½.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// Entries: torus elements scaled by 2⁶⁴. All tables have the same length, a power of two of at most *N*.
    #[serde(with = "flat")]
    pub tables: Vec<Vec<u64>>,
    /// For each value the index of its table, or [`Lookup::PASS`].
    pub table_of: Vec<u32>,
}

impl Lookup {
    /// Instead of a table: the value passes the stage unchanged, without a bootstrap and with its noise. Not allowed in
    /// the first stage, whose values are under the input key, while later stages take values under the accumulator's
    /// key.
    pub const PASS: u32 = u32::MAX;

    /// The table of a value; `None` if the value passes.
    #[must_use]
    pub fn table(&self, value: usize) -> Option<&[u64]> {
        match self.table_of[value] {
            Self::PASS => None,
            table => Some(&self.tables[table as usize]),
        }
    }
}

/// A Linear and, in every stage except the last, the Lookup of its results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Applied first.
    pub linear: Linear,
    /// Applied to each of its results.
    pub lookup: Option<Lookup>,
}

/// Encodes tables as one list of entries and their length, so that a few bytes cannot allocate many tables.
mod flat {
    use super::MAX_WIDTH;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(tables: &[Vec<u64>], s: S) -> Result<S::Ok, S::Error> {
        let length = tables.first().map_or(0, Vec::len);
        (length as u32, tables.concat()).serialize(s)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(d: D) -> Result<Vec<Vec<u64>>, D::Error> {
        let (length, entries) = <(u32, Vec<u64>)>::deserialize(d)?;
        let length = length as usize;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        if length == 0 || !entries.len().is_multiple_of(length) {
            return Err(D::Error::custom("tables have no common length"));
        }
        // In memory a short table takes more than its encoding.
        if entries.len() / length > MAX_WIDTH {
            return Err(D::Error::custom("there are more tables than values to look up"));
        }
        Ok(entries.chunks_exact(length).map(<[u64]>::to_vec).collect())
    }
}

/// The form of a model that is evaluated on ciphertexts: stages, and the parameter set that they were compiled for.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    set: &'static ParameterSet,
    precision: Precision,
    stages: Vec<Stage>,
    /// For each stage: see [`Program::shares`].
    shares: Vec<Vec<Share>>,
    bytes: Vec<u8>,
    outline: Outline,
}

impl Program {
    /// Checks that the stages fit each other and the set, and encodes the program.
    ///
    /// # Errors
    /// [`Error::Malformed`] says which stage is wrong and why.
    pub fn new(
        set: &'static ParameterSet,
        precision: Precision,
        stages: Vec<Stage>,
    ) -> Result<Self, Error> {
        check_head(precision, stages.len())?;
        for (i, stage) in stages.iter().enumerate() {
            check_next(set, &stages[..i], stage, i + 1 == stages.len())?;
        }
        let encode = |e: postcard::Error| malformed(e.to_string());
        let mut writer = Writer::new(Kind::Program, set, 0);
        let head = (precision, stages.len() as u32);
        writer.bytes(&postcard::to_stdvec(&head).map_err(encode)?);
        for stage in &stages {
            writer.bytes(&postcard::to_stdvec(stage).map_err(encode)?);
        }
        let (bytes, digest) = writer.finish_named();
        Ok(Self::assemble(set, precision, stages, bytes, digest))
    }

    /// Decodes and checks a program.
    ///
    /// # Errors
    /// The bytes are not a well-formed program of at most [`MAX_PROGRAM_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::open(bytes, Kind::Program, MAX_PROGRAM_BYTES)?;
        let set = reader.set();
        let decode = |e: postcard::Error| malformed(e.to_string());
        let ((precision, count), mut rest): ((Precision, u32), _) =
            postcard::take_from_bytes(reader.rest()).map_err(decode)?;
        let count = count as usize;
        check_head(precision, count)?;
        let mut stages = Vec::new();
        for i in 0..count {
            let stage;
            (stage, rest) = postcard::take_from_bytes(rest).map_err(decode)?;
            // Checked immediately, so that at most one stage that is too large is ever in memory.
            check_next(set, &stages, &stage, i + 1 == count)?;
            stages.push(stage);
        }
        if !rest.is_empty() {
            return Err(malformed(format!("{} bytes are left over", rest.len())));
        }
        Ok(Self::assemble(set, precision, stages, bytes.to_vec(), reader.name()))
    }

    fn assemble(
        set: &'static ParameterSet,
        precision: Precision,
        stages: Vec<Stage>,
        bytes: Vec<u8>,
        digest: Digest,
    ) -> Self {
        let shares: Vec<Vec<Share>> = stages.iter().map(Stage::shares).collect();
        let widths = stages.iter().map(|stage| stage.linear.matrix.rows());
        let inputs = stages[0].linear.matrix.columns();
        let widest = widths.fold(inputs, usize::max);
        let lookups = stages.iter().zip(&shares).map(|(stage, shares)| bootstraps(stage, shares));
        let outline = Outline {
            parameter_set: set,
            digest,
            precision,
            inputs,
            outputs: stages.last().map_or(0, |stage| stage.linear.matrix.rows()),
            max_rows: (MAX_VALUES / widest).clamp(1, MAX_ROWS),
            lookups_per_row: lookups.sum(),
        };
        Self { set, precision, stages, shares, bytes, outline }
    }

    /// The program's digest and widths, without weights.
    #[must_use]
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// The program as bytes.
    #[must_use]
    pub fn encode(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`Self::encode`], which identifies the program. A program of an earlier format keeps the bytes that
    /// it was decoded from, and so its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.outline.digest
    }

    /// The program's parameter set.
    #[must_use]
    pub fn parameter_set(&self) -> &'static ParameterSet {
        self.set
    }

    /// The precision that the program was compiled for.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The stages, first to last.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// For each value of a stage: the value whose bootstrap it shares.
    pub(crate) fn shares(&self, stage: usize) -> &[Share] {
        &self.shares[stage]
    }

    /// Number of values in one input row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.outline.inputs
    }

    /// Number of values in the answer to one row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outline.outputs
    }

    /// Maximum number of rows of one input: 1 to 1024, fewer for wide programs.
    #[must_use]
    pub fn max_rows(&self) -> usize {
        self.outline.max_rows
    }

    /// Bootstraps of a stage for one input row. Not counted: values that pass, and values that share the bootstrap of
    /// the row before, which has the same weights and bias and a table that is a rotation of theirs.
    ///
    /// # Panics
    /// If there is no such stage.
    #[must_use]
    pub fn lookups(&self, stage: usize) -> usize {
        bootstraps(&self.stages[stage], &self.shares[stage])
    }

    /// Bootstraps of all stages for one input row.
    #[must_use]
    pub fn lookups_per_row(&self) -> usize {
        self.outline.lookups_per_row
    }

    /// Number of results of the widest stage of Lookups for one input row, including values that share a bootstrap or
    /// pass. It determines how much a job stores in queues.
    #[must_use]
    pub fn widest_lookup(&self) -> usize {
        let values = self.stages.iter().filter_map(|stage| stage.lookup.as_ref());
        values.map(|lookup| lookup.table_of.len()).max().unwrap_or(0)
    }

    /// Bytes of an encrypted input of this many rows.
    #[must_use]
    pub fn input_bytes(&self, rows: usize) -> usize {
        crate::input::input_bytes(rows, self.inputs())
    }

    /// Bytes of an encrypted answer of this many rows.
    #[must_use]
    pub fn answer_bytes(&self, rows: usize) -> usize {
        crate::answer::answer_bytes(rows, self.outputs())
    }

    /// Memory that the decoded program takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let shares: usize = self.shares.iter().map(|s| size_of_val(s.as_slice())).sum();
        self.bytes.len() + shares + self.stages.iter().map(Stage::memory_bytes).sum::<usize>()
    }
}

fn bootstraps(stage: &Stage, shares: &[Share]) -> usize {
    let looked_up =
        |value: usize| stage.lookup.as_ref().is_some_and(|lookup| lookup.table(value).is_some());
    let shares = shares.iter().enumerate();
    shares.filter(|&(value, share)| share.leader == value && looked_up(value)).count()
}

impl Stage {
    fn memory_bytes(&self) -> usize {
        let matrix = match &self.linear.matrix {
            Matrix::Dense { weights, .. } => size_of_val(weights.as_slice()),
            Matrix::Sparse { offsets, indices, weights, .. } => {
                4 * (offsets.len() + indices.len() + weights.len())
            }
        };
        let lookup = self.lookup.as_ref().map_or(0, |lookup| {
            let entries: usize = lookup.tables.iter().map(Vec::len).sum();
            8 * entries + 24 * lookup.tables.len() + 4 * lookup.table_of.len()
        });
        matrix + 8 * self.linear.bias.len() + lookup
    }
}

fn malformed(why: impl Into<String>) -> Error {
    Error::Malformed { what: Kind::Program.name(), why: why.into() }
}

fn check_head(precision: Precision, stages: usize) -> Result<(), Error> {
    if let Precision::Exact { output_bits } = precision
        && !(1..=24).contains(&output_bits)
    {
        return Err(malformed(format!("{output_bits} output bits are outside 1..=24")));
    }
    if !(1..=MAX_STAGES).contains(&stages) {
        return Err(malformed(format!("{stages} stages are outside 1..={MAX_STAGES}")));
    }
    Ok(())
}

/// Checks the stage that follows those in `before`.
fn check_next(
    set: &ParameterSet,
    before: &[Stage],
    stage: &Stage,
    last: bool,
) -> Result<(), Error> {
    let width = before.last().map(|stage| stage.linear.matrix.rows());
    check_stage(set, stage, width, last)
        .and_then(|()| check_passes(stage, before.is_empty()))
        .map_err(|why| malformed(format!("stage {}: {why}", before.len())))
}

fn check_passes(stage: &Stage, first: bool) -> Result<(), String> {
    let mut tables = stage.lookup.iter().flat_map(|lookup| &lookup.table_of);
    if first && tables.any(|&table| table == Lookup::PASS) {
        return Err("values cannot pass the first stage: later stages take another key".into());
    }
    Ok(())
}

fn check_stage(
    set: &ParameterSet,
    stage: &Stage,
    width: Option<usize>,
    last: bool,
) -> Result<(), String> {
    let Linear { matrix, bias } = &stage.linear;
    matrix.check()?;
    if width.is_some_and(|width| width != matrix.columns()) {
        return Err(format!(
            "takes {} values, but the stage before makes {}",
            matrix.columns(),
            width.unwrap_or_default()
        ));
    }
    if bias.len() != matrix.rows() {
        return Err(format!("{} biases for {} rows", bias.len(), matrix.rows()));
    }
    let lookup = match (&stage.lookup, last) {
        (None, true) => return Ok(()),
        (Some(lookup), false) => lookup,
        _ => return Err("every stage but the last has a Lookup".into()),
    };
    let bootstrap =
        set.bootstrap.ok_or_else(|| format!("parameter set {} has no Lookups", set.name))?;
    if lookup.table_of.len() != matrix.rows() {
        return Err(format!("{} Lookups for {} rows", lookup.table_of.len(), matrix.rows()));
    }
    if lookup.tables.len() > matrix.rows() {
        return Err(format!("{} tables for {} rows", lookup.tables.len(), matrix.rows()));
    }
    let mut used = lookup.table_of.iter().filter(|&&t| t != Lookup::PASS);
    if used.any(|&t| t as usize >= lookup.tables.len()) {
        return Err("a Lookup refers to a missing table".into());
    }
    // All values pass.
    if lookup.tables.is_empty() {
        return Ok(());
    }
    let size = bootstrap.polynomial_size;
    let length = lookup.tables.first().map_or(0, Vec::len);
    if !length.is_power_of_two() || length > size || lookup.tables.iter().any(|t| t.len() != length)
    {
        return Err(format!("tables do not have one length that is a power of two up to {size}"));
    }
    Ok(())
}
