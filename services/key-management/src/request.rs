//! Requests of tenants, and their replies.

use hermesh_mesh::{
    Error as MeshError, Message, TenantId, VerifyingKey,
    wire::{
        Accepted, AuditLog, KeyList, ListKeys, ListModels, ListParts, ModelList, PartList,
        ReadAudit, RegisterModel, RegisterTenant, RevokeKey, UploadEvaluationKey, Wire,
    },
};

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident($type:ident),)*) => {
        /// A statement or request of a tenant, with its signature.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Request {
            $($(#[$doc])* $name($type),)*
        }

        impl Request {
            /// Reads a request of any type.
            ///
            /// # Errors
            /// It is of no known type, malformed, or came on another subject than its own.
            pub fn receive(message: &Message) -> Result<Self, MeshError> {
                match message.headers.get("ce-type") {
                    $(Some($type::TYPE) => $type::receive(message).map(Self::$name),)*
                    _ => Err(MeshError::Malformed {
                        what: "request",
                        expected: "a ce-type that key management answers",
                    }),
                }
            }

            /// The tenant that the request names; not yet verified.
            pub fn tenant(&self) -> &TenantId {
                match self { $(Self::$name(request) => &request.tenant,)* }
            }
        }
    };
}

requests! {
    /// A tenant wants a name.
    RegisterTenant(RegisterTenant),
    /// A tenant offers a key.
    UploadKey(UploadEvaluationKey),
    /// A tenant revokes a key.
    RevokeKey(RevokeKey),
    /// A tenant offers a model.
    RegisterModel(RegisterModel),
    /// A tenant asks for its keys.
    ListKeys(ListKeys),
    /// A tenant asks for its models.
    ListModels(ListModels),
    /// A tenant asks how far an upload has come.
    ListParts(ListParts),
    /// A tenant asks for its audit log.
    ReadAudit(ReadAudit),
}

impl Request {
    /// Verifies the signature. A registration is signed with the key that it contains.
    ///
    /// # Errors
    /// [`MeshError::BadSignature`].
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), MeshError> {
        match self {
            Self::RegisterTenant(request) => request.verify(),
            Self::UploadKey(request) => request.verify(key),
            Self::RevokeKey(request) => request.verify(key),
            Self::RegisterModel(request) => request.verify(key),
            Self::ListKeys(request) => request.verify(key),
            Self::ListModels(request) => request.verify(key),
            Self::ListParts(request) => request.verify(key),
            Self::ReadAudit(request) => request.verify(key),
        }
    }
}

/// The reply to a request that is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Success, without further content.
    Accepted,
    /// The tenant's keys.
    Keys(KeyList),
    /// The tenant's models.
    Models(ModelList),
    /// The parts that are uploaded.
    Parts(PartList),
    /// The audit log.
    Audit(AuditLog),
}

impl Reply {
    /// Encodes the whole message.
    pub fn encode(&self, source: &str) -> Message {
        match self {
            Self::Accepted => Accepted.encode(source),
            Self::Keys(list) => list.encode(source),
            Self::Models(list) => list.encode(source),
            Self::Parts(list) => list.encode(source),
            Self::Audit(log) => log.encode(source),
        }
    }
}
