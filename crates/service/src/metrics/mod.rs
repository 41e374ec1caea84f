//! Figures for operators: every family's name, and the page that a scraper reads.
//!
//! A role writes the figures of what it runs; this module knows names and format, and the process's own figures.

mod exposition;
pub mod families;
mod process;

pub use exposition::Exposition;
pub use families::Family;
pub use process::write_process;
