//! The order of a query's rows in memory: nulls first when ascending, numbers by value, text and blobs by bytes.

use std::cmp::Ordering;

use alyx_core::Value;

use crate::ast::{Query, SortKey};

static NULL: Value = Value::Null;

impl Query {
    /// The values that place the row, one per key of [`Query::sort`].
    pub fn key(&self, row: &[Value]) -> Vec<Value> {
        self.sort.iter().map(|key| at(row, key).clone()).collect()
    }

    /// How two results of [`Query::key`] stand to each other.
    pub fn compare_keys(&self, a: &[Value], b: &[Value]) -> Ordering {
        let pairs = a.iter().zip(b);
        first_difference(
            self.sort
                .iter()
                .zip(pairs)
                .map(|(key, (a, b))| directed(key, a, b)),
        )
    }

    /// How two rows of the collection stand to each other. Equal only for the same primary key.
    pub fn compare(&self, a_row: &[Value], b_row: &[Value]) -> Ordering {
        first_difference(
            self.sort
                .iter()
                .map(|key| directed(key, at(a_row, key), at(b_row, key))),
        )
    }
}

fn at<'r>(row: &'r [Value], key: &SortKey) -> &'r Value {
    row.get(key.field).unwrap_or(&NULL)
}

fn directed(key: &SortKey, a: &Value, b: &Value) -> Ordering {
    let order = a.sql_cmp(b);
    if key.descending { order.reverse() } else { order }
}

fn first_difference(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}
