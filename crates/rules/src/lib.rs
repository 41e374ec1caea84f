//! Access rules: CEL expressions that say who may do what, and what they mean for one caller.
//!
//! A rule is read and fitted to its schema once ([`Rule::compile`]). For one caller it is evaluated as far as what is
//! known goes (`auth`, `data`, the time); what is left is a filter of `alyx-query` over the stored document
//! ([`Rule::decide`]), which runs as SQL in lists, counts and writes and in memory on changes. What cannot become a
//! filter is refused when the rule is read, so there is one way to decide, and it is the same everywhere.
//!
//! Where rules differ from plain CEL, they differ so that a rule does what it seems to say: a member that is not there
//! is null, and so is every part of `auth` where nobody has signed in; null is in no list; and where a part of `auth`
//! is compared with anything but the word `null`, null does not equal null, so who has not signed in owns nothing.
//! Errors are those of CEL, and deny.
//!
//! Pure: no I/O, no runtime, no HTTP, no SQL driver.

mod bind;
mod call;
mod compute;
mod condition;
mod eval;
mod explain;
mod expr;
mod problem;
mod review;
mod rule;
mod seen;
mod set;
mod stored;
mod syntax;
mod value;

pub use call::Call;
pub use explain::Drawing;
pub use problem::Problem;
pub use review::{BucketLine, BucketReview, Line, Review, Verdict, review, review_buckets};
pub use rule::{Action, Decision, Facts, FileAction, Incoming, Rule};
pub use seen::{Came, Explained, Seen};
pub use set::{Broken, RuleSet, placed, read_schema};
pub use syntax::Span;
