//! Where certificates come from: files under a reader, and an issuer that may be away.

mod common;

#[path = "source/enrolment.rs"]
mod enrolment;
#[path = "source/files.rs"]
mod files;
#[cfg(feature = "workload-api")]
#[path = "source/workload_api.rs"]
mod workload_api;
