//! Random queries and events go over the wire and come back as they were.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Seq, Value};
use alyx_proto::realtime as wire;
use alyx_query::{CompareOp, Exists, Filter, JsonNeedle, JsonPath, PathTest, Query, SortKey, Through};
use alyx_schema::{Collection, Schema};
use alyx_service::realtime::{Document, GroupEvent, GroupId, WindowChange};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;

const SCHEMA: &str = "
collections:
  things:
    fields:
      id: {type: uuid, primary: true, default: auto}
      name: {type: string}
      size: {type: int}
      weight: {type: float, nullable: true}
      extra: {type: json, nullable: true}
      secret: {type: string, default: '', internal: true}
      parent: {type: uuid, nullable: true, references: things.id}
";
const FIELDS: usize = 7;
const PARENT: usize = 6;

fn schema(source: &str) -> Schema {
    alyx_schema::parse(source, "schema.yaml")
        .expect("a sound schema")
        .schema
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<f64>()
            .prop_filter("never stored", |float| !float.is_nan())
            .prop_map(Value::Float),
        ".{0,12}".prop_map(Value::from),
        vec(any::<u8>(), 0..12).prop_map(|bytes| Value::Blob(bytes.into())),
    ]
}

fn op() -> impl Strategy<Value = CompareOp> {
    use CompareOp::{Eq, Gt, Gte, Lt, Lte, Ne};
    proptest::sample::select(vec![Eq, Ne, Gt, Gte, Lt, Lte])
}

fn path_test() -> impl Strategy<Value = PathTest> {
    let needle = prop_oneof![
        Just(JsonNeedle::Text("x".into())),
        Just(JsonNeedle::Number("1.5".into())),
        Just(JsonNeedle::Bool(true)),
    ];
    prop_oneof![
        Just(PathTest::Exists),
        any::<bool>().prop_map(PathTest::Bool),
        (op(), -9..9_i64).prop_map(|(op, number)| PathTest::Number {
            op,
            number: number.to_string().into(),
        }),
        (op(), ".{0,8}").prop_map(|(op, text)| PathTest::Text {
            op,
            text: text.into()
        }),
        vec(".{0,8}", 0..4).prop_map(|texts| PathTest::TextIn(texts.into_iter().map(Into::into).collect())),
        ".{0,8}".prop_map(|pattern| PathTest::Like(pattern.into())),
        ".{1,8}".prop_map(|end| PathTest::EndsWith(end.into())),
        needle.clone().prop_map(PathTest::Contains),
        needle.prop_map(PathTest::Holds),
    ]
}

fn things() -> Arc<Collection> {
    schema(SCHEMA).collection("things").expect("declared").clone()
}

