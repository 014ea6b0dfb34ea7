//! Tests of admission's decisions.

use std::time::Duration;

use hermesh_mesh::{
    Digest, JobId, SigningKey, UnixMillis,
    actor::Logic as _,
    handling::JobError as _,
    wire::{Context, Facts, FailureCode, Job, KeyFacts, Lane, ModelFacts, Priority, Wire as _},
};
use hermesh_preprocessing::{Candidate, Effect, Error, Input, Logic, Name, Open, Options, Weight};

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
        max_job_lookups: 100,
        max_job_memory_bytes: 1000,
        ..Options::default()
    })
}

const WEIGHT: Weight = Weight { lookups: 7, work: 7, bytes: 8, memory: 9 };

fn submission(job: &Job) -> Digest {
    Job::submission(job.context.clone(), job.signature)
}

fn candidate(job: &Job, facts: Facts) -> Box<Candidate> {
    let (digest, submission) = (Digest::of(&job.input), submission(job));
    Box::new(Candidate { job: job.clone(), digest, submission, facts })
}

/// Takes a job through all steps, given the state of its job id.
fn admit(job: &Job, facts: Facts, name: Name) -> Result<(), Error> {
    admit_heavy(job, facts, name, WEIGHT)
}

fn admit_heavy(job: &Job, facts: Facts, name: Name, weight: Weight) -> Result<(), Error> {
    let (mut gate, candidate) = (gate(), candidate(job, facts));
    let weigh = gate.handle(Input::Admit(candidate.clone(), name), NOW)?;
    assert_eq!(weigh, [Effect::Weigh(candidate.clone(), name)]);
    let claim = gate.handle(Input::Weighed(candidate.clone(), name, weight), NOW)?;
    assert_eq!(claim, [Effect::Claim(candidate.clone(), weight)]);
    let holder = name.holder.unwrap_or(candidate.submission);
    let claimed = Input::Claimed { candidate, weight, holder, cancelled: false };
    let begin = Effect::Begin(Box::new(job.clone()), Lane::Normal, weight);
    assert_eq!(gate.handle(claimed, NOW)?, [begin]);
    Ok(())
}

fn refused(job: &Job, change: impl FnOnce(&mut Facts)) -> FailureCode {
    let mut facts = facts();
    change(&mut facts);
    let error = admit(job, facts, Name::default()).expect_err("refused");
    error.code().expect("refused for good")
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
    // Without a tenant's record, no signature can be verified.
    assert_eq!(refused(|f| f.tenant = None), FailureCode::UnknownTenant);
    let stranger = SigningKey::from_bytes(&[9; 32]).verifying_key();
    let forged = Facts { tenant: Some(stranger), ..facts() };
    let forged = admit(&good, forged, Name::default()).expect_err("refused");
    assert_eq!(forged.code(), Some(FailureCode::BadSignature));
    assert_eq!(refused(|f| f.key = None), FailureCode::UnknownKey);
    assert_eq!(refused(|f| f.model = None), FailureCode::UnknownModel);
    let mismatch = refused(|f| f.model = Some(ModelFacts { parameters: "q".into() }));
    assert_eq!(mismatch, FailureCode::ParameterMismatch);
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
    let refused = |job: &Job, code| assert_eq!(refused(job, |_| {}), code);

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
    let held = |by: &Job| Name { holder: Some(submission(by)), ..Name::default() };
    // The same submission delivered again continues; another one is refused.
    assert_eq!(admit(&good, facts(), held(&good)), Ok(()));
    let other = Job::new(context(1), "other".into(), &signing());
    let replay = Err(Error::Replay(JobId([1; 16])));
    assert_eq!(admit(&good, facts(), held(&other)), replay);
    // A submission that was overtaken between reading and reserving the job id is refused too.
    let lost = Input::Claimed {
        candidate: candidate(&good, facts()),
        weight: WEIGHT,
        holder: submission(&other),
        cancelled: false,
    };
    assert_eq!(gate().handle(lost, NOW), Err(Error::Replay(JobId([1; 16]))));
    // A job that has ended, or was refused, is not run again.
    let ended = Name { ended: true, ..held(&good) };
    let refused = Name { refused: true, ..Name::default() };
    for name in [ended, refused] {
        let again = Input::Admit(candidate(&good, facts()), name);
        assert_eq!(gate().handle(again, NOW), Ok(vec![]));
    }
    // Unless another replica admitted it before it saw the refusal.
    assert_eq!(admit(&good, facts(), Name { refused: true, ..held(&good) }), Ok(()));
}

