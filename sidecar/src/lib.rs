//! The mutual-TLS proxy beside each workload. To its workload it is a NATS server on loopback; to the
//! broker it is a client with a certificate. It lets through what the policy allows, signs messages that
//! leave, and verifies messages that arrive. So neither the network nor the broker needs to be trusted.

pub mod app;
pub mod command;
pub mod config;
pub mod http;
pub mod issuer;
pub mod metrics;
pub mod policy_file;
pub mod protocol;
pub mod proxy;
pub mod source;
pub mod tls;
