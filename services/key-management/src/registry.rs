//! Reads records from the bus.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hermesh_mesh::{
    Digest, TenantId,
    bus::BusHandle,
    objects::{self, Bucket},
    wire::{
        AuditEntry, Facts, FactsQuery, KeyFacts, KeyRecord, KeyRetires, KeyRevoked, KeyVersion,
        ModelFacts, ModelOffer, ModelRecord, TenantRecord, Wire,
    },
};
use tokio::try_join;

use crate::{Error, Inspected, Key, Options, Records, Request};

/// Records read at the same time for one request.
const AT_ONCE: usize = 16;
/// The maximum number of parts in one reply, enough for a gigabyte. Parts beyond that are only uploaded
/// again.
const MAX_PARTS: usize = 4096;

pub(crate) struct Registry(pub(crate) BusHandle);

impl Registry {
    /// The records for admission. Few reads, because every job needs them.
    pub(crate) async fn facts(&self, options: &Options, query: FactsQuery) -> Result<Facts, Error> {
        let FactsQuery { tenant, key, model } = query;
        let (record, key, model) = try_join!(
            self.tenant(&tenant),
            self.key(&tenant, key),
            self.fact::<ModelRecord>(ModelRecord::subject_of(model)),
        )?;
        Ok(Facts {
            tenant: options.registration.signing_key(&tenant, record.as_ref()),
            key: key.map(|key| KeyFacts {
                owner: key.record.tenant,
                parameters: key.record.parameters,
                revoked: key.revoked.is_some(),
                retires: key.retires.map(|fact| fact.retires),
            }),
            model: model.map(|model| ModelFacts { parameters: model.parameters }),
        })
    }

    pub(crate) async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Error> {
        self.fact(TenantRecord::subject_of(tenant)).await
    }

    /// The records that matter to this request.
    pub(crate) async fn consult(
        &self,
        options: &Options,
        request: &Request,
        inspected: Option<Inspected>,
    ) -> Result<Records, Error> {
        let bus = &*self.0;
        let tenant = request.tenant();
        let records = Records { inspected, ..Records::default() };
        Ok(match request {
            Request::RegisterTenant(_) => match self.tenant(tenant).await? {
                None => {
                    let tenants = bus.subjects(TenantRecord::FILTER).await?.len();
                    Records { tenants, ..records }
                }
                standing => Records { tenant: standing, ..records },
            },
            Request::UploadKey(upload) => {
                let (keys, revoked, kept) = try_join!(
                    self.keys(KeyRecord::tenant_filter(tenant)),
                    self.fact(KeyRevoked::subject_of(tenant, upload.key)),
                    async { Ok(objects::exists(bus, &Bucket::Keys, upload.key).await?) },
                )?;
                let (last_version, claims) = match &records.inspected {
                    Some(inspected) => self.versions(tenant, &inspected.parameters, &keys).await?,
                    None => (0, Vec::new()),
                };
                Records { keys, revoked, kept, last_version, claims, ..records }
            }
            Request::RevokeKey(revoke) => {
                let (key, revoked) = try_join!(
                    self.key(tenant, revoke.key),
                    self.fact(KeyRevoked::subject_of(tenant, revoke.key)),
                )?;
                Records { keys: key.into_iter().collect(), revoked, ..records }
            }
            Request::RegisterModel(offer) => {
                let (offers, model, kept) = try_join!(
                    self.under::<ModelOffer>(ModelOffer::filter(tenant)),
                    self.fact(ModelRecord::subject_of(offer.model)),
                    async { Ok(objects::exists(bus, &Bucket::Models, offer.model).await?) },
                )?;
                let offered = offers.iter().map(|offer| ModelRecord::subject_of(offer.model));
                let models = self.facts_at(offered).await?;
                Records { offers, models, model, kept, ..records }
            }
            Request::ListKeys(_) => {
                Records { keys: self.keys(KeyRecord::tenant_filter(tenant)).await?, ..records }
            }
            Request::ListModels(_) => {
                let offers = bus.subjects(&ModelOffer::filter(tenant)).await?;
                let models = offers.iter().filter_map(|subject| ModelOffer::parse_subject(subject));
                let models = self.facts_at(models.map(ModelRecord::subject_of)).await?;
                Records { models, ..records }
            }
            Request::ListParts(question) => {
                let uploads = Bucket::Uploads(tenant.clone());
                let mut parts = objects::parts(bus, &uploads, question.object).await?;
                parts.truncate(MAX_PARTS);
                Records { parts, ..records }
            }
            Request::ReadAudit(question) => {
                let limit = options.max_audit_entries.min(question.limit as usize);
                Records { audit: self.audit(tenant, limit).await?, ..records }
            }
        })
    }

