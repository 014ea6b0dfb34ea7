//! Tests of the registry's decisions.

mod world;

use std::{collections::BTreeMap, time::Duration};

use hermesh_key_management::{Error, Fact, Options, Registration, Reply, Request};
use hermesh_mesh::{
    Digest, SigningKey, UnixMillis, topology,
    wire::{
        AuditKind, FRESH, FailureCode, ListKeys, ListModels, ListParts, ReadAudit, RegisterModel,
        RegisterTenant, Replaces, RevokeKey,
    },
};

use world::{World, tenant, upload};

const KEY: Digest = Digest([1; 32]);
const NEW: Digest = Digest([2; 32]);
const MODEL: Digest = Digest([3; 32]);
const HOUR: Duration = Duration::from_secs(3600);

fn world() -> World {
    World::new(Options {
        max_tenants: 2,
        max_keys_per_tenant: 2,
        max_key_records_per_tenant: 4,
        max_models_per_tenant: 1,
        ..Options::default()
    })
}

fn replacing(key: Digest) -> Option<Replaces> {
    Some(Replaces { key, overlap: HOUR })
}

fn code(result: Result<Reply, Error>) -> FailureCode {
    result.expect_err("refused").code()
}

const ACCEPTED: Result<Reply, Error> = Ok(Reply::Accepted);

#[test]
fn a_name_belongs_to_the_first_key() {
    let mut world = world();
    let key = world.register("acme");
    let again = RegisterTenant::new(tenant("acme"), &key);
    assert_eq!(world.ask(Request::RegisterTenant(again)), ACCEPTED);
    let thief = RegisterTenant::new(tenant("acme"), &SigningKey::generate());
    let refused = world.ask(Request::RegisterTenant(thief));
    assert_eq!(refused, Err(Error::TenantTaken(tenant("acme"))));
    // A registration must be signed with the key that it contains.
    let mut unheld = RegisterTenant::new(tenant("umbra"), &SigningKey::generate());
    unheld.key = key.verifying_key();
    assert_eq!(code(world.ask(Request::RegisterTenant(unheld))), FailureCode::BadSignature);
}

#[test]
fn of_two_registrations_at_the_same_time_one_is_granted() {
    let mut world = world();
    let register =
        |key: &SigningKey| Request::RegisterTenant(RegisterTenant::new(tenant("acme"), key));
    let (one, two) = (SigningKey::generate(), SigningKey::generate());
    let (mut first, mut second) = (world.begin(register(&one)), world.begin(register(&two)));
    // Both requests have seen that the name is free.
    assert!(world.step(&mut first).is_none() && world.step(&mut second).is_none());
    let mut finish = |running: &mut world::Running| loop {
        if let Some(end) = world.step(running) {
            return end;
        }
    };
    assert_eq!(finish(&mut second), ACCEPTED);
    assert_eq!(finish(&mut first), Err(Error::TenantTaken(tenant("acme"))));
}

#[test]
fn a_list_is_the_last_word_on_who_is_a_tenant() {
    let (acme, other) = (SigningKey::generate(), SigningKey::generate());
    let listed = |key: &SigningKey| {
        let list = BTreeMap::from([(tenant("acme"), key.verifying_key())]);
        Registration::Listed(list)
    };
    let mut world = world();
    world.options.registration = listed(&acme);
    let register =
        |name, key: &SigningKey| Request::RegisterTenant(RegisterTenant::new(tenant(name), key));
    assert_eq!(world.ask(register("acme", &acme)), ACCEPTED);
    for (name, key) in [("acme", &other), ("umbra", &acme)] {
        let refused = world.ask(register(name, key)).expect_err("refused");
        assert_eq!(refused, Error::NotListed(tenant(name)));
        assert!(refused.to_string().contains("ask its operator"), "{refused}");
    }
    assert_eq!(world.upload(("acme", &acme), KEY, None), ACCEPTED);
    world.options.registration = listed(&other);
    assert_eq!(code(world.upload(("acme", &acme), NEW, None)), FailureCode::BadSignature);
    assert_eq!(world.upload(("acme", &other), NEW, None), ACCEPTED);
    world.options.registration = Registration::Listed(BTreeMap::new());
    let gone = world.upload(("acme", &other), NEW, None);
    assert_eq!(gone, Err(Error::UnknownTenant(tenant("acme"))));
}

