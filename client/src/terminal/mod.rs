//! What people see: pictures, tables, units and progress. Everything returns text or draws on
//! standard error; printing results is up to the commands.

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
