//! Wire types: encoding and decoding are inverse, and no input makes a decoder panic.

use std::{fmt::Debug, time::Duration};

use bytes::Bytes;
use hermesh_mesh::{
    Digest, Error, Headers, JobId, Message, Signature, SigningKey, TenantId, UnixMillis,
    VerifyingKey, matches,
    objects::Part,
    wire::{
        Accepted, Admitted, Answer, AuditEntry, AuditKind, AuditLog, CancelJob, Cancelled, Context,
        Facts, FactsQuery, Failure, FailureCode, Job, Joined, KeyFacts, KeyList, KeyRecord,
        KeyRetires, KeyRevoked, KeyStatus, KeyVersion, Lane, ListKeys, ListModels, ListParts,
        ModelFacts, ModelList, ModelOffer, ModelRecord, ModelStatus, OpenJob, OperatorTime,
        Outcome, PartList, Partial, Position, Priority, ReadAudit, Receipt, Refusal, RegisterModel,
        RegisterTenant, Replaces, RevokeKey, ServiceKey, Status, Task, TenantRecord, TraceParent,
        UploadEvaluationKey, Wire,
    },
};
use proptest::prelude::*;

const AT: UnixMillis = UnixMillis(1_700_000_000_000);

fn context() -> Context {
    Context {
        job: JobId([1; 16]),
        tenant: "acme".parse().expect("a valid name"),
        model: Digest([2; 32]),
        key: Digest([3; 32]),
        input: Digest::of(b"input"),
        deadline: AT,
        priority: Priority::High,
        trace: Some(TraceParent::random()),
    }
}

