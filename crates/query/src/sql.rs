//! Queries as SQL.
//!
//! The text holds quoted names of the schema and numbered parameters, nothing that a caller wrote, and few distinct
//! texts come out of many queries, so that the store's cache of prepared statements works. The collection's table is
//! always `t`: a qualified name is never mistaken for a string, as SQLite does with unknown names in double quotes.

mod json;

use std::fmt::Write as _;

use alyx_core::{Statement, Value};
use alyx_schema::{Collection, row_number, search_table};

use crate::ast::{CompareOp, Exists, Filter, Query, SortKey, Through};

impl Query {
    /// The page of rows that the query asks for, in its order. A row has one value per field of the collection;
    /// fields that are neither asked for nor needed to place the row (primary and sort keys) are null.
    pub fn select(&self) -> Statement {
        self.select_from(None)
    }

    /// As [`Query::select`], of the rows that come strictly after that result of [`Query::key`].
    pub fn select_from(&self, after: Option<&[Value]>) -> Statement {
        self.page(after, (self.limit, Some(self.offset)), |position| {
            self.needs(position)
        })
    }

    /// The part of [`Query::select_from`] in front of the rows whose first sort key is null, where those come last;
    /// `None` where they do not. A page that is full with it is the page, and costs what any other does.
    pub fn select_before_nulls(&self, after: &[Value]) -> Option<Statement> {
        self.nulls_to_come(after)?;
        let mut sql = Writer::new(&self.collection);
        self.stretch(&mut sql, &|position| self.needs(position), |sql| {
            sql.and_where(&self.filter);
            sql.after(&self.sort, after, false);
        });
        sql.push(" LIMIT ");
        sql.param(Value::Int(i64::from(self.limit)));
        Some(sql.finish())
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
        self.page(after, (limit, None), |_| true)
    }

    /// The first sort key, where rows in which it is null come after that key and all rows in which it is not: nulls
    /// are last where an order descends.
    fn nulls_to_come(&self, after: &[Value]) -> Option<&SortKey> {
        let first = self.sort.first()?;
        let follow = !after.first()?.is_null() && first.descending;
        (follow && self.collection.fields[first.field].nullable).then_some(first)
    }

    /// Nulls that are to come are a page of their own behind the others, so that each of the two is one stretch of an
    /// index.
    fn page(
        &self,
        after: Option<&[Value]>,
        (limit, offset): (u32, Option<u64>),
        wanted: impl Fn(usize) -> bool,
    ) -> Statement {
        let mut sql = Writer::new(&self.collection);
        let nulls = after.and_then(|key| Some((self.nulls_to_come(key)?, key)));
        let Some((first, key)) = nulls else {
            self.stretch(&mut sql, &wanted, |sql| {
                if let Some(key) = after {
                    sql.and_where(&self.filter);
                    sql.after(&self.sort, key, true);
                }
            });
            sql.push(" LIMIT ");
            sql.param(Value::Int(i64::from(limit)));
            if let Some(offset) = offset {
                sql.push(" OFFSET ");
                sql.param(Value::Int(i64::try_from(offset).unwrap_or(i64::MAX)));
            }
            return sql.finish();
        };
        sql.push("SELECT * FROM (");
        self.stretch(&mut sql, &wanted, |sql| {
            sql.and_where(&self.filter);
            sql.after(&self.sort, key, false);
        });
        // No limit of its own: with one, SQLite would hand each row over from a coroutine.
        sql.push(") UNION ALL SELECT * FROM (");
        self.stretch(&mut sql, &wanted, |sql| {
            sql.and_where(&self.filter);
            sql.is_null(first.field);
        });
        sql.push(" LIMIT ");
        let number = sql.param(Value::Int(i64::from(limit)));
        sql.push(") LIMIT ");
        sql.param_again(number);
        sql.finish()
    }

