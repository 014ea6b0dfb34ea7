//! The outbox keeps every signed job, unchanged, from before it is sent until it has ended.
//!
//! ```text
//! signed ─▶ pending ─▶ submitted ─▶ answered ─▶ decrypted
//!                          └────────────┴─────▶ failed, undecryptable
//! ```
//!
//! Each job is one file, `outbox/{job}.job`. A `pending` job may or may not have been sent; sending it again sends the
//! same message, which the mesh recognises as the same job. An `undecryptable` job is never sent again, and neither is
//! its ciphertext in another job: an attacker who altered the answer would learn from the repetition that it did not
//! decrypt, and so about the client key. `outbox/never/` has a file for each such ciphertext, named by its digest, so
//! that a send need not read every entry.

mod format;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hermesh_mesh::wire::{Job, Wire};
use hermesh_mesh::{Digest, JobId, UnixMillis, topology};

pub use format::headers;

use crate::files::{self, Audience, Existing};
use crate::{Error, Result};

/// Largest number of jobs that have not ended.
pub const MAX_OPEN: usize = 1_000;
/// Number of decrypted or failed jobs to keep, newest first.
pub const MAX_ENDED: usize = 256;
/// Directory of the digests of ciphertexts that are never sent again.
const NEVER: &str = "never";
/// Time after its deadline at which a job that never ended is removed. The mesh drops it earlier.
const FORGOTTEN: Duration = topology::MAX_DEADLINE.saturating_mul(2);

/// State of a job, as known to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Handed to the user, who publishes it with a program of their own.
    Signed,
    /// About to be sent, or already sent.
    Pending,
    /// The mesh has stored it.
    Submitted,
    /// The answer has arrived and its receipt is verified.
    Answered,
    /// The answer has been decrypted.
    Decrypted,
    /// The mesh refused the job or gave up on it.
    Failed,
    /// An answer did not decrypt. This state is final.
    Undecryptable,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Signed,
        Self::Pending,
        Self::Submitted,
        Self::Answered,
        Self::Decrypted,
        Self::Failed,
        Self::Undecryptable,
    ];

    /// Name of the state, in files and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Pending => "pending",
            Self::Submitted => "submitted",
            Self::Answered => "answered",
            Self::Decrypted => "decrypted",
            Self::Failed => "failed",
            Self::Undecryptable => "undecryptable",
        }
    }

    /// True if the job has ended; its ciphertext is then no longer kept.
    pub fn ended(self) -> bool {
        matches!(self, Self::Decrypted | Self::Failed | Self::Undecryptable)
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// State of the job.
    pub state: State,
    /// Time of the last change of state.
    pub since: UnixMillis,
    /// Digests of its answers that were written to files, to be decrypted later. An honest mesh sends one.
    pub answers: Vec<Digest>,
    /// The job, without its ciphertext if it has ended or if only the head was read.
    pub job: Job,
}

impl Entry {
    /// The job's id.
    pub fn id(&self) -> JobId {
        self.job.context.job
    }
}

/// The outbox of a directory of keys.
#[derive(Clone, Debug)]
pub struct Outbox(PathBuf);

impl Outbox {
    /// The outbox in this directory, which need not exist yet.
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Stores a signed job. Called before the job is sent or handed to the user.
    ///
    /// # Errors
    /// [`Error::NeverAgain`] if an answer to the same ciphertext did not decrypt, [`Error::OutboxFull`], or the entry
    /// cannot be written.
    pub fn add(&self, job: &Job, state: State, now: UnixMillis) -> Result<()> {
        create(&self.0)?;
        let _lock = self.lock()?;
        let open = self.tidy(now)?;
        self.check_input(job.context.input)?;
        if open >= MAX_OPEN {
            return Err(Error::OutboxFull { limit: MAX_OPEN });
        }
        let entry = Entry { state, since: now, answers: Vec::new(), job: job.clone() };
        self.write(&entry, Existing::Keep)
    }

    /// Refuses a ciphertext whose answer did not decrypt.
    ///
    /// # Errors
    /// [`Error::NeverAgain`], or the outbox cannot be read.
    pub fn check_input(&self, input: Digest) -> Result<()> {
        let never = self.never(input);
        let there = never.try_exists().map_err(Error::io("look for the file"));
        match there.map_err(Error::in_file(&never))? {
            true => Err(Error::NeverAgain { input }),
            false => Ok(()),
        }
    }

    /// A job that may be sent, with its ciphertext.
    ///
    /// # Errors
    /// [`Error::Undecryptable`], [`Error::NeverAgain`], [`Error::NotPending`], [`Error::NoSuchJob`].
    pub fn to_send(&self, id: JobId) -> Result<Job> {
        let entry = self.read(id, format::Part::All)?;
        match entry.state {
            State::Pending => {
                self.check_input(entry.job.context.input)?;
                Ok(entry.job)
            }
            State::Undecryptable => Err(Error::Undecryptable { job: id }),
            other => Err(Error::NotPending { job: id, found: other.as_str() }),
        }
    }

    /// A job, without its ciphertext.
    ///
    /// # Errors
    /// [`Error::NoSuchJob`], or the entry cannot be read.
    pub fn get(&self, id: JobId) -> Result<Entry> {
        self.read(id, format::Part::Head)
    }

