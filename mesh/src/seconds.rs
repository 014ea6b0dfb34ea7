//! Durations in configuration files: a number of seconds, in a field whose name ends in `seconds`.
//!
//! Use it as `#[serde(rename = "heartbeat_seconds", with = "hermesh_mesh::seconds")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

/// Writes a number of seconds.
///
/// # Errors
/// Errors of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Reads a number of seconds. Fractions are allowed, negative numbers are not.
///
/// # Errors
/// Errors of the deserializer, or a number that is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| D::Error::custom(format!("expected a number of seconds, got {seconds}")))
}
