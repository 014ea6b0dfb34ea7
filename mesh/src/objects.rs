//! Content-addressed objects on any bus: cut into parts, each of them one message of a unique queue.
//! So an upload that was cut off goes on where it stopped, and storing the same twice changes nothing.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

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

    fn part(&self, digest: Digest, of: usize, part: usize) -> String {
        format!("{}.{digest}.{of}.{part}", self.prefix())
    }
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
    mut on_progress: impl FnMut(usize, usize),
) -> Result<Digest, Error> {
    let digest = actor::digest(bytes.clone()).await?;
    let of = bytes.len().div_ceil(PART_BYTES).max(1);
    let there = bus.subjects(&bucket.filter(digest)).await?;
    let part_bytes = |part: usize| {
        let start = part * PART_BYTES;
        bytes.slice(start..bytes.len().min(start + PART_BYTES))
    };
    let (stored, missing): (Vec<_>, Vec<_>) =
        (0..of).partition(|part| there.contains(&bucket.part(digest, of, *part)));
    let mut done: usize = stored.into_iter().map(|part| part_bytes(part).len()).sum();
    on_progress(done, bytes.len());
    let mut sending = stream::iter(missing)
        .map(async |part| {
            let body = part_bytes(part);
            let size = body.len();
            bus.publish(Message::new(bucket.part(digest, of, part), body)).await.map(|_| size)
        })
        .buffer_unordered(IN_FLIGHT);
    while let Some(size) = sending.try_next().await? {
        done += size;
        on_progress(done, bytes.len());
    }
    Ok(digest)
}

/// Of how many parts the object consists, if all of them are there. Somebody may have stored parts of
/// another division, which must not hide the whole ones.
async fn parts(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<Option<usize>, Error> {
    let mut found = BTreeMap::<usize, usize>::new();
    for subject in bus.subjects(&bucket.filter(digest)).await? {
        let mut tokens = subject.rsplit('.').map(str::parse::<usize>);
        if let (Some(Ok(part)), Some(Ok(of))) = (tokens.next(), tokens.next())
            && part < of
        {
            *found.entry(of).or_default() += 1;
        }
    }
    Ok(found.into_iter().find(|(of, parts)| of == parts).map(|(of, _)| of))
}

/// Whether all of an object is there; its bytes are not looked at.
///
/// # Errors
/// The bus's.
pub async fn exists(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<bool, Error> {
    Ok(parts(bus, bucket, digest).await?.is_some())
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
    let absent = || Error::NoObject { bucket: bucket.prefix(), digest };
    let of = parts(bus, bucket, digest).await?.ok_or_else(absent)?;
    if (of - 1) * PART_BYTES > limit {
        return Err(Error::TooLarge { what: "object", got: (of - 1) * PART_BYTES, limit });
    }
    let mut reading = stream::iter(0..of)
        .map(|part| bucket.part(digest, of, part))
        .map(async |subject| bus.last(&subject).await)
        .buffered(IN_FLIGHT);
    let mut bytes = BytesMut::new();
    while let Some(part) = reading.try_next().await? {
        bytes.extend_from_slice(&part.ok_or_else(absent)?.body);
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

/// Deletes an object; absent is fine.
///
/// # Errors
/// The bus's.
pub async fn delete(bus: &dyn Bus, bucket: &Bucket, digest: Digest) -> Result<(), Error> {
    bus.purge(&bucket.filter(digest)).await
}
