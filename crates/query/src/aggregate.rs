//! Figures over many documents: counts, sums, averages, least and greatest values, for all or by group.

use std::sync::Arc;

use alyx_core::{Statement, Value};
use alyx_schema::{Collection, FieldType};

use crate::ast::Filter;
use crate::sql::Writer;

/// A checked question about figures of one collection.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The collection.
    pub collection: Arc<Collection>,
    /// Which rows.
    pub filter: Filter,
    /// What makes a group; without any, all rows are one group.
    pub groups: Vec<Group>,
    /// What is told of each group. One at least.
    pub measures: Vec<Measure>,
    /// In which order, before that of the groups' own values.
    pub sort: Vec<AggregateSort>,
    /// At most this many groups.
    pub limit: u32,
    /// Groups to leave out first.
    pub offset: u64,
}

/// Something that the rows of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Position of the field.
    pub field: usize,
    /// The stretch of time that it falls into, in place of the time itself. In UTC.
    pub bucket: Option<Bucket>,
}

/// Stretches of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// From its first minute.
    Hour,
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first of the month.
    Month,
    /// From the first of January.
    Year,
}

impl Bucket {
    /// Every bucket, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// As callers write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Which.
    pub function: Function,
    /// Of the values of which field. `None`: of the rows, for a count.
    pub field: Option<usize>,
}

/// Kinds of figures. All but [`Function::Count`] are null where no row has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// How many.
    Count,
    /// The sum, exact for whole numbers.
    Sum,
    /// The mean.
    Avg,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
}

impl Function {
    /// Every function.
    pub const ALL: [Self; 5] = [Self::Count, Self::Sum, Self::Avg, Self::Min, Self::Max];

    /// As callers write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

/// One key of the groups' order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregateSort {
    /// What decides.
    pub by: SortBy,
    /// Greatest first.
    pub descending: bool,
}

/// What groups are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortBy {
    /// A place in [`Aggregate::groups`].
    Group(usize),
    /// A place in [`Aggregate::measures`].
    Measure(usize),
}

/// A figure of one group.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// A sum of whole numbers, which may have more than 64 bits.
    Whole(i128),
    /// Anything else.
    Value(Value),
}

impl Aggregate {
    /// One row for each group, one more than the limit: its values, then its figures as [`Aggregate::figures`]
    /// takes them.
    pub fn select(&self) -> Statement {
        let mut sql = Writer::new(&self.collection);
        sql.push("SELECT ");
        for group in &self.groups {
            self.group(&mut sql, *group);
            sql.push(",");
        }
        for (index, measure) in self.measures.iter().enumerate() {
            if index > 0 {
                sql.push(",");
            }
            self.measure(&mut sql, *measure);
        }
        sql.source(&self.filter);
        self.order(&mut sql);
        sql.push(" LIMIT ");
        sql.param(Value::Int(i64::from(self.limit) + 1));
        sql.push(" OFFSET ");
        sql.param(Value::Int(i64::try_from(self.offset).unwrap_or(i64::MAX)));
        sql.finish()
    }

    /// The figures in a row of [`Aggregate::select`], one for each measure; `None` where it is no such row.
    pub fn figures(&self, row: &[Value]) -> Option<Vec<Figure>> {
        let mut columns = row.get(self.groups.len()..)?.iter();
        let figures = self.measures.iter().map(|measure| {
            let first = columns.next()?;
            if !self.in_halves(*measure) {
                return Some(Figure::Value(first.clone()));
            }
            let low = columns.next()?;
            Some(match (first.as_int(), low.as_int()) {
                (Some(high), Some(low)) => Figure::Whole((i128::from(high) << 32) + i128::from(low)),
                _ => Figure::Value(Value::Null),
            })
        });
        figures.collect()
    }

    /// SQLite fails at a sum of more than 64 bits, so whole numbers are summed as two halves of 32 bits, whose sums
    /// have room for two thousand million rows.
    fn in_halves(&self, measure: Measure) -> bool {
        let kind = measure.field.map(|field| self.collection.fields[field].kind);
        measure.function == Function::Sum && kind == Some(FieldType::Int)
    }

    fn group(&self, sql: &mut Writer<'_>, group: Group) {
        let Some(bucket) = group.bucket else {
            return sql.column(group.field);
        };
        // Times are stored as `2026-03-01T12:34:56.789Z` and dates as `2026-03-01`, so most buckets begin with the
        // same characters.
        let midnight = if self.collection.fields[group.field].kind == FieldType::Date {
            ""
        } else {
            "T00:00:00.000Z"
        };
        let (kept, rest) = match bucket {
            Bucket::Hour => (13, ":00:00.000Z".to_owned()),
            Bucket::Day => (10, midnight.to_owned()),
            Bucket::Month => (7, format!("-01{midnight}")),
            Bucket::Year => (4, format!("-01-01{midnight}")),
            Bucket::Week => {
                // On to Sunday, and back to the Monday before it.
                sql.push("date(");
                sql.column(group.field);
                return sql.push(&format!(",'weekday 0','-6 days') || '{midnight}'"));
            }
        };
        sql.push("substr(");
        sql.column(group.field);
        sql.push(&format!(",1,{kept}) || '{rest}'"));
    }

    fn measure(&self, sql: &mut Writer<'_>, measure: Measure) {
        let Some(field) = measure.field else {
            return sql.push("count(*)");
        };
        if self.in_halves(measure) {
            sql.push("sum(");
            sql.column(field);
            sql.push(" >> 32),sum(");
            sql.column(field);
            return sql.push(" & 4294967295)");
        }
        call(sql, measure.function.name(), field);
    }

    fn order(&self, sql: &mut Writer<'_>) {
        for index in 0..self.groups.len() {
            sql.push(if index == 0 { " GROUP BY " } else { "," });
            sql.push(&(index + 1).to_string());
        }
        let own = (0..self.groups.len()).map(|index| AggregateSort {
            by: SortBy::Group(index),
            descending: false,
        });
        for (index, key) in self.sort.iter().copied().chain(own).enumerate() {
            sql.push(if index == 0 { " ORDER BY " } else { "," });
            match key.by {
                SortBy::Group(group) => sql.push(&(group + 1).to_string()),
                SortBy::Measure(place) => match self.measures[place] {
                    measure @ Measure {
                        field: Some(field), ..
                    } if self.in_halves(measure) => {
                        call(sql, "total", field);
                    }
                    measure => self.measure(sql, measure),
                },
            }
            if key.descending {
                sql.push(" DESC");
            }
        }
    }
}

fn call(sql: &mut Writer<'_>, function: &str, field: usize) {
    sql.push(function);
    sql.push("(");
    sql.column(field);
    sql.push(")");
}
