//! Tables, constraints and indexes.

use alyx_core::Value;
use alyx_schema::read_create;

use crate::{Database, NOW, only, schema};

#[tokio::test]
async fn keywords_and_hyphens_are_names_like_any_other() {
    let schema = schema(
        "collections: {order-lines: {indexes: [{name: select, fields: [group, line-no], order: desc}], fields: {\
         select: {type: int, primary: true, default: auto}, group: {type: string, index: true, default: it's}, \
         line-no: {type: int, unique: true}, where: {type: float, default: 1.5, nullable: true}, \
         references: {type: int, nullable: true, references: order-lines.select, onDelete: set null}}}, \
         table: {fields: {index: {type: blob, default: AP8=}, values: {type: json, default: {a: it's}}}}}",
    );
    let database = Database::with(&schema).await;
    let lines = only(&schema);
    let row = read_create(&lines, br#"{"line-no":1}"#, NOW).unwrap();
    database.insert(&lines, &row).await;
    database
        .run("INSERT INTO \"order-lines\" (\"line-no\", \"references\") VALUES (2, 1)")
        .await;
    let documents = database.documents(&lines).await;
    assert_eq!(
        documents[0][..3],
        [Value::Int(1), Value::from("it's"), Value::Int(1)]
    );
    assert_eq!(documents[1][3..], [Value::Float(1.5), Value::Int(1)]);
    database.run("INSERT INTO \"table\" (id) VALUES ('x')").await;
    let documents = database.documents(&schema.collections["table"]).await;
    assert_eq!(
        documents[0][1..],
        [
            Value::Blob([0, 255].as_slice().into()),
            Value::from("{\"a\":\"it's\"}")
        ]
    );
}

#[tokio::test]
async fn the_database_enforces_what_the_schema_says() {
    let schema = schema(
        "collections: {a: {indexes: [{name: pair, fields: [x, y], unique: true}], fields: {\
         id: {type: uuid, primary: true, default: auto}, u: {type: string, unique: true, nullable: true}, \
         x: {type: int, nullable: true}, y: {type: int, nullable: true}, r: {type: string, default: r}}}, \
         b: {fields: {n: {type: int, primary: true, default: auto}, a: {type: string, nullable: true, references: a.u, onDelete: restrict}}}}",
    );
    let database = Database::with(&schema).await;
    database
        .run("INSERT INTO a (id, u, x, y) VALUES ('1', 'k', 1, 1), ('2', NULL, 1, 2), ('3', NULL, NULL, 1)")
        .await;
    database.run("INSERT INTO b (a) VALUES ('k'), (NULL)").await;
    for (sql, expected) in [
        ("INSERT INTO a (id) VALUES ('1')", "UNIQUE"),
        ("INSERT INTO a (id, u) VALUES ('4', 'k')", "UNIQUE"),
        ("INSERT INTO a (id, x, y) VALUES ('4', 1, 2)", "UNIQUE"),
        ("INSERT INTO a (id) VALUES (NULL)", "NOT NULL"),
        ("INSERT INTO a (id, r) VALUES ('4', NULL)", "NOT NULL"),
        ("INSERT INTO a (id, x) VALUES ('4', 'text')", "cannot store TEXT"),
        ("INSERT INTO b (a) VALUES ('nobody')", "FOREIGN KEY"),
        ("DELETE FROM a WHERE u = 'k'", "FOREIGN KEY"),
    ] {
        let error = database.try_run(sql).await.expect_err(sql);
        assert!(error.contains(expected), "{sql}: {error}");
    }
}

#[tokio::test]
async fn numbers_of_deleted_documents_are_not_given_again() {
    let schema = schema("collections: {a: {fields: {n: {type: int, primary: true, default: auto}}}}");
    let database = Database::with(&schema).await;
    database
        .run("INSERT INTO a VALUES (NULL), (NULL); DELETE FROM a WHERE n = 2; INSERT INTO a VALUES (NULL)")
        .await;
    let documents = database.documents(&only(&schema)).await;
    assert_eq!(documents, [[Value::Int(1)], [Value::Int(3)]]);
}

#[tokio::test]
async fn ordering_by_an_indexed_field_and_the_key_walks_the_index() {
    let schema = schema("collections: {a-b: {fields: {s: {type: string, index: true}, n: {type: int}}}}");
    let database = Database::with(&schema).await;
    for direction in ["ASC", "DESC"] {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT * FROM \"a-b\" WHERE \"s\" > ?1 ORDER BY \"s\" {direction}, \"id\" {direction} LIMIT 5"
        );
        let plan = format!("{:?}", database.rows(&sql).await);
        assert!(
            plan.contains("idx_a-b_s") && !plan.contains("TEMP B-TREE"),
            "{plan}"
        );
    }
}

