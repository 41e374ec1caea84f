//! Vocabulary that every other crate speaks: identifiers, values, times, units and errors.
//!
//! Pure: no I/O, no runtime, no HTTP, no SQL driver.

mod caller;
mod clock;
mod error;
mod ids;
mod scope;
mod sql;
mod suggest;
mod trace;
mod units;
mod value;

pub use caller::{Account, ApiToken, Caller};
pub use clock::{Clock, SystemClock, format_timestamp, normalize_timestamp};
pub use error::{Detail, Error, ErrorKind, Result, with_causes};
pub use ids::{
    ClientId, InvocationId, RequestId, SHORT_ID_LENGTH, Seq, new_secret_id, new_short_id, new_uuid_v7,
};
pub use scope::{Permission, Scopes};
pub use sql::{Row, Statement};
pub use suggest::nearest;
pub use trace::TraceContext;
pub use units::{UnitError, format_duration, parse_duration, parse_size};
pub use value::Value;
