//! Code shared by all processes: wire types, the bus, identity, actor helpers, telemetry.
//!
//! Keys, ciphertexts and programs are opaque bytes here; nothing in this crate computes on them.

pub mod actor;
pub mod bus;
pub mod cache;
pub mod client;
mod clock;
pub mod config;
mod error;
pub mod handling;
pub mod identity;
mod ids;
pub mod issuer;
pub mod locks;
mod message;
pub mod nats_server;
pub mod objects;
pub mod policy;
pub mod seal;
pub mod seconds;
pub mod telemetry;
pub mod topology;
pub mod wire;

pub use bytes::Bytes;
pub use clock::{Clock, SystemClock, TokioClock, UnixMillis};
pub use error::Error;
pub use identity::{Signature, SigningKey, Transcript, VerifyingKey};
pub use ids::{Digest, JobId, TenantId};
pub use message::{Headers, MESSAGE_ID, Message, matches};
