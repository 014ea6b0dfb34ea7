//! The engine's error type.

use crate::artifact::OtherVersion;
use thiserror::Error;

/// Errors in bytes from outside, and in combinations of keys, programs and ciphertexts.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes do not begin with hermesh's header.
    #[error("not {expected}: the first bytes are not those of a hermesh file")]
    NotOurs {
        /// What was to be decoded.
        expected: &'static str,
    },
    /// A hermesh file of another kind.
    #[error("expected {expected}, but this is {found}")]
    WrongKind {
        /// What was to be decoded.
        expected: &'static str,
        /// The kind in the header.
        found: &'static str,
    },
    /// A format version that this build does not read.
    #[error("cannot read {what}: {version}")]
    WrongVersion {
        /// What was to be decoded.
        what: &'static str,
        /// The version found, the versions that this build reads, and what to do.
        version: OtherVersion,
    },
    /// The digest does not match the content.
    #[error(
        "{what} is damaged: its digest does not match its content, so it was cut off or altered; {mend}"
    )]
    Damaged {
        /// What was to be decoded.
        what: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// The parameter set is not in the catalogue.
    #[error("{what} uses parameter set {id}, which is not in this build's catalogue")]
    UnknownParameterSet {
        /// What was to be decoded.
        what: &'static str,
        /// The identifier found.
        id: u16,
    },
    /// The length differs from what the header and the parameter set imply.
    #[error("{what} should be {expected} bytes long but is {found}: it was cut off or altered")]
    WrongLength {
        /// What was to be decoded.
        what: &'static str,
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Larger than the limit. The content was not read.
    #[error("{what} is {found} bytes long; at most {limit} are accepted")]
    TooLarge {
        /// What was to be decoded.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
        /// Bytes found.
        found: u64,
    },
    /// A field has an invalid value.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// What was to be decoded.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Made for one parameter set, used with another.
    #[error("{what} is for parameter set {found}, but {expected} is needed")]
    WrongParameterSet {
        /// What was given.
        what: &'static str,
        /// The set needed.
        expected: &'static str,
        /// The set found.
        found: &'static str,
    },
    /// Made under another key.
    #[error("{what} belongs to another key (evaluation key {found}, expected {expected})")]
    WrongKey {
        /// What was given.
        what: &'static str,
        /// Digest of the key needed, abbreviated.
        expected: String,
        /// Digest found, abbreviated.
        found: String,
    },
    /// Made for another program.
    #[error("{what} was made for another model (program {found}, expected {expected})")]
    WrongProgram {
        /// What was given.
        what: &'static str,
        /// Digest of the program needed, abbreviated.
        expected: String,
        /// Digest found, abbreviated.
        found: String,
    },
    /// The partial results of a stage are incomplete or inconsistent.
    #[error("stage {stage} is incomplete or inconsistent: {why}")]
    BadStage {
        /// The stage.
        stage: u32,
        /// What is wrong.
        why: String,
    },
}

/// The first eight hexadecimal digits, enough to distinguish two digests in a message.
pub(crate) fn short(digest: &crate::Digest) -> String {
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
