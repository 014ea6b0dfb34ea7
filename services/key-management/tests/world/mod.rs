//! A registry in memory around the logic. Every effect is one step, and a replica may die between any two.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};

use hermesh_key_management::{
    Effect, Error, Fact, Input, Inspected, Key, Logic, Options, Records, Reply, Request,
};
use hermesh_mesh::{
    Digest, SigningKey, TenantId, UnixMillis,
    actor::Logic as _,
    wire::{
        AuditKind, KeyList, KeyStatus, ListKeys, RegisterTenant, Replaces, RevokeKey,
        UploadEvaluationKey, Wire as _,
    },
};

pub(crate) fn tenant(name: &str) -> TenantId {
    name.parse().expect("a valid name")
}

pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) now: UnixMillis,
    pub(crate) facts: BTreeMap<String, Fact>,
    /// Uploads of all tenants, and their parameter sets.
    pub(crate) uploads: BTreeMap<Digest, String>,
    pub(crate) kept: BTreeSet<Digest>,
}

/// One request in progress at one replica.
pub(crate) struct Running {
    request: Request,
    effects: Vec<Effect>,
    inspected: Option<Inspected>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            now: UnixMillis(1_700_000_000_000),
            facts: BTreeMap::new(),
            uploads: BTreeMap::new(),
            kept: BTreeSet::new(),
        }
    }

    /// Registers a tenant.
    pub(crate) fn register(&mut self, name: &str) -> SigningKey {
        let key = SigningKey::generate();
        let request = RegisterTenant::new(tenant(name), &key);
        assert_eq!(self.ask(Request::RegisterTenant(request)), Ok(Reply::Accepted));
        key
    }

    /// Uploads a key for the parameter set `p` and offers it.
    pub(crate) fn upload(
        &mut self,
        (name, signing): (&str, &SigningKey),
        key: Digest,
        replaces: Option<Replaces>,
    ) -> Result<Reply, Error> {
        self.uploads.insert(key, "p".into());
        self.ask(upload((name, signing), key, replaces))
    }

    pub(crate) fn revoke(
        &mut self,
        (name, signing): (&str, &SigningKey),
        key: Digest,
    ) -> Result<Reply, Error> {
        self.ask(Request::RevokeKey(RevokeKey::new(tenant(name), key, signing)))
    }

    pub(crate) fn list(&mut self, name: &str, signing: &SigningKey) -> Vec<KeyStatus> {
        let request = Request::ListKeys(ListKeys::new(tenant(name), self.now, signing));
        match self.ask(request) {
            Ok(Reply::Keys(KeyList(keys))) => keys,
            other => panic!("expected keys, got {other:?}"),
        }
    }

    pub(crate) fn audit(&self, name: &str) -> Vec<AuditKind> {
        let entries = self.facts.values().filter_map(|fact| match fact {
            Fact::Audit(entry) if entry.tenant == tenant(name) => Some(entry.kind),
            _ => None,
        });
        entries.collect()
    }

    /// Runs a request to its end.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, Error> {
        let mut running = self.begin(request);
        loop {
            if let Some(end) = self.step(&mut running) {
                return end;
            }
        }
    }

    pub(crate) fn begin(&mut self, request: Request) -> Running {
        let input = Input::Asked(request.clone(), self.tenant(request.tenant()));
        let effects = self.tell(input).unwrap_or_else(|error| vec![Effect::Refuse(error)]);
        Running { request, effects, inspected: None }
    }

    /// Carries out one effect.
    pub(crate) fn step(&mut self, running: &mut Running) -> Option<Result<Reply, Error>> {
        let object = match &running.request {
            Request::UploadKey(request) => request.key,
            Request::RegisterModel(request) => request.model,
            _ => Digest([0; 32]),
        };
        match running.effects.remove(0) {
            Effect::Inspect => {
                // Stored bytes can be inspected as well; all of them are for `p`.
                let kept = self.kept.contains(&object).then(|| "p".to_owned());
                let Some(parameters) = self.uploads.get(&object).cloned().or(kept) else {
                    return Some(Err(Error::Incomplete(object)));
                };
                running.inspected = Some(Inspected { parameters, bytes: 5 });
            }
            Effect::Keep => {
                self.kept.insert(object);
            }
            Effect::Record(fact) => {
                self.facts.entry(fact.encode("test").subject).or_insert(fact);
            }
            Effect::Consult => {
                let records = Box::new(self.consult(&running.request, running.inspected.clone()));
                match self.tell(Input::Known(running.request.clone(), records)) {
                    Ok(effects) => running.effects = effects,
                    Err(error) => return Some(Err(error)),
                }
            }
            Effect::Discard => {
                self.uploads.remove(&object);
            }
            Effect::Release(key) if self.kept.contains(&key) => {
                let holders = self.keys(|holder| holder.record.key == key);
                let input = Input::Held(running.request.tenant().clone(), key, holders);
                let effects = self.tell(input).expect("decides");
                running.effects.splice(0..0, effects);
            }
            Effect::Release(_) => {}
            Effect::Delete(key) => {
                self.kept.remove(&key);
            }
            Effect::Reply(reply) => return Some(Ok(reply)),
            Effect::Refuse(error) => return Some(Err(error)),
        }
        None
    }

    /// Sweeps for keys that are no longer needed.
    pub(crate) fn sweep(&mut self) {
        for key in self.kept.clone() {
            let holders = self.keys(|holder| holder.record.key == key);
            for effect in self.tell(Input::Kept(key, holders)).expect("decides") {
                match effect {
                    Effect::Record(fact) => {
                        self.facts.entry(fact.encode("test").subject).or_insert(fact);
                    }
                    Effect::Delete(key) => drop(self.kept.remove(&key)),
                    effect => panic!("unexpected {effect:?}"),
                }
            }
        }
    }

    fn tell(&mut self, input: Input) -> Result<Vec<Effect>, Error> {
        // A new logic for every step: it has no state.
        Logic::new(self.options.clone()).handle(input, self.now)
    }

    fn tenant(&self, name: &TenantId) -> Option<hermesh_mesh::wire::TenantRecord> {
        self.facts.values().find_map(|fact| match fact {
            Fact::Tenant(record) if record.tenant == *name => Some(record.clone()),
            _ => None,
        })
    }

    pub(crate) fn keys(&self, wanted: impl Fn(&Key) -> bool) -> Vec<Key> {
        let keys = self.facts.values().filter_map(|fact| match fact {
            Fact::Key(record) => {
                let (mut retires, mut revoked) = (None, None);
                for fact in self.facts.values() {
                    match fact {
                        Fact::Retires(fact)
                            if (&fact.tenant, fact.key) == (&record.tenant, record.key) =>
                        {
                            retires = Some(fact.clone());
                        }
                        Fact::Revoked(fact)
                            if (&fact.tenant, fact.key) == (&record.tenant, record.key) =>
                        {
                            revoked = Some(fact.clone());
                        }
                        _ => {}
                    }
                }
                Some(Key { record: record.clone(), retires, revoked })
            }
            _ => None,
        });
        keys.filter(wanted).collect()
    }

    fn consult(&self, request: &Request, inspected: Option<Inspected>) -> Records {
        let tenant = request.tenant();
        let key = match request {
            Request::UploadKey(request) => request.key,
            Request::RevokeKey(request) => request.key,
            Request::RegisterModel(request) => request.model,
            _ => Digest([0; 32]),
        };
        let keys = self.keys(|key| key.record.tenant == *tenant);
        let mut records = Records {
            tenant: self.tenant(tenant),
            kept: self.kept.contains(&key),
            ..Records::default()
        };
        for fact in self.facts.values() {
            match fact {
                Fact::Tenant(_) => records.tenants += 1,
                Fact::Revoked(fact) if (&fact.tenant, fact.key) == (tenant, key) => {
                    records.revoked = Some(fact.clone());
                }
                Fact::Version(claim) if claim.tenant == *tenant => {
                    let set = inspected.as_ref().map(|inspected| &inspected.parameters);
                    if set != Some(&claim.parameters) {
                        continue;
                    }
                    records.last_version = records.last_version.max(claim.version);
                    if keys.iter().all(|key| key.record.key != claim.key) {
                        records.claims.push(claim.clone());
                    }
                }
                Fact::Model(model) => {
                    if model.model == key {
                        records.model = Some(model.clone());
                    }
                    records.models.push(model.clone());
                }
                Fact::Offer(offer) if offer.tenant == *tenant => records.offers.push(offer.clone()),
                _ => {}
            }
        }
        Records { keys, inspected, ..records }
    }
}

/// An offer of a key.
pub(crate) fn upload(
    (name, signing): (&str, &SigningKey),
    key: Digest,
    replaces: Option<Replaces>,
) -> Request {
    Request::UploadKey(match replaces {
        Some(replaces) => UploadEvaluationKey::rotation(tenant(name), key, replaces, signing),
        None => UploadEvaluationKey::new(tenant(name), key, signing),
    })
}

/// The subject of a record.
pub(crate) fn subject(fact: &Fact) -> String {
    match fact {
        Fact::Audit(entry) => entry.subject(),
        fact => fact.encode("test").subject,
    }
}
