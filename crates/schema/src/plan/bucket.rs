//! Differences of the buckets: all of them concern the server only, and none touches the database.

use super::Plan;
use crate::model::Schema;

pub(super) fn compare(plan: &mut Plan, from: &Schema, to: &Schema) {
    for name in from.buckets.keys().filter(|name| !to.buckets.contains_key(*name)) {
        let description = format!("the bucket `{name}` is gone");
        plan.safe(format!("buckets.{name}"), description, None);
    }
    for (name, bucket) in &to.buckets {
        let description = match from.buckets.get(name) {
            None => format!("new bucket `{name}`"),
            Some(before) if before != bucket => format!("the bucket `{name}` changes"),
            Some(_) => continue,
        };
        plan.safe(format!("buckets.{name}"), description, None);
    }
}