    /// The tenants that have this key.
    pub(crate) async fn holders(&self, key: Digest) -> Result<Vec<Key>, Error> {
        self.keys(KeyRecord::key_filter(key)).await
    }

    async fn key(&self, tenant: &TenantId, key: Digest) -> Result<Option<Key>, Error> {
        let (record, retires, revoked) = try_join!(
            self.fact(KeyRecord::subject_of(tenant, key)),
            self.fact(KeyRetires::subject_of(tenant, key)),
            self.fact(KeyRevoked::subject_of(tenant, key)),
        )?;
        Ok(record.map(|record| Key { record, retires, revoked }))
    }

    async fn keys(&self, filter: String) -> Result<Vec<Key>, Error> {
        let subjects = self.0.subjects(&filter).await?;
        stream::iter(subjects.iter().filter_map(|subject| KeyRecord::parse_subject(subject)))
            .map(async |(tenant, key)| self.key(&tenant, key).await)
            .buffer_unordered(AT_ONCE)
            .try_filter_map(async |key| Ok(key))
            .try_collect()
            .await
    }

    /// The highest version number taken, and the numbers of keys that have no record yet.
    async fn versions(
        &self,
        tenant: &TenantId,
        parameters: &str,
        keys: &[Key],
    ) -> Result<(u32, Vec<KeyVersion>), Error> {
        let taken = self.0.subjects(&KeyVersion::filter(tenant, parameters)).await?;
        let taken = taken.iter().filter_map(|subject| KeyVersion::parse_subject(subject));
        let mut of_this_set = keys.iter().filter(|key| key.record.parameters == parameters);
        let recorded: Vec<u32> = of_this_set.by_ref().map(|key| key.record.version).collect();
        let unrecorded = taken.clone().filter(|version| !recorded.contains(version));
        let claim = |version| KeyVersion::subject_of(tenant, parameters, version);
        Ok((taken.max().unwrap_or(0), self.facts_at(unrecorded.map(claim)).await?))
    }

    async fn audit(&self, tenant: &TenantId, limit: usize) -> Result<Vec<AuditEntry>, Error> {
        let mut subjects = self.0.subjects(&AuditEntry::filter(tenant)).await?;
        subjects.sort_unstable();
        let older = subjects.len().saturating_sub(limit);
        let mut entries: Vec<AuditEntry> =
            self.facts_at(subjects.split_off(older).into_iter()).await?;
        entries.sort_by_key(Wire::subject);
        Ok(entries)
    }

    async fn under<T: Wire>(&self, filter: String) -> Result<Vec<T>, Error> {
        let subjects = self.0.subjects(&filter).await?;
        self.facts_at(subjects.into_iter()).await
    }

    async fn facts_at<T: Wire>(
        &self,
        subjects: impl Iterator<Item = String>,
    ) -> Result<Vec<T>, Error> {
        stream::iter(subjects)
            .map(async |subject| self.fact(subject).await)
            .buffer_unordered(AT_ONCE)
            .try_filter_map(async |fact| Ok(fact))
            .try_collect()
            .await
    }

    async fn fact<T: Wire>(&self, subject: String) -> Result<Option<T>, Error> {
        let message = self.0.last(&subject).await?;
        let fact = message.map(|message| T::receive(&message)).transpose();
        fact.map_err(|why| Error::Unreadable { subject, why })
    }
}
