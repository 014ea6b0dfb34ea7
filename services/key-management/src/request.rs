//! What tenants may ask, and the answers.

use hermesh_mesh::{
    Error as MeshError, Message, TenantId, VerifyingKey,
    wire::{
        Accepted, AuditLog, KeyList, ListKeys, ListModels, ListParts, ModelList, PartList,
        ReadAudit, RegisterModel, RegisterTenant, RevokeKey, UploadEvaluationKey, Wire,
    },
};

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident($type:ident),)*) => {
        /// What a tenant states or asks, under its signature.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Request {
            $($(#[$doc])* $name($type),)*
        }

        impl Request {
            /// Reads a request, whatever its type.
            ///
            /// # Errors
            /// It is of none of these types, malformed, or came on a subject that is not its own.
            pub fn receive(message: &Message) -> Result<Self, MeshError> {
                match message.headers.get("ce-type") {
                    $(Some($type::TYPE) => $type::receive(message).map(Self::$name),)*
                    _ => Err(MeshError::Malformed {
                        what: "request",
                        expected: "a ce-type that key management answers",
                    }),
                }
            }

            /// Who asks, or says so.
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
    /// A tenant withdraws a key.
    RevokeKey(RevokeKey),
    /// A tenant offers a model.
    RegisterModel(RegisterModel),
    /// A tenant asks for its keys.
    ListKeys(ListKeys),
    /// A tenant asks for its models.
    ListModels(ListModels),
    /// A tenant asks how far an upload has come.
    ListParts(ListParts),
    /// A tenant asks what was done.
    ReadAudit(ReadAudit),
}

impl Request {
    /// Checks the signature. A registration is signed with the key it brings.
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

/// The answer to a request that is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// There is nothing more to say.
    Accepted,
    /// The tenant's keys.
    Keys(KeyList),
    /// The tenant's models.
    Models(ModelList),
    /// The parts that are there.
    Parts(PartList),
    /// What was done.
    Audit(AuditLog),
}

impl Reply {
    /// The whole message.
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
