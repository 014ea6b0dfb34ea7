//! Admission's decisions.

use std::time::Duration;

use hermesh_mesh::{
    Digest, JobId, SigningKey, UnixMillis,
    actor::Logic as _,
    wire::{Context, Facts, FailureCode, Job, KeyFacts, ModelFacts},
};
use hermesh_preprocessing::{Effect, Error, Input, Logic, Options};

const NOW: UnixMillis = UnixMillis(1_000_000);

fn signing() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn context(number: u8) -> Context {
    Context {
        job: JobId([number; 16]),
        tenant: "acme".parse().expect("a valid name"),
        model: Digest([2; 32]),
        key: Digest([3; 32]),
        input: Digest([0; 32]),
        deadline: NOW.plus(Duration::from_secs(10)),
        trace: None,
    }
}

fn job(number: u8) -> Job {
    Job::new(context(number), "12345678".into(), &signing())
}

fn facts() -> Facts {
    Facts {
        tenant: Some(signing().verifying_key()),
        key: Some(KeyFacts {
            owner: "acme".parse().expect("a valid name"),
            parameters: "p".into(),
            revoked: false,
        }),
        model: Some(ModelFacts { parameters: "p".into() }),
    }
}

fn gate() -> Logic {
    Logic::new(Options {
        max_input_bytes: 8,
        max_deadline: Duration::from_secs(60),
        max_jobs: 2,
        ..Options::default()
    })
}

fn admit_at(
    gate: &mut Logic,
    job: &Job,
    facts: Facts,
    attempt: u32,
    now: UnixMillis,
) -> Result<(), Error> {
    let input = Input::Admit { job: Box::new(job.clone()), facts, attempt };
    let effects = gate.handle(input, now)?;
    assert_eq!(effects, [Effect::Begin(Box::new(job.clone()))]);
    Ok(())
}

fn admit(gate: &mut Logic, job: &Job) -> Result<(), Error> {
    admit_at(gate, job, facts(), 1, NOW)
}

fn refused(job: &Job, change: impl FnOnce(&mut Facts)) -> FailureCode {
    let mut gate = gate();
    let mut facts = facts();
    change(&mut facts);
    let error = admit_at(&mut gate, job, facts, 1, NOW).expect_err("refused");
    assert_eq!(gate.remembered(), 0, "a refused job takes no memory");
    error.code().expect("refused for good")
}

#[test]
fn a_good_job_is_begun() {
    assert_eq!(admit(&mut gate(), &job(1)), Ok(()));
}

#[test]
fn what_key_management_says_is_obeyed() {
    let good = job(1);
    let refused = |change: fn(&mut Facts)| refused(&good, change);
    let key = |facts: &mut Facts| facts.key.take().expect("there");
    assert_eq!(refused(|f| f.tenant = None), FailureCode::UnknownTenant);
    assert_eq!(refused(|f| f.key = None), FailureCode::UnknownKey);
    assert_eq!(refused(|f| f.model = None), FailureCode::UnknownModel);
    let other = SigningKey::from_bytes(&[9; 32]).verifying_key();
    let mut forged = facts();
    forged.tenant = Some(other);
    let forged = admit_at(&mut gate(), &good, forged, 1, NOW).expect_err("refused");
    assert_eq!(forged.code(), Some(FailureCode::BadSignature));
    let mut changed = facts();
    changed.key = Some(KeyFacts { owner: "umbra".parse().expect("valid"), ..key(&mut facts()) });
    let foreign = admit_at(&mut gate(), &good, changed, 1, NOW);
    assert_eq!(foreign, Err(Error::WrongKeyOwner(Digest([3; 32]))));
    let mut changed = facts();
    changed.key = Some(KeyFacts { revoked: true, ..key(&mut facts()) });
    let revoked = admit_at(&mut gate(), &good, changed, 1, NOW);
    assert_eq!(revoked, Err(Error::KeyRevoked(Digest([3; 32]))));
    let mismatch = refused(|f| f.model = Some(ModelFacts { parameters: "q".into() }));
    assert_eq!(mismatch, FailureCode::ParameterMismatch);
}

#[test]
fn the_job_itself_is_checked() {
    let sign = |context: Context, input: &'static str| Job::new(context, input.into(), &signing());
    let with_deadline = |deadline| Context { deadline, ..context(1) };

    assert_eq!(refused(&sign(context(1), "123456789"), |_| {}), FailureCode::TooLarge);
    assert_eq!(refused(&sign(with_deadline(NOW), "1"), |_| {}), FailureCode::Expired);
    let far = NOW.plus(Duration::from_millis(60_001));
    assert_eq!(refused(&sign(with_deadline(far), "1"), |_| {}), FailureCode::DeadlineTooFar);
    let mut altered = job(1);
    altered.input = "87654321".into();
    assert_eq!(refused(&altered, |_| {}), FailureCode::DigestMismatch);
    let mut altered = job(1);
    altered.context.model = Digest([7; 32]);
    assert_eq!(refused(&altered, |_| {}), FailureCode::BadSignature);
}

#[test]
fn an_identifier_is_good_for_one_job_until_its_deadline() {
    let mut gate = gate();
    assert_eq!(admit(&mut gate, &job(1)), Ok(()));
    let replay = Err(Error::Replay(JobId([1; 16])));
    assert_eq!(admit(&mut gate, &job(1)), replay);
    // The same message delivered again is not a replay; another job under its name is.
    assert_eq!(admit_at(&mut gate, &job(1), facts(), 2, NOW), Ok(()));
    let other = Job::new(context(1), "other".into(), &signing());
    assert_eq!(admit_at(&mut gate, &other, facts(), 2, NOW), replay);
    // An unauthenticated job does not take the name of a good one.
    let forged = Job::new(context(2), "1".into(), &SigningKey::generate());
    assert!(admit(&mut gate, &forged).is_err());
    assert_eq!(admit(&mut gate, &job(2)), Ok(()));
}

#[test]
fn memory_is_bounded_and_freed_at_the_deadline() {
    let mut gate = gate();
    for number in [1, 2] {
        assert_eq!(admit(&mut gate, &job(number)), Ok(()));
    }
    let full = admit(&mut gate, &job(3)).expect_err("refused");
    assert_eq!(full.code(), Some(FailureCode::Overloaded));
    // A redelivery needs no more memory.
    assert_eq!(admit_at(&mut gate, &job(2), facts(), 2, NOW), Ok(()));
    let later = NOW.plus(Duration::from_secs(10));
    let fresh = Context { deadline: later.plus(Duration::from_secs(1)), ..context(3) };
    let fresh = Job::new(fresh, "1".into(), &signing());
    assert_eq!(admit_at(&mut gate, &fresh, facts(), 1, later), Ok(()));
    assert_eq!(gate.remembered(), 1);
}
