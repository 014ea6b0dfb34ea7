//! A tenant's questions about its own keys, models and audit log. Questions are signed and dated, so that an overheard
//! one is soon useless. The bodies of the replies are JSON, for people and programs.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};

use super::{Reader, Wire};
use crate::{
    Digest, Error, Message, Signature, SigningKey, TenantId, Transcript, UnixMillis, VerifyingKey,
};

/// The largest difference between the time of a question and its arrival.
pub const FRESH: Duration = Duration::from_secs(300);

macro_rules! question {
    ($(#[$doc:meta])* $name:ident, $verb:literal $(, $(#[$field_doc:meta])* $field:ident: $header:literal)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            /// The tenant that asks.
            pub tenant: TenantId,
            /// The time of the question; valid for [`FRESH`] before and after.
            pub at: UnixMillis,
            $($(#[$field_doc])* pub $field: u32,)?
            /// The tenant's signature.
            pub signature: Signature,
        }

        impl $name {
            /// Signs a question.
            pub fn new(tenant: TenantId, at: UnixMillis, $($field: u32,)? signing: &SigningKey) -> Self {
                let signature = signing.sign(&Self::transcript(&tenant, at $(, $field)?));
                Self { tenant, at, $($field,)? signature }
            }

            /// Checks the tenant's signature.
            pub fn verify(&self, tenant: &VerifyingKey) -> Result<(), Error> {
                let transcript = Self::transcript(&self.tenant, self.at $(, self.$field)?);
                tenant.verify(concat!("the ", $verb, " request"), &transcript, &self.signature)
            }

            fn transcript(tenant: &TenantId, at: UnixMillis $(, $field: u32)?) -> Transcript {
                Transcript::new(concat!("hermesh ", $verb, " v1"))
                    .field(tenant.as_str().as_bytes())
                    .number(at.0)
                    $(.number($field.into()))?
            }
        }

        impl Wire for $name {
            const TYPE: &'static str = concat!("hermesh.", $verb);

            fn subject(&self) -> String {
                format!(concat!("hermesh.keys.", $verb, ".{}"), self.tenant)
            }

            fn id(&self) -> String {
                format!(concat!("{}.{}.", $verb), self.tenant, self.at.0)
            }

            fn write(&self, message: &mut Message) {
                message.headers.set("Hermesh-Tenant", &self.tenant);
                message.headers.set("Hermesh-At", self.at.0);
                $(message.headers.set($header, self.$field);)?
                message.headers.set("Hermesh-Signature", self.signature);
            }

            fn read(message: &Message) -> Result<Self, Error> {
                let reader = Reader::new(message, Self::TYPE);
                Ok(Self {
                    tenant: reader.parse("Hermesh-Tenant")?,
                    at: UnixMillis(reader.number("Hermesh-At")?),
                    $($field: reader.number($header)?,)?
                    signature: reader.parse("Hermesh-Signature")?,
                })
            }
        }
    };
}

question!(
    /// Asks for the tenant's evaluation keys.
    ListKeys,
    "list-keys"
);
question!(
    /// Asks for the models that the tenant has registered.
    ListModels,
    "list-models"
);
question!(
    /// Asks for the newest entries of the tenant's audit log.
    ReadAudit,
    "read-audit",
    /// The most entries wanted.
    limit: "Hermesh-Limit"
);

/// One evaluation key of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// The key.
    #[serde(with = "text")]
    pub key: Digest,
    /// The name of its parameter set.
    #[serde(deserialize_with = "parameters")]
    pub parameters: String,
    /// Its number among the tenant's keys for this parameter set, counted from 1.
    pub version: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub created: UnixMillis,
    /// If it has been replaced, the time from which no new job may use it.
    pub retires: Option<UnixMillis>,
    /// If it has been revoked, when.
    pub revoked: Option<UnixMillis>,
}

/// One model that a tenant has registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The model.
    #[serde(with = "text")]
    pub model: Digest,
    /// The first tenant to register it.
    #[serde(with = "text")]
    pub owner: TenantId,
    /// The name of its parameter set.
    #[serde(deserialize_with = "parameters")]
    pub parameters: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub created: UnixMillis,
}

/// The kinds of audit entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditKind {
    /// The tenant's name was bound to its signing key.
    TenantRegistered,
    /// An evaluation key was accepted.
    KeyAccepted,
    /// An evaluation key was replaced by a newer one.
    KeyReplaced,
    /// The overlap of a replaced key ended, and its bytes were deleted.
    KeyRetired,
    /// An evaluation key was revoked.
    KeyRevoked,
    /// A model was accepted.
    ModelAccepted,
    /// Messages in the tenant's name had an invalid tenant signature. Those of one minute form one entry, so an
    /// attacker who sends many cannot push other entries out of the log.
    SignatureRefused,
}

