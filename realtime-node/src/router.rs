//! Which groups a change may concern.
//!
//! A group whose filter demands `field = value` or `field IN (values)` is found by a hash of the value, so that
//! any number of such groups costs one look-up per change and field. All others are *residual*: they look at every
//! change of their collection. A group whose filter looks into documents that its rows refer to is registered for
//! changes of those too. What is found is a superset: the group evaluates its own filter.

use std::collections::hash_map::Entry;
use std::hash::Hasher;

use alyx_core::{Row, Value};
use alyx_query::{Filter, equality_keys};
use alyx_schema::{Collection, FieldType};
use rustc_hash::{FxHashMap, FxHasher};

use crate::record::hash_value;

/// A group's place in the engine's table.
pub(crate) type GroupIndex = u32;

/// How a group is registered; the same value takes it out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// Under the hashes of a field's values. Without any the filter passes no row.
    Equality { field: usize, hashes: Vec<u64> },
    /// Under every change of the collection.
    Residual,
}

impl Route {
    /// The cheapest route for documents of the collection that pass the filter, or did.
    pub(crate) fn of(filter: &Filter, collection: &Collection) -> Self {
        let filter = filter.clone().normalize();
        if filter == Filter::FALSE {
            return Self::Equality {
                field: collection.primary(),
                hashes: Vec::new(),
            };
        }
        let selective = without_bools(&filter, collection);
        match equality_keys(&selective).or_else(|| equality_keys(&filter)) {
            Some((field, values)) => {
                let mut hashes: Vec<u64> = values.iter().map(hash).collect();
                hashes.sort_unstable();
                hashes.dedup();
                Self::Equality { field, hashes }
            }
            None => Self::Residual,
        }
    }

    /// Whether the group looks at every change of its collection.
    pub(crate) fn is_residual(&self) -> bool {
        *self == Self::Residual
    }
}

/// A flag has two values, so it tells few groups apart; any other field does better.
fn without_bools(filter: &Filter, collection: &Collection) -> Filter {
    let is_bool = |field: usize| {
        collection
            .fields
            .get(field)
            .is_some_and(|field| field.kind == FieldType::Bool)
    };
    let keep = |part: &Filter| match part {
        Filter::Compare { field, .. } | Filter::In { field, .. } => !is_bool(*field),
        _ => true,
    };
    match filter {
        Filter::And(parts) => Filter::And(parts.iter().filter(|part| keep(part)).cloned().collect()),
        other if keep(other) => other.clone(),
        _ => Filter::TRUE,
    }
}

/// Groups of all collections.
#[derive(Debug, Default)]
pub(crate) struct Router {
    collections: FxHashMap<String, Routes>,
    /// Groups with residual routes, and how many.
    residual: FxHashMap<GroupIndex, usize>,
}

/// Groups of one collection.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    by_field: Vec<FieldRoutes>,
    residual: Vec<GroupIndex>,
    groups: usize,
}

#[derive(Debug)]
struct FieldRoutes {
    field: usize,
    groups: FxHashMap<u64, Vec<GroupIndex>>,
}

impl Router {
    /// Registers a group.
    pub(crate) fn add(&mut self, collection: &str, route: &Route, group: GroupIndex) {
        let routes = self.collections.entry(collection.to_owned()).or_default();
        routes.groups += 1;
        match route {
            Route::Residual => {
                routes.residual.push(group);
                *self.residual.entry(group).or_default() += 1;
            }
            Route::Equality { field, hashes } => {
                let place = routes.by_field.iter().position(|known| known.field == *field);
                let place = place.unwrap_or_else(|| {
                    routes.by_field.push(FieldRoutes {
                        field: *field,
                        groups: FxHashMap::default(),
                    });
                    routes.by_field.len() - 1
                });
                for hash in hashes {
                    routes.by_field[place]
                        .groups
                        .entry(*hash)
                        .or_default()
                        .push(group);
                }
            }
        }
    }

    /// Takes a group out, by the collection and route that it was registered with.
    pub(crate) fn remove(&mut self, collection: &str, route: &Route, group: GroupIndex) {
        let Some(routes) = self.collections.get_mut(collection) else {
            return;
        };
        match route {
            Route::Residual => {
                take(&mut routes.residual, group);
                if let Entry::Occupied(mut routes) = self.residual.entry(group) {
                    *routes.get_mut() -= 1;
                    if *routes.get() == 0 {
                        routes.remove();
                    }
                }
            }
            Route::Equality { field, hashes } => {
                if let Some(place) = routes.by_field.iter().position(|known| known.field == *field) {
                    let groups = &mut routes.by_field[place].groups;
                    for hash in hashes {
                        if groups.get_mut(hash).is_some_and(|found| take(found, group)) {
                            groups.remove(hash);
                        }
                    }
                    if groups.is_empty() {
                        routes.by_field.swap_remove(place);
                    }
                }
            }
        }
        routes.groups = routes.groups.saturating_sub(1);
        if routes.groups == 0 {
            self.collections.remove(collection);
        }
    }

    /// The collection's groups; `None` where nobody listens to it.
    pub(crate) fn routes(&self, collection: &str) -> Option<&Routes> {
        self.collections.get(collection)
    }

    /// Groups that look at every change of a collection.
    pub(crate) fn residual_groups(&self) -> usize {
        self.residual.len()
    }
}