#[test]
fn a_key_is_inspected_before_it_is_known() {
    let mut world = world();
    let acme = world.register("acme");
    let missing = world.ask(upload(("acme", &acme), KEY, None));
    assert_eq!(missing, Err(Error::Incomplete(KEY)));
    assert_eq!(world.list("acme", &acme), []);
    assert_eq!(world.upload(("acme", &acme), KEY, None), ACCEPTED);
    let listed = world.list("acme", &acme);
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].key, listed[0].version, listed[0].bytes), (KEY, 1, 5));
    assert_eq!((listed[0].retires, listed[0].revoked), (None, None));
    assert!(world.kept.contains(&KEY) && world.uploads.is_empty());
    // Once more: nothing changes, and no upload is needed.
    world.now = world.now.plus(HOUR);
    assert_eq!(world.ask(upload(("acme", &acme), KEY, None)), ACCEPTED);
    assert_eq!(world.list("acme", &acme), listed);
    assert_eq!(world.audit("acme").len(), 2);
}

#[test]
fn keys_are_taken_from_their_owners_only() {
    let mut world = world();
    let (acme, umbra) = (world.register("acme"), world.register("umbra"));
    let unknown = world.upload(("nobody", &acme), KEY, None);
    assert_eq!(unknown, Err(Error::UnknownTenant(tenant("nobody"))));
    assert_eq!(code(world.upload(("acme", &umbra), KEY, None)), FailureCode::BadSignature);
    // A key is public: another tenant's upload of it takes nothing from its owner.
    assert_eq!(world.upload(("umbra", &umbra), KEY, None), ACCEPTED);
    assert_eq!(world.upload(("acme", &acme), KEY, None), ACCEPTED);
    assert_eq!(world.revoke(("umbra", &umbra), KEY), ACCEPTED);
    assert!(world.kept.contains(&KEY), "acme uses it");
    assert_eq!(world.list("acme", &acme)[0].revoked, None);
    assert_eq!(world.revoke(("acme", &acme), KEY), ACCEPTED);
    assert!(!world.kept.contains(&KEY), "no tenant uses it");
}

#[test]
fn revocation_is_the_owners_and_final() {
    let mut world = world();
    let (acme, umbra) = (world.register("acme"), world.register("umbra"));
    world.upload(("acme", &acme), KEY, None).expect("accepted");
    assert_eq!(world.revoke(("umbra", &umbra), KEY), Err(Error::UnknownKey(KEY)));
    assert_eq!(code(world.revoke(("acme", &umbra), KEY)), FailureCode::BadSignature);
    assert_eq!(world.revoke(("acme", &acme), KEY), ACCEPTED);
    let when = world.list("acme", &acme)[0].revoked;
    assert_eq!(when, Some(world.now));
    world.now = world.now.plus(HOUR);
    assert_eq!(world.revoke(("acme", &acme), KEY), ACCEPTED);
    assert_eq!(world.list("acme", &acme)[0].revoked, when);
    assert_eq!(world.upload(("acme", &acme), KEY, None), Err(Error::KeyRevoked(KEY)));
    assert!(world.kept.is_empty() && world.uploads.is_empty());
}

#[test]
fn a_key_revoked_while_a_replica_accepts_it_stays_revoked() {
    let mut world = world();
    let acme = world.register("acme");
    world.uploads.insert(KEY, "p".into());
    let request = || upload(("acme", &acme), KEY, None);
    // Whatever step the slow replica has reached when the other one finishes and the key is revoked.
    for steps in 0..12 {
        let mut world = world::World {
            facts: world.facts.clone(),
            uploads: world.uploads.clone(),
            ..self::world()
        };
        let mut slow = world.begin(request());
        let mut end = None;
        for _ in 0..steps {
            end = end.or_else(|| world.step(&mut slow));
        }
        world.uploads.insert(KEY, "p".into());
        assert_eq!(world.ask(request()), ACCEPTED);
        assert_eq!(world.revoke(("acme", &acme), KEY), ACCEPTED);
        while end.is_none() {
            end = world.step(&mut slow);
        }
        let listed = world.list("acme", &acme);
        assert_eq!(listed.len(), 1);
        assert!(listed[0].revoked.is_some());
        assert_eq!(code(world.upload(("acme", &acme), KEY, None)), FailureCode::KeyRevoked);
        assert!(world.kept.is_empty(), "after {steps} steps");
    }
}

