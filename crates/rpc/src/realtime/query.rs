//! A query on its way from a gateway to a realtime node, whose schema may be another revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::realtime as wire;
use alyx_query::{CompareOp, Exists, Filter, JsonNeedle, JsonPath, PathTest, Query, SortKey, Through};
use alyx_schema::{Collection, Field, Schema};

use super::{broken, value_from_wire, value_to_wire};

/// The query with its fields by name.
pub fn query_to_wire(query: &Query) -> wire::Query {
    let mut names = Names::of(&query.collection);
    let filter = names.filter(&query.filter);
    let sort = query.sort.iter().map(|key| wire::SortKey {
        field: names.field(key.field),
        descending: key.descending,
    });
    let sort = sort.collect();
    let selection = query.fields.as_ref().map(|fields| wire::Selection {
        fields: fields.iter().map(|&field| names.field(field)).collect(),
    });
    wire::Query {
        collection: query.collection.name.clone(),
        fields: names.fields,
        filter: Some(filter),
        sort,
        limit: query.limit,
        offset: query.offset,
        selection,
    }
}

/// The fields that a query names, each once.
struct Names<'q> {
    collection: &'q Collection,
    places: BTreeMap<usize, u32>,
    fields: Vec<wire::Field>,
}

impl<'q> Names<'q> {
    fn of(collection: &'q Collection) -> Self {
        Self {
            collection,
            places: BTreeMap::new(),
            fields: Vec::new(),
        }
    }

    fn field(&mut self, position: usize) -> u32 {
        if let Some(place) = self.places.get(&position) {
            return *place;
        }
        let place = u32::try_from(self.fields.len()).unwrap_or(u32::MAX);
        let field = &self.collection.fields[position];
        self.fields.push(wire::Field {
            name: field.name.clone(),
            r#type: field.kind.name().to_owned(),
            internal: field.internal,
        });
        self.places.insert(position, place);
        place
    }

    fn filter(&mut self, filter: &Filter) -> wire::Filter {
        use wire::filter::Node;
        let node = match filter {
            Filter::And(parts) => Node::And(self.filters(parts)),
            Filter::Or(parts) => Node::Or(self.filters(parts)),
            Filter::Not(inner) => Node::Not(Box::new(self.filter(inner))),
            Filter::Untrue(inner) => Node::Untrue(Box::new(self.filter(inner))),
            Filter::Compare { field, op, value } => Node::Compare(wire::Compared {
                field: self.field(*field),
                op: op_to_wire(*op).into(),
                value: Some(value_to_wire(value)),
            }),
            Filter::In { field, values } => Node::In(wire::In {
                field: self.field(*field),
                values: values.iter().map(value_to_wire).collect(),
            }),
            Filter::Like { field, pattern } => Node::Like(self.pattern(*field, pattern)),
            Filter::Contains { field, needle } => Node::Contains(self.pattern(*field, needle)),
            Filter::JsonContains { field, needle } => Node::JsonContains(wire::JsonContains {
                field: self.field(*field),
                needle: Some(needle_to_wire(needle)),
            }),
            Filter::EndsWith { field, needle } => Node::EndsWith(self.pattern(*field, needle)),
            Filter::Path { field, path, test } => Node::Path(wire::PathCondition {
                field: self.field(*field),
                path: path.to_string(),
                test: Some(test_to_wire(test)),
            }),
            Filter::Through(through) => Node::Through(Box::new(self.through(through))),
            Filter::Exists(exists) => Node::Exists(Box::new(self.exists(exists))),
            // No live query has one: `parse_query_json` reads none of them, and rules do not become them. The other side
            // refuses it.
            Filter::Mentions { .. } | Filter::Found { .. } => {
                return wire::Filter { node: None };
            }
            Filter::IsNull { field } => Node::IsNull(wire::IsNull {
                field: self.field(*field),
            }),
        };
        wire::Filter { node: Some(node) }
    }

    fn through(&mut self, through: &Through) -> wire::Through {
        let mut names = Names::of(&through.collection);
        let target = names.field(through.target);
        let filter = names.filter(&through.filter);
        wire::Through {
            field: self.field(through.field),
            collection: through.collection.name.clone(),
            fields: names.fields,
            target,
            filter: Some(Box::new(filter)),
            looked_up: !refers(
                &self.collection.fields[through.field],
                (&through.collection, through.target),
            ),
        }
    }

