//! Signs jobs, keeps them in the outbox, sends them, waits for answers and decrypts them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hermesh_client::Error;
use hermesh_client::cli::{Output, Terms};
use hermesh_client::keys::{KeyDirectory, Secret};
use hermesh_client::outbox::State;
use hermesh_client::passphrase::Passphrase;
use hermesh_client::terminal::units;
use hermesh_compiler::Client;
use hermesh_engine::{Answer as EncryptedAnswer, Outline};
use hermesh_mesh::client::Pending;
use hermesh_mesh::wire::{Answer, Context, Failure, FailureCode, Job, Status, TraceParent};
use hermesh_mesh::{Bytes, Clock as _, Digest, Error as MeshError, JobId, SystemClock, UnixMillis};

use super::answers::Answers;
use super::note;
use super::remote::Remote;

/// Pause before a mesh at capacity is tried again, if it does not state one.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Largest number of times that a job is sent to a mesh at capacity.
const TRIES: u32 = 20;
/// The longest pause between two tries, unless the mesh asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Signs a new job for a ciphertext, with a new id.
pub(super) fn sign(
    secret: &Secret,
    program: &Outline,
    input: Bytes,
    terms: &Terms,
    now: UnixMillis,
) -> Job {
    let context = Context {
        job: JobId::random(),
        tenant: secret.tenant.clone(),
        model: Digest(program.digest),
        key: Digest(secret.client.evaluation_key()),
        input: Digest::of(&input),
        deadline: now.plus(terms.deadline),
        priority: terms.priority,
        trace: Some(TraceParent::random()),
    };
    Job::new(context, input, &secret.signing)
}

impl Remote {
    /// Sends a job that is pending in the outbox.
    pub(super) fn send(&self, secret: &Secret, id: JobId) -> Result<Pending> {
        let outbox = self.keys.outbox();
        let job = outbox.to_send(id)?;
        let sent = self.connection.run(self.client(secret).submit_job(job));
        let pending = sent.with_context(|| {
            format!("job {id} may not have been sent; hermesh submit --pending sends it again")
        })?;
        outbox.set(id, State::Submitted, self.now())?;
        Ok(pending)
    }

    /// Waits for a job that was sent, and records how it ended.
    pub(super) fn outcome(
        &self,
        pending: Pending,
        progress: impl FnMut(&Status),
    ) -> Result<Answer, Error> {
        let id = pending.context().job;
        let outcome = self.connection.run(pending.outcome(progress));
        let state = match &outcome {
            Ok(_) => State::Answered,
            Err(Error::Mesh(MeshError::Failed(_))) => State::Failed,
            Err(_) => return outcome,
        };
        self.note_end(id, state)?;
        outcome
    }

    /// Records how a job ended, unless that has been recorded before.
    pub(super) fn note_end(&self, id: JobId, state: State) -> Result<(), Error> {
        let outbox = self.keys.outbox();
        match outbox.get(id)?.state.ended() {
            true => Ok(()),
            false => outbox.set(id, state, self.now()),
        }
    }

    /// Sends an encrypted input and waits for the answer. If the mesh is at capacity, sends the input again: there was
    /// no answer, so the repetition reveals nothing about the key. Each repetition is a new job, because the refusal of
    /// the old job is final.
    pub(super) fn ask(
        &self,
        secret: &Secret,
        first: Job,
        mut progress: impl FnMut(&Status),
    ) -> Result<Answer> {
        let deadline = first.context.deadline;
        let mut job = first;
        let mut tried = 0;
        loop {
            tried += 1;
            let id = job.context.job;
            let outcome = match self.send(secret, id) {
                Ok(pending) => self.outcome(pending, &mut progress),
                Err(error) => match error.downcast_ref::<Error>() {
                    // The mesh has not stored the job, so the next try sends the same job.
                    Some(Error::Mesh(MeshError::Full { .. })) => {
                        self.pause(tried, TRY_AGAIN, deadline)?;
                        continue;
                    }
                    _ => return Err(error),
                },
            };
            match outcome {
                Err(Error::Mesh(MeshError::Failed(failure))) if no_room(&failure) => {
                    self.pause(tried, failure.retry_after.unwrap_or(TRY_AGAIN), deadline)?;
                    let context = Context { job: JobId::random(), ..job.context };
                    job = Job::new(context, job.input, &secret.signing);
                    self.keys.outbox().add(&job, State::Pending, self.now())?;
                }
                outcome => return outcome.map_err(explain),
            }
        }
    }

