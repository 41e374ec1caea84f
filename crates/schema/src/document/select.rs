//! Selections. One value is stored as it is, several as a compact JSON array of strings. No value looks like JSON
//! (`parse/choice.rs` sees to it), so the two are never mistaken for one another.

use alyx_core::Value;

use super::problems::{Problems, quoted};
use super::scalar::{Misfit, allowed};
use crate::model::Field;

/// The storage value of a JSON array of values. Which values there are is [`validate`]'s business.
pub(super) fn several(field: &Field, array: &str) -> Result<Value, Misfit> {
    if field.validation.max_select == Some(1) {
        return Err(Misfit::new(
            "invalid_type",
            "must be one of its values as a string, not an array",
        ));
    }
    let texts = chosen(array)
        .ok_or_else(|| Misfit::new("invalid_type", "must be a string or an array of strings"))?;
    let json =
        serde_json::to_string(&texts).map_err(|error| Misfit::new("invalid_text", error.to_string()))?;
    Ok(Value::from(json))
}

/// The values of a stored array; `None` where one value is stored as it is. Raw SQL can store any text.
pub(super) fn chosen(stored: &str) -> Option<Vec<String>> {
    stored
        .starts_with('[')
        .then(|| serde_json::from_str(stored).ok())
        .flatten()
}

/// Notes values that cannot be chosen, are chosen twice, or are too many.
pub(super) fn validate(field: &Field, stored: &str, problems: &mut Problems) {
    let name = &field.name;
    let values = &field.validation.one_of;
    let texts = chosen(stored).unwrap_or_else(|| vec![stored.to_owned()]);
    let foreign = texts.iter().find(|text| !values.contains(text));
    let twice = || (1..texts.len()).find(|&position| texts[..position].contains(&texts[position]));
    if let Some(max) = field.validation.max_select
        && texts.len() > max
    {
        let message = format!("`{name}` must have at most {max} values, not {}", texts.len());
        problems.add(name, "max_select", message);
    } else if let Some(foreign) = foreign {
        let message = format!(
            "`{name}` must be one of {}, not {}",
            allowed(values),
            quoted(foreign)
        );
        problems.add(name, "invalid_select", message);
    } else if let Some(position) = twice() {
        let message = format!("`{name}` must have {} only once", quoted(&texts[position]));
        problems.add(name, "invalid_select", message);
    }
}