/// Any change to a submission, signed or not, makes it another one.
#[test]
fn a_copy_with_another_body_is_another_submission() {
    let good = job(1);
    let copy = Job { input: "87654321".into(), ..good.clone() };
    let of =
        |job: &Job| hermesh_mesh::wire::submission(&job.encode("client"), Digest::of(&job.input));
    assert_eq!(of(&good), submission(&good));
    assert_ne!(of(&copy), submission(&good));
    let mut copy = good.clone();
    copy.context.priority = Priority::High;
    assert_ne!(of(&copy), submission(&good));
}

#[test]
fn what_was_cancelled_before_it_came_here_is_not_begun() {
    let candidate = candidate(&job(1), facts());
    let holder = candidate.submission;
    let claimed = Input::Claimed { candidate, weight: WEIGHT, holder, cancelled: true };
    assert_eq!(gate().handle(claimed, NOW), Err(Error::Cancelled));
}

#[test]
fn a_job_has_a_bounded_weight() {
    let heavy = |weight| {
        let error = admit_heavy(&job(1), facts(), Name::default(), weight).expect_err("refused");
        assert_eq!(error.code(), Some(FailureCode::TooLarge));
        match error {
            Error::TooHeavy { what, got, limit } => (what, got, limit),
            other => panic!("{other}"),
        }
    };
    let most = Weight { lookups: 100, work: 100, bytes: 21, memory: 1000 };
    assert_eq!(admit_heavy(&job(1), facts(), Name::default(), most), Ok(()));
    let (what, got, limit) = heavy(Weight { work: 101, ..most });
    assert!(what.contains("lookups"));
    assert_eq!((got, limit), (101, 100));
    assert_eq!(heavy(Weight { bytes: 22, ..most }), ("bytes for the results", 22, 21));
    assert_eq!(heavy(Weight { memory: 1001, ..most }), ("bytes of memory at once", 1001, 1000));
    // A job without Lookups still has a cost.
    let linear = Weight { lookups: 0, ..most };
    assert_eq!(heavy(Weight { work: 101, ..linear }).1, 101);
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
        (error.code().expect("for good"), error.retry_after().expect("known"))
    };
    // Without a known rate, a job ends at its deadline at the latest.
    let overloaded = (FailureCode::Overloaded, Duration::from_secs(7));
    assert_eq!(full(&normal, open(2, 0)), overloaded);
    // An eighth is reserved for jobs of high priority.
    assert_eq!(full(&normal, open(1, 14)), overloaded);
    assert_eq!(admit(&high, facts(), open(1, 14)), Ok(()));
    assert_eq!(full(&high, open(1, 17)), overloaded);
    // A redelivery needs no further quota.
    let held = Name { holder: Some(submission(&normal)), ..open(2, 100) };
    assert_eq!(admit(&normal, facts(), held), Ok(()));
}

#[test]
fn the_advice_when_to_come_back_follows_the_tenants_pace() {
    let mut gate = gate();
    for second in 0..300 {
        let input = Input::Begun { tenant: context(1).tenant, work: 8 };
        let now = UnixMillis(NOW.0 - 3000 * (300 - second));
        assert_eq!(gate.handle(input, now), Ok(vec![]));
    }
    let soonest = Some(NOW.plus(Duration::from_secs(3600)));
    let name = Name { open: Open { jobs: 2, bytes: 0, soonest }, ..Name::default() };
    let input = Input::Weighed(candidate(&job(1), facts()), name, WEIGHT);
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
    let admitted = Name { holder: Some(submission(&job)), ..Name::default() };
    assert_eq!(admit(&job, retired(NOW), admitted), Ok(()));
}
