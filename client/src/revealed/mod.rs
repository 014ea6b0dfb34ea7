//! Counts how much each key has revealed: the shown scores and labels of `approximate` programs, in `revealed.json`
//! next to the keys. `docs/scores.md` explains why, and derives the bound.
//!
//! The file has an entry for each evaluation key, by its digest, so a new key starts at zero. It is written before
//! anything is shown: after a crash in between the count is too high, never too low.

mod cost;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use hermesh_mesh::Digest;
use serde::{Deserialize, Serialize};

pub use cost::Cost;

use crate::files::{self, Audience, Existing};
use crate::{Error, Result};

/// Largest file, in bytes: several thousand keys.
const MAX_FILE: u64 = 1 << 20;
const VERSION: u32 = 1;

/// What was shown under one key, and how much it reveals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Scores.
    pub scores: u64,
    /// Labels.
    pub labels: u64,
    /// Upper bound on the bits that they reveal about the key.
    pub bits: f64,
}

/// The counts of a directory of keys.
#[derive(Clone, Debug)]
pub struct Revealed {
    file: PathBuf,
    /// Serialises commands that run at the same time, so that no count is lost.
    lock: PathBuf,
}

/// The fields of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    keys: BTreeMap<String, Count>,
}

impl Revealed {
    /// The counts in this directory of keys.
    pub fn new(directory: &Path) -> Self {
        Self { file: directory.join("revealed.json"), lock: directory.join("revealed.lock") }
    }

    /// The count of a key; zero if it has no entry.
    ///
    /// # Errors
    /// The file cannot be read, or hermesh did not write it.
    pub fn of(&self, key: Digest) -> Result<Count> {
        Ok(self.read()?.get(&key.to_string()).copied().unwrap_or_default())
    }

    /// Fails if `bits` more may not be shown.
    ///
    /// # Errors
    /// [`Error::KeyUsedUp`], or as [`Self::of`].
    pub fn check(&self, key: Digest, bits: f64, budget: f64) -> Result<()> {
        allowed(self.of(key)?.bits, bits, budget)
    }

    /// Counts what is about to be shown, and returns the new count.
    ///
    /// # Errors
    /// [`Error::KeyUsedUp`], or the file cannot be read or written. The caller must then show nothing.
    pub fn add(&self, key: Digest, more: Count, budget: f64) -> Result<Count> {
        let lock = File::options().create(true).append(true).open(&self.lock);
        let held = lock.and_then(|lock| lock.lock().map(|()| lock));
        // The lock ends when the file is closed, also by a crash.
        let _held = held.map_err(Error::io("lock the file")).map_err(Error::in_file(&self.lock))?;
        let mut keys = self.read()?;
        let count = keys.entry(key.to_string()).or_default();
        allowed(count.bits, more.bits, budget)?;
        count.scores = count.scores.saturating_add(more.scores);
        count.labels = count.labels.saturating_add(more.labels);
        count.bits += more.bits;
        let new = *count;
        let form = Form { version: VERSION, keys };
        let mut bytes = serde_json::to_vec_pretty(&form).map_err(not_ours)?;
        bytes.push(b'\n');
        files::write(&self.file, &bytes, Audience::Owner, Existing::Replace)?;
        Ok(new)
    }

    fn read(&self) -> Result<BTreeMap<String, Count>> {
        if self.file.symlink_metadata().is_err() {
            return Ok(BTreeMap::new());
        }
        decode(&files::read(&self.file, MAX_FILE)?).map_err(Error::in_file(&self.file))
    }
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<String, Count>> {
    let form: Form = serde_json::from_slice(bytes).map_err(not_ours)?;
    if form.version != VERSION {
        return Err(not_ours(format!("version {}, this build reads {VERSION}", form.version)));
    }
    for (key, count) in &form.keys {
        if key.parse::<Digest>().is_err() {
            return Err(not_ours("an entry that is not named after an evaluation key"));
        }
        if !count.bits.is_finite() || count.bits < 0.0 {
            return Err(not_ours(format!("{} bits", count.bits)));
        }
    }
    Ok(form.keys)
}

/// A cost that is not a number, or below zero, is refused as well: it must neither pass nor be stored.
fn allowed(before: f64, more: f64, budget: f64) -> Result<()> {
    if more >= 0.0 && before + more <= budget {
        return Ok(());
    }
    Err(Error::KeyUsedUp { before, more, budget })
}

fn not_ours(found: impl ToString) -> Error {
    Error::NotACount { found: found.to_string() }
}
