//! What rules of functions decide about.

use serde_json::Value as Json;

use crate::value::Val;

/// The call of a function as its rule sees it.
#[derive(Debug, Clone)]
pub struct Call {
    pub(crate) input: Val,
    pub(crate) method: Val,
}

impl Call {
    /// A call by a request of that method with that input; null where the rule does not look at it
    /// ([`crate::Rule::uses_input`]).
    pub fn new(method: &str, input: &Json) -> Self {
        Self {
            input: Val::json(input),
            method: Val::Text(method.into()),
        }
    }
}
