//! How things of the engine look as bytes.
//!
//! Everything begins with the same header: `HMSH`, the kind, the format version of that kind, the
//! scheme, a zero, and the parameter set (little-endian, as all numbers). Header, parameter set and a few
//! counts imply the exact length, which is compared before anything is allocated.

use crate::error::short;
use crate::{Digest, Error, Outline, ParameterSet};

const MAGIC: &[u8; 4] = b"HMSH";
const SCHEME_TFHE: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Program = 1,
    ClientKey,
    EvaluationKey,
    Input,
    Shard,
    Partial,
    Outputs,
    Answer,
}

const KINDS: [(Kind, &str); 8] = [
    (Kind::Program, "a program"),
    (Kind::ClientKey, "a client key"),
    (Kind::EvaluationKey, "an evaluation key"),
    (Kind::Input, "an encrypted input"),
    (Kind::Shard, "a shard"),
    (Kind::Partial, "a partial result"),
    (Kind::Outputs, "unpacked outputs"),
    (Kind::Answer, "an encrypted answer"),
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        KINDS[self as usize - 1].1
    }
}

/// The format version of every kind. Kinds will part ways when one of them changes.
pub(crate) const VERSION: u8 = 1;

pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: Kind, set: &ParameterSet, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + 64);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[kind as u8, VERSION, SCHEME_TFHE, 0]);
        bytes.extend_from_slice(&set.id.to_le_bytes());
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u16s(&mut self, values: &[u16]) {
        self.0.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    pub(crate) fn u32s(&mut self, values: &[u32]) {
        self.0.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    pub(crate) fn u64s(&mut self, values: &[u64]) {
        self.0.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) struct Reader<'a> {
    kind: Kind,
    set: &'static ParameterSet,
    total: u64,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the size against `limit` and then the header.
    pub(crate) fn open(bytes: &'a [u8], kind: Kind, limit: u64) -> Result<Self, Error> {
        let what = kind.name();
        let total = bytes.len() as u64;
        if total > limit {
            return Err(Error::TooLarge { what, limit, found: total });
        }
        let Some((header, rest)) = bytes.split_first_chunk::<10>() else {
            return Err(Error::NotOurs { expected: what });
        };
        if &header[..4] != MAGIC {
            return Err(Error::NotOurs { expected: what });
        }
        if header[4] != kind as u8 {
            let found = KINDS.iter().find(|(k, _)| *k as u8 == header[4]);
            let found = found.map_or("of an unknown kind", |(_, name)| name);
            return Err(Error::WrongKind { expected: what, found });
        }
        if header[5] != VERSION {
            return Err(Error::WrongVersion { what, found: header[5], supported: VERSION });
        }
        if header[6] != SCHEME_TFHE || header[7] != 0 {
            return Err(Error::Malformed {
                what,
                why: format!("scheme {}.{} is not known here", header[6], header[7]),
            });
        }
        let id = u16::from_le_bytes([header[8], header[9]]);
        let set = ParameterSet::by_id(id).ok_or(Error::UnknownParameterSet { what, id })?;
        Ok(Self { kind, set, total, rest })
    }

    /// [`Self::open`] for what carries the names of a key and of a program: checks the parameter set
    /// and the program, and returns the key's digest.
    pub(crate) fn open_for(
        bytes: &'a [u8],
        kind: Kind,
        limit: u64,
        program: &Outline,
    ) -> Result<(Self, Digest), Error> {
        let mut reader = Self::open(bytes, kind, limit)?;
        let what = kind.name();
        if reader.set != program.parameter_set {
            let expected = program.parameter_set.name;
            return Err(Error::WrongParameterSet { what, expected, found: reader.set.name });
        }
        let key = reader.digest()?;
        let found = reader.digest()?;
        if found != program.digest {
            let expected = short(&program.digest);
            return Err(Error::WrongProgram { what, expected, found: short(&found) });
        }
        Ok((reader, key))
    }

    pub(crate) fn set(&self) -> &'static ParameterSet {
        self.set
    }

    fn wrong_length(&self, expected: u64) -> Error {
        Error::WrongLength { what: self.kind.name(), expected, found: self.total }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let consumed = self.total - self.rest.len() as u64;
        let (head, rest) =
            self.rest.split_first_chunk::<N>().ok_or(self.wrong_length(consumed + N as u64))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Error> {
        self.array()
    }

    /// Fails unless exactly this many bytes are left.
    pub(crate) fn expect(&self, left: u64) -> Result<(), Error> {
        if self.rest.len() as u64 == left {
            return Ok(());
        }
        Err(self.wrong_length((self.total - self.rest.len() as u64).saturating_add(left)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let consumed = self.total - self.rest.len() as u64;
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(self.wrong_length(consumed.saturating_add(length as u64)))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn skip(&mut self, length: usize) -> Result<(), Error> {
        self.take(length).map(|_| ())
    }

    pub(crate) fn u16s(&mut self, count: usize) -> Result<Vec<u16>, Error> {
        let bytes = self.take(count.saturating_mul(2))?;
        Ok(bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b)).collect())
    }

    pub(crate) fn u32s(&mut self, count: usize) -> Result<Vec<u32>, Error> {
        let bytes = self.take(count.saturating_mul(4))?;
        Ok(bytes.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect())
    }

    pub(crate) fn u64s(&mut self, count: usize) -> Result<Vec<u64>, Error> {
        let bytes = self.take(count.saturating_mul(8))?;
        Ok(bytes.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b)).collect())
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn malformed(&self, why: impl Into<String>) -> Error {
        Error::Malformed { what: self.kind.name(), why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::INSECURE_TEST;

    #[test]
    fn each_header_field_is_checked() {
        let mut writer = Writer::new(Kind::Input, &INSECURE_TEST, 0);
        writer.u32(7);
        let good = writer.finish();
        let open = |bytes: &[u8]| Reader::open(bytes, Kind::Input, 100).map(|_| ()).err();
        assert_eq!(open(&good), None);
        assert!(matches!(open(&good[..9]), Some(Error::NotOurs { .. })));
        assert!(matches!(open(&[0; 101]), Some(Error::TooLarge { .. })));
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            open(&bytes)
        };
        assert!(matches!(with(0, b'h'), Some(Error::NotOurs { .. })));
        assert!(matches!(with(4, 3), Some(Error::WrongKind { found: "an evaluation key", .. })));
        assert!(matches!(with(4, 99), Some(Error::WrongKind { .. })));
        assert!(matches!(with(5, 2), Some(Error::WrongVersion { found: 2, .. })));
        assert!(matches!(with(6, 2), Some(Error::Malformed { .. })));
        assert!(matches!(with(8, 77), Some(Error::UnknownParameterSet { .. })));
    }

    #[test]
    fn lengths_are_checked_before_reading() {
        let mut writer = Writer::new(Kind::Input, &INSECURE_TEST, 0);
        writer.u32s(&[1, 2]);
        let bytes = writer.finish();
        let mut reader = Reader::open(&bytes, Kind::Input, 100).unwrap();
        assert!(reader.expect(8).is_ok());
        assert!(reader.expect(9).is_err());
        assert!(reader.u32s(usize::MAX).is_err());
        assert!(reader.u64s(2).is_err());
        assert_eq!(reader.u32s(2).unwrap(), [1, 2]);
        assert!(reader.u32().is_err());
    }
}
