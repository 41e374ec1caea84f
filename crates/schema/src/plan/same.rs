//! Whether two things mean the same.

use crate::model::{Collection, Validation};

/// Whether the fields that both have stand in another order.
pub(super) fn reordered(before: &Collection, after: &Collection) -> bool {
    let old = before.fields.iter().map(|field| &field.name);
    let new = after.fields.iter().map(|field| &field.name);
    let old = old.filter(|name| after.field(name).is_some());
    let new = new.filter(|name| before.field(name).is_some());
    !old.eq(new)
}

/// Whether two sets of checks let the same values pass.
pub(super) fn validation(a: &Validation, b: &Validation) -> bool {
    let pattern = |checks: &Validation| checks.pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
    a.min_length == b.min_length
        && a.max_length == b.max_length
        && a.min == b.min
        && a.max == b.max
        && a.format == b.format
        && pattern(a) == pattern(b)
        && a.one_of == b.one_of
        && a.max_select == b.max_select
        && a.formats == b.formats
}