#[tokio::test]
async fn a_time_filled_in_by_the_database_has_the_same_form_as_ours() {
    let schema = schema("collections: {a: {fields: {at: {type: timestamp, default: now}}}}");
    let database = Database::with(&schema).await;
    database.run("INSERT INTO a (id) VALUES ('1')").await;
    let documents = database.documents(&only(&schema)).await;
    let at = documents[0][1].as_text().unwrap();
    assert_eq!(alyx_core::normalize_timestamp(at).as_deref(), Some(at));
}

/// S8 and D16 of the reference's checklist.
#[tokio::test]
async fn a_relation_is_a_foreign_key_with_its_action() {
    let schema = schema(
        "collections: {a: {fields: {k: {type: string, primary: true}}}, \
         b: {fields: {n: {type: int, primary: true, default: auto}, \
         r: {type: relation, nullable: true, relation: {collection: a}}, \
         c: {type: relation, nullable: true, relation: {collection: a, onDelete: cascade}}, \
         s: {type: relation, nullable: true, relation: {collection: a, onDelete: set_null}}}}}",
    );
    let database = Database::with(&schema).await;
    database.run("INSERT INTO a (k) VALUES ('r'), ('c'), ('s')").await;
    database
        .run("INSERT INTO b (r, c, s) VALUES ('r', NULL, 's'), (NULL, 'c', NULL)")
        .await;
    for refused in ["INSERT INTO b (r) VALUES ('x')", "DELETE FROM a WHERE k = 'r'"] {
        let error = database.try_run(refused).await.expect_err(refused);
        assert!(error.contains("FOREIGN KEY"), "{refused}: {error}");
    }
    database.run("DELETE FROM a WHERE k IN ('c', 's')").await;
    let left = database.documents(&schema.collections["b"]).await;
    assert_eq!(
        left,
        [[Value::Int(1), Value::from("r"), Value::Null, Value::Null]]
    );
}