#[test]
fn a_rotation_lets_the_old_key_go_after_the_overlap() {
    let mut world = world();
    let acme = world.register("acme");
    let who = ("acme", &acme);
    world.upload(who, KEY, None).expect("accepted");
    let start = world.now;
    assert_eq!(world.upload(who, NEW, replacing(KEY)), ACCEPTED);
    let versions: Vec<_> =
        world.list("acme", &acme).iter().map(|key| (key.key, key.version, key.retires)).collect();
    let retires = Some(start.plus(HOUR));
    assert_eq!(versions, [(KEY, 1, retires), (NEW, 2, None)]);
    // Repeating the request does not extend the overlap, and a longer overlap does not either.
    world.now = world.now.plus(HOUR / 2);
    let longer = Some(Replaces { key: KEY, overlap: 9 * HOUR });
    for replaces in [replacing(KEY), longer] {
        assert_eq!(world.upload(who, NEW, replaces), ACCEPTED);
        assert_eq!(world.list("acme", &acme)[0].retires, retires);
    }
    assert_eq!(world.upload(who, KEY, None), ACCEPTED);
    world.now = world.now.plus(HOUR);
    let over = world.upload(who, KEY, None);
    assert_eq!(over, Err(Error::KeyRetired { key: KEY, successor: NEW }));
    // Jobs that were admitted run to their end before the key's bytes are deleted.
    assert_eq!(world.upload(who, NEW, None), ACCEPTED);
    assert!(world.kept.contains(&KEY));
    world.now = world.now.plus(topology::MAX_DEADLINE + FRESH);
    assert_eq!(world.upload(who, NEW, None), ACCEPTED);
    assert!(!world.kept.contains(&KEY) && world.kept.contains(&NEW));
    use AuditKind::{KeyAccepted, KeyReplaced, KeyRetired, TenantRegistered};
    let mut audit = world.audit("acme");
    audit.sort_by_key(|kind| kind.as_str());
    assert_eq!(audit, [KeyAccepted, KeyAccepted, KeyReplaced, KeyRetired, TenantRegistered]);
}

#[test]
fn a_rotation_is_from_an_own_key_to_another_of_its_kind() {
    let mut world = world();
    let (acme, umbra) = (world.register("acme"), world.register("umbra"));
    world.upload(("umbra", &umbra), KEY, None).expect("accepted");
    let who = ("acme", &acme);
    assert_eq!(world.upload(who, NEW, replacing(KEY)), Err(Error::UnknownKey(KEY)));
    assert_eq!(world.upload(who, NEW, replacing(NEW)), Err(Error::ReplacesItself(NEW)));
    world.upload(who, KEY, None).expect("accepted");
    world.uploads.insert(NEW, "q".into());
    let other_set = world.ask(upload(who, NEW, replacing(KEY)));
    assert_eq!(code(other_set), FailureCode::ParameterMismatch);
    assert!(!world.kept.contains(&NEW));
    assert_eq!(world.list("acme", &acme).len(), 1);
    // Versions are counted for each parameter set.
    assert_eq!(world.ask(upload(who, NEW, None)), ACCEPTED);
    assert_eq!(world.list("acme", &acme)[1].version, 1);
    // A revoked key may be replaced: nothing is left to retire.
    let third = Digest([9; 32]);
    assert_eq!(world.revoke(who, KEY), ACCEPTED);
    assert_eq!(world.upload(who, third, replacing(KEY)), ACCEPTED);
    assert_eq!(world.list("acme", &acme)[0].retires, None);
}

/// All records, without their times: records of a repeated request are younger.
fn standing(world: &World) -> Vec<String> {
    let facts = world.facts.values().filter(|fact| !matches!(fact, Fact::Audit(_)));
    facts.map(world::subject).chain(world.kept.iter().map(ToString::to_string)).collect()
}

#[test]
fn a_request_cut_off_anywhere_is_finished_by_the_next_replica() {
    let mut base = world();
    let acme = base.register("acme");
    let who = ("acme", &acme);
    base.upload(who, KEY, None).expect("accepted");
    base.uploads.insert(NEW, "p".into());
    base.uploads.insert(MODEL, "p".into());
    let requests = [
        upload(who, NEW, replacing(KEY)),
        Request::RevokeKey(RevokeKey::new(tenant("acme"), KEY, &acme)),
        Request::RegisterModel(RegisterModel::new(tenant("acme"), MODEL, &acme)),
    ];
    for request in requests {
        let copy = || World {
            facts: base.facts.clone(),
            uploads: base.uploads.clone(),
            kept: base.kept.clone(),
            ..world()
        };
        let mut whole = copy();
        assert_eq!(whole.ask(request.clone()), ACCEPTED);
        for steps in 0.. {
            let mut world = copy();
            let mut first = world.begin(request.clone());
            let ended = (0..steps).any(|_| world.step(&mut first).is_some());
            world.now = world.now.plus(Duration::from_secs(5));
            assert_eq!(world.ask(request.clone()), ACCEPTED, "{request:?} after {steps} steps");
            assert_eq!(standing(&world), standing(&whole), "{request:?} after {steps} steps");
            assert_eq!(world.audit("acme").len(), whole.audit("acme").len());
            if ended {
                break;
            }
        }
    }
}