fn filter() -> impl Strategy<Value = Filter> {
    let field = 0..FIELDS;
    let needle = prop_oneof![
        ".{0,8}".prop_map(|text| JsonNeedle::Text(text.into())),
        "[0-9]{1,8}".prop_map(|number| JsonNeedle::Number(number.into())),
        any::<bool>().prop_map(JsonNeedle::Bool),
    ];
    let leaf = prop_oneof![
        (field.clone(), op(), value()).prop_map(|(field, op, value)| Filter::Compare { field, op, value }),
        (field.clone(), vec(value(), 0..5)).prop_map(|(field, values)| Filter::In { field, values }),
        (field.clone(), ".{0,8}").prop_map(|(field, pattern)| Filter::Like {
            field,
            pattern: pattern.into()
        }),
        (field.clone(), ".{0,8}").prop_map(|(field, needle)| Filter::Contains {
            field,
            needle: needle.into()
        }),
        (field.clone(), needle).prop_map(|(field, needle)| Filter::JsonContains { field, needle }),
        (field.clone(), ".{1,8}").prop_map(|(field, needle)| Filter::EndsWith {
            field,
            needle: needle.into(),
        }),
        (field.clone(), path_test()).prop_map(|(field, test)| Filter::Path {
            field,
            path: Arc::new(if field % 2 == 0 {
                JsonPath::root()
            } else {
                JsonPath::parse("a.0.b c").expect("a sound path")
            }),
            test,
        }),
        field.prop_map(|field| Filter::IsNull { field }),
    ];
    let things = things();
    leaf.prop_recursive(8, 100, 6, move |inner| {
        let things = things.clone();
        let referred = things.clone();
        // The key of a parent, by its reference, or by any field where a rule looks it up.
        let through =
            (prop_oneof![Just(PARENT), 0..FIELDS], inner.clone()).prop_map(move |(field, filter)| {
                Filter::Through(Box::new(Through {
                    field,
                    collection: referred.clone(),
                    target: 0,
                    filter,
                }))
            });
        let things = things.clone();
        let exists = (option::of(0..FIELDS), 0..FIELDS, inner.clone());
        let exists = exists.prop_map(move |(field, target, filter)| {
            Filter::Exists(Box::new(Exists {
                field,
                collection: things.clone(),
                target,
                filter,
            }))
        });
        prop_oneof![
            through,
            exists,
            vec(inner.clone(), 0..6).prop_map(Filter::And),
            vec(inner.clone(), 0..6).prop_map(Filter::Or),
            inner.clone().prop_map(|inner| Filter::Untrue(Box::new(inner))),
            inner.prop_map(|inner| Filter::Not(Box::new(inner))),
        ]
    })
}

fn query() -> impl Strategy<Value = Query> {
    let collection = things();
    let key = (1..FIELDS, any::<bool>()).prop_map(|(field, descending)| SortKey { field, descending });
    let fields = option::of(proptest::sample::subsequence(
        (0..FIELDS).collect::<Vec<_>>(),
        0..=FIELDS,
    ));
    (
        filter(),
        vec(key, 0..4),
        any::<bool>(),
        0..=1000_u32,
        any::<u64>(),
        fields,
    )
        .prop_map(move |(filter, mut sort, descending, limit, offset, fields)| {
            sort.push(SortKey { field: 0, descending });
            Query {
                collection: collection.clone(),
                filter,
                sort,
                limit,
                offset,
                fields,
            }
        })
}

/// All of a query but its collections, which are known by their names.
fn meaning(query: &Query) -> String {
    let Query {
        collection,
        filter,
        sort,
        limit,
        offset,
        fields,
    } = query;
    let filter = shown(filter);
    format!(
        "{} {filter} {sort:?} {limit} {offset} {fields:?}",
        collection.name
    )
}

/// Floats by their bits; a collection's own text has its fields in no order.
fn shown(filter: &Filter) -> String {
    let all = |parts: &[Filter]| parts.iter().map(shown).collect::<Vec<_>>().join(", ");
    match filter {
        Filter::And(parts) => format!("And({})", all(parts)),
        Filter::Or(parts) => format!("Or({})", all(parts)),
        Filter::Not(inner) => format!("Not({})", shown(inner)),
        Filter::Untrue(inner) => format!("Untrue({})", shown(inner)),
        Filter::Through(through) => format!(
            "Through({} {} {} {})",
            through.field,
            through.collection.name,
            through.target,
            shown(&through.filter)
        ),
        Filter::Exists(exists) => format!(
            "Exists({:?} {} {} {})",
            exists.field,
            exists.collection.name,
            exists.target,
            shown(&exists.filter)
        ),
        other => format!("{other:?}"),
    }
}

fn over_the_wire<M: Message + Default>(message: &M) -> M {
    M::decode(Bytes::from(message.encode_to_vec())).expect("what was encoded is decoded")
}

fn document() -> impl Strategy<Value = Document> {
    (value(), ".{0,40}").prop_map(|(id, json)| Document {
        id,
        json: Bytes::from(json),
    })
}

