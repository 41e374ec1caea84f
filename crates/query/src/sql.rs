//! Queries as SQL.
//!
//! The text holds quoted names of the schema and numbered parameters, nothing that a caller wrote, and few distinct
//! texts come out of many queries, so that the store's cache of prepared statements works. The collection's table is
//! always `t`: a qualified name is never mistaken for a string, as SQLite does with unknown names in double quotes.

use std::fmt::Write as _;
use std::sync::Arc;

use alyx_core::{Statement, Value};
use alyx_schema::Collection;

use crate::ast::{CompareOp, Filter, JsonNeedle, Query, SortKey};
use crate::json_contains::{MAX_BY_VALUE, by_value};

impl Query {
    /// The page of rows that the query asks for, in its order. A row has one value per field of the collection;
    /// fields that are neither asked for nor needed to place the row (primary and sort keys) are null.
    pub fn select(&self) -> Statement {
        let mut sql = Writer::new(&self.collection);
        sql.push("SELECT ");
        sql.columns(|position| self.needs(position));
        sql.source(&self.filter);
        sql.order_by(&self.sort);
        sql.push(" LIMIT ");
        sql.param(Value::Int(i64::from(self.limit)));
        sql.push(" OFFSET ");
        sql.param(Value::Int(i64::try_from(self.offset).unwrap_or(i64::MAX)));
        sql.finish()
    }

    /// One row with one integer: how many rows pass the filter, whatever limit and offset are.
    pub fn count(&self) -> Statement {
        let mut sql = Writer::new(&self.collection);
        sql.push("SELECT count(*)");
        sql.source(&self.filter);
        sql.finish()
    }

    /// At most `limit` whole rows that come strictly after that result of [`Query::key`] (from the start: `None`),
    /// in order. The query's own limit, offset and fields play no part.
    pub fn select_after(&self, after: Option<&[Value]>, limit: u32) -> Statement {
        let mut sql = Writer::new(&self.collection);
        sql.push("SELECT ");
        sql.columns(|_| true);
        sql.source(&self.filter);
        if let Some(key) = after {
            sql.push(if self.filter.is_true() { " WHERE " } else { " AND " });
            sql.after(&self.sort, key);
        }
        sql.order_by(&self.sort);
        sql.push(" LIMIT ");
        sql.param(Value::Int(i64::from(limit)));
        sql.finish()
    }

    fn needs(&self, position: usize) -> bool {
        self.fields.as_ref().is_none_or(|fields| {
            fields.contains(&position)
                || position == self.collection.primary()
                || self.sort.iter().any(|key| key.field == position)
        })
    }
}

impl CompareOp {
    fn sql(self) -> &'static str {
        match self {
            Self::Eq => " = ",
            Self::Ne => " <> ",
            Self::Gt => " > ",
            Self::Gte => " >= ",
            Self::Lt => " < ",
            Self::Lte => " <= ",
        }
    }
}

/// A statement under construction.
pub(crate) struct Writer<'c> {
    collection: &'c Collection,
    sql: String,
    params: Vec<Value>,
}

