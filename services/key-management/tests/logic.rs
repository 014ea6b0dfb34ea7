//! The registry's decisions.

use hermesh_key_management::{Effect, Error, Input, Kind, Logic, Options, Reply};
use hermesh_mesh::{
    Digest, SigningKey, TenantId, UnixMillis,
    actor::Logic as _,
    wire::{
        FactsQuery, FailureCode, RegisterModel, RegisterTenant, RevokeKey, UploadEvaluationKey,
    },
};

const NOW: UnixMillis = UnixMillis(1_000);
const KEY: Digest = Digest([1; 32]);
const MODEL: Digest = Digest([2; 32]);

fn tenant(name: &str) -> TenantId {
    name.parse().expect("a valid name")
}

struct Registry(Logic);

impl Registry {
    fn new() -> Self {
        Self(Logic::new(Options {
            max_tenants: 2,
            max_keys_per_tenant: 1,
            max_models: 1,
            max_audit_entries: 2,
            ..Options::default()
        }))
    }

    fn tell(&mut self, input: Input) -> Result<Vec<Effect>, Error> {
        self.0.handle(input, NOW)
    }

    fn register(&mut self, name: &str) -> SigningKey {
        let key = SigningKey::generate();
        let request = RegisterTenant::new(tenant(name), &key);
        assert_eq!(self.tell(Input::RegisterTenant(request)), accepted());
        key
    }

    fn upload(
        &mut self,
        name: &str,
        signing: &SigningKey,
        key: Digest,
    ) -> Result<Vec<Effect>, Error> {
        let request = UploadEvaluationKey::new(tenant(name), key, signing);
        self.tell(Input::UploadKey(request))
    }

    fn inspected(&mut self, name: &str, key: Digest) -> Result<Vec<Effect>, Error> {
        self.tell(Input::Inspected(Kind::Key(tenant(name)), key, "p".into()))
    }
}

fn accepted() -> Result<Vec<Effect>, Error> {
    Ok(vec![Effect::Reply(Reply::Accepted)])
}

#[test]
fn a_name_belongs_to_the_first_key() {
    let mut registry = Registry::new();
    let key = registry.register("acme");
    let again = RegisterTenant::new(tenant("acme"), &key);
    assert_eq!(registry.tell(Input::RegisterTenant(again)), accepted());
    let thief = RegisterTenant::new(tenant("acme"), &SigningKey::generate());
    let refused = registry.tell(Input::RegisterTenant(thief));
    assert_eq!(refused, Err(Error::TenantTaken(tenant("acme"))));
    // Whoever registers a key must hold it.
    let mut unheld = RegisterTenant::new(tenant("umbra"), &SigningKey::generate());
    unheld.key = key.verifying_key();
    let refused = registry.tell(Input::RegisterTenant(unheld));
    assert_eq!(refused.expect_err("refused").code(), FailureCode::BadSignature);
}

