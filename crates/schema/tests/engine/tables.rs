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
