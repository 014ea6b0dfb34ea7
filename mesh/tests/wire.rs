//! Wire types: what is written is read back, and nothing that is read makes a reader panic.

use std::fmt::Debug;

use bytes::Bytes;
use hermesh_mesh::{
    Digest, Error, Headers, JobId, Message, SigningKey, UnixMillis,
    wire::{
        Accepted, Admitted, Answer, Context, Facts, FactsQuery, Failure, FailureCode, Job,
        KeyFacts, KeyRevoked, ModelFacts, OperatorTime, Outcome, Partial, Position, Receipt,
        Refusal, RegisterModel, RegisterTenant, RevokeKey, Status, Task, TraceParent,
        UploadEvaluationKey, Wire,
    },
};
use proptest::prelude::*;

fn context() -> Context {
    Context {
        job: JobId([1; 16]),
        tenant: "acme".parse().expect("a valid name"),
        model: Digest([2; 32]),
        key: Digest([3; 32]),
        input: Digest::of(b"input"),
        deadline: UnixMillis(1_700_000_000_000),
        trace: Some(TraceParent::random()),
    }
}

fn position() -> Position {
    Position {
        stage: 1,
        shard: 2,
        of: 3,
        lookups: 16,
        stage_lookups: 48,
        done_before: 128,
        total: 176,
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn round_trip<T: Wire + Debug + PartialEq>(value: &T) {
    let message = value.encode("test");
    assert_eq!(T::decode(&message).as_ref(), Ok(value));
    // Every header of ours is needed, or stands for something that may be absent.
    let free = ["ce-id", "ce-source", "ce-specversion", "Hermesh-Retryable"];
    for (name, _) in message.headers.iter().filter(|(name, _)| !free.contains(name)) {
        let mut fewer = message.clone();
        fewer.headers = Headers::default();
        for (other, text) in message.headers.iter().filter(|(other, _)| *other != name) {
            fewer.headers.insert(other, text).expect("was valid");
        }
        assert_ne!(T::decode(&fewer).as_ref(), Ok(value), "without {name}");
    }
}

#[test]
fn every_type_round_trips() {
    let context = context();
    let tenant = context.tenant.clone();
    round_trip(&RegisterTenant::new(tenant.clone(), &key()));
    round_trip(&UploadEvaluationKey::new(tenant.clone(), Digest([4; 32]), &key()));
    round_trip(&RevokeKey::new(tenant.clone(), Digest([4; 32]), &key()));
    round_trip(&RegisterModel { model: Digest([5; 32]) });
    round_trip(&FactsQuery {
        tenant: tenant.clone(),
        key: Digest([4; 32]),
        model: Digest([5; 32]),
    });
    round_trip(&Facts {
        tenant: Some(key().verifying_key()),
        key: Some(KeyFacts { owner: tenant.clone(), parameters: "a-1".into(), revoked: false }),
        model: Some(ModelFacts { parameters: "a-1".into() }),
    });
    round_trip(&Facts::default());
    round_trip(&Accepted);
    round_trip(&Refusal {
        code: FailureCode::Overloaded,
        message: "later".into(),
        retryable: true,
    });
    round_trip(&Job::new(context.clone(), "input".into(), &key()));
    round_trip(&Task { context: context.clone(), position: position(), body: "shard".into() });
    round_trip(&Partial {
        context: context.clone(),
        position: position(),
        outputs: false,
        times: vec![OperatorTime { operator: "bootstrap".into(), seconds: 0.25, calls: 16 }],
        body: "partial".into(),
    });
    round_trip(&Answer {
        tenant: tenant.clone(),
        receipt: Receipt::new(&context, b"answer", [6; 16], &key()),
        body: "answer".into(),
    });
    round_trip(&Failure::new(&context, FailureCode::Expired, "too late"));
    let job = Job::new(context.clone(), "input".into(), &key());
    let refusal = Failure::refusing(&job.encode("test"), FailureCode::Replay, "used");
    let refusal = refusal.expect("names the job");
    assert_eq!(refusal.refused, Some(job.signature));
    round_trip(&refusal);
    round_trip(&Admitted { tenant: tenant.clone(), job: context.job, signature: job.signature });
    round_trip(&KeyRevoked { tenant: tenant.clone(), key: context.key });
    round_trip(&Status { tenant, job: context.job, done: 3, total: 5 });
}

#[test]
fn another_version_or_type_is_refused() {
    let mut message = Accepted.encode("test");
    let wrong_type = Status::decode(&message);
    assert!(matches!(wrong_type, Err(Error::WrongType { .. })));
    message.headers.insert("Hermesh-Version", "2").expect("valid");
    let wrong_version = Accepted::decode(&message);
    assert!(matches!(wrong_version, Err(Error::WrongVersion { .. })));
}

#[test]
fn what_comes_over_the_bus_must_fit_its_subject() {
    let job = Job::new(context(), "input".into(), &key());
    let mut message = job.encode("test");
    assert_eq!(Job::receive(&message), Ok(job.clone()));
    message.subject = "hermesh.job.umbra".into();
    assert!(matches!(Job::receive(&message), Err(Error::Malformed { .. })));
    assert_eq!(Job::decode(&message), Ok(job));
}

#[test]
fn a_failure_of_a_later_version_is_still_a_failure() {
    let failure = Failure::new(&context(), FailureCode::Expired, "why");
    let mut message = failure.encode("test");
    message.headers.insert("Hermesh-Code", "brand-new").expect("valid");
    let read = Failure::decode(&message).expect("reads");
    assert_eq!((read.code, &*read.message), (FailureCode::Internal, "why"));
}

#[test]
fn nothing_of_a_body_is_printed() {
    let job = Job::new(context(), "a secret input".into(), &key());
    let printed = format!("{job:?} {:?}", job.encode("test"));
    assert!(!printed.contains("secret") && printed.contains("14"), "{printed}");
}

#[test]
fn a_job_is_bound_to_all_it_says() {
    let job = Job::new(context(), "input".into(), &key());
    let verify = |job: &Job| job.verify(&key().verifying_key());
    assert_eq!(verify(&job), Ok(()));
    let changes: [fn(&mut Context); 6] = [
        |c| c.job = JobId([0; 16]),
        |c| c.tenant = "other".parse().expect("a valid name"),
        |c| c.model = Digest([0; 32]),
        |c| c.key = Digest([0; 32]),
        |c| c.input = Digest([0; 32]),
        |c| c.deadline = UnixMillis(0),
    ];
    for change in changes {
        let mut changed = job.clone();
        change(&mut changed.context);
        assert!(matches!(verify(&changed), Err(Error::BadSignature { .. })));
    }
    let mut changed = job.clone();
    changed.input = "other input".into();
    assert!(matches!(verify(&changed), Err(Error::DigestMismatch { .. })));
    let stranger = SigningKey::generate().verifying_key();
    assert!(matches!(job.verify(&stranger), Err(Error::BadSignature { .. })));
}

#[test]
fn a_receipt_is_bound_to_job_and_answer() {
    let receipt = Receipt::new(&context(), b"answer", [6; 16], &key());
    let service = key().verifying_key();
    assert_eq!(receipt.verify(&service, &context(), b"answer"), Ok(()));
    let other_answer = receipt.verify(&service, &context(), b"other");
    assert!(matches!(other_answer, Err(Error::DigestMismatch { .. })));
    let other_job = Context { job: JobId([0; 16]), ..context() };
    let other_job = receipt.verify(&service, &other_job, b"answer");
    assert!(matches!(other_job, Err(Error::Malformed { .. })));
    let stranger = SigningKey::generate().verifying_key();
    let forged = receipt.verify(&stranger, &context(), b"answer");
    assert!(matches!(forged, Err(Error::BadSignature { .. })));
    let mut forged = receipt.clone();
    forged.output = Digest::of(b"other");
    let forged = forged.verify(&service, &context(), b"other");
    assert!(matches!(forged, Err(Error::BadSignature { .. })));
}

fn decode_all(message: &Message) {
    fn one<T: Wire>(message: &Message) {
        let mut message = message.clone();
        message.headers.insert("ce-type", T::TYPE).expect("valid");
        message.headers.insert("Hermesh-Version", "1").expect("valid");
        let _ = T::decode(&message);
    }
    one::<RegisterTenant>(message);
    one::<UploadEvaluationKey>(message);
    one::<RevokeKey>(message);
    one::<RegisterModel>(message);
    one::<FactsQuery>(message);
    one::<Facts>(message);
    one::<Refusal>(message);
    one::<Job>(message);
    one::<Task>(message);
    one::<Partial>(message);
    one::<Answer>(message);
    one::<Failure>(message);
    one::<Status>(message);
    let _ = Outcome::decode(message);
    let _ = Context::of(message);
}

proptest! {
    /// A valid message with some headers replaced reaches the deep ends of the readers.
    #[test]
    fn arbitrary_headers_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[ -~]{0,80}|[0-9]{1,30}|[a-f0-9]{64}"), 0..6),
        free in prop::collection::vec((".{0,70}", ".{0,40}"), 0..6),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut message = Task { context: context(), position: position(), body: Bytes::from(body) }.encode("test");
        let more = Partial {
            context: context(), position: position(), outputs: true, times: Vec::new(), body: Bytes::new(),
        }.encode("test");
        for (name, value) in more.headers.iter() {
            message.headers.insert(name, value).expect("valid");
        }
        let names: Vec<String> = message.headers.iter().map(|(name, _)| name.to_owned()).collect();
        for (index, value) in changes {
            message.headers.insert(index.get::<String>(&names), value).expect("printable");
        }
        for (name, value) in free {
            let _ = message.headers.insert(&name, value);
        }
        decode_all(&message);
    }

    #[test]
    fn names_and_digests_never_panic(text in ".{0,140}") {
        let _ = text.parse::<Digest>();
        let _ = text.parse::<JobId>();
        let _ = text.parse::<hermesh_mesh::TenantId>();
        let _ = text.parse::<hermesh_mesh::VerifyingKey>();
        let _ = text.parse::<hermesh_mesh::Signature>();
        let _ = text.parse::<TraceParent>();
        let _ = text.parse::<OperatorTime>();
    }

    #[test]
    fn a_failure_of_any_text_is_readable(text in ".{0,2000}") {
        let failure = Failure::new(&context(), FailureCode::Internal, text);
        let read = Failure::decode(&failure.encode("test")).expect("reads back");
        prop_assert_eq!(read.code, FailureCode::Internal);
    }
}
