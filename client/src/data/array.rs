//! Arrays as in `.npy` and IDX: a header with element type and dimensions, then exactly that many elements.

use super::{Labels, Limits, Table};
use crate::{Error, Result};
use zeroize::Zeroizing;

/// Larger integers are not exact as `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The supported number types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Number {
    const fn width(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// `bytes` is exactly one element, least significant byte first.
    fn decode(self, bytes: [u8; 8]) -> f64 {
        let word = u64::from_le_bytes(bytes);
        // Each cast keeps the element's own low bits, and then their sign.
        match self {
            Self::Bool => f64::from(u8::from(word as u8 != 0)),
            Self::U8 => f64::from(word as u8),
            Self::I8 => f64::from(word as i8),
            Self::U16 => f64::from(word as u16),
            Self::I16 => f64::from(word as i16),
            Self::U32 => f64::from(word as u32),
            Self::I32 => f64::from(word as i32),
            Self::U64 => word as f64,
            Self::I64 => word as i64 as f64,
            Self::F32 => f64::from(f32::from_bits(word as u32)),
            Self::F64 => f64::from_bits(word),
        }
    }
}

/// The type of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Number(Number),
    /// A string of this many UTF-32 code units, padded with zeros.
    Unicode(usize),
    /// A string of this many bytes, padded with zeros.
    Bytes(usize),
}

impl Element {
    fn width(self) -> Option<usize> {
        match self {
            Self::Number(number) => Some(number.width()),
            Self::Unicode(length) => length.checked_mul(4),
            Self::Bytes(length) => Some(length),
        }
    }
}

/// An array whose data has the length that its header states.
#[derive(Debug)]
pub(super) struct Array<'a> {
    format: &'static str,
    shape: Vec<usize>,
    element: Element,
    layout: Layout,
    data: &'a [u8],
}

/// Order of elements and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    pub(super) big_endian: bool,
    pub(super) column_major: bool,
}

impl<'a> Array<'a> {
    pub(super) fn new(
        format: &'static str,
        shape: Vec<usize>,
        element: Element,
        layout: Layout,
        data: &'a [u8],
    ) -> Result<Self> {
        let width = element.width().unwrap_or(usize::MAX);
        if shape.is_empty() || shape.contains(&0) || width == 0 {
            return Err(Error::Empty { shape });
        }
        let expected =
            shape.iter().try_fold(width, |bytes, &dimension| bytes.checked_mul(dimension));
        if expected != Some(data.len()) {
            return Err(Error::DataLength {
                format,
                shape,
                expected: expected.unwrap_or(usize::MAX),
                found: data.len(),
            });
        }
        Ok(Self { format, shape, element, layout, data })
    }

    pub(super) fn table(&self, limits: Limits) -> Result<Table> {
        let Element::Number(number) = self.element else {
            return Err(Error::ElementType {
                format: self.format,
                expected: "numbers",
                found: "text".to_owned(),
            });
        };
        // Both products are bounded by the length of the data.
        let (all, shape) = match self.shape.as_slice() {
            [columns] => (1, vec![*columns]),
            [rows, shape @ ..] => (*rows, shape.to_vec()),
            [] => (0, Vec::new()),
        };
        let columns = shape.iter().product();
        let rows = limits.keep(all);
        if rows == 0 {
            return Err(Error::Empty { shape: vec![rows, columns] });
        }
        limits.check_table(rows, columns)?;

        // The position of each value within a row; in column-major order rows are interleaved.
        let places: Vec<usize> = if self.layout.column_major {
            column_major_places(&shape).map(|place| place * all).collect()
        } else {
            (0..columns).collect()
        };
        let stride = if self.layout.column_major { 1 } else { columns };
        let mut values = Zeroizing::new(Vec::with_capacity(rows * columns));
        for row in 0..rows {
            for (column, place) in places.iter().enumerate() {
                let value = self.number(number, row * stride + place);
                if !value.is_finite() {
                    return Err(Error::NotFinite {
                        row: row + 1,
                        column: column + 1,
                        found: value,
                    });
                }
                values.push(value);
            }
        }
        let bytes = matches!(number, Number::U8);
        let values = std::mem::take(&mut *values);
        Ok(Table { rows, columns, shape, values, bytes })
    }

    pub(super) fn labels(&self, limits: Limits) -> Result<Labels> {
        if self.shape.iter().skip(1).any(|&dimension| dimension != 1) {
            return Err(Error::LabelShape { shape: self.shape.clone() });
        }
        let rows = limits.keep(self.shape.first().copied().unwrap_or(0));
        if rows == 0 {
            return Err(Error::Empty { shape: vec![rows] });
        }
        limits.check_names(rows)?;
        match self.element {
            Element::Number(number) => (0..rows)
                .map(|row| integer_label(row, self.number(number, row)))
                .collect::<Result<_>>()
                .map(Labels::Integers),
            Element::Unicode(length) => {
                let label = |bytes: &[u8]| {
                    let units = bytes.chunks_exact(4).map(|unit| self.word(unit) as u32);
                    let text = units.take_while(|&unit| unit != 0);
                    text.map(char::from_u32).collect::<Option<String>>()
                };
                self.names(rows, length * 4, label)
            }
            Element::Bytes(length) => {
                let label = |bytes: &[u8]| {
                    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
                    String::from_utf8(text.to_vec()).ok()
                };
                self.names(rows, length, label)
            }
        }
    }

    fn names(
        &self,
        rows: usize,
        width: usize,
        label: impl Fn(&[u8]) -> Option<String>,
    ) -> Result<Labels> {
        self.data
            .chunks_exact(width)
            .take(rows)
            .map(|bytes| {
                label(bytes).ok_or_else(|| Error::Malformed {
                    format: self.format,
                    expected: "labels in Unicode",
                    found: "other bytes".to_owned(),
                })
            })
            .collect::<Result<_>>()
            .map(Labels::Names)
    }

    fn number(&self, number: Number, index: usize) -> f64 {
        let width = number.width();
        number.decode(self.word(&self.data[index * width..(index + 1) * width]).to_le_bytes())
    }

    /// The element's bytes as the low bits of a word.
    fn word(&self, bytes: &[u8]) -> u64 {
        let shift = |word: u64, &byte: &u8| word << 8 | u64::from(byte);
        if self.layout.big_endian {
            bytes.iter().fold(0, shift)
        } else {
            bytes.iter().rev().fold(0, shift)
        }
    }
}

pub(super) fn integer_label(row: usize, value: f64) -> Result<i64> {
    if value.fract() == 0.0 && value.abs() <= EXACT {
        Ok(value as i64)
    } else {
        Err(Error::Label { row: row + 1, found: value })
    }
}

/// For each element in row-major order, its index in column-major order.
fn column_major_places(shape: &[usize]) -> impl Iterator<Item = usize> {
    (0..shape.iter().product()).map(move |mut index: usize| {
        // The last dimension varies fastest in `index` and slowest in the result.
        let mut place = 0;
        for &dimension in shape.iter().rev() {
            place = place * dimension + index % dimension;
            index /= dimension;
        }
        place
    })
}
