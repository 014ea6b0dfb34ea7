//! Admission's decisions.

use std::time::Duration;

use hermesh_mesh::{
    Digest, JobId, SigningKey, UnixMillis,
    actor::Logic as _,
    handling::JobError as _,
    wire::{Context, Facts, FailureCode, Job, KeyFacts, Lane, ModelFacts, Priority},
};
use hermesh_preprocessing::{Effect, Error, Input, Logic, Name, Open, Options};

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
        priority: Priority::default(),
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
            retires: None,
        }),
        model: Some(ModelFacts { parameters: "p".into() }),
    }
}

fn gate() -> Logic {
    Logic::new(Options {
        max_input_bytes: 8,
        max_deadline: Duration::from_secs(60),
        max_open_jobs: 2,
        max_open_bytes: 24,
        ..Options::default()
    })
}

/// The whole way of a job whose name is known like this.
fn admit(job: &Job, facts: Facts, name: Name) -> Result<(), Error> {
    let (mut gate, job, facts) = (gate(), Box::new(job.clone()), Box::new(facts));
    let digest = Digest::of(&job.input);
    let input = Input::Admit { job: job.clone(), digest, facts: facts.clone(), name };
    assert_eq!(gate.handle(input, NOW)?, [Effect::Claim(job.clone(), facts.clone())]);
    let holder = name.holder.unwrap_or(job.signature);
    let claimed = Input::Claimed { job: job.clone(), facts, holder };
    assert_eq!(gate.handle(claimed, NOW)?, [Effect::Begin(job, Lane::Normal)]);
    Ok(())
}

fn refused(job: &Job, change: impl FnOnce(&mut Facts)) -> (FailureCode, bool) {
    let mut facts = facts();
    change(&mut facts);
    let error = admit(job, facts, Name::default()).expect_err("refused");
    (error.code().expect("refused for good"), error.before_admission())
}

#[test]
fn a_good_job_is_begun() {
    assert_eq!(admit(&job(1), facts(), Name::default()), Ok(()));
}

#[test]
fn what_key_management_says_is_obeyed() {
    let good = job(1);
    let refused = |change: fn(&mut Facts)| refused(&good, change);
    let key = || facts().key.expect("there");
    // Whoever spoke, it was not a tenant.
    assert_eq!(refused(|f| f.tenant = None), (FailureCode::UnknownTenant, true));
    let stranger = SigningKey::from_bytes(&[9; 32]).verifying_key();
    let forged = Facts { tenant: Some(stranger), ..facts() };
    let forged = admit(&good, forged, Name::default()).expect_err("refused");
    assert_eq!((forged.code(), forged.before_admission()), (Some(FailureCode::BadSignature), true));
    // The tenant's own job fails for all to see.
    assert_eq!(refused(|f| f.key = None), (FailureCode::UnknownKey, false));
    assert_eq!(refused(|f| f.model = None), (FailureCode::UnknownModel, false));
    let mismatch = refused(|f| f.model = Some(ModelFacts { parameters: "q".into() }));
    assert_eq!(mismatch, (FailureCode::ParameterMismatch, false));
    let foreign = KeyFacts { owner: "umbra".parse().expect("valid"), ..key() };
    let foreign = admit(&good, Facts { key: Some(foreign), ..facts() }, Name::default());
    assert_eq!(foreign, Err(Error::WrongKeyOwner(Digest([3; 32]))));
    let revoked = KeyFacts { revoked: true, ..key() };
    let revoked = admit(&good, Facts { key: Some(revoked), ..facts() }, Name::default());
    assert_eq!(revoked, Err(Error::KeyRevoked(Digest([3; 32]))));
}

#[test]
fn the_job_itself_is_checked() {
    let sign = |context: Context, input: &'static str| Job::new(context, input.into(), &signing());
    let with_deadline = |deadline| Context { deadline, ..context(1) };
    let refused = |job: &Job, code| assert_eq!(refused(job, |_| {}), (code, true));

    refused(&sign(context(1), "123456789"), FailureCode::TooLarge);
    refused(&sign(with_deadline(NOW), "1"), FailureCode::Expired);
    let far = NOW.plus(Duration::from_millis(60_001));
    refused(&sign(with_deadline(far), "1"), FailureCode::DeadlineTooFar);
    let mut altered = job(1);
    altered.input = "87654321".into();
    refused(&altered, FailureCode::DigestMismatch);
    let mut altered = job(1);
    altered.context.model = Digest([7; 32]);
    refused(&altered, FailureCode::BadSignature);
}

