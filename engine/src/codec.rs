//! Byte encoding of the engine's types.
//!
//! Every encoding begins with the same header: `HMSH`, the kind, the format version of that kind, the scheme, a zero
//! byte, and the parameter set (little-endian, like all numbers). It ends with a digest of everything before it
//! ([`crate::artifact`]), which is checked before anything is decoded. Header, parameter set and a few counts imply the
//! exact length, which is compared before anything is allocated.
//!
//! Version 1 is the same without the digest. It is still read, so that keys and jobs of hermesh 0.1.0 remain usable.

use crate::artifact::{self, Checked, DIGEST_BYTES, Format};
use crate::error::short;
use crate::{Digest, Error, Outline, ParameterSet};
use sha2::{Digest as _, Sha256};

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

/// Texts for error messages about a kind.
struct About {
    kind: Kind,
    name: &'static str,
    /// How to recreate it.
    again: &'static str,
    /// What to do if it is damaged.
    mend: &'static str,
}

const fn about(kind: Kind, name: &'static str, again: &'static str, mend: &'static str) -> About {
    About { kind, name, again, mend }
}

const KEYGEN: &str = "make new keys with `hermesh keygen`";
const SUBMIT: &str = "submit the job again";

const KINDS: [About; 8] = [
    about(
        Kind::Program,
        "a program",
        "run `hermesh compile` again",
        "copy it again, or run `hermesh compile` again",
    ),
    about(Kind::ClientKey, "a client key", KEYGEN, "use a backup"),
    about(Kind::EvaluationKey, "an evaluation key", KEYGEN, "copy or upload it again"),
    about(
        Kind::Input,
        "an encrypted input",
        "run `hermesh encrypt` again",
        "copy it again, or run `hermesh encrypt` again",
    ),
    about(Kind::Shard, "a shard", SUBMIT, SUBMIT),
    about(Kind::Partial, "a partial result", SUBMIT, SUBMIT),
    about(Kind::Outputs, "unpacked outputs", SUBMIT, SUBMIT),
    about(Kind::Answer, "an encrypted answer", "compute it again", "fetch it again"),
];

impl Kind {
    fn about(self) -> &'static About {
        &KINDS[self as usize - 1]
    }

    pub(crate) fn name(self) -> &'static str {
        self.about().name
    }
}

/// The format version of every kind. When one kind changes, kinds get separate versions.
pub(crate) const VERSION: u8 = 2;
/// The last version without a digest.
const WITHOUT_DIGEST: u8 = 1;

pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: Kind, set: &ParameterSet, capacity: usize) -> Self {
        // 64 more bytes hold the header and the digest.
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
        self.finish_named().0
    }

    /// The bytes, and the SHA-256 of all of them.
    pub(crate) fn finish_named(mut self) -> (Vec<u8>, Digest) {
        let name = artifact::seal(&mut self.0);
        (self.0, name)
    }
}

