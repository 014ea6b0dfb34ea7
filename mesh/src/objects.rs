//! Content-addressed objects on any bus. An object is cut into parts, each stored as one message in a unique queue, so
//! an interrupted upload resumes where it stopped, and storing the same object twice changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Message, TenantId, actor, bus::Bus};

/// Size of every part, except that the last may be shorter.
pub const PART_BYTES: usize = 256 << 10;
/// Concurrent transfers of parts.
const IN_FLIGHT: usize = 8;

/// The collections of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bucket {
    /// A tenant's uploads, not yet checked.
    Uploads(TenantId),
    /// Evaluation keys that key management has accepted.
    Keys,
    /// Models that key management has accepted.
    Models,
}

impl Bucket {
    fn prefix(&self) -> String {
        match self {
            Self::Uploads(tenant) => format!("hermesh.upload.{tenant}"),
            Self::Keys => "hermesh.key".into(),
            Self::Models => "hermesh.model".into(),
        }
    }

    /// The subjects of all parts of an object: `….{digest}.{number of parts}.{part}`.
    fn filter(&self, digest: Digest) -> String {
        format!("{}.{digest}.*.*", self.prefix())
    }

    fn subject(&self, digest: Digest, Part { of, part }: Part) -> String {
        format!("{}.{digest}.{of}.{part}", self.prefix())
    }
}

/// One part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// Number of parts of the object.
    pub of: usize,
    /// Index of this part, counted from 0.
    pub part: usize,
}

impl Part {
    /// Parses the last two tokens of a subject. Numbers must be in canonical form: `00` and `+0` are rejected.
    fn parse(subject: &str) -> Option<Self> {
        let number =
            |token: &str| token.parse().ok().filter(|number: &usize| number.to_string() == token);
        let mut tokens = subject.rsplit('.').map(number);
        let (part, of) = (tokens.next()??, tokens.next()??);
        (part < of).then_some(Self { of, part })
    }
}