impl AuditKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::TenantRegistered,
        Self::KeyAccepted,
        Self::KeyReplaced,
        Self::KeyRetired,
        Self::KeyRevoked,
        Self::ModelAccepted,
        Self::SignatureRefused,
    ];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantRegistered => "tenant-registered",
            Self::KeyAccepted => "key-accepted",
            Self::KeyReplaced => "key-replaced",
            Self::KeyRetired => "key-retired",
            Self::KeyRevoked => "key-revoked",
            Self::ModelAccepted => "model-accepted",
            Self::SignatureRefused => "signature-refused",
        }
    }
}

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AuditKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().copied().find(|kind| kind.as_str() == text);
        found.ok_or(Error::Malformed { what: "audit kind", expected: "one that is known here" })
    }
}

/// One entry of a tenant's audit log. Contains no payload and no key material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The tenant that the event concerns.
    #[serde(with = "text")]
    pub tenant: TenantId,
    /// The time, in milliseconds since 1970.
    pub at: UnixMillis,
    /// The kind of event.
    #[serde(with = "text")]
    pub kind: AuditKind,
    /// The key or model concerned.
    #[serde(with = "text::option", default)]
    pub object: Option<Digest>,
}

impl AuditEntry {
    /// All entries of one tenant; their subjects sort by time.
    pub fn filter(tenant: &TenantId) -> String {
        format!("hermesh.audit.{tenant}.>")
    }
}

impl fmt::Display for AuditEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} tenant={}", self.at.0, self.kind, self.tenant)?;
        match &self.object {
            Some(object) => write!(f, " object={object}"),
            None => Ok(()),
        }
    }
}

impl Wire for AuditEntry {
    const TYPE: &'static str = "hermesh.audit";

    fn subject(&self) -> String {
        // Replicas that record the same event produce the same id, so it is stored once.
        let object = self.object.map_or_else(|| "0".into(), |object| object.short());
        format!("hermesh.audit.{}.{:020}.{}.{object}", self.tenant, self.at.0, self.kind)
    }

    fn id(&self) -> String {
        self.subject()
    }

    fn write(&self, message: &mut Message) {
        let headers = &mut message.headers;
        headers.set("Hermesh-Tenant", &self.tenant);
        headers.set("Hermesh-At", self.at.0);
        headers.set("Hermesh-Kind", self.kind);
        if let Some(object) = self.object {
            headers.set("Hermesh-Object", object);
        }
    }

    fn read(message: &Message) -> Result<Self, Error> {
        let reader = Reader::new(message, Self::TYPE);
        Ok(Self {
            tenant: reader.parse("Hermesh-Tenant")?,
            at: UnixMillis(reader.number("Hermesh-At")?),
            kind: reader.parse("Hermesh-Kind")?,
            object: reader.parse_optional("Hermesh-Object")?,
        })
    }
}

macro_rules! list {
    ($(#[$doc:meta])* $name:ident, $entry:ident, $id:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name(pub Vec<$entry>);

        impl Wire for $name {
            const TYPE: &'static str = concat!("hermesh.", $id);

            fn subject(&self) -> String {
                "hermesh.reply".into()
            }

            fn id(&self) -> String {
                $id.into()
            }

            fn write(&self, message: &mut Message) {
                write_json(message, &self.0);
            }

            fn read(message: &Message) -> Result<Self, Error> {
                read_json(message, $expected).map(Self)
            }
        }
    };
}

list!(
    /// The reply to [`ListKeys`], sorted by parameter set and version.
    KeyList,
    KeyStatus,
    "key-list",
    "a JSON array of keys"
);
list!(
    /// The reply to [`ListModels`], oldest first.
    ModelList,
    ModelStatus,
    "model-list",
    "a JSON array of models"
);
list!(
    /// The reply to [`ReadAudit`], newest entry last.
    AuditLog,
    AuditEntry,
    "audit-log",
    "a JSON array of audit entries"
);

pub(super) fn write_json(message: &mut Message, value: &impl Serialize) {
    message.headers.set("content-type", "application/json");
    // These types consist of texts, numbers and lists, whose serialisation cannot fail.
    message.body = serde_json::to_vec(value).unwrap_or_default().into();
}

pub(super) fn read_json<T: DeserializeOwned>(
    message: &Message,
    expected: &'static str,
) -> Result<T, Error> {
    serde_json::from_slice(&message.body).map_err(|_| Error::Malformed { what: "body", expected })
}

/// The name of a parameter set. It must be a single subject token, because readers use it as one.
fn parameters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let token = |byte: u8| byte.is_ascii_graphic() && !b".*>".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(token) {
        return Ok(name);
    }
    Err(D::Error::custom("the name of a parameter set is not one token"))
}

/// Serialises types that have a textual form as JSON strings.
mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err = crate::Error>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }

    pub(super) mod option {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(
            value: &Option<impl Display>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => serializer.collect_str(value),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
        where
            D: Deserializer<'de>,
            T: FromStr<Err = crate::Error>,
        {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
        }
    }
}
