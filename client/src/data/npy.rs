//! NumPy's `.npy`: a magic string, a version, a length, a Python dictionary in text, the elements.

use std::io::{self, Write};

use super::array::{Array, Element, Layout, Number};
use super::excerpt;
use crate::{Error, Result};

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
const FORMAT: &str = "npy";
const SUPPORTED: &str = "bool, integers of 8 to 64 bits, float32, float64 or fixed-width text";

/// NumPy's limit on the length of a header.
const MAX_HEADER: usize = 10_000;
/// NumPy's limit on dimensions.
const MAX_DIMENSIONS: usize = 64;

pub(super) fn parse(bytes: &[u8]) -> Result<Array<'_>> {
    let truncated = || malformed("a complete header", format!("{} bytes", bytes.len()));
    let body = bytes.get(MAGIC.len()..).ok_or_else(truncated)?;
    let (&[major, minor], body) = body.split_first_chunk::<2>().ok_or_else(truncated)?;
    let (length, body) = match (major, minor) {
        (1, 0) => {
            let (length, body) = body.split_first_chunk().ok_or_else(truncated)?;
            (usize::from(u16::from_le_bytes(*length)), body)
        }
        (2 | 3, 0) => {
            let (length, body) = body.split_first_chunk().ok_or_else(truncated)?;
            (u32::from_le_bytes(*length) as usize, body)
        }
        _ => {
            return Err(malformed("version 1.0, 2.0 or 3.0", format!("{major}.{minor}")));
        }
    };
    if length > MAX_HEADER {
        return Err(malformed("a header of at most 10000 bytes", format!("{length} bytes")));
    }
    let (header, data) = body.split_at_checked(length).ok_or_else(truncated)?;
    let header = std::str::from_utf8(header)
        .map_err(|_| malformed("a header in text", "other bytes".to_owned()))?;
    let (element, layout, shape) = Header { rest: header }.parse()?;
    Array::new(FORMAT, shape, element, layout, data)
}

fn malformed(expected: &'static str, found: String) -> Error {
    Error::Malformed { format: FORMAT, expected, found }
}

/// Reads the header's dictionary, `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`,
/// from left to right.
struct Header<'a> {
    rest: &'a str,
}

impl<'a> Header<'a> {
    fn parse(mut self) -> Result<(Element, Layout, Vec<usize>)> {
        let mut descr = None;
        let mut column_major = None;
        let mut shape = None;
        self.expect('{', "a dictionary")?;
        while !self.accept('}') {
            let key = self.string()?;
            self.expect(':', "a colon after a key")?;
            let fresh = match key {
                "descr" => descr.replace(self.descr()?).is_none(),
                "fortran_order" => column_major.replace(self.boolean()?).is_none(),
                "shape" => shape.replace(self.shape()?).is_none(),
                _ => false,
            };
            if !fresh {
                return Err(malformed(
                    "the keys descr, fortran_order and shape, once each",
                    excerpt(key),
                ));
            }
            if !self.accept(',') {
                self.expect('}', "a comma or the dictionary's end")?;
                break;
            }
        }
        self.skip_space();
        if !self.rest.is_empty() {
            return Err(malformed("only spaces after the dictionary", self.found()));
        }
        let ((element, big_endian), column_major, shape) = match (descr, column_major, shape) {
            (Some(descr), Some(order), Some(shape)) => (descr, order, shape),
            _ => {
                return Err(malformed(
                    "the keys descr, fortran_order and shape, once each",
                    "fewer".to_owned(),
                ));
            }
        };
        let layout = Layout { big_endian, column_major };
        Ok((element, layout, shape))
    }

    fn descr(&mut self) -> Result<(Element, bool)> {
        self.skip_space();
        if self.rest.starts_with('[') {
            return Err(unsupported("a structured type".to_owned()));
        }
        let text = self.string()?;
        element(text).ok_or_else(|| unsupported(excerpt(text)))
    }

    fn boolean(&mut self) -> Result<bool> {
        self.skip_space();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(malformed("True or False", self.found()))
    }

    fn shape(&mut self) -> Result<Vec<usize>> {
        self.expect('(', "a tuple of dimensions")?;
        let mut shape = Vec::new();
        while !self.accept(')') {
            if shape.len() == MAX_DIMENSIONS {
                return Err(malformed("at most 64 dimensions", "more".to_owned()));
            }
            shape.push(self.dimension()?);
            if !self.accept(',') {
                self.expect(')', "a comma or the tuple's end")?;
                break;
            }
        }
        Ok(shape)
    }