    fn exists(&mut self, exists: &Exists) -> wire::Exists {
        let mut names = Names::of(&exists.collection);
        let target = names.field(exists.target);
        let filter = names.filter(&exists.filter);
        wire::Exists {
            field: exists.field.map(|field| self.field(field)),
            collection: exists.collection.name.clone(),
            fields: names.fields,
            target,
            filter: Some(Box::new(filter)),
        }
    }

    fn filters(&mut self, parts: &[Filter]) -> wire::Filters {
        wire::Filters {
            parts: parts.iter().map(|part| self.filter(part)).collect(),
        }
    }

    fn pattern(&mut self, field: usize, text: &str) -> wire::Pattern {
        wire::Pattern {
            field: self.field(field),
            text: text.to_owned(),
        }
    }
}

fn needle_to_wire(needle: &JsonNeedle) -> wire::json_contains::Needle {
    use wire::json_contains::Needle;
    match needle {
        JsonNeedle::Text(text) => Needle::Text(text.as_ref().to_owned()),
        JsonNeedle::Number(number) => Needle::Number(number.as_ref().to_owned()),
        JsonNeedle::Bool(truth) => Needle::Truth(*truth),
    }
}

fn test_to_wire(test: &PathTest) -> wire::path_condition::Test {
    use wire::path_condition::Test;
    let compared = |op: CompareOp, text: &str| wire::ComparedText {
        op: op_to_wire(op).into(),
        text: text.to_owned(),
    };
    match test {
        PathTest::Exists => Test::Exists(wire::Present {}),
        PathTest::Bool(truth) => Test::Truth(*truth),
        PathTest::Number { op, number } => Test::Number(compared(*op, number)),
        PathTest::Text { op, text } => Test::Text(compared(*op, text)),
        PathTest::TextIn(texts) => Test::TextIn(wire::Texts {
            texts: texts.iter().map(|text| text.as_ref().to_owned()).collect(),
        }),
        PathTest::Like(pattern) => Test::Like(pattern.as_ref().to_owned()),
        PathTest::EndsWith(end) => Test::EndsWith(end.as_ref().to_owned()),
        PathTest::Contains(needle) => Test::Contains(needle_alone(needle)),
        PathTest::Holds(needle) => Test::Holds(needle_alone(needle)),
    }
}

fn needle_alone(needle: &JsonNeedle) -> wire::JsonContains {
    wire::JsonContains {
        field: 0,
        needle: Some(needle_to_wire(needle)),
    }
}

const fn op_to_wire(op: CompareOp) -> wire::CompareOp {
    match op {
        CompareOp::Eq => wire::CompareOp::Eq,
        CompareOp::Ne => wire::CompareOp::Ne,
        CompareOp::Gt => wire::CompareOp::Gt,
        CompareOp::Gte => wire::CompareOp::Gte,
        CompareOp::Lt => wire::CompareOp::Lt,
        CompareOp::Lte => wire::CompareOp::Lte,
    }
}

/// The query over the collection as `schema` has it.
///
/// # Errors
/// `COLLECTION_NOT_FOUND`, and `SCHEMA_CHANGED` where a field that the query names is not there, is of another type
/// or has become internal: the two sides have different revisions, or the query no longer fits. A query that no
/// gateway makes is an internal error.
pub fn query_from_wire(query: wire::Query, schema: &Schema) -> Result<Query> {
    let Some(collection) = schema.collection(&query.collection) else {
        return Err(Error::new(
            ErrorKind::NotFound,
            "COLLECTION_NOT_FOUND",
            format!("there is no collection `{}`", query.collection),
        ));
    };
    let places = Places::of(schema, collection, &query.fields)?;
    let sort = query.sort.iter().map(|key| {
        Ok(SortKey {
            field: places.field(key.field)?,
            descending: key.descending,
        })
    });
    let sort: Vec<SortKey> = sort.collect::<Result<_>>()?;
    if sort.last().is_none_or(|key| key.field != collection.primary()) {
        return Err(changed(collection, "has another primary field"));
    }
    let selection = query.selection.map(|selection| {
        let fields = selection.fields.iter().map(|&field| places.field(field));
        fields.collect::<Result<Vec<_>>>().map(|mut fields| {
            fields.sort_unstable();
            fields.dedup();
            fields
        })
    });
    Ok(Query {
        collection: collection.clone(),
        filter: places.filter(query.filter)?,
        sort,
        limit: query.limit,
        offset: query.offset,
        fields: selection.transpose()?,
    })
}

