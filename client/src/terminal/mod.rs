//! Pictures, tables, units and progress for a terminal. Functions return text or draw on standard error; the commands
//! print results.

mod picture;
mod plain;
pub mod progress;
mod style;
mod table;
#[cfg(test)]
mod tests;
pub mod units;

pub use picture::Picture;
pub use plain::{describe, plain, plain_line};
pub use style::Style;
pub use table::TextTable;