fn position() -> Position {
    Position {
        lane: Lane::Bulk,
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
    // Every hermesh header is required, or represents an optional value.
    let free = ["ce-id", "ce-source", "ce-specversion", "Hermesh-Retryable", "content-type"];
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
    round_trip(&FactsQuery {
        tenant: tenant.clone(),
        key: Digest([4; 32]),
        model: Digest([5; 32]),
    });
    round_trip(&Facts {
        tenant: Some(key().verifying_key()),
        key: Some(KeyFacts {
            owner: tenant.clone(),
            parameters: "a-1".into(),
            revoked: false,
            retires: Some(AT),
        }),
        model: Some(ModelFacts { parameters: "a-1".into() }),
    });
    round_trip(&Facts::default());
    round_trip(&Accepted);
    round_trip(&Refusal {
        code: FailureCode::Overloaded,
        message: "later".into(),
        retryable: true,
        retry_after: Some(Duration::from_secs(7)),
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
        trace: context.trace.clone(),
        body: "answer".into(),
    });
    round_trip(&Failure::new(&context, FailureCode::Expired, "too late"));
    let job = Job::new(context.clone(), "input".into(), &key());
    let submission = Job::submission(job.context.clone(), job.signature);
    let refusal = Failure::refusing(&job.encode("test"), submission, FailureCode::Replay, "used");
    let refusal = refusal.expect("names the job");
    assert_eq!(refusal.refused, Some(submission));
    round_trip(&refusal);
    round_trip(&Admitted { tenant: tenant.clone(), job: context.job, submission });
    round_trip(&Cancelled { tenant: tenant.clone(), job: context.job });
    round_trip(&Joined { tenant: tenant.clone(), job: context.job, stage: 1 });
    let lane = Lane::Express;
    round_trip(&OpenJob { context: context.clone(), bytes: 5, lane, admitted: AT });
    round_trip(&CancelJob::new(tenant.clone(), context.job, &key()));
    round_trip(&ServiceKey(key().verifying_key()));
    round_trip(&Status::new(&context, 3, 5));
}

const KEY: Digest = Digest([4; 32]);
const MODEL: Digest = Digest([5; 32]);

fn acme() -> TenantId {
    "acme".parse().expect("a valid name")
}

fn replaces() -> Replaces {
    Replaces { key: Digest([6; 32]), overlap: Duration::from_secs(3600) }
}

#[test]
fn every_statement_round_trips() {
    round_trip(&RegisterTenant::new(acme(), &key()));
    round_trip(&UploadEvaluationKey::new(acme(), KEY, &key()));
    round_trip(&UploadEvaluationKey::rotation(acme(), KEY, replaces(), &key()));
    round_trip(&RevokeKey::new(acme(), KEY, &key()));
    round_trip(&RegisterModel::new(acme(), MODEL, &key()));
    round_trip(&ListKeys::new(acme(), AT, &key()));
    round_trip(&ListModels::new(acme(), AT, &key()));
    round_trip(&ListParts::new(acme(), KEY, AT, &key()));
    round_trip(&ReadAudit::new(acme(), AT, 10, &key()));
}

fn key_record() -> KeyRecord {
    let parameters = "tfhe/1".into();
    KeyRecord { tenant: acme(), key: KEY, parameters, bytes: 20_000_000, version: 3, created: AT }
}

#[test]
fn every_fact_round_trips() {
    let (tenant, key, created) = (acme(), KEY, AT);
    let verifying = self::key().verifying_key();
    round_trip(&TenantRecord { tenant: tenant.clone(), key: verifying, created });
    round_trip(&key_record());
    round_trip(&KeyVersion { tenant: acme(), parameters: "tfhe/1".into(), version: 3, key });
    round_trip(&KeyRetires {
        tenant: tenant.clone(),
        key,
        successor: MODEL,
        retires: UnixMillis(AT.0 + 1),
        created,
    });
    round_trip(&KeyRevoked { tenant: tenant.clone(), key, created });
    round_trip(&ModelRecord {
        model: MODEL,
        owner: tenant.clone(),
        parameters: "tfhe/1".into(),
        bytes: 7,
        created,
    });
    round_trip(&ModelOffer { tenant, model: MODEL, created });
    for kind in AuditKind::ALL {
        for object in [None, Some(KEY)] {
            round_trip(&AuditEntry { tenant: acme(), at: AT, kind: *kind, object });
        }
    }
}

#[test]
fn facts_are_found_by_their_filters_and_tell_what_they_are_about() {
    let subject = key_record().subject();
    assert!(matches(&KeyRecord::tenant_filter(&acme()), &subject));
    assert!(matches(&KeyRecord::key_filter(KEY), &subject));
    assert_eq!(KeyRecord::parse_subject(&subject), Some((acme(), KEY)));
    let version = KeyVersion { tenant: acme(), parameters: "a/1".into(), version: 3, key: KEY };
    assert!(matches(&KeyVersion::filter(&acme(), "a/1"), &version.subject()));
    assert_eq!(KeyVersion::parse_subject(&version.subject()), Some(3));
    let offer = ModelOffer { tenant: acme(), model: MODEL, created: AT };
    assert!(matches(&ModelOffer::filter(&acme()), &offer.subject()));
    assert_eq!(ModelOffer::parse_subject(&offer.subject()), Some(MODEL));
    let entry = |at| {
        let at = UnixMillis(at);
        AuditEntry { tenant: acme(), at, kind: AuditKind::KeyAccepted, object: Some(KEY) }.subject()
    };
    assert!(matches(&AuditEntry::filter(&acme()), &entry(9)));
    assert!(entry(9) < entry(10), "subjects sort by time");
}

#[test]
fn lists_are_json_that_anybody_can_read() {
    let status = KeyStatus {
        key: KEY,
        parameters: "tfhe/1".into(),
        version: 3,
        bytes: 20_000_000,
        created: AT,
        retires: Some(UnixMillis(AT.0 + 1)),
        revoked: None,
    };
    // The name of a parameter set becomes a token of subjects.
    let odd = KeyStatus { parameters: "tfhe.*".into(), ..status.clone() };
    assert!(KeyList::decode(&KeyList(vec![odd]).encode("test")).is_err());
    let list = KeyList(vec![status]);
    round_trip(&list);
    let json = serde_json::from_slice::<serde_json::Value>(&list.encode("test").body);
    let json = json.expect("is JSON");
    assert_eq!(json[0]["key"], KEY.to_string());
    assert_eq!((&json[0]["version"], &json[0]["created"]), (&3.into(), &AT.0.into()));
    assert!(json[0]["revoked"].is_null());
    let (model, owner, parameters) = (MODEL, acme(), "tfhe/1".to_owned());
    round_trip(&ModelList(vec![ModelStatus { model, owner, parameters, bytes: 7, created: AT }]));
    round_trip(&PartList(vec![Part { of: 3, part: 1 }]));
    let kind = AuditKind::SignatureRefused;
    round_trip(&AuditLog(vec![AuditEntry { tenant: acme(), at: AT, kind, object: None }]));
    let mut garbage = list.encode("test");
    garbage.body = "[{}]".into();
    assert!(matches!(KeyList::decode(&garbage), Err(Error::Malformed { .. })));
}

#[test]
fn a_signature_covers_all_of_a_statement() {
    let owner = key().verifying_key();
    let verify = |upload: &UploadEvaluationKey| upload.verify(&owner).is_ok();
    let plain = UploadEvaluationKey::new(acme(), KEY, &key());
    let rotation = UploadEvaluationKey::rotation(acme(), KEY, replaces(), &key());
    assert!(verify(&plain) && verify(&rotation));
    let longer = Replaces { overlap: Duration::from_secs(3601), ..replaces() };
    let other = Replaces { key: MODEL, ..replaces() };
    for replaces in [None, Some(longer), Some(other)] {
        assert!(!verify(&UploadEvaluationKey { replaces, ..rotation.clone() }));
    }
    assert!(!verify(&UploadEvaluationKey { replaces: Some(replaces()), ..plain.clone() }));
    assert!(!verify(&UploadEvaluationKey { key: MODEL, ..plain }));
    let keys = ListKeys::new(acme(), AT, &key());
    assert!(ListKeys { at: UnixMillis(AT.0 + 1), ..keys.clone() }.verify(&owner).is_err());
    // A signature for one kind of question is not valid for another.
    let models = ListModels { tenant: acme(), at: AT, signature: keys.signature };
    assert!(models.verify(&owner).is_err() && keys.verify(&owner).is_ok());
    let parts = ListParts::new(acme(), KEY, AT, &key());
    assert!(ListParts { object: MODEL, ..parts.clone() }.verify(&owner).is_err());
    assert!(ListParts { at: UnixMillis(AT.0 + 1), ..parts.clone() }.verify(&owner).is_err());
    assert_eq!(parts.verify(&owner), Ok(()));
    let audit = ReadAudit::new(acme(), AT, 10, &key());
    assert!(ReadAudit { limit: 11, ..audit }.verify(&owner).is_err());
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
    let changes: [fn(&mut Context); 7] = [
        |c| c.job = JobId([0; 16]),
        |c| c.tenant = "other".parse().expect("a valid name"),
        |c| c.model = Digest([0; 32]),
        |c| c.key = Digest([0; 32]),
        |c| c.input = Digest([0; 32]),
        |c| c.deadline = UnixMillis(0),
        |c| c.priority = Priority::Low,
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
    one::<TenantRecord>(message);
    one::<KeyRecord>(message);
    one::<KeyVersion>(message);
    one::<KeyRetires>(message);
    one::<KeyRevoked>(message);
    one::<ModelRecord>(message);
    one::<ModelOffer>(message);
    one::<ListKeys>(message);
    one::<ListModels>(message);
    one::<ListParts>(message);
    one::<PartList>(message);
    one::<ReadAudit>(message);
    one::<KeyList>(message);
    one::<ModelList>(message);
    one::<AuditEntry>(message);
    one::<AuditLog>(message);
    one::<OpenJob>(message);
    one::<CancelJob>(message);
    let _ = Outcome::decode(message);
    let _ = Context::of(message);
}

proptest! {
    /// Replaces some headers of a valid message, which reaches deep into the decoders.
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
        let rotation = UploadEvaluationKey::rotation(acme(), KEY, replaces(), &key()).encode("test");
        let record = key_record().encode("test");
        let more = [more, rotation, record];
        for (name, value) in more.iter().flat_map(|more| more.headers.iter()) {
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
    fn any_key_survives_the_wire(
        (key, tenant) in (any::<[u8; 32]>(), "[a-z0-9-]{1,64}"),
        (version, bytes) in (any::<u32>(), any::<u64>()),
        (created, retires) in (any::<u64>(), any::<Option<u64>>()),
        // One token of a subject.
        parameters in "[!-)+-\\-/-=?-~]{1,64}",
    ) {
        let (key, created) = (Digest(key), UnixMillis(created));
        let tenant: TenantId = tenant.parse().expect("a valid name");
        let record = KeyRecord {
            tenant, key, parameters: parameters.clone(), bytes, version, created,
        };
        prop_assert_eq!(KeyRecord::decode(&record.encode("test")), Ok(record));
        let retires = retires.map(UnixMillis);
        let status =
            KeyStatus { key, parameters, version, bytes, created, retires, revoked: retires };
        let list = KeyList(vec![status.clone(), status]);
        prop_assert_eq!(KeyList::decode(&list.encode("test")), Ok(list));
    }

    #[test]
    fn a_rotation_of_any_overlap_keeps_its_signature(seconds in any::<u64>(), millis in 0u32..1000) {
        let overlap = Duration::new(seconds, millis * 1_000_000);
        let rotation =
            UploadEvaluationKey::rotation(acme(), KEY, Replaces { overlap, ..replaces() }, &key());
        let read = UploadEvaluationKey::decode(&rotation.encode("test")).expect("reads back");
        prop_assert_eq!(read.verify(&key().verifying_key()), Ok(()));
    }

    #[test]
    fn lists_of_any_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut message = KeyList::default().encode("test");
        message.body = body.into();
        decode_all(&message);
    }

    #[test]
    fn names_and_digests_never_panic(text in ".{0,140}") {
        let _ = text.parse::<Digest>();
        let _ = text.parse::<JobId>();
        let _ = text.parse::<TenantId>();
        let _ = text.parse::<VerifyingKey>();
        let _ = text.parse::<Signature>();
        let _ = text.parse::<TraceParent>();
        let _ = text.parse::<OperatorTime>();
        let _ = text.parse::<AuditKind>();
        let _ = KeyRecord::parse_subject(&text);
        let _ = KeyVersion::parse_subject(&text);
        let _ = ModelOffer::parse_subject(&text);
        let _ = OpenJob::parse_subject(&text);
    }

    #[test]
    fn a_failure_of_any_text_is_readable(text in ".{0,2000}") {
        let failure = Failure::new(&context(), FailureCode::Internal, text);
        let read = Failure::decode(&failure.encode("test")).expect("reads back");
        prop_assert_eq!(read.code, FailureCode::Internal);
    }
}
