//! Jobs on their way: signed, kept in the outbox, sent, waited for, decrypted.

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

/// How long to wait before a full mesh is tried again, if it does not say.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How often a job is sent to a mesh that has no room, at most.
const TRIES: u32 = 20;
/// The longest pause between two tries that the mesh did not ask for itself.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A new job over a ciphertext, under a name of its own.
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
    /// Sends a job that the outbox holds as pending.
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

    /// Waits for a job that was sent, and notes how it ended.
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

    /// Notes how a job ended, unless its end has been noted before.
    pub(super) fn note_end(&self, id: JobId, state: State) -> Result<(), Error> {
        let outbox = self.keys.outbox();
        match outbox.get(id)?.state.ended() {
            true => Ok(()),
            false => outbox.set(id, state, self.now()),
        }
    }

    /// Sends an encrypted input and waits for the answer. While the mesh has no room, it is asked again:
    /// no answer has come, so the repetition tells nothing about the key. Each time it is a new job, as
    /// the refusal of the old one stands.
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
                    // Not stored, so it is the same job the next time.
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

    /// Waits before the next try, as long as the mesh asks for, but longer from try to try in any case.
    fn pause(&self, tried: u32, asked: Duration, deadline: UnixMillis) -> Result<()> {
        ensure!(
            tried < TRIES,
            "the mesh had no room {TRIES} times: try again later, or ask its operator for more"
        );
        let pause = asked.max(least_pause(tried));
        ensure!(
            self.now().plus(pause) < deadline,
            "the mesh has no room, and the deadline is over before it may have some: allow more time \
             with --deadline"
        );
        note(&format!(
            "the mesh has no room; trying again in {}",
            units::seconds(pause.as_secs_f64())
        ));
        self.connection.wait(tokio::time::sleep(pause));
        Ok(())
    }
}

/// Decrypts the answer of a job. If that fails it is final: whoever altered it must not learn that it
/// did by being asked again. Not so if the answer names another key: that is told without the secret,
/// and may be a slip, the file of another job.
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

/// Whether an answer did not decrypt because it names another key than the one in hand.
pub(super) fn is_another_key(error: &anyhow::Error) -> bool {
    use hermesh_engine::Error as Engine;
    matches!(error.downcast_ref(), Some(Error::Engine(Engine::WrongKey { .. })))
}

/// Said before anything is decrypted: everyone can tell from the digest that a file is damaged, so to fetch the answer
/// again tells nothing about the key.
pub(super) fn check_intact(answer: &[u8], model: &Client) -> Result<(), Error> {
    use hermesh_engine::Error as Engine;
    match EncryptedAnswer::decode(answer, model.outline()) {
        Err(error @ Engine::Damaged { .. }) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Said before anything is decrypted, for the wrong model is the user's slip and nobody's attack.
pub(super) fn check_model(job: &Context, model: &Client) -> Result<()> {
    let given = Digest(model.outline().digest);
    ensure!(
        job.model == given,
        "job {} is for model {}, this one is {given}: name the model that it was encrypted for",
        job.job,
        job.model
    );
    Ok(())
}

/// 1 s, 2 s, 4 s, … whatever the mesh says.
fn least_pause(tried: u32) -> Duration {
    Duration::from_secs(1 << tried.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

fn no_room(failure: &Failure) -> bool {
    failure.refused.is_some() && failure.code == FailureCode::Overloaded
}

/// Says when to try again, where the mesh does.
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