impl Routes {
    /// Appends the groups that a change with these sides may concern. A group may be found twice.
    pub(crate) fn find(&self, old: Option<&Row>, new: Option<&Row>, found: &mut Vec<GroupIndex>) {
        found.extend_from_slice(&self.residual);
        for routes in &self.by_field {
            let at = |row: Option<&Row>| {
                row.and_then(|row| row.get(routes.field))
                    .filter(|value| !value.is_null())
                    .map(hash)
            };
            let (before, after) = (at(old), at(new));
            let mut look_up = |hash: Option<u64>| {
                if let Some(groups) = hash.and_then(|hash| routes.groups.get(&hash)) {
                    found.extend_from_slice(groups);
                }
            };
            look_up(before);
            if after != before {
                look_up(after);
            }
        }
    }
}

fn hash(value: &Value) -> u64 {
    let mut hasher = FxHasher::default();
    hash_value(value, &mut hasher);
    hasher.finish()
}

/// Removes the group; whether the list is empty now.
fn take(groups: &mut Vec<GroupIndex>, group: GroupIndex) -> bool {
    if let Some(place) = groups.iter().position(|&other| other == group) {
        groups.swap_remove(place);
    }
    groups.is_empty()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alyx_query::parse_query_json;
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = "
collections:
  tasks:
    fields:
      id: {type: int, primary: true, default: auto}
      room: {type: string, nullable: true}
      done: {type: bool}
      rank: {type: float}
";

    fn tasks() -> Arc<Collection> {
        let parsed = alyx_schema::parse(SCHEMA, "schema.yaml").expect("the schema is right");
        Arc::clone(parsed.schema.collection("tasks").expect("it is declared"))
    }

    fn route(filter: serde_json::Value) -> Route {
        let query = parse_query_json(&tasks(), &json!({ "filter": filter }));
        Route::of(&query.expect("the query is right").filter, &tasks())
    }

    fn row(room: &str, done: bool, rank: f64) -> Row {
        vec![1_i64.into(), room.into(), done.into(), rank.into()]
    }

    #[test]
    fn the_most_telling_equality_is_the_route() {
        let check = |filter: serde_json::Value, field: Option<usize>, values: usize| {
            let route = route(filter.clone());
            let found = match &route {
                Route::Equality { field, hashes } => Some((*field, hashes.len())),
                Route::Residual => None,
            };
            assert_eq!(found, field.map(|field| (field, values)), "{filter}");
        };
        check(json!({"room": "a"}), Some(1), 1);
        check(json!({"room": {"$in": ["a", "b", "a"]}}), Some(1), 2);
        check(json!({"done": true}), Some(2), 1);
        check(json!({"done": true, "room": {"$in": ["a", "b"]}}), Some(1), 2);
        check(json!({"room": {"$in": ["a", "b"]}, "id": 7}), Some(0), 1);
        check(
            json!({"$and": [{"$and": [{"room": "a"}]}, {"rank": {"$gt": 1}}]}),
            Some(1),
            1,
        );
        check(json!({"$or": [{"room": "a"}, {"rank": 1}]}), None, 0);
        check(json!({"room": null}), None, 0);
        check(json!({"rank": {"$gt": 1}}), None, 0);
        check(json!({}), None, 0);
    }

    #[test]
    fn a_change_finds_the_groups_of_both_its_sides() {
        let mut router = Router::default();
        let routes = [
            json!({"room": "a"}),
            json!({"room": {"$in": ["b", "c"]}}),
            json!({"rank": 1}),
            json!({}),
        ];
        let routes = routes.map(route);
        for (group, route) in (0..).zip(&routes) {
            router.add("tasks", route, group);
        }
        let find = |old: Option<&Row>, new: Option<&Row>| {
            let mut found = Vec::new();
            router
                .routes("tasks")
                .expect("it has groups")
                .find(old, new, &mut found);
            found.sort_unstable();
            found.dedup();
            found
        };
        let (a, b, x) = (row("a", true, 1.0), row("b", true, 2.0), row("x", true, 3.0));
        assert_eq!(find(None, Some(&a)), [0, 2, 3]);
        assert_eq!(find(Some(&a), Some(&b)), [0, 1, 2, 3]);
        assert_eq!(find(Some(&b), None), [1, 3]);
        assert_eq!(find(Some(&x), Some(&x)), [3]);
        assert!(router.routes("others").is_none());
        assert_eq!(router.residual_groups(), 1);
    }

    #[test]
    fn nothing_is_left_of_groups_that_were_removed() {
        let mut router = Router::default();
        let routes = [
            json!({"room": {"$in": ["b", "c"]}}),
            json!({"room": "b"}),
            json!({"rank": {"$lt": 3}}),
        ];
        let routes = routes.map(route);
        for (group, route) in (0..).zip(&routes) {
            router.add("tasks", route, group);
        }
        router.remove("tasks", &routes[0], 0);
        let mut found = Vec::new();
        let b = row("b", false, 9.0);
        router
            .routes("tasks")
            .expect("it has groups")
            .find(None, Some(&b), &mut found);
        found.sort_unstable();
        assert_eq!(found, [1, 2]);
        router.remove("tasks", &routes[1], 1);
        router.remove("tasks", &routes[2], 2);
        assert!(router.routes("tasks").is_none());
        assert_eq!(router.residual_groups(), 0);
    }
}
