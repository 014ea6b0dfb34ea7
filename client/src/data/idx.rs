//! IDX, the format of the MNIST files: two zero bytes, a type, a count of dimensions, the
//! dimensions as 32-bit big-endian integers, the elements in big-endian C order.

use super::array::{Array, Element, Layout, Number};
use crate::{Error, Result};

const FORMAT: &str = "IDX";

pub(super) fn parse(bytes: &[u8]) -> Result<Array<'_>> {
    let truncated = || Error::Malformed {
        format: FORMAT,
        expected: "a header of 4 bytes and 4 more for each dimension",
        found: format!("{} bytes in all", bytes.len()),
    };
    let (&[_, _, code, count], rest) = bytes.split_first_chunk::<4>().ok_or_else(truncated)?;
    let number = match code {
        0x08 => Number::U8,
        0x09 => Number::I8,
        0x0b => Number::I16,
        0x0c => Number::I32,
        0x0d => Number::F32,
        0x0e => Number::F64,
        _ => {
            return Err(Error::Malformed {
                format: FORMAT,
                expected: "type 08, 09, 0b, 0c, 0d or 0e",
                found: format!("{code:02x}"),
            });
        }
    };
    let (dimensions, data) = rest.split_at_checked(usize::from(count) * 4).ok_or_else(truncated)?;
    let shape = dimensions
        .chunks_exact(4)
        .map(|d| u32::from_be_bytes([d[0], d[1], d[2], d[3]]) as usize)
        .collect();
    let layout = Layout { big_endian: true, column_major: false };
    Array::new(FORMAT, shape, Element::Number(number), layout, data)
}
