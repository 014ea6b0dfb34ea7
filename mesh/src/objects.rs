//! Content-addressed objects on any bus: cut into parts, each of them one message of a unique queue.
//! So an upload that was cut off goes on where it stopped, and storing the same twice changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Message, TenantId, actor, bus::Bus};

/// Bytes of every part but the last.
pub const PART_BYTES: usize = 256 << 10;
/// Parts on their way at the same time.
const IN_FLIGHT: usize = 8;

/// Where objects live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bucket {
    /// What a tenant has sent and nobody has checked.
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
    /// How many parts make the object.
    pub of: usize,
    /// Which of them it is, counted from 0.
    pub part: usize,
}

impl Part {
    /// Reads the end of a subject. Numbers written otherwise than here, such as `00` or `+0`, name no
    /// part.
    fn parse(subject: &str) -> Option<Self> {
        let number =
            |token: &str| token.parse().ok().filter(|number: &usize| number.to_string() == token);
        let mut tokens = subject.rsplit('.').map(number);
        let (part, of) = (tokens.next()??, tokens.next()??);
        (part < of).then_some(Self { of, part })
    }
}

/// The stored parts of an object, in order. Somebody may have stored parts of other divisions than ours.
///
/// # Errors
/// The bus's.
pub async fn parts(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<Vec<Part>, Error> {
    let subjects = bus.subjects(&bucket.filter(digest)).await?;
    let mut parts: Vec<_> = subjects.iter().filter_map(|subject| Part::parse(subject)).collect();
    parts.sort_unstable();
    Ok(parts)
}

/// Stores bytes under their digest, leaving out the parts that are there already. `on_progress` is told
/// the bytes stored so far, and of how many.
///
/// # Errors
/// The bus's; what has been stored by then stays, and the next call goes on from there.
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

/// The same for bytes of this digest of which these parts are there, for who may not list them.
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

/// The divisions, each a number of parts, of which all parts are there, smallest first. Somebody may
/// have stored parts of other divisions, which must not hide the true one.
async fn divisions(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<Vec<usize>, Error> {
    let mut found = BTreeMap::<usize, BTreeSet<usize>>::new();
    for Part { of, part } in parts(bus, bucket, digest).await? {
        found.entry(of).or_default().insert(part);
    }
    Ok(found.into_iter().filter(|(of, parts)| *of == parts.len()).map(|(of, _)| of).collect())
}

/// Whether all of an object is there; its bytes are not looked at.
///
/// # Errors
/// The bus's.
pub async fn exists(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<bool, Error> {
    Ok(!divisions(bus, bucket, digest).await?.is_empty())
}

/// The bytes of that digest, verified, if they are at most `limit`.
///
/// # Errors
/// [`Error::NoObject`] if parts are missing, [`Error::TooLarge`], [`Error::DigestMismatch`], or the bus's.
pub async fn get(
    bus: &dyn Bus,
    bucket: &Bucket,
    digest: Digest,
    limit: usize,
) -> Result<Bytes, Error> {
    search(bus, bucket, digest, limit, false).await
}

/// The same, and what has all its parts but not the digest is deleted.
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

/// Tries one division after the other.
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
            // Of whatever digest: no division of ours has such a part.
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

/// What is in the bucket, whole or in part.
///
/// # Errors
/// The bus's.
pub async fn list(bus: &dyn Bus, bucket: &Bucket) -> Result<BTreeSet<Digest>, Error> {
    let subjects = bus.subjects(&format!("{}.*.*.*", bucket.prefix())).await?;
    let digests = subjects.iter().filter_map(|subject| subject.rsplit('.').nth(2)?.parse().ok());
    Ok(digests.collect())
}

/// Deletes an object; absent is fine.
///
/// # Errors
/// The bus's.
pub async fn delete(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<(), Error> {
    bus.purge(&bucket.filter(digest)).await
}
