//! `rules.invoke` of a manifest, and whether it fits the schema that is served.

use std::collections::BTreeMap;
use std::sync::Arc;

use alyx_rules::{Rule, placed};
use alyx_schema::Schema;
use alyx_service::state::Function;
use alyx_yaml::Place;

use super::{Notice, Scan};

/// A rule as it stands in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(super) text: String,
    file: String,
    place: Place,
    /// Its line from where it begins.
    line: String,
}

impl Written {
    /// The rule at that place of the manifest `source`, which is in `file`.
    pub(super) fn at(text: &str, file: &str, place: Place, source: &str) -> Self {
        let line = source
            .lines()
            .nth(place.line.saturating_sub(1))
            .unwrap_or_default();
        Self {
            text: text.to_owned(),
            file: file.to_owned(),
            place,
            line: line.chars().skip(place.column.saturating_sub(1)).collect(),
        }
    }

    /// What is wrong with it as the rule of that function.
    fn check(&self, name: &str, schema: &Schema) -> Option<Notice> {
        let problem = Rule::compile_of_calls(schema, &self.text).err()?;
        let (offset, message) = placed(&problem, &self.text, &self.line);
        let place = format!("{}:{}:{}", self.file, self.place.line, self.place.column + offset);
        let mut message = format!("rules.invoke of `{name}`: {message}");
        if !problem.hint.is_empty() {
            message = format!("{message}: {}", problem.hint);
        }
        Some(Notice::error(place, message))
    }
}

impl Scan {
    /// The functions whose rules fit the schema, and what is wrong, the other rules included.
    pub(crate) fn fitted(&self, schema: &Schema) -> (BTreeMap<String, Arc<Function>>, Vec<Notice>) {
        let (mut functions, mut notices) = (self.functions.clone(), self.notices.clone());
        for (name, rule) in &self.rules {
            if let Some(notice) = rule.check(name, schema) {
                functions.remove(name);
                notices.push(notice);
            }
        }
        (functions, notices)
    }
}