    /// All jobs, without their ciphertexts, sorted by the time of their last change.
    ///
    /// # Errors
    /// One of the files cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let ids = self.ids()?;
        let mut entries: Vec<Entry> = Vec::with_capacity(ids.len());
        for id in ids {
            match self.get(id) {
                Ok(entry) => entries.push(entry),
                // Removed by another process in the meantime.
                Err(Error::NoSuchJob { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_by_key(|entry| (entry.since, entry.id()));
        Ok(entries)
    }

    /// The job of this answer, if [`note_answer`](Self::note_answer) has recorded it.
    ///
    /// # Errors
    /// One of the files cannot be read.
    pub fn of_answer(&self, answer: Digest) -> Result<Option<Entry>> {
        Ok(self.list()?.into_iter().find(|entry| entry.answers.contains(&answer)))
    }

    /// Records the job of an answer before the answer is written to a file, so that `decrypt` can find the job.
    ///
    /// # Errors
    /// [`Error::NoSuchJob`], or the entry cannot be written.
    pub fn note_answer(&self, id: JobId, answer: Digest) -> Result<()> {
        let _lock = self.lock()?;
        let mut entry = self.read(id, format::Part::All)?;
        if entry.answers.contains(&answer) {
            return Ok(());
        }
        entry.answers.push(answer);
        self.write(&entry, Existing::Replace)
    }

    /// Changes the state of a job. If the job has ended, its ciphertext is removed.
    ///
    /// # Errors
    /// [`Error::Undecryptable`] if the job is in that final state; or the entry cannot be written.
    pub fn set(&self, id: JobId, state: State, now: UnixMillis) -> Result<()> {
        let _lock = self.lock()?;
        // The ciphertext of an ended job is not kept, so it need not be intact. An undecryptable job can always be
        // recorded.
        let part = if state.ended() { format::Part::Head } else { format::Part::All };
        let mut entry = self.read(id, part)?;
        match entry.state {
            found if found == state => return Ok(()),
            State::Undecryptable => return Err(Error::Undecryptable { job: id }),
            _ => {}
        }
        entry.state = state;
        entry.since = now;
        if state.ended() {
            entry.job.input = Default::default();
        }
        if state == State::Undecryptable {
            // Before the entry: no crash can leave an undecryptable entry with a ciphertext that may still be sent.
            let never = self.never(entry.job.context.input);
            create(&self.0.join(NEVER))?;
            files::write(&never, b"", Audience::Owner, Existing::Replace)?;
        }
        self.write(&entry, Existing::Replace)
    }

    /// Removes old entries and returns the number of jobs that have not ended.
    fn tidy(&self, now: UnixMillis) -> Result<usize> {
        let ids = self.ids()?;
        // Too few to reach any limit, so the files need not be read.
        if ids.len() < MAX_ENDED.min(MAX_OPEN) {
            return Ok(ids.len());
        }
        let entries = self.list()?;
        let kept = |entry: &&Entry| matches!(entry.state, State::Decrypted | State::Failed);
        let over = entries.iter().filter(kept).count().saturating_sub(MAX_ENDED - 1);
        let forgotten = |entry: &&Entry| {
            !entry.state.ended() && entry.job.context.deadline.until(now) > FORGOTTEN
        };
        let ended = entries.iter().filter(kept).take(over);
        for entry in ended.chain(entries.iter().filter(forgotten)) {
            let path = self.path(entry.id());
            fs::remove_file(&path)
                .map_err(Error::io("remove the file"))
                .map_err(Error::in_file(&path))?;
        }
        Ok(entries.iter().filter(|entry| !entry.state.ended() && !forgotten(entry)).count())
    }

    /// All jobs, in no order.
    fn ids(&self) -> Result<Vec<JobId>> {
        if self.0.symlink_metadata().is_err() {
            return Ok(Vec::new());
        }
        let read = || -> std::io::Result<Vec<JobId>> {
            let names = fs::read_dir(&self.0)?.map(|entry| entry.map(|entry| entry.file_name()));
            let names: std::io::Result<Vec<_>> = names.collect();
            let id = |name: &std::ffi::OsString| name.to_str()?.strip_suffix(".job")?.parse().ok();
            Ok(names?.iter().filter_map(id).collect())
        };
        read().map_err(Error::io("read the directory")).map_err(Error::in_file(&self.0))
    }

    /// Keeps other processes from changing the outbox at the same time.
    fn lock(&self) -> Result<File> {
        let path = self.0.join(".lock");
        let open = || {
            let file = File::options().create(true).append(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(Error::io("lock the outbox")).map_err(Error::in_file(&path))
    }

    fn read(&self, id: JobId, part: format::Part) -> Result<Entry> {
        let path = self.path(id);
        if path.symlink_metadata().is_err() {
            return Err(Error::NoSuchJob { job: id });
        }
        format::read(&path, part)
            .and_then(|entry| match entry.id() == id {
                true => Ok(entry),
                false => Err(Error::NotAnOutboxEntry { found: format!("job {}", entry.id()) }),
            })
            .map_err(Error::in_file(&path))
    }

    fn write(&self, entry: &Entry, existing: Existing) -> Result<()> {
        let bytes = format::encode(entry);
        files::write(&self.path(entry.id()), &bytes, Audience::Owner, existing)
    }

    fn path(&self, id: JobId) -> PathBuf {
        self.0.join(format!("{id}.job"))
    }

    /// The file that exists once an answer to this ciphertext did not decrypt.
    fn never(&self, input: Digest) -> PathBuf {
        self.0.join(NEVER).join(input.to_string())
    }
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .map_err(Error::io("create the directory"))
        .map_err(Error::in_file(directory))
}

/// The message that publishes a job. Encoding is deterministic: the same job gives the same message.
pub fn message(job: &Job) -> hermesh_mesh::Message {
    job.encode("client")
}