impl<'c> Writer<'c> {
    pub(crate) fn new(collection: &'c Collection) -> Self {
        const PER_FIELD: usize = 24;
        Self {
            collection,
            sql: String::with_capacity(128 + PER_FIELD * collection.fields.len()),
            params: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> Statement {
        Statement::new(self.sql, self.params)
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.sql.push_str(text);
    }

    /// Binds a value to the next number. Returns the number, for [`Self::param_again`].
    pub(crate) fn param(&mut self, value: Value) -> usize {
        self.params.push(value);
        self.param_again(self.params.len());
        self.params.len()
    }

    pub(crate) fn param_again(&mut self, number: usize) {
        write!(self.sql, "?{number}").expect("writing to a string cannot fail");
    }

    pub(crate) fn name(&mut self, name: &str) {
        self.sql.push('"');
        for (i, part) in name.split('"').enumerate() {
            if i > 0 {
                self.sql.push_str("\"\"");
            }
            self.sql.push_str(part);
        }
        self.sql.push('"');
    }

    pub(crate) fn table(&mut self) {
        let collection = self.collection;
        self.name(&collection.name);
    }

    /// The field's name as it is.
    pub(crate) fn push_field(&mut self, position: usize) {
        let collection = self.collection;
        self.push(&collection.fields[position].name);
    }

    /// The field's name in quotes.
    pub(crate) fn quoted_field(&mut self, position: usize) {
        let collection = self.collection;
        self.name(&collection.fields[position].name);
    }

    /// The field's column as an expression.
    pub(crate) fn column(&mut self, position: usize) {
        let collection = self.collection;
        self.push("t.");
        self.name(&collection.fields[position].name);
    }

    /// Every column in order of declaration, `NULL` in place of those that are not wanted.
    pub(crate) fn columns(&mut self, wanted: impl Fn(usize) -> bool) {
        for position in 0..self.collection.fields.len() {
            if position > 0 {
                self.push(",");
            }
            if wanted(position) {
                self.column(position);
            } else {
                self.push("NULL");
            }
        }
    }

    /// `RETURNING` every column. It knows the table's own name only.
    pub(crate) fn returning(&mut self) {
        let collection = self.collection;
        for (position, field) in collection.fields.iter().enumerate() {
            self.push(if position == 0 { " RETURNING " } else { "," });
            self.table();
            self.push(".");
            self.name(&field.name);
        }
    }

    fn source(&mut self, filter: &Filter) {
        self.push(" FROM ");
        self.table();
        self.push(" AS t");
        if !filter.is_true() {
            self.push(" WHERE ");
            self.filter(filter);
        }
    }

    fn order_by(&mut self, sort: &[SortKey]) {
        for (i, key) in sort.iter().enumerate() {
            self.push(if i == 0 { " ORDER BY " } else { "," });
            self.column(key.field);
            if key.descending {
                self.push(" DESC");
            }
        }
    }

    pub(crate) fn filter(&mut self, filter: &Filter) {
        match filter {
            Filter::And(parts) => self.joined(parts, " AND ", "1"),
            Filter::Or(parts) => self.joined(parts, " OR ", "0"),
            Filter::Not(inner) => {
                self.push("NOT (");
                self.filter(inner);
                self.push(")");
            }
            Filter::Compare { field, op, value } => {
                self.column(*field);
                self.push(op.sql());
                self.param(value.clone());
            }
            Filter::In { field, values } => self.membership(*field, values),
            Filter::Like { field, pattern } => {
                self.column(*field);
                self.push(" LIKE ");
                self.param(Value::Text(pattern.clone()));
            }
            Filter::Contains { field, needle } => {
                self.push("instr(");
                self.column(*field);
                self.push(",");
                self.param(Value::Text(needle.clone()));
                self.push(") > 0");
            }
            Filter::JsonContains { field, needle } => self.json_contains(*field, needle),
            Filter::IsNull { field } => self.is_null(*field),
        }
    }

    fn joined(&mut self, parts: &[Filter], operator: &str, empty: &str) {
        if parts.is_empty() {
            return self.push(empty);
        }
        for (i, part) in parts.iter().enumerate() {
            self.push(if i == 0 { "(" } else { operator });
            self.filter(part);
        }
        self.push(")");
    }

    /// The list is filled up to a power of two with its last value, so that lists of all lengths share ten texts.
    fn membership(&mut self, field: usize, values: &[Value]) {
        let Some(last) = values.last() else {
            return self.push("0");
        };
        self.column(field);
        self.push(" IN (");
        let fill = values.len().next_power_of_two() - values.len();
        let fill = std::iter::repeat_n(last, fill);
        for (i, value) in values.iter().chain(fill).enumerate() {
            if i > 0 {
                self.push(",");
            }
            self.param(value.clone());
        }
        self.push(")");
    }

    fn json_contains(&mut self, field: usize, needle: &JsonNeedle) {
        let mut guard = |before: &str| {
            self.push(before);
            self.column(field);
        };
        guard("CASE WHEN ");
        guard(" IS NULL THEN NULL WHEN typeof(");
        guard(") <> 'text' OR NOT json_valid(");
        guard(") THEN 0 ELSE CASE json_type(");
        guard(") WHEN 'array' THEN EXISTS (SELECT 1 FROM json_each(");
        self.push(") AS e WHERE ");
        match needle {
            JsonNeedle::Bool(truth) => {
                self.push("e.type = ");
                self.param(Value::text(if *truth { "true" } else { "false" }));
            }
            JsonNeedle::Number(number) => self.json_number(field, number),
            JsonNeedle::Text(text) => {
                self.push("e.type = 'text' AND e.value = ");
                let number = self.param(Value::Text(text.clone()));
                self.push(") WHEN 'object' THEN EXISTS (SELECT 1 FROM json_each(");
                self.column(field);
                self.push(") AS e WHERE e.key = ");
                self.param_again(number);
                self.push(") WHEN 'text' THEN instr(");
                self.column(field);
                self.push(" ->> '$',");
                self.param_again(number);
                self.push(") > 0 ELSE 0 END END");
                return;
            }
        }
        self.push(") ELSE 0 END END");
    }

    /// `->` yields a number as it is written. `CAST` reads the needle exactly as the element was read.
    fn json_number(&mut self, field: usize, number: &Arc<str>) {
        self.push("e.type IN ('integer','real') AND (");
        self.column(field);
        self.push(" -> e.key = ");
        let parameter = self.param(Value::Text(number.clone()));
        if by_value(number).is_some() {
            self.push(" OR (e.value = CAST(");
            self.param_again(parameter);
            self.push(" AS REAL) AND length(");
            self.column(field);
            write!(self.sql, " -> e.key) <= {MAX_BY_VALUE})").expect("writing to a string cannot fail");
        }
        self.push(")");
    }

    /// Strictly after `key`: `a >= ?1 AND (a > ?1 OR (a = ?1 AND …))` for each sort key in turn. The first half is
    /// what lets SQLite start in the middle of an index.
    fn after(&mut self, sort: &[SortKey], key: &[Value]) {
        let ([first, sort @ ..], [value, key @ ..]) = (sort, key) else {
            return self.push("0");
        };
        let field = first.field;
        let nullable = self.collection.fields[field].nullable;
        let last = sort.is_empty() || key.is_empty();
        if value.is_null() {
            if last {
                return self.beyond_null(field, first.descending);
            }
            self.push("(");
            self.beyond_null(field, first.descending);
            self.push(" OR (");
            self.is_null(field);
        } else {
            let (beyond, at_or_beyond) = if first.descending {
                (" < ", " <= ")
            } else {
                (" > ", " >= ")
            };
            let nulls_follow = first.descending && nullable;
            let number = self.params.len() + 1;
            self.params.push(value.clone());
            if !last && !nulls_follow {
                self.compared(field, at_or_beyond, number);
                self.push(" AND ");
            }
            self.push("(");
            self.compared(field, beyond, number);
            if nulls_follow {
                self.push(" OR ");
                self.is_null(field);
            }
            if last {
                return self.push(")");
            }
            self.push(" OR (");
            self.compared(field, " = ", number);
        }
        self.push(" AND ");
        self.after(sort, key);
        self.push("))");
    }

    /// Nulls are first when ascending, so all the rest comes after them; descending, nothing does.
    fn beyond_null(&mut self, field: usize, descending: bool) {
        if descending {
            return self.push("0");
        }
        self.column(field);
        self.push(" IS NOT NULL");
    }

    fn is_null(&mut self, field: usize) {
        self.column(field);
        self.push(" IS NULL");
    }

    fn compared(&mut self, field: usize, operator: &str, number: usize) {
        self.column(field);
        self.push(operator);
        self.param_again(number);
    }
}
