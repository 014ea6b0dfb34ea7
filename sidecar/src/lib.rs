//! The mTLS proxy beside each workload: to its workload a NATS server on loopback, to the broker a client
//! with a certificate. It lets through what the policy lists, seals what leaves, and verifies what
//! arrives, so that neither the network nor the broker needs to be trusted.

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
