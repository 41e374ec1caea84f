//! Indexes that lists under a read rule lack.

use alyx_query::{CompareOp, Filter};
use alyx_schema::{Collection, DefaultValue, FieldType, Index};

/// What to declare, where a list under a read rule that comes to this filter has to look at more than it shows.
pub(super) fn missing(collection: &Collection, filter: &Filter) -> Option<String> {
    let looked_at = Reader { collection };
    if !looked_at.is_served(filter) {
        let remedy = looked_at.remedy(filter);
        return Some(format!(
            "no index serves the read rule: a list looks at every document; {remedy}"
        ));
    }
    let (owner, made) = (looked_at.owner(filter)?, looked_at.made()?);
    let field = &collection.fields[owner];
    if field.primary || field.unique || looked_at.begins(&[owner, made]) {
        return None;
    }
    let made_name = &collection.fields[made].name;
    Some(format!(
        "a list with the newest first (`-{made_name}`) finds somebody's documents by an index and then sorts all of \
         them: {}",
        looked_at.declare(owner, made)
    ))
}

struct Reader<'r> {
    collection: &'r Collection,
}

impl Reader<'_> {
    fn is_served(&self, filter: &Filter) -> bool {
        match filter {
            Filter::And(parts) => parts.iter().any(|part| self.is_served(part)),
            Filter::Or(parts) => parts.iter().all(|part| self.is_served(part)),
            Filter::Compare { field, op, .. } => *op != CompareOp::Ne && self.is_indexed(*field),
            Filter::In { field, .. } | Filter::IsNull { field } => self.is_indexed(*field),
            Filter::Through(through) => self.is_indexed(through.field),
            Filter::Exists(exists) => exists.field.is_none_or(|field| self.is_indexed(field)),
            Filter::Not(_)
            | Filter::Untrue(_)
            | Filter::Like { .. }
            | Filter::Contains { .. }
            | Filter::JsonContains { .. }
            | Filter::EndsWith { .. }
            | Filter::Path { .. }
            | Filter::Mentions { .. }
            | Filter::Found { .. } => false,
        }
    }

    fn is_indexed(&self, position: usize) -> bool {
        let field = &self.collection.fields[position];
        field.primary || field.unique || field.index || self.begins(&[position])
    }

    /// Whether a declared index begins with these fields.
    fn begins(&self, fields: &[usize]) -> bool {
        let begins = |index: &Index| index.fields.starts_with(fields);
        self.collection.indexes.iter().any(begins)
    }

    /// The field that one value is asked of, whatever else is.
    fn owner(&self, filter: &Filter) -> Option<usize> {
        match filter {
            Filter::Compare {
                field,
                op: CompareOp::Eq,
                ..
            } => Some(*field),
            Filter::And(parts) => parts.iter().find_map(|part| self.owner(part)),
            _ => None,
        }
    }

    /// The field that says when a document was made.
    fn made(&self) -> Option<usize> {
        let is_made = |position: &usize| {
            let field = &self.collection.fields[*position];
            field.kind == FieldType::Timestamp
                && field.default == Some(DefaultValue::Now)
                && !(field.on_update_now || field.internal)
        };
        let mut made = (0..self.collection.fields.len()).filter(is_made);
        let first = made.next()?;
        let usual = |position: &usize| self.collection.fields[*position].name == "created_at";
        Some(std::iter::once(first).chain(made).find(usual).unwrap_or(first))
    }

    fn remedy(&self, filter: &Filter) -> String {
        if let (Some(owner), Some(made)) = (self.owner(filter), self.made()) {
            return self.declare(owner, made);
        }
        let mut names = Vec::new();
        for field in filter.fields() {
            if !self.is_indexed(field) {
                names.push(format!("`{}`", self.collection.fields[field].name));
            }
        }
        if names.is_empty() {
            return "compare indexed fields by `==` or `in`, which an index can find".to_owned();
        }
        format!("give `index: true` to {}", names.join(" and "))
    }

    fn declare(&self, owner: usize, made: usize) -> String {
        let name = |position: usize| &self.collection.fields[position].name;
        let (owner, made) = (name(owner), name(made));
        format!(
            "declare an index on ({owner}, {made}), as in `indexes: [{{name: {}-by-{owner}, fields: [{owner}, {made}], \
             order: desc}}]`",
            self.collection.name
        )
    }
}
