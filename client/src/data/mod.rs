//! Reads inputs (X) and labels (Y) from files: `.npy`, IDX, or delimited text, plain or gzip-compressed. The format is
//! recognised by content.
//!
//! Files may be hostile, so readers are strict: sizes are limited and checked against the bytes present before any
//! allocation, and every mismatch is an error that states what was expected.

mod array;
mod delimited;
mod idx;
mod npy;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use zeroize::{Zeroize, Zeroizing};

pub use npy::{write_floats, write_integers};

use crate::{Error, Result};

/// Rows of numbers. They are zeroized when the table is dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Number of rows (samples); at least one.
    pub rows: usize,
    /// Numbers in one row: the product of `shape`; at least one.
    pub columns: usize,
    /// Dimensions of one row as the file has them, `[28, 28]` for a picture; `[columns]` for text.
    pub shape: Vec<usize>,
    /// `rows * columns` finite numbers, row after row, trailing dimensions flattened in C order.
    pub values: Vec<f64>,
    /// True if the file holds bytes, as pictures do: all values are from 0 to 255.
    pub bytes: bool,
}

impl Drop for Table {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

impl Table {
    /// One row of numbers.
    pub fn of_row(row: &[f64]) -> Self {
        let columns = row.len();
        Self { rows: 1, columns, shape: vec![columns], values: row.to_vec(), bytes: false }
    }

    /// The selected rows, in this order.
    pub fn select(&self, rows: &[usize]) -> Self {
        let values = rows.iter().filter_map(|&row| self.row(row)).flatten().copied().collect();
        let (columns, shape, bytes) = (self.columns, self.shape.clone(), self.bytes);
        Self { rows: rows.len(), columns, shape, values, bytes }
    }

    /// One row; `None` beyond the last.
    pub fn row(&self, index: usize) -> Option<&[f64]> {
        self.values.chunks_exact(self.columns).nth(index)
    }
}

/// One label per row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Class numbers.
    Integers(Vec<i64>),
    /// Class names.
    Names(Vec<String>),
}

impl Labels {
    /// Number of labels.
    pub fn len(&self) -> usize {
        match self {
            Self::Integers(labels) => labels.len(),
            Self::Names(labels) => labels.len(),
        }
    }

    /// True if there are no labels; readers never return that.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Limits of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Limit on the decompressed file and on the array in memory, in bytes each.
    pub bytes: u64,
    /// Keep only this many rows from the start; all if `None`. The whole file is checked.
    pub rows: Option<usize>,
}

impl Default for Limits {
    /// 1 GiB, all rows.
    fn default() -> Self {
        Self { bytes: 1 << 30, rows: None }
    }
}

impl Limits {
    fn keep(&self, rows: usize) -> usize {
        self.rows.map_or(rows, |limit| rows.min(limit))
    }

    /// A name in memory takes about 64 bytes: the string, its allocation and a few letters.
    fn check_names(&self, rows: usize) -> Result<()> {
        self.check_table(rows, 8)
    }

    fn check_table(&self, rows: usize, columns: usize) -> Result<()> {
        let bytes = (rows as u128) * (columns as u128) * 8;
        if bytes > u128::from(self.bytes) {
            return Err(Error::TableTooLarge { rows, columns, limit: self.bytes });
        }
        Ok(())
    }
}

/// Reads inputs from a file. An array of one dimension is one row.
pub fn read_table(path: &Path, limits: Limits) -> Result<Table> {
    open(path).and_then(|file| table_from(file, limits)).map_err(Error::in_file(path))
}

/// Reads labels from a file: one column of integers or strings.
pub fn read_labels(path: &Path, limits: Limits) -> Result<Labels> {
    open(path).and_then(|file| labels_from(file, limits)).map_err(Error::in_file(path))
}

/// Reads the targets of a model: numbers in `outputs` columns. For one output, an array of one dimension is a column.
pub fn read_targets(path: &Path, outputs: usize, limits: Limits) -> Result<Table> {
    open(path).and_then(|file| targets_from(file, outputs, limits)).map_err(Error::in_file(path))
}