#[tokio::test]
async fn a_day_filled_in_by_the_database_is_a_date() {
    let schema = schema("collections: {a: {fields: {day: {type: date, default: now}}}}");
    let database = Database::with(&schema).await;
    database.run("INSERT INTO a (id) VALUES ('1')").await;
    let documents = database.documents(&only(&schema)).await;
    let day = documents[0][1].as_text().expect("text").to_owned();
    let body = format!(r#"{{"day":"{day}"}}"#);
    assert!(read_create(&only(&schema), body.as_bytes(), NOW).is_ok(), "{day}");
}

const DEFAULTS: &str = r#"
buckets: {b: {backend: local}}
collections:
  order:
    fields:
      n: {type: int, primary: true, default: auto}
      u: {type: uuid, default: 0190A6C4-7E1B-7C3A-9D52-6F0E8B1A2C3D}
      s: {type: string, default: "it's \"x\""}
      text: {type: text, default: two words}
      i: {type: int, default: -9223372036854775808}
      f: {type: float, default: 1e300}
      b: {type: bool, default: true}
      at: {type: timestamp, default: 2026-01-31}
      j: {type: json, default: {a: [1, "it's"]}}
      d: {type: blob, default: AP8=}
      mail: {type: email, default: o'neil@x.io}
      url: {type: url, default: "http://x.io/?a='b'"}
      day: {type: date, default: 2026-01-31}
      one: {type: select, select: {values: [two words, b]}, default: two words}
      select: {type: select, select: {values: ["it's", b]}, default: [b, "it's"]}
      html: {type: richtext, default: "<b>it's <script>1</script>"}
      file: {type: file, file: {bucket: b}, default: a-1}
      id: {type: id, default: aB3dE6gH9jK2mN5}
"#;

#[tokio::test]
async fn defaults_of_every_type_are_the_same_in_the_database_and_in_a_request() {
    let schema = schema(DEFAULTS);
    let database = Database::with(&schema).await;
    database.run("INSERT INTO \"order\" DEFAULT VALUES").await;
    let collection = only(&schema);
    let stored = database.documents(&collection).await.remove(0);
    let asked = read_create(&collection, b"{}", NOW).unwrap();
    assert_eq!(stored[1..], asked[1..]);
    assert_eq!(asked[15], Value::from("<b>it's </b>"));
}

const KEYWORDS: &str = "
collections:
  group-by:
    fields:
      select: {type: id, primary: true, default: auto}
      from-to: {type: email, unique: true}
  order:
    search: [where]
    indexes:
      - {name: in-to, fields: [table, not-null], unique: true, order: desc}
      - {name: values, fields: [primary, table]}
    fields:
      index: {type: int, primary: true, default: auto}
      where: {type: text, index: true}
      not-null: {type: date, nullable: true, unique: true}
      table: {type: select, select: {values: [a, b]}}
      primary: {type: relation, relation: {collection: group-by, onDelete: cascade}, index: true}
      on-delete: {type: relation, nullable: true, relation: {collection: group-by, field: from-to, onDelete: set_null}}
";

#[tokio::test]
async fn hyphens_and_keywords_name_relations_indexes_and_actions() {
    let schema = schema(KEYWORDS);
    let database = Database::with(&schema).await;
    let (groups, orders) = (&schema.collections["group-by"], &schema.collections["order"]);
    let mut keys = Vec::new();
    for mail in ["a@x.io", "b@x.io"] {
        let group = read_create(groups, format!(r#"{{"from-to":"{mail}"}}"#).as_bytes(), NOW).unwrap();
        database.insert(groups, &group).await;
        keys.push(group[0].as_text().unwrap().to_owned());
    }
    for (number, key) in (1..).zip(&keys) {
        let body = format!(
            r#"{{"index":{number},"where":"w","not-null":"2026-01-0{number}","table":"a","primary":"{key}","on-delete":"a@x.io"}}"#
        );
        database
            .insert(orders, &read_create(orders, body.as_bytes(), NOW).unwrap())
            .await;
    }
    let again = "INSERT INTO \"order\" (\"where\", \"not-null\", \"table\", \"primary\") \
                 SELECT \"where\", \"not-null\", \"table\", \"primary\" FROM \"order\"";
    let error = database.try_run(again).await.expect_err("unique");
    assert!(error.contains("UNIQUE"), "{error}");
    database
        .run(&format!(
            "DELETE FROM \"group-by\" WHERE \"select\" = '{}'",
            keys[0]
        ))
        .await;
    let left = database.documents(orders).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((&left[0][0], &left[0][5]), (&Value::Int(2), &Value::Null));
    let indexes = database
        .rows("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name")
        .await;
    let names: Vec<&str> = indexes.iter().filter_map(|row| row[0].as_text()).collect();
    assert_eq!(
        names,
        [
            "idx_group-by_from-to_unique",
            "idx_order_not-null_unique",
            "idx_order_primary",
            "idx_order_where",
            "in-to",
            "values"
        ]
    );
}