#[test]
fn keys_accepted_side_by_side_get_versions_of_their_own() {
    // Every way to interleave two uploads of up to this many steps each.
    for schedule in 0..1u32 << 12 {
        let mut world = world();
        let acme = world.register("acme");
        let who = ("acme", &acme);
        let same = schedule % 3 == 0;
        let keys = if same { [KEY, KEY] } else { [KEY, NEW] };
        keys.iter().for_each(|key| drop(world.uploads.insert(*key, "p".into())));
        let mut running = keys.map(|key| world.begin(upload(who, key, None)));
        let mut ends = [None, None];
        for step in 0..64 {
            let which = if step < 12 { (schedule >> step & 1) as usize } else { step % 2 };
            if ends[which].is_none() {
                ends[which] = world.step(&mut running[which]);
            }
        }
        assert_eq!(ends, [Some(ACCEPTED), Some(ACCEPTED)], "{schedule}");
        let listed = world.list("acme", &acme);
        let versions: Vec<u32> = listed.iter().map(|key| key.version).collect();
        assert_eq!(versions, if same { vec![1] } else { vec![1, 2] }, "{schedule}");
    }
}

#[test]
fn bounds_hold_and_say_when_there_is_room() {
    let mut world = world();
    let acme = world.register("acme");
    world.register("umbra");
    let who = ("acme", &acme);
    let third = RegisterTenant::new(tenant("third"), &SigningKey::generate());
    let no_room = world.ask(Request::RegisterTenant(third)).expect_err("refused");
    assert!(no_room.retryable());
    world.upload(who, KEY, None).expect("accepted");
    world.upload(who, NEW, replacing(KEY)).expect("accepted");
    let more = world.upload(who, Digest([4; 32]), None).expect_err("refused");
    assert!(matches!(more, Error::NoRoom { limit: 2, .. }), "{more:?}");
    let wait = HOUR + topology::MAX_DEADLINE + FRESH;
    assert_eq!(more.retry_after(), Some(wait));
    world.now = world.now.plus(wait);
    assert_eq!(world.upload(who, Digest([4; 32]), None), ACCEPTED);
    // A revoked key frees its place at once, but still counts towards the limit of records.
    assert_eq!(world.revoke(who, NEW), ACCEPTED);
    assert_eq!(world.upload(who, Digest([5; 32]), None), ACCEPTED);
    assert_eq!(world.revoke(who, Digest([5; 32])), ACCEPTED);
    let more = world.upload(who, Digest([6; 32]), None).expect_err("refused");
    assert!(matches!(more, Error::NoRoom { limit: 4, .. }), "{more:?}");
    let offer = |world: &mut World, model| {
        world.uploads.insert(model, "p".into());
        let request = RegisterModel::new(tenant("acme"), model, &acme);
        world.ask(Request::RegisterModel(request))
    };
    assert_eq!(offer(&mut world, MODEL), ACCEPTED);
    assert_eq!(offer(&mut world, MODEL), ACCEPTED);
    let more = offer(&mut world, KEY).expect_err("refused");
    assert!(matches!(more, Error::NoRoom { limit: 1, .. }), "{more:?}");
}

#[test]
fn bytes_have_bounds_too() {
    let mut world = world();
    // Each key has five bytes.
    world.options.max_key_bytes_per_tenant = 9;
    world.options.max_models_per_tenant = 2;
    world.options.max_model_bytes_per_tenant = 9;
    let acme = world.register("acme");
    let who = ("acme", &acme);
    world.upload(who, KEY, None).expect("accepted");
    let more = world.upload(who, NEW, None).expect_err("refused");
    assert!(matches!(more, Error::NoRoom { limit: 9, .. }), "{more:?}");
    assert!(!world.kept.contains(&NEW));
    assert_eq!(world.revoke(who, KEY), ACCEPTED);
    assert_eq!(world.upload(who, NEW, None), ACCEPTED);
    for (model, fits) in [(MODEL, true), (Digest([4; 32]), false), (MODEL, true)] {
        world.uploads.insert(model, "p".into());
        let request = Request::RegisterModel(RegisterModel::new(tenant("acme"), model, &acme));
        assert_eq!(world.ask(request).is_ok(), fits);
    }
}