fn position(collection: &Collection, field: &wire::Field) -> Result<usize> {
    let name = &field.name;
    match collection.field(name) {
        Some((_, found)) if found.internal && !field.internal => {
            Err(changed(collection, &format!("has no field `{name}` any more")))
        }
        Some((_, found)) if found.kind.name() != field.r#type => Err(changed(
            collection,
            &format!(
                "has field `{name}` as {} instead of {}",
                found.kind.name(),
                field.r#type
            ),
        )),
        Some((position, _)) => Ok(position),
        None => Err(changed(collection, &format!("has no field `{name}`"))),
    }
}

fn changed(collection: &Collection, what: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        "SCHEMA_CHANGED",
        format!(
            "the schema has changed: collection `{}` {what}; subscribe again with a query that fits it",
            collection.name
        ),
    )
}

/// Whether the field is declared to refer to that field of that collection.
fn refers(field: &Field, (collection, target): (&Collection, usize)) -> bool {
    let target = collection.fields.get(target);
    field
        .references
        .as_ref()
        .zip(target)
        .is_some_and(|(reference, target)| {
            reference.collection == collection.name && reference.field == target.name
        })
}

/// Positions in the receiver's schema, by place in the list of fields that came with them.
struct Places<'s> {
    schema: &'s Schema,
    collection: &'s Collection,
    positions: Vec<usize>,
}

impl<'s> Places<'s> {
    fn of(schema: &'s Schema, collection: &'s Collection, fields: &[wire::Field]) -> Result<Self> {
        let positions = fields.iter().map(|field| position(collection, field));
        Ok(Self {
            schema,
            collection,
            positions: positions.collect::<Result<_>>()?,
        })
    }

    fn field(&self, place: u32) -> Result<usize> {
        let position = usize::try_from(place)
            .ok()
            .and_then(|place| self.positions.get(place));
        position
            .copied()
            .ok_or_else(|| broken("a field that is not listed"))
    }

    fn filter(&self, filter: Option<wire::Filter>) -> Result<Filter> {
        use wire::filter::Node;
        let node = filter
            .and_then(|filter| filter.node)
            .ok_or_else(|| broken("a filter that is not known"))?;
        Ok(match node {
            Node::And(filters) => Filter::And(self.filters(filters)?),
            Node::Or(filters) => Filter::Or(self.filters(filters)?),
            Node::Not(inner) => Filter::Not(Box::new(self.filter(Some(*inner))?)),
            Node::Untrue(inner) => Filter::Untrue(Box::new(self.filter(Some(*inner))?)),
            Node::Compare(compared) => {
                let op =
                    op_from_wire(compared.op()).ok_or_else(|| broken("an operator that is not known"))?;
                let value = value_from_wire(compared.value)?;
                if value.is_null() {
                    return Err(broken("a comparison with null"));
                }
                Filter::Compare {
                    field: self.field(compared.field)?,
                    op,
                    value,
                }
            }
            Node::In(list) => Filter::In {
                field: self.field(list.field)?,
                values: list
                    .values
                    .into_iter()
                    .map(|value| value_from_wire(Some(value)))
                    .collect::<Result<_>>()?,
            },
            Node::Like(pattern) => Filter::Like {
                field: self.field(pattern.field)?,
                pattern: pattern.text.into(),
            },
            Node::Contains(pattern) => Filter::Contains {
                field: self.field(pattern.field)?,
                needle: pattern.text.into(),
            },
            Node::JsonContains(contains) => Filter::JsonContains {
                field: self.field(contains.field)?,
                needle: needle_from_wire(contains.needle)?,
            },
            Node::EndsWith(pattern) => Filter::EndsWith {
                field: self.field(pattern.field)?,
                needle: pattern.text.into(),
            },
            Node::Path(condition) => Filter::Path {
                field: self.field(condition.field)?,
                path: Arc::new(path_from_wire(&condition.path)?),
                test: test_from_wire(condition.test)?,
            },
            Node::Through(through) => Filter::Through(Box::new(self.through(*through)?)),
            Node::Exists(exists) => Filter::Exists(Box::new(self.exists(*exists)?)),
            Node::IsNull(null) => Filter::IsNull {
                field: self.field(null.field)?,
            },
        })
    }

