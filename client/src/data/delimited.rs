//! Numbers or labels in delimited text (CSV).
//!
//! The delimiter is the first of tab, semicolon and comma that occurs in the first line. Comma comes last because it
//! may also be a decimal sign. Fields may be quoted.

use ::csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};

use super::array::integer_label;
use super::{Labels, Limits, Table, append, excerpt};
use crate::{Error, Result};
use zeroize::Zeroizing;

const FORMAT: &str = "CSV";

/// A first line without a single number is a header and is skipped.
pub(super) fn table(bytes: &[u8], limits: Limits) -> Result<Table> {
    let mut columns = 0;
    let mut rows = 0;
    let mut values = Zeroizing::new(Vec::new());
    for_each_record(bytes, |line, record| {
        if columns == 0 {
            columns = record.len();
            if record.iter().all(|field| number(field).is_none()) {
                return Ok(());
            }
        }
        for (column, field) in record.iter().enumerate() {
            let value = number(field).ok_or_else(|| Error::NotANumber {
                line,
                column: column + 1,
                found: excerpt(field),
            })?;
            if !value.is_finite() {
                return Err(Error::NotFinite { row: rows + 1, column: column + 1, found: value });
            }
            if limits.rows.is_none_or(|limit| rows < limit) {
                append(&mut values, &[value]);
            }
        }
        rows += 1;
        limits.check_table(limits.keep(rows), columns)
    })?;
    let rows = limits.keep(rows);
    if rows == 0 || columns == 0 {
        return Err(Error::Empty { shape: vec![rows, columns] });
    }
    let values = std::mem::take(&mut *values);
    Ok(Table { rows, columns, shape: vec![columns], values, bytes: false })
}

/// Integers if every label is an integer, else names. The first line is a header if only it is not a number, or if it
/// is a usual heading of labels.
pub(super) fn labels(bytes: &[u8], limits: Limits) -> Result<Labels> {
    let mut names: Vec<String> = Vec::new();
    let mut rows = 0;
    let mut numeric = true;
    for_each_record(bytes, |_, record| {
        let [Some(name), None] = [record.get(0), record.get(1)] else {
            return Err(Error::LabelShape { shape: vec![rows + 1, record.len()] });
        };
        // The first line is decided below, when the type of the others is known.
        numeric &= rows == 0 || number(name).is_some();
        rows += 1;
        if limits.rows.is_none_or(|limit| names.len() <= limit) {
            names.push(name.to_owned());
        }
        limits.check_names(names.len())
    })?;
    if let Some(first) = names.first()
        && number(first).is_none()
    {
        if is_heading(first) || (numeric && rows > 1) {
            names.remove(0);
        } else {
            numeric = false;
        }
    }
    names.truncate(limits.keep(names.len()));
    if names.is_empty() {
        return Err(Error::Empty { shape: vec![0] });
    }
    if !numeric {
        return Ok(Labels::Names(names));
    }
    names
        .iter()
        .enumerate()
        .map(|(row, name)| integer(row, name))
        .collect::<Result<_>>()
        .map(Labels::Integers)
}

fn is_heading(name: &str) -> bool {
    ["label", "labels", "class", "target", "y"]
        .iter()
        .any(|heading| name.eq_ignore_ascii_case(heading))
}

fn integer(row: usize, name: &str) -> Result<i64> {
    match name.parse() {
        Ok(label) => Ok(label),
        Err(_) => integer_label(row, number(name).unwrap_or(f64::NAN)),
    }
}

fn number(field: &str) -> Option<f64> {
    field.parse().ok()
}

fn for_each_record(
    bytes: &[u8],
    mut visit: impl FnMut(u64, &StringRecord) -> Result<()>,
) -> Result<()> {
    let first_line = bytes
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let delimiter =
        [b'\t', b';'].into_iter().find(|delimiter| first_line.contains(delimiter)).unwrap_or(b',');
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .trim(Trim::All)
        .from_reader(bytes);
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(malformed)? {
        let line = record.position().map_or(0, ::csv::Position::line);
        visit(line, &record)?;
    }
    Ok(())
}

fn malformed(error: ::csv::Error) -> Error {
    match error.kind() {
        ErrorKind::UnequalLengths { pos, expected_len, len } => Error::RowLength {
            line: pos.as_ref().map_or(0, ::csv::Position::line),
            expected: *expected_len,
            found: *len,
        },
        _ => Error::Malformed {
            format: FORMAT,
            expected: "lines of delimited fields in UTF-8",
            found: excerpt(&error.to_string()),
        },
    }
}
