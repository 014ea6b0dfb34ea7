//! Configuration of programs: one TOML file, overridden by environment variables, and checked as a whole before the
//! program binds or connects.
//!
//! This uses `toml` and serde directly. Configuration libraries convert types silently (2.7 becomes 3) and lose the
//! line of a mistake.

mod check;
mod load;
mod log;

pub use check::{Problem, Problems, Range, hidden, is_address};
pub use load::{Environment, Error, Origin, Variables, load};
pub use log::{Format, Level, Log};