    fn stretch(
        &self,
        sql: &mut Writer<'_>,
        wanted: &impl Fn(usize) -> bool,
        after: impl FnOnce(&mut Writer<'_>),
    ) {
        sql.push("SELECT ");
        sql.columns(wanted);
        sql.source(&self.filter);
        after(sql);
        sql.order_by(&self.sort);
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

    pub(crate) fn source(&mut self, filter: &Filter) {
        self.push(" FROM ");
        self.table();
        self.push(" AS t");
        if filter.is_true() {
            return;
        }
        self.push(" WHERE ");
        if filter.is_local() {
            self.filter(filter);
        } else {
            self.filter(&filter.clone().normalize());
        }
    }

    /// One more condition, after others.
    pub(crate) fn and(&mut self, filter: &Filter) {
        if filter.is_true() {
            return;
        }
        self.push(" AND ");
        if filter.is_local() {
            self.filter(filter);
        } else {
            self.filter(&filter.clone().normalize());
        }
    }

    /// Between the filter and another condition.
    fn and_where(&mut self, filter: &Filter) {
        self.push(if filter.is_true() { " WHERE " } else { " AND " });
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
            Filter::EndsWith { field, needle } => self.ends_with(needle, |sql| sql.column(*field)),
            Filter::Path { field, path, test } => self.path_test(*field, path, test),
            Filter::Mentions { fields, text } => self.mentions(fields, text),
            Filter::Found { expression } => self.found(expression),
            Filter::Through(through) => self.through(through),
            Filter::Exists(exists) => self.exists(exists),
            Filter::Untrue(inner) => {
                self.push("((");
                self.filter(inner);
                self.push(") IS NOT TRUE)");
            }
            Filter::IsNull { field } => self.is_null(*field),
        }
    }

    /// Compares the last bytes with the needle, which is not empty. `substr` of an empty blob is null.
    fn ends_with(&mut self, needle: &str, text: impl Fn(&mut Self)) {
        self.push("CASE WHEN ");
        text(self);
        self.push(" IN ('',x'') THEN 0 ELSE substr(CAST(");
        text(self);
        self.push(" AS BLOB),");
        self.param(Value::Int(-i64::try_from(needle.len()).unwrap_or(i64::MAX)));
        self.push(") = ");
        self.param(Value::Blob(needle.as_bytes().into()));
        self.push(" END");
    }

    fn found(&mut self, expression: &str) {
        let collection = self.collection;
        let index = search_table(&collection.name);
        self.push("t.");
        self.push(row_number(collection));
        self.push(" IN (SELECT rowid FROM ");
        self.name(&index);
        self.push(" WHERE ");
        self.name(&index);
        self.push(" MATCH ");
        self.param(Value::from(expression));
        self.push(")");
    }

    /// `lower` of SQLite knows ASCII only.
    fn mentions(&mut self, fields: &[usize], text: &str) {
        if fields.is_empty() {
            return self.push("0");
        }
        self.params.push(Value::from(text.to_ascii_lowercase()));
        let number = self.params.len();
        for (i, &field) in fields.iter().enumerate() {
            self.push(if i == 0 { "(" } else { " OR " });
            self.push("coalesce(instr(lower(");
            self.column(field);
            self.push("),");
            self.param_again(number);
            self.push(") > 0,0)");
        }
        self.push(")");
    }

    /// A semi-join, so that the database may start from either side. It is true where it should be, but false where
    /// it should be unknown: negation must have been moved inside, which [`Writer::source`] sees to.
    fn through(&mut self, through: &Through) {
        let of_nothing = through.filter.eval(&[]) == Some(true);
        if of_nothing {
            self.push("(");
        }
        self.referred(through);
        self.inside(&through.collection, |sql| sql.filter(&through.filter));
        self.push(")");
        if of_nothing {
            self.push(" OR ");
            self.is_null(through.field);
            self.push(" OR NOT ");
            self.referred(through);
            self.inside(&through.collection, |sql| sql.column(through.target));
            self.push(" IS NOT NULL))");
        }
    }

    /// The tests for null keep it from being unknown.
    fn exists(&mut self, exists: &Exists) {
        self.push("(");
        if let Some(field) = exists.field {
            self.column(field);
            self.push(" IS NOT NULL AND ");
            self.column(field);
            self.push(" IN (SELECT ");
        } else {
            self.push("EXISTS (SELECT 1");
        }
        self.inside(&exists.collection, |sql| {
            if exists.field.is_some() {
                sql.column(exists.target);
            }
            sql.push(" FROM ");
            sql.table();
            sql.push(" AS t WHERE ");
            if exists.field.is_some() {
                sql.column(exists.target);
                sql.push(" IS NOT NULL AND ");
            }
            sql.filter(&exists.filter);
        });
        self.push("))");
    }

    /// `field IN (SELECT target FROM collection WHERE `. The inner `t` hides the outer one, which is not needed there.
    fn referred(&mut self, through: &Through) {
        self.column(through.field);
        self.push(" IN (SELECT ");
        self.inside(&through.collection, |sql| {
            sql.column(through.target);
            sql.push(" FROM ");
            sql.table();
        });
        self.push(" AS t WHERE ");
    }

    /// Writes about another collection.
    pub(crate) fn inside(&mut self, collection: &Collection, write: impl FnOnce(&mut Writer<'_>)) {
        let mut inner = Writer {
            collection,
            sql: std::mem::take(&mut self.sql),
            params: std::mem::take(&mut self.params),
        };
        write(&mut inner);
        self.sql = inner.sql;
        self.params = inner.params;
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
    pub(crate) fn membership(&mut self, field: usize, values: &[Value]) {
        if values.is_empty() {
            return self.push("0");
        }
        self.column(field);
        self.list(values);
    }

    fn list(&mut self, values: &[Value]) {
        let Some(last) = values.last() else {
            return self.push(" IN ()");
        };
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

    /// Strictly after `key`: `a >= ?1 AND (a <> ?1 OR …)` for each sort key in turn. The first half is what lets SQLite
    /// start in the middle of an index.
    ///
    /// `with_nulls`: rows where the first key is null are meant too, if they come after.
    fn after(&mut self, sort: &[SortKey], key: &[Value], with_nulls: bool) {
        if self.after_in_one(sort, key, with_nulls) {
            return;
        }
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
            let nulls_follow = with_nulls && first.descending && nullable;
            let number = self.params.len() + 1;
            self.params.push(value.clone());
            if !last && !nulls_follow {
                self.compared(field, at_or_beyond, number);
                self.push(" AND (");
                self.compared(field, " <> ", number);
                self.push(" OR ");
                self.after(sort, key, true);
                return self.push(")");
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
        self.after(sort, key, true);
        self.push("))");
    }

    /// [`Self::after`] as one comparison of rows, `(a, b) > (?1, ?2)`, where all keys go one way and no null takes
    /// part: SQLite starts right at the row in an index of those columns, however many rows share its `a`
    /// (<https://www.sqlite.org/rowvalue.html>). `false`, and nothing is written, elsewhere.
    fn after_in_one(&mut self, sort: &[SortKey], key: &[Value], with_nulls: bool) -> bool {
        let count = sort.len().min(key.len());
        let (sort, key) = (&sort[..count], &key[..count]);
        let one_way = sort.iter().all(|one| one.descending == sort[0].descending);
        let no_null = sort.iter().enumerate().all(|(position, one)| {
            // A null in the first column fails the comparison, which is right unless nulls follow.
            let left_out = position == 0 && !(with_nulls && one.descending);
            left_out || !self.collection.fields[one.field].nullable
        });
        if count < 2 || !one_way || !no_null || key.iter().any(Value::is_null) {
            return false;
        }
        for (position, one) in sort.iter().enumerate() {
            self.push(if position == 0 { "(" } else { ", " });
            self.column(one.field);
        }
        self.push(if sort[0].descending { ") < (" } else { ") > (" });
        for (position, value) in key.iter().enumerate() {
            if position > 0 {
                self.push(", ");
            }
            self.param(value.clone());
        }
        self.push(")");
        true
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