    /// The field must refer to the same as where the query was read, or lead to one document at most.
    fn through(&self, through: wire::Through) -> Result<Through> {
        let field = self.field(through.field)?;
        let referring = &self.collection.fields[field];
        let gone = || {
            let what = format!(
                "has field `{}`, which no longer refers to `{}` so",
                referring.name, through.collection
            );
            changed(self.collection, &what)
        };
        let collection = self.schema.collection(&through.collection).ok_or_else(gone)?;
        let places = Places::of(self.schema, collection, &through.fields)?;
        let target = places.field(through.target)?;
        let leads = if through.looked_up {
            collection.fields[target].primary || collection.fields[target].unique
        } else {
            refers(referring, (collection, target))
        };
        if !leads {
            return Err(gone());
        }
        let filter = through.filter.map(|filter| *filter);
        Ok(Through {
            field,
            collection: collection.clone(),
            target,
            filter: places.filter(filter)?,
        })
    }

    fn exists(&self, exists: wire::Exists) -> Result<Exists> {
        let collection = self.schema.collection(&exists.collection).ok_or_else(|| {
            let what = format!("is asked together with `{}`, which is gone", exists.collection);
            changed(self.collection, &what)
        })?;
        let places = Places::of(self.schema, collection, &exists.fields)?;
        Ok(Exists {
            field: exists.field.map(|field| self.field(field)).transpose()?,
            collection: collection.clone(),
            target: places.field(exists.target)?,
            filter: places.filter(exists.filter.map(|filter| *filter))?,
        })
    }

    fn filters(&self, filters: wire::Filters) -> Result<Vec<Filter>> {
        let parts = filters.parts.into_iter();
        parts.map(|part| self.filter(Some(part))).collect()
    }
}

fn path_from_wire(path: &str) -> Result<JsonPath> {
    if path.is_empty() {
        return Ok(JsonPath::root());
    }
    JsonPath::parse(path).map_err(|_| broken("a path that cannot be read"))
}

fn needle_from_wire(needle: Option<wire::json_contains::Needle>) -> Result<JsonNeedle> {
    use wire::json_contains::Needle;
    Ok(match needle.ok_or_else(|| broken("nothing to look for"))? {
        Needle::Text(text) => JsonNeedle::Text(text.into()),
        Needle::Number(number) => JsonNeedle::Number(number.into()),
        Needle::Truth(truth) => JsonNeedle::Bool(truth),
    })
}

fn test_from_wire(test: Option<wire::path_condition::Test>) -> Result<PathTest> {
    use wire::path_condition::Test;
    let op = |compared: &wire::ComparedText| {
        op_from_wire(compared.op()).ok_or_else(|| broken("an operator that is not known"))
    };
    Ok(match test.ok_or_else(|| broken("a condition without a test"))? {
        Test::Exists(wire::Present {}) => PathTest::Exists,
        Test::Truth(truth) => PathTest::Bool(truth),
        Test::Number(compared) => PathTest::Number {
            op: op(&compared)?,
            number: compared.text.into(),
        },
        Test::Text(compared) => PathTest::Text {
            op: op(&compared)?,
            text: compared.text.into(),
        },
        Test::TextIn(list) => PathTest::TextIn(list.texts.into_iter().map(Into::into).collect()),
        Test::Like(pattern) => PathTest::Like(pattern.into()),
        Test::EndsWith(end) => PathTest::EndsWith(end.into()),
        Test::Contains(contains) => PathTest::Contains(needle_from_wire(contains.needle)?),
        Test::Holds(contains) => PathTest::Holds(needle_from_wire(contains.needle)?),
    })
}

const fn op_from_wire(op: wire::CompareOp) -> Option<CompareOp> {
    Some(match op {
        wire::CompareOp::Unspecified => return None,
        wire::CompareOp::Eq => CompareOp::Eq,
        wire::CompareOp::Ne => CompareOp::Ne,
        wire::CompareOp::Gt => CompareOp::Gt,
        wire::CompareOp::Gte => CompareOp::Gte,
        wire::CompareOp::Lt => CompareOp::Lt,
        wire::CompareOp::Lte => CompareOp::Lte,
    })
}
