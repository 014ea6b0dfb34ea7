//! The four programs: their services, ports and ranges.

mod aggregation;
mod evaluation;
mod key_management;
mod preprocessing;

pub use aggregation::Aggregation;
pub use evaluation::Evaluation;
pub use key_management::KeyManagement;
pub use preprocessing::Preprocessing;
