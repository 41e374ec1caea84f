//! The crate from outside: what rules decide, what is wrong with them, and that all ways to decide agree.

mod agreement;
mod calls;
mod decisions;
mod explained;
mod files;
mod guards;
mod problems;
mod reviewed;
mod support;