#[test]
fn a_key_is_inspected_before_it_is_known() {
    let mut registry = Registry::new();
    let signing = registry.register("acme");
    let inspect = vec![Effect::Inspect(Kind::Key(tenant("acme")), KEY)];
    assert_eq!(registry.upload("acme", &signing, KEY), Ok(inspect));
    let query = FactsQuery { tenant: tenant("acme"), key: KEY, model: MODEL };
    let facts = |registry: &mut Registry| {
        let effects = registry.tell(Input::Query(query.clone())).expect("answers");
        match &effects[..] {
            [Effect::Reply(Reply::Facts(facts))] => facts.clone(),
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(facts(&mut registry).key, None);
    assert_eq!(registry.inspected("acme", KEY), accepted());
    let known = facts(&mut registry);
    assert_eq!(known.tenant, Some(signing.verifying_key()));
    assert_eq!(known.key.map(|key| (key.owner, key.revoked)), Some((tenant("acme"), false)));
    assert_eq!(known.model, None);
    assert_eq!(registry.upload("acme", &signing, KEY), accepted());
}

#[test]
fn keys_are_taken_from_their_owners_only() {
    let mut registry = Registry::new();
    let acme = registry.register("acme");
    let umbra = registry.register("umbra");
    let unknown = registry.upload("nobody", &acme, KEY);
    assert_eq!(unknown, Err(Error::UnknownTenant(tenant("nobody"))));
    let forged = registry.upload("acme", &umbra, KEY).expect_err("refused");
    assert_eq!(forged.code(), FailureCode::BadSignature);
    // A key is public: that somebody else has uploaded it takes nothing from its owner.
    assert_eq!(registry.inspected("umbra", KEY), accepted());
    let inspect = vec![Effect::Inspect(Kind::Key(tenant("acme")), KEY)];
    assert_eq!(registry.upload("acme", &acme, KEY), Ok(inspect));
    assert_eq!(registry.inspected("acme", KEY), accepted());
    let withdraw = |name, signing: &SigningKey, unused| {
        let withdraw = Effect::Withdraw { tenant: tenant(name), key: KEY, unused };
        let revoke = Input::RevokeKey(RevokeKey::new(tenant(name), KEY, signing));
        (revoke, Ok(vec![withdraw, Effect::Reply(Reply::Accepted)]))
    };
    for (revoke, expected) in [withdraw("umbra", &umbra, false), withdraw("acme", &acme, true)] {
        assert_eq!(registry.tell(revoke), expected);
    }
}

#[test]
fn revocation_is_the_owners_and_final() {
    let mut registry = Registry::new();
    let acme = registry.register("acme");
    let umbra = registry.register("umbra");
    registry.inspected("acme", KEY).expect("accepted");
    let foreign = RevokeKey::new(tenant("umbra"), KEY, &umbra);
    assert_eq!(registry.tell(Input::RevokeKey(foreign)), Err(Error::UnknownKey(KEY)));
    let forged = RevokeKey::new(tenant("acme"), KEY, &umbra);
    let forged = registry.tell(Input::RevokeKey(forged)).expect_err("refused");
    assert_eq!(forged.code(), FailureCode::BadSignature);
    let revoke = RevokeKey::new(tenant("acme"), KEY, &acme);
    let withdraw = Effect::Withdraw { tenant: tenant("acme"), key: KEY, unused: true };
    let expected = vec![withdraw, Effect::Reply(Reply::Accepted)];
    assert_eq!(registry.tell(Input::RevokeKey(revoke.clone())), Ok(expected.clone()));
    assert_eq!(registry.tell(Input::RevokeKey(revoke)), Ok(expected));
    assert_eq!(registry.upload("acme", &acme, KEY), Err(Error::KeyRevoked(KEY)));
    assert_eq!(registry.inspected("acme", KEY), Err(Error::KeyRevoked(KEY)));
}

#[test]
fn bounds_hold_and_the_audit_log_keeps_the_newest() {
    let mut registry = Registry::new();
    let acme = registry.register("acme");
    registry.register("umbra");
    let third = RegisterTenant::new(tenant("third"), &SigningKey::generate());
    let no_room = registry.tell(Input::RegisterTenant(third)).expect_err("refused");
    assert!(no_room.retryable());
    registry.inspected("acme", KEY).expect("accepted");
    let second = registry.upload("acme", &acme, Digest([3; 32]));
    assert!(matches!(second, Err(Error::NoRoom { limit: 1, .. })), "{second:?}");
    let model = Input::Inspected(Kind::Model, MODEL, "p".into());
    assert_eq!(registry.tell(model), accepted());
    let known = Input::RegisterModel(RegisterModel { model: MODEL });
    assert_eq!(registry.tell(known), accepted());
    let more = Input::RegisterModel(RegisterModel { model: KEY });
    assert!(matches!(registry.tell(more), Err(Error::NoRoom { .. })));

    let effects = registry.tell(Input::Audit).expect("answers");
    let [Effect::Reply(Reply::Audit(audit))] = &effects[..] else {
        panic!("unexpected {effects:?}");
    };
    let actions: Vec<_> = audit.iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["key accepted", "model accepted"]);
}
