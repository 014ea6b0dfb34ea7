//! Configuration of programs: one TOML file, environment variables over it, checked as a whole before
//! anything binds or connects.
//!
//! `toml` and serde rather than a configuration library: those convert types silently (2.7 becomes
//! 3), and lose the line that a mistake is in.

mod check;
mod load;
mod log;

pub use check::{Problem, Problems, Range, hidden, is_address};
pub use load::{Environment, Error, Origin, Variables, load};
pub use log::{Format, Level, Log};