fn event() -> impl Strategy<Value = GroupEvent> {
    let group = || any::<u64>().prop_map(GroupId);
    let placed = || vec((0..2000_usize, document()), 0..6);
    prop_oneof![
        (group(), any::<u64>(), vec(document(), 0..8), any::<u64>()).prop_map(|(group, at, docs, total)| {
            GroupEvent::Opened {
                group,
                at: Seq(at),
                docs,
                total,
            }
        }),
        (
            group(),
            any::<(u64, u64, u64)>(),
            placed(),
            placed(),
            vec(value(), 0..6)
        )
            .prop_map(
                |(group, (from, to, total), inserts, updates, deletes)| GroupEvent::Changed {
                    group,
                    from: Seq(from),
                    to: Seq(to),
                    change: Arc::new(WindowChange {
                        inserts,
                        updates,
                        deletes,
                        total,
                    }),
                }
            ),
        (group(), "[A-Z_]{1,20}", ".{0,40}").prop_map(|(group, code, message)| GroupEvent::Failed {
            group,
            error: Arc::new(Error::new(ErrorKind::Conflict, code, message)),
        }),
    ]
}

proptest! {
    #[test]
    fn a_query_means_the_same_on_the_other_side(query in query()) {
        let told = over_the_wire(&query_to_wire(&query));
        let read = query_from_wire(told, &schema(SCHEMA)).expect("it fits");
        prop_assert_eq!(meaning(&read), meaning(&query));
        prop_assert_eq!(read.canonical(), query.canonical());
    }

    #[test]
    fn a_query_means_the_same_where_fields_have_other_places(query in query()) {
        let moved = SCHEMA.replace("      name:", "      added: {type: int, default: 0}\n      name:");
        let moved = query_from_wire(query_to_wire(&query), &schema(&moved)).expect("it fits");
        let back = query_from_wire(query_to_wire(&moved), &schema(SCHEMA)).expect("it fits");
        prop_assert_eq!(meaning(&back), meaning(&query));
    }

    #[test]
    fn an_event_says_the_same_on_the_other_side(event in event()) {
        let frame = event_to_wire(&event);
        prop_assert!(frame.cost > 0);
        let said = said_from_wire(over_the_wire(&frame)).expect("it is read");
        let Some(Said::Event(read)) = said else {
            panic!("an event is an event: {said:?}");
        };
        prop_assert_eq!(format!("{read:?}"), format!("{event:?}"));
    }

    #[test]
    fn bytes_that_nobody_meant_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        if let Ok(query) = wire::Query::decode(bytes.clone()) {
            let _ = query_from_wire(query, &schema(SCHEMA));
        }
        if let Ok(frame) = wire::NodeFrame::decode(bytes) {
            let _ = said_from_wire(frame);
        }
    }

    #[test]
    fn digests_depend_on_what_was_told_last_and_on_nothing_else(
        events in vec((0..4_u64, 0..6_u64, any::<bool>()), 0..40),
    ) {
        let (mut one, mut truth) = (Positions::default(), std::collections::BTreeMap::new());
        for (group, at, closes) in events {
            if closes {
                one.forget(GroupId(group));
                truth.remove(&group);
            } else {
                let docs = Vec::new();
                one.note(&GroupEvent::Opened { group: GroupId(group), at: Seq(at), docs, total: 0 });
                truth.insert(group, at);
            }
        }
        let mut other = Positions::default();
        for (group, at) in truth.into_iter().rev() {
            let change = Arc::default();
            other.note(&GroupEvent::Changed { group: GroupId(group), from: Seq(0), to: Seq(at), change });
        }
        prop_assert_eq!(one.digest(), other.digest());
        let next = other.get(GroupId(3)).map_or(Seq(0), |at| Seq(at.0 + 1));
        let change = Arc::default();
        other.note(&GroupEvent::Changed { group: GroupId(3), from: Seq(0), to: next, change });
        prop_assert_ne!(one.digest(), other.digest());
    }
}

