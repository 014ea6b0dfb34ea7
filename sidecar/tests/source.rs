//! Sources of certificates: files that change while they are read, and an issuer that may be unreachable.

mod common;

#[path = "source/enrolment.rs"]
mod enrolment;
#[path = "source/files.rs"]
mod files;
#[cfg(feature = "workload-api")]
#[path = "source/workload_api.rs"]
mod workload_api;