pub(crate) struct Reader<'a> {
    kind: Kind,
    set: &'static ParameterSet,
    all: &'a [u8],
    /// SHA-256 state over `all`, if checking the digest computed it.
    state: Option<Sha256>,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the size against `limit`, then the header, then the digest.
    pub(crate) fn open(bytes: &'a [u8], kind: Kind, limit: u64) -> Result<Self, Error> {
        Self::parse(bytes, kind, limit, true)
    }

    /// For bytes that passed [`Self::open`] before: skips the digest, which takes long for a large key.
    pub(crate) fn reopen(bytes: &'a [u8], kind: Kind) -> Result<Self, Error> {
        Self::parse(bytes, kind, u64::MAX, false)
    }

    fn parse(all: &'a [u8], kind: Kind, limit: u64, check: bool) -> Result<Self, Error> {
        let &About { name: what, again, mend, .. } = kind.about();
        let total = all.len() as u64;
        if total > limit {
            return Err(Error::TooLarge { what, limit, found: total });
        }
        let Some(header) = all.first_chunk::<10>() else {
            return Err(Error::NotOurs { expected: what });
        };
        if &header[..4] != MAGIC {
            return Err(Error::NotOurs { expected: what });
        }
        if header[4] != kind as u8 {
            let found = KINDS.iter().find(|about| about.kind as u8 == header[4]);
            let found = found.map_or("of an unknown kind", |about| about.name);
            return Err(Error::WrongKind { expected: what, found });
        }
        let oldest = WITHOUT_DIGEST.into();
        let format = Format { oldest, newest: VERSION.into(), readers: &[], again };
        format.check(what, header[5].into())?;
        let digest_bytes = if header[5] == WITHOUT_DIGEST { 0 } else { DIGEST_BYTES };
        let state = match check && digest_bytes > 0 {
            true => {
                let Checked { state, .. } =
                    artifact::checked(all).ok_or(Error::Damaged { what, mend })?;
                Some(state)
            }
            false => None,
        };
        let Some(rest) = all.get(header.len()..all.len().saturating_sub(digest_bytes)) else {
            return Err(Error::Damaged { what, mend });
        };
        if header[6] != SCHEME_TFHE || header[7] != 0 {
            return Err(Error::Malformed {
                what,
                why: format!("scheme {}.{} is unknown", header[6], header[7]),
            });
        }
        let id = u16::from_le_bytes([header[8], header[9]]);
        let set = ParameterSet::by_id(id).ok_or(Error::UnknownParameterSet { what, id })?;
        Ok(Self { kind, set, all, state, rest })
    }

    /// The SHA-256 of all bytes, header and digest included. It identifies programs and keys.
    pub(crate) fn name(&self) -> Digest {
        let state = self.state.clone();
        state.unwrap_or_else(|| Sha256::new_with_prefix(self.all)).finalize().into()
    }

    /// [`Self::open`] for kinds that contain the digests of a key and of a program. Checks the parameter set and the
    /// program; returns the key's digest.
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

    /// The error if `left` bytes should remain.
    fn wrong_length(&self, left: u64) -> Error {
        let found = self.all.len() as u64;
        let expected = (found - self.rest.len() as u64).saturating_add(left);
        Error::WrongLength { what: self.kind.name(), expected, found }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(self.wrong_length(N as u64))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Error> {
        self.array()
    }

    /// Fails unless exactly `left` bytes remain.
    pub(crate) fn expect(&self, left: u64) -> Result<(), Error> {
        if self.rest.len() as u64 == left {
            return Ok(());
        }
        Err(self.wrong_length(left))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (head, rest) =
            self.rest.split_at_checked(length).ok_or(self.wrong_length(length as u64))?;
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
        for length in 10..good.len() {
            assert!(matches!(open(&good[..length]), Some(Error::Damaged { .. })), "{length}");
        }
        assert!(matches!(open(&[0; 101]), Some(Error::TooLarge { .. })));
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            open(&bytes)
        };
        assert!(matches!(with(0, b'h'), Some(Error::NotOurs { .. })));
        assert!(matches!(with(4, 3), Some(Error::WrongKind { found: "an evaluation key", .. })));
        assert!(matches!(with(4, 99), Some(Error::WrongKind { .. })));
        for version in [0, 3] {
            let wrong = with(5, version);
            assert!(matches!(wrong, Some(Error::WrongVersion { version: found, .. })
                if found.found == u32::from(version)));
        }
        assert!(matches!(with(6, 2), Some(Error::Damaged { .. })));
        // With a recomputed digest, as an attacker would send it.
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            open(&artifact::mend_digest(bytes))
        };
        assert!(matches!(with(6, 2), Some(Error::Malformed { .. })));
        assert!(matches!(with(7, 1), Some(Error::Malformed { .. })));
        assert!(matches!(with(8, 77), Some(Error::UnknownParameterSet { .. })));
    }

    #[test]
    fn lengths_are_checked_before_reading() {
        let mut writer = Writer::new(Kind::Input, &INSECURE_TEST, 0);
        writer.u32s(&[1, 2]);
        let bytes = writer.finish();
        let mut reader = Reader::open(&bytes, Kind::Input, 100).unwrap();
        assert!(reader.expect(8).is_ok());
        let (what, found) = ("an encrypted input", bytes.len() as u64);
        assert_eq!(reader.expect(9), Err(Error::WrongLength { what, expected: found + 1, found }));
        assert!(reader.u32s(usize::MAX).is_err());
        assert!(reader.u64s(2).is_err());
        assert_eq!(reader.u32s(2).unwrap(), [1, 2]);
        assert!(reader.u32().is_err());
    }

    #[test]
    fn version_1_is_the_same_without_a_digest() {
        let mut writer = Writer::new(Kind::Input, &INSECURE_TEST, 0);
        writer.u32(7);
        let mut bytes = writer.finish();
        bytes.truncate(bytes.len() - DIGEST_BYTES);
        bytes[5] = 1;
        let mut reader = Reader::open(&bytes, Kind::Input, 100).unwrap();
        assert_eq!(reader.name(), <[u8; 32]>::from(Sha256::digest(&bytes)));
        assert!(reader.expect(4).is_ok());
        assert_eq!(reader.u32(), Ok(7));
    }

    #[test]
    fn names_are_digests_of_all_bytes() {
        let (bytes, name) = Writer::new(Kind::Program, &INSECURE_TEST, 0).finish_named();
        let expected = <[u8; 32]>::from(Sha256::digest(&bytes));
        assert_eq!(name, expected);
        assert_eq!(Reader::open(&bytes, Kind::Program, 100).unwrap().name(), expected);
        assert_eq!(Reader::reopen(&bytes, Kind::Program).unwrap().name(), expected);
    }
}