/// [`read_targets`] from any reader.
pub fn targets_from(reader: impl Read, outputs: usize, limits: Limits) -> Result<Table> {
    let mut table = table_from(reader, Limits { rows: None, ..limits })?;
    if outputs == 1 && table.rows == 1 {
        (table.rows, table.columns) = (table.columns, 1);
    }
    if table.columns != outputs {
        return Err(Error::TargetColumns { expected: outputs, found: table.columns });
    }
    table.rows = limits.keep(table.rows);
    table.values.truncate(table.rows * outputs);
    table.shape = vec![outputs];
    Ok(table)
}

/// [`read_table`] from any reader.
pub fn table_from(reader: impl Read, limits: Limits) -> Result<Table> {
    let bytes = load(reader, limits.bytes)?;
    match Format::of(&bytes)? {
        Format::Npy => npy::parse(&bytes)?.table(limits),
        Format::Idx => idx::parse(&bytes)?.table(limits),
        Format::Text => delimited::table(&bytes, limits),
    }
}

/// [`read_labels`] from any reader.
pub fn labels_from(reader: impl Read, limits: Limits) -> Result<Labels> {
    let bytes = load(reader, limits.bytes)?;
    match Format::of(&bytes)? {
        Format::Npy => npy::parse(&bytes)?.labels(limits),
        Format::Idx => idx::parse(&bytes)?.labels(limits),
        Format::Text => delimited::labels(&bytes, limits),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::io("open the file"))
}

/// Reads all bytes and decompresses gzip. Holds at most `limit` bytes in memory, except while they move to a larger
/// allocation.
fn load(mut reader: impl Read, limit: u64) -> Result<Zeroizing<Vec<u8>>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let mut start = Vec::new();
    reader
        .by_ref()
        .take(GZIP.len() as u64)
        .read_to_end(&mut start)
        .map_err(Error::io("read the file"))?;
    let reader = start.as_slice().chain(BufReader::new(reader));
    let bounded = limit.saturating_add(1);
    let bytes = if start == GZIP {
        read_all(MultiGzDecoder::new(reader).take(bounded)).map_err(Error::Gzip)?
    } else {
        read_all(reader.take(bounded)).map_err(Error::io("read the file"))?
    };
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { limit });
    }
    Ok(bytes)
}

/// Like `Read::read_to_end`, but leaves no copies in memory.
fn read_all(mut reader: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut piece = Zeroizing::new([0; 1 << 14]);
    loop {
        match reader.read(&mut *piece) {
            Ok(0) => return Ok(bytes),
            Ok(count) => append(&mut bytes, &piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Appends values. If the vector has to move, the old allocation is zeroized, which `Vec` does not do by itself.
fn append<T: Zeroize + Copy>(to: &mut Zeroizing<Vec<T>>, values: &[T]) {
    let needed = to.len() + values.len();
    if needed > to.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * to.capacity())));
        larger.extend_from_slice(to);
        *to = larger;
    }
    to.extend_from_slice(values);
}

enum Format {
    Npy,
    Idx,
    Text,
}

impl Format {
    fn of(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(npy::MAGIC) {
            return Ok(Self::Npy);
        }
        if bytes.starts_with(&[0, 0]) {
            return Ok(Self::Idx);
        }
        if bytes.starts_with(b"PK\x03\x04") {
            let start = "a zip archive's signature (an .npz or .xlsx? save one array as .npy)";
            return Err(Error::UnknownFormat { start: start.to_owned() });
        }
        let printable = |&byte: &u8| byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r');
        if bytes.iter().all(printable) && std::str::from_utf8(bytes).is_ok() {
            return Ok(Self::Text);
        }
        let hex: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
        Err(Error::UnknownFormat { start: hex.join(" ") })
    }
}

/// Text from a file for an error message: shortened, and escaped by its `Debug` form.
fn excerpt(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut start: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        start.push('…');
    }
    start
}