#[test]
fn a_query_that_does_not_fit_the_schema_is_refused_with_the_reason() {
    let collection = schema(SCHEMA).collection("things").expect("declared").clone();
    let json = serde_json::json!({"filter": {"name": "x"}, "sort": "size"});
    let query = alyx_query::parse_query_json(&collection, &json).expect("a sound query");
    let check = |there: &str, code: &str| {
        let refused = query_from_wire(query_to_wire(&query), &schema(there)).expect_err("it does not fit");
        assert_eq!(refused.code(), code, "{refused}");
    };
    check(&SCHEMA.replace("things", "others"), "COLLECTION_NOT_FOUND");
    check(&SCHEMA.replace("name:", "title:"), "SCHEMA_CHANGED");
    check(
        &SCHEMA.replace("size: {type: int}", "size: {type: float}"),
        "SCHEMA_CHANGED",
    );
    check(
        &SCHEMA.replace(
            "name: {type: string}",
            "name: {type: string, default: '', internal: true}",
        ),
        "SCHEMA_CHANGED",
    );
    let unordered = wire::Query {
        sort: Vec::new(),
        ..query_to_wire(&query)
    };
    assert!(query_from_wire(unordered, &schema(SCHEMA)).is_err());
}

#[test]
fn a_query_across_a_reference_that_leads_elsewhere_is_refused() {
    let through = Filter::Through(Box::new(Through {
        field: PARENT,
        collection: things(),
        target: 0,
        filter: Filter::IsNull { field: 3 },
    }));
    let query = Query {
        collection: things(),
        filter: through,
        sort: vec![SortKey {
            field: 0,
            descending: false,
        }],
        limit: 1,
        offset: 0,
        fields: None,
    };
    let wire = || query_to_wire(&query);
    let back = query_from_wire(wire(), &schema(SCHEMA)).expect("it fits");
    assert_eq!(back.filter, query.filter);
    let others = "  others: {fields: {id: {type: uuid, primary: true}}}\n";
    for there in [
        SCHEMA.replace(", references: things.id", ""),
        SCHEMA.replace("references: things.id", "references: others.id") + others,
        SCHEMA.replace("weight: {type: float, nullable: true}", "weight: {type: int}"),
    ] {
        let refused = query_from_wire(wire(), &schema(&there)).expect_err("it does not fit");
        assert_eq!(refused.code(), "SCHEMA_CHANGED", "{refused}");
    }
}

#[test]
fn long_frames_travel_in_pieces() {
    let check = |documents: usize, size: usize, pieces: usize| {
        let docs = (0..documents).map(|id| Document {
            id: Value::Int(i64::try_from(id).expect("small")),
            json: Bytes::from(vec![b'x'; size]),
        });
        let frame = event_to_wire(&GroupEvent::Opened {
            group: GroupId(1),
            at: Seq(1),
            docs: docs.collect(),
            total: 0,
        });
        let parts = split(frame.clone()).expect("it is not too long");
        assert_eq!(parts.len(), pieces);
        let mut assembler = Assembler::default();
        let mut whole = Vec::new();
        for part in parts {
            whole.extend(assembler.take(over_the_wire(&part)).expect("in order"));
        }
        assert_eq!(whole, [frame]);
    };
    check(10, 100, 1);
    check(1000, 1024, 1);
    check(5, 1 << 20, 6);
}

#[test]
fn pieces_out_of_place_are_refused() {
    let frame = event_to_wire(&GroupEvent::Opened {
        group: GroupId(1),
        at: Seq(1),
        docs: vec![Document {
            id: Value::Int(1),
            json: Bytes::from(vec![b'x'; 3 << 20]),
        }],
        total: 0,
    });
    let parts = split(frame).expect("it is not too long");
    let small = wire::NodeFrame::default();
    let mut assembler = Assembler::default();
    assembler.take(parts[0].clone()).expect("the first piece");
    assembler.take(small).expect_err("the pieces are not complete");
}