    /// Waits before the next try: at least as long as the mesh asks for, and longer with each try.
    fn pause(&self, tried: u32, asked: Duration, deadline: UnixMillis) -> Result<()> {
        ensure!(
            tried < TRIES,
            "the mesh was at capacity {TRIES} times: try again later, or ask its operator for a larger quota"
        );
        let pause = asked.max(least_pause(tried));
        ensure!(
            self.now().plus(pause) < deadline,
            "the mesh has no room, and the deadline is over before it may have some: allow more time \
             with --deadline"
        );
        note(&format!(
            "the mesh is at capacity; trying again in {}",
            units::seconds(pause.as_secs_f64())
        ));
        self.connection.wait(tokio::time::sleep(pause));
        Ok(())
    }
}

/// Decrypts the answer of a job. A failure is final and the job is never repeated: an attacker who altered the answer
/// would learn from the repetition that it did not decrypt. An answer that names another key is different: that is
/// detected without the secret, and may be a mistake, such as the file of another job.
pub(super) fn decrypt<'a>(
    keys: &KeyDirectory,
    job: &Context,
    model: &Client,
    passphrase: &Passphrase,
    answer: &[u8],
    options: &'a Output,
) -> Result<Answers<'a>> {
    check_model(job, model)?;
    check_intact(answer, model)?;
    let secret = keys.read_secret_for(job.key, passphrase)?;
    let decrypted = Answers::decrypt(model, &secret.client, answer, options);
    let state = match &decrypted {
        Ok(_) => State::Decrypted,
        Err(error) if is_another_key(error) => return decrypted,
        Err(_) => State::Undecryptable,
    };
    keys.outbox().set(job.job, state, SystemClock.now())?;
    decrypted.with_context(|| Error::Undecryptable { job: job.job }.to_string())
}

/// True if the answer was rejected because it names another key.
pub(super) fn is_another_key(error: &anyhow::Error) -> bool {
    use hermesh_engine::Error as Engine;
    matches!(error.downcast_ref(), Some(Error::Engine(Engine::WrongKey { .. })))
}

/// Checked before decryption: anyone can see from the digest that a file is damaged, so fetching the answer again
/// reveals nothing about the key.
pub(super) fn check_intact(answer: &[u8], model: &Client) -> Result<(), Error> {
    use hermesh_engine::Error as Engine;
    match EncryptedAnswer::decode(answer, model.outline()) {
        Err(error @ Engine::Damaged { .. }) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Checked before decryption, because a wrong model is a mistake of the user and not an attack.
pub(super) fn check_model(job: &Context, model: &Client) -> Result<()> {
    let given = Digest(model.outline().digest);
    ensure!(
        job.model == given,
        "job {} is for model {}, but this model is {given}: pass the model that it was encrypted for",
        job.job,
        job.model
    );
    Ok(())
}

/// 1 s, 2 s, 4 s, …
fn least_pause(tried: u32) -> Duration {
    Duration::from_secs(1 << tried.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

fn no_room(failure: &Failure) -> bool {
    failure.refused.is_some() && failure.code == FailureCode::Overloaded
}

/// Adds the time after which to try again, if the mesh states it.
pub(super) fn explain(error: Error) -> anyhow::Error {
    let again = match &error {
        Error::Mesh(MeshError::Failed(failure)) if failure.retryable() => {
            let after = failure.retry_after.unwrap_or(TRY_AGAIN).as_secs_f64();
            Some(format!("try again in {}", units::seconds(after)))
        }
        Error::Mesh(MeshError::UntrustedService { .. }) => Some(
            "nothing was decrypted. If the mesh's operator confirms that key, run hermesh tenant \
             register --accept-new-keys, or name it with --service-key"
                .to_owned(),
        ),
        _ => None,
    };
    match again {
        Some(again) => anyhow::anyhow!("{error}; {again}"),
        None => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_further_and_further_apart() {
        let seconds: Vec<u64> = (1..=8).map(|tried| least_pause(tried).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(least_pause(u32::MAX), LONGEST_PAUSE);
    }
}