/// The stored parts of an object, in order. Parts of other divisions may be among them: anyone who may write to the
/// bucket can cut the object into a different number of parts.
///
/// # Errors
/// Errors of the bus.
pub async fn parts(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<Vec<Part>, Error> {
    let subjects = bus.subjects(&bucket.filter(digest)).await?;
    let mut parts: Vec<_> = subjects.iter().filter_map(|subject| Part::parse(subject)).collect();
    parts.sort_unstable();
    Ok(parts)
}

/// Stores an object under its digest. Parts that are already stored are skipped. Calls `on_progress` with the bytes
/// stored so far and the total.
///
/// # Errors
/// Errors of the bus. Parts stored before the error stay, and the next call resumes from there.
pub async fn put(
    bus: &dyn Bus,
    bucket: &Bucket,
    bytes: Bytes,
    on_progress: impl FnMut(usize, usize),
) -> Result<Digest, Error> {
    let digest = actor::digest(bytes.clone()).await?;
    let there = parts(bus, bucket, digest).await?;
    complete(bus, bucket, digest, bytes, &there, on_progress).await?;
    Ok(digest)
}

/// Like [`put`], for clients that may not list the bucket: `there` are the parts already stored.
///
/// # Errors
/// As [`put`].
pub async fn complete(
    bus: &dyn Bus,
    bucket: &Bucket,
    digest: Digest,
    bytes: Bytes,
    there: &[Part],
    mut on_progress: impl FnMut(usize, usize),
) -> Result<(), Error> {
    let of = bytes.len().div_ceil(PART_BYTES).max(1);
    let there: BTreeSet<&Part> = there.iter().collect();
    let part_bytes = |part: usize| {
        let start = part * PART_BYTES;
        bytes.slice(start..bytes.len().min(start + PART_BYTES))
    };
    let (stored, missing): (Vec<_>, Vec<_>) =
        (0..of).partition(|part| there.contains(&Part { of, part: *part }));
    let mut done: usize = stored.into_iter().map(|part| part_bytes(part).len()).sum();
    on_progress(done, bytes.len());
    let mut sending = stream::iter(missing)
        .map(async |part| {
            let body = part_bytes(part);
            let size = body.len();
            let subject = bucket.subject(digest, Part { of, part });
            bus.publish(Message::new(subject, body)).await.map(|_| size)
        })
        .buffer_unordered(IN_FLIGHT);
    while let Some(size) = sending.try_next().await? {
        done += size;
        on_progress(done, bytes.len());
    }
    Ok(())
}

/// The complete divisions (given as their number of parts), smallest first. A stray or hostile division must not hide
/// the true one, so all complete ones are candidates.
async fn divisions(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<Vec<usize>, Error> {
    let mut found = BTreeMap::<usize, BTreeSet<usize>>::new();
    for Part { of, part } in parts(bus, bucket, digest).await? {
        found.entry(of).or_default().insert(part);
    }
    Ok(found.into_iter().filter(|(of, parts)| *of == parts.len()).map(|(of, _)| of).collect())
}

/// Whether all parts of an object are stored. Does not check their content.
///
/// # Errors
/// Errors of the bus.
pub async fn exists(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<bool, Error> {
    Ok(!divisions(bus, bucket, digest).await?.is_empty())
}

/// Reads an object of at most `limit` bytes and verifies its digest.
///
/// # Errors
/// [`Error::NoObject`] if parts are missing, [`Error::TooLarge`], [`Error::DigestMismatch`], or errors of the bus.
pub async fn get(
    bus: &dyn Bus,
    bucket: &Bucket,
    digest: Digest,
    limit: usize,
) -> Result<Bytes, Error> {
    search(bus, bucket, digest, limit, false).await
}

/// Like [`get`]; also deletes complete divisions whose content does not match the digest.
///
/// # Errors
/// As [`get`].
pub async fn get_and_clean(
    bus: &dyn Bus,
    bucket: &Bucket,
    digest: Digest,
    limit: usize,
) -> Result<Bytes, Error> {
    search(bus, bucket, digest, limit, true).await
}

/// Tries the complete divisions one after another.
async fn search(
    bus: &dyn Bus,
    bucket: &Bucket,
    digest: Digest,
    limit: usize,
    clean: bool,
) -> Result<Bytes, Error> {
    let mut error = Error::NoObject { bucket: bucket.prefix(), digest };
    for of in divisions(bus, bucket, digest).await? {
        match read(bus, bucket, digest, of, limit).await {
            Ok(bytes) => return Ok(bytes),
            Err(found @ Error::DigestMismatch { .. }) => {
                if clean {
                    bus.purge(&format!("{}.{digest}.{of}.*", bucket.prefix())).await?;
                }
                error = found;
            }
            Err(found @ (Error::NoObject { .. } | Error::TooLarge { .. })) => error = found,
            Err(found) => return Err(found),
        }
    }
    Err(error)
}

/// Reads one division.
async fn read(
    bus: &dyn Bus,
    bucket: &Bucket,
    digest: Digest,
    of: usize,
    limit: usize,
) -> Result<Bytes, Error> {
    let full = (of - 1).saturating_mul(PART_BYTES);
    if full > limit {
        return Err(Error::TooLarge { what: "object", got: full, limit });
    }
    let mut reading = stream::iter(0..of)
        .map(|part| bucket.subject(digest, Part { of, part }))
        .map(async |subject| bus.last(&subject).await)
        .buffered(IN_FLIGHT);
    let (mut bytes, mut parts) = (BytesMut::new(), 0);
    while let Some(part) = reading.try_next().await? {
        let absent = || Error::NoObject { bucket: bucket.prefix(), digest };
        let body = part.ok_or_else(absent)?.body;
        bytes.extend_from_slice(&body);
        parts += 1;
        let whole = if parts < of { body.len() == PART_BYTES } else { body.len() <= PART_BYTES };
        if !whole {
            // `put` never stores a part of this size, so the division is false whatever its digest.
            let got = Digest::of(&body);
            return Err(Error::DigestMismatch { expected: digest, got });
        }
        if bytes.len() > limit {
            return Err(Error::TooLarge { what: "object", got: bytes.len(), limit });
        }
    }
    let bytes = bytes.freeze();
    let got = actor::digest(bytes.clone()).await?;
    if got != digest {
        return Err(Error::DigestMismatch { expected: digest, got });
    }
    Ok(bytes)
}

/// The digests of all objects in the bucket, complete or not.
///
/// # Errors
/// Errors of the bus.
pub async fn list(bus: &dyn Bus, bucket: &Bucket) -> Result<BTreeSet<Digest>, Error> {
    let subjects = bus.subjects(&format!("{}.*.*.*", bucket.prefix())).await?;
    let digests = subjects.iter().filter_map(|subject| subject.rsplit('.').nth(2)?.parse().ok());
    Ok(digests.collect())
}

/// Deletes an object. Succeeds if the object does not exist.
///
/// # Errors
/// Errors of the bus.
pub async fn delete(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<(), Error> {
    bus.purge(&bucket.filter(digest)).await
}