#[test]
fn keys_that_are_over_are_released_without_their_tenants() {
    let mut world = world();
    let (acme, umbra) = (world.register("acme"), world.register("umbra"));
    let who = ("acme", &acme);
    world.upload(who, KEY, None).expect("accepted");
    world.upload(who, NEW, replacing(KEY)).expect("accepted");
    let audit = world.audit("acme").len();
    world.sweep();
    assert_eq!(world.kept.len(), 2);
    world.now = world.now.plus(HOUR + topology::MAX_DEADLINE + FRESH);
    for _ in 0..2 {
        world.sweep();
        assert_eq!(world.kept.iter().collect::<Vec<_>>(), [&NEW]);
        assert_eq!(world.audit("acme").len(), audit + 1);
    }
    // Another tenant's key of the same bytes keeps them.
    world.upload(("umbra", &umbra), NEW, None).expect("accepted");
    assert_eq!(world.revoke(who, NEW), ACCEPTED);
    world.sweep();
    assert!(world.kept.contains(&NEW));
    // A model without a record is just being uploaded.
    world.kept.insert(MODEL);
    world.sweep();
    assert!(world.kept.contains(&MODEL));
}

#[test]
fn a_key_whose_bytes_are_gone_can_be_uploaded_again() {
    let mut world = world();
    let acme = world.register("acme");
    world.upload(("acme", &acme), KEY, None).expect("accepted");
    world.kept.clear();
    let missing = world.ask(upload(("acme", &acme), KEY, None));
    assert_eq!(missing, Err(Error::Incomplete(KEY)));
    assert_eq!(world.upload(("acme", &acme), KEY, None), ACCEPTED);
    assert!(world.kept.contains(&KEY));
    assert_eq!(world.list("acme", &acme)[0].version, 1);
}

#[test]
fn questions_are_answered_to_their_tenant_and_in_time_only() {
    let mut world = world();
    let (acme, umbra) = (world.register("acme"), world.register("umbra"));
    let ask = |world: &mut World, at, signing: &SigningKey| {
        let name = || tenant("acme");
        [
            world.ask(Request::ListKeys(ListKeys::new(name(), at, signing))),
            world.ask(Request::ListModels(ListModels::new(name(), at, signing))),
            world.ask(Request::ListParts(ListParts::new(name(), KEY, at, signing))),
            world.ask(Request::ReadAudit(ReadAudit::new(name(), at, 5, signing))),
        ]
    };
    let now = world.now;
    let early = UnixMillis(now.0 - FRESH.as_millis() as u64);
    for at in [early, now, now.plus(FRESH)] {
        assert!(ask(&mut world, at, &acme).iter().all(Result::is_ok));
    }
    for at in [UnixMillis(0), UnixMillis(early.0 - 1), now.plus(FRESH + HOUR), UnixMillis(u64::MAX)]
    {
        let answers = ask(&mut world, at, &acme);
        assert!(answers.iter().all(|answer| *answer == Err(Error::Stale { at, now })));
    }
    for answer in ask(&mut world, now, &umbra) {
        assert_eq!(code(answer), FailureCode::BadSignature);
    }
    let stranger = ListParts::new(tenant("nobody"), KEY, now, &acme);
    let refused = world.ask(Request::ListParts(stranger));
    assert_eq!(refused, Err(Error::UnknownTenant(tenant("nobody"))));
}

#[test]
fn a_flood_of_forgeries_is_one_entry_a_minute() {
    let mut world = world();
    let (acme, umbra) = (world.register("acme"), world.register("umbra"));
    for second in 0..120 {
        world.now = UnixMillis(1_700_000_040_000 + second * 1_000);
        assert_eq!(code(world.revoke(("acme", &umbra), KEY)), FailureCode::BadSignature);
        assert!(world.revoke(("nobody", &acme), KEY).is_err());
    }
    let refused =
        world.audit("acme").into_iter().filter(|kind| *kind == AuditKind::SignatureRefused);
    assert_eq!(refused.count(), 2);
    assert_eq!(world.audit("nobody"), []);
    assert_eq!(world.audit("umbra"), [AuditKind::TenantRegistered]);
}