    fn dimension(&mut self) -> Result<usize> {
        self.skip_space();
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at(digits);
        let dimension =
            number.parse().map_err(|_| malformed("a dimension that fits 64 bits", self.found()))?;
        // Python 2 wrote its long integers as 10L.
        self.rest = rest.strip_prefix('L').unwrap_or(rest);
        Ok(dimension)
    }

    fn string(&mut self) -> Result<&'a str> {
        self.skip_space();
        let quoted = ['\'', '"'].into_iter().find_map(|quote| {
            let (text, rest) = self.rest.strip_prefix(quote)?.split_once(quote)?;
            Some((text, rest))
        });
        let (text, rest) = quoted.ok_or_else(|| malformed("a quoted string", self.found()))?;
        self.rest = rest;
        Ok(text)
    }

    fn expect(&mut self, symbol: char, expected: &'static str) -> Result<()> {
        if self.accept(symbol) { Ok(()) } else { Err(malformed(expected, self.found())) }
    }

    fn accept(&mut self, symbol: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn found(&self) -> String {
        format!("{:?}", excerpt(self.rest))
    }
}

fn unsupported(found: String) -> Error {
    Error::ElementType { format: FORMAT, expected: SUPPORTED, found }
}

/// The element that a type string such as `<f8` names, and whether it is big-endian.
fn element(descr: &str) -> Option<(Element, bool)> {
    let mut characters = descr.chars();
    let big_endian = match characters.next()? {
        '>' => true,
        '<' | '|' => false,
        '=' => cfg!(target_endian = "big"),
        _ => return None,
    };
    let element = match characters.as_str() {
        "b1" => Element::Number(Number::Bool),
        "u1" => Element::Number(Number::U8),
        "i1" => Element::Number(Number::I8),
        "u2" => Element::Number(Number::U16),
        "i2" => Element::Number(Number::I16),
        "u4" => Element::Number(Number::U32),
        "i4" => Element::Number(Number::I32),
        "u8" => Element::Number(Number::U64),
        "i8" => Element::Number(Number::I64),
        "f4" => Element::Number(Number::F32),
        "f8" => Element::Number(Number::F64),
        text => match text.split_at_checked(1)? {
            ("U", length) => Element::Unicode(length.parse().ok()?),
            ("S", length) => Element::Bytes(length.parse().ok()?),
            _ => return None,
        },
    };
    Some((element, big_endian))
}

/// Writes rows of numbers as a two-dimensional float64 `.npy`.
///
/// `columns` must divide the number of values; otherwise the error is `InvalidInput`.
pub fn write_floats(mut writer: impl Write, columns: usize, values: &[f64]) -> io::Result<()> {
    if columns == 0 || !values.len().is_multiple_of(columns) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("expected rows of {columns} values, found {} in all", values.len()),
        ));
    }
    write_header(&mut writer, "<f8", &format!("({}, {columns})", values.len() / columns))?;
    write_words(writer, values.iter().map(|value| value.to_le_bytes()))
}

/// Writes integers as a one-dimensional int64 `.npy`.
pub fn write_integers(mut writer: impl Write, values: &[i64]) -> io::Result<()> {
    write_header(&mut writer, "<i8", &format!("({},)", values.len()))?;
    write_words(writer, values.iter().map(|value| value.to_le_bytes()))
}

fn write_header(mut writer: impl Write, descr: &str, shape: &str) -> io::Result<()> {
    let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Data starts at a multiple of 64 bytes, after 10 bytes of preamble and a final newline.
    let length = (10 + dictionary.len() + 1).next_multiple_of(64) - 10;
    let length_field = u16::try_from(length).map_err(io::Error::other)?;
    writer.write_all(MAGIC)?;
    writer.write_all(&[1, 0])?;
    writer.write_all(&length_field.to_le_bytes())?;
    writeln!(writer, "{dictionary:<width$}", width = length - 1)
}

fn write_words(writer: impl Write, words: impl Iterator<Item = [u8; 8]>) -> io::Result<()> {
    let mut writer = io::BufWriter::new(writer);
    for word in words {
        writer.write_all(&word)?;
    }
    writer.flush()
}