#[test]
fn a_name_is_good_for_one_submission() {
    let good = job(1);
    let held = |by: &Job| Name { holder: Some(by.signature), ..Name::default() };
    // The same submission delivered again goes on where it was; another one is refused.
    assert_eq!(admit(&good, facts(), held(&good)), Ok(()));
    let other = Job::new(context(1), "other".into(), &signing());
    let replay = Err(Error::Replay(JobId([1; 16])));
    assert_eq!(admit(&good, facts(), held(&other)), replay);
    assert!(Error::Replay(JobId([1; 16])).before_admission());
    // So is one that was overtaken between the look and the claim.
    let lost = Input::Claimed {
        job: Box::new(good.clone()),
        facts: Box::new(facts()),
        holder: other.signature,
    };
    assert_eq!(gate().handle(lost, NOW), Err(Error::Replay(JobId([1; 16]))));
    // What has ended is not done again.
    let name = Name { ended: true, ..held(&good) };
    let (digest, facts) = (Digest::of(&good.input), Box::new(facts()));
    let again = Input::Admit { job: Box::new(good.clone()), digest, facts, name };
    assert_eq!(gate().handle(again, NOW), Ok(vec![]));
}

#[test]
fn what_was_cancelled_before_it_came_here_is_not_claimed() {
    let name = Name { ended: true, ..Name::default() };
    let job = Box::new(job(1));
    let (digest, facts) = (Digest::of(&job.input), Box::new(facts()));
    let cancelled = Input::Admit { job, digest, facts, name };
    assert_eq!(gate().handle(cancelled, NOW), Ok(vec![]));
}

#[test]
fn one_tenant_has_a_bounded_number_of_open_jobs_and_bytes() {
    let soonest = Some(NOW.plus(Duration::from_secs(7)));
    let open = |jobs, bytes| Name { open: Open { jobs, bytes, soonest }, ..Name::default() };
    let of = |priority| {
        let context = Context { priority, ..context(1) };
        Job::new(context, "12345678".into(), &signing())
    };
    let (normal, high) = (of(Priority::Normal), of(Priority::High));
    assert_eq!(admit(&normal, facts(), open(1, 13)), Ok(()));
    let full = |job, name| {
        let error = admit(job, facts(), name).expect_err("refused");
        assert!(error.before_admission());
        (error.code().expect("for good"), error.retry_after().expect("known"))
    };
    // Of whom nothing is known but that a job ends at its deadline.
    let overloaded = (FailureCode::Overloaded, Duration::from_secs(7));
    assert_eq!(full(&normal, open(2, 0)), overloaded);
    // An eighth is for what cannot wait.
    assert_eq!(full(&normal, open(1, 14)), overloaded);
    assert_eq!(admit(&high, facts(), open(1, 14)), Ok(()));
    assert_eq!(full(&high, open(1, 17)), overloaded);
    // A redelivery needs no more room.
    let held = Name { holder: Some(normal.signature), ..open(2, 100) };
    assert_eq!(admit(&normal, facts(), held), Ok(()));
}

#[test]
fn the_advice_when_to_come_back_follows_the_tenants_pace() {
    let mut gate = gate();
    for second in 0..300 {
        let input = Input::Begun { tenant: context(1).tenant, lookups: 8 };
        let now = UnixMillis(NOW.0 - 3000 * (300 - second));
        assert_eq!(gate.handle(input, now), Ok(vec![]));
    }
    let (job, facts) = (Box::new(job(1)), Box::new(facts()));
    let soonest = Some(NOW.plus(Duration::from_secs(3600)));
    let name = Name { open: Open { jobs: 2, bytes: 0, soonest }, ..Name::default() };
    let input = Input::Admit { digest: Digest::of(&job.input), job, facts, name };
    let error = gate.handle(input, NOW).expect_err("refused");
    let advice = error.retry_after().expect("known").as_secs_f64();
    assert!((2.5..3.5).contains(&advice), "{advice}");
}

#[test]
fn a_key_that_has_been_replaced_takes_no_new_jobs_but_ends_the_old() {
    let retired = |retires: UnixMillis| {
        let key = facts().key.map(|key| KeyFacts { retires: Some(retires), ..key });
        Facts { key, ..facts() }
    };
    let job = job(1);
    assert_eq!(admit(&job, retired(UnixMillis(NOW.0 + 1)), Name::default()), Ok(()));
    let error = Error::KeyRetired(Digest([3; 32]));
    assert_eq!(admit(&job, retired(NOW), Name::default()), Err(error.clone()));
    assert!(error.before_admission());
    let admitted = Name { holder: Some(job.signature), ..Name::default() };
    assert_eq!(admit(&job, retired(NOW), admitted), Ok(()));
}
