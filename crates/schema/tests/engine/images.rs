//! Change images keep every value exactly.

use alyx_core::{Row, Value};
use alyx_schema::{Collection, read_create, row_from_image};

use crate::{Database, NOW, driver_value, only, schema};

const ALL_TYPES: &str = "
collections:
  group:
    fields:
      id: {type: int, primary: true, default: auto}
      u: {type: uuid, nullable: true}
      s: {type: string, nullable: true}
      order: {type: text, nullable: true}
      big-int: {type: int, nullable: true}
      f: {type: float, nullable: true}
      b: {type: bool, nullable: true}
      at: {type: timestamp, nullable: true}
      j: {type: json, nullable: true}
      d: {type: blob, nullable: true}
      mail: {type: email, nullable: true}
      url: {type: url, nullable: true}
      day: {type: date, nullable: true}
      select: {type: select, nullable: true, select: {values: [a]}}
      html: {type: richtext, nullable: true}
      file: {type: file, nullable: true, file: {bucket: b}}
      code: {type: id, nullable: true}
buckets: {b: {backend: local}}
";

/// The newest change: op, id, old and new row.
async fn newest(database: &Database, collection: &Collection) -> (i64, Value, Option<Row>, Option<Row>) {
    let sql = "SELECT op, id, old, new, collection FROM _alyx_changes ORDER BY seq DESC LIMIT 1";
    let row = database.rows(sql).await.remove(0);
    assert_eq!(row[4], Value::from(collection.name.as_str()));
    let read = |value: &Value| {
        let image = value.as_text()?;
        Some(row_from_image(collection, image).unwrap_or_else(|error| panic!("{error:?}: {image}")))
    };
    (
        row[0].as_int().unwrap(),
        row[1].clone(),
        read(&row[2]),
        read(&row[3]),
    )
}

fn same(a: &Row, b: &Row) {
    assert_eq!(a, b);
    for pair in a.iter().zip(b) {
        // Equality of values takes 1 for 1.0: the storage class must be the same too.
        assert_eq!(
            std::mem::discriminant(pair.0),
            std::mem::discriminant(pair.1),
            "{pair:?}"
        );
        if let (Value::Float(a), Value::Float(b)) = pair {
            assert_eq!((a + 0.0).to_bits(), (b + 0.0).to_bits(), "{a:?} {b:?}");
        }
    }
}

fn extremes() -> Vec<Row> {
    let texts = [
        "",
        "a'b\"c\\",
        "é😀\u{2028}\u{1}\n\t\u{7f}",
        "{\"not\":\"parsed\"}",
        "null",
        "123",
    ];
    let ints = [i64::MIN, i64::MAX, 0, -1, 9_007_199_254_740_993, 1];
    let floats = [f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.1 + 0.2, 1.0, -1e300];
    let jsons = [
        "null",
        "[1.10,{\"a\":\"\\u0000\"}]",
        "\"text\"",
        "123456789012345678901234567890",
        "{}",
        "true",
    ];
    let blobs: [&[u8]; 6] = [
        &[],
        &[0],
        &[0, 255, 16],
        b"text",
        &[222, 173, 190, 239],
        &[127; 300],
    ];
    let mut rows: Vec<Row> = (0..6)
        .map(|i| {
            vec![
                Value::Int(i as i64 + 1),
                Value::from("0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d"),
                Value::from(texts[i]),
                Value::from(texts[5 - i]),
                Value::Int(ints[i]),
                Value::Float(floats[i]),
                Value::Int(i as i64 % 2),
                Value::from(NOW),
                Value::from(jsons[i]),
                Value::Blob(blobs[i].into()),
                Value::from(texts[i]),
                Value::from(texts[5 - i]),
                Value::from("2026-01-31"),
                Value::from(jsons[i]),
                Value::from(texts[i]),
                Value::from(texts[5 - i]),
                Value::from(jsons[5 - i]),
            ]
        })
        .collect();
    let mut empty = vec![Value::Null; 17];
    empty[0] = Value::Int(7);
    rows.push(empty);
    rows
}

#[tokio::test]
async fn inserts_updates_and_deletes_are_logged_with_exact_images() {
    let schema = schema(ALL_TYPES);
    let group = only(&schema);
    let database = Database::with(&schema).await;
    let mut before: Option<Row> = None;
    for row in extremes() {
        let key = row[0].clone();
        database.insert(&group, &row).await;
        let (op, id, old, new) = newest(&database, &group).await;
        assert_eq!((op, &id, &old), (1, &key, &None));
        same(&new.unwrap(), &row);
        if let Some(mut target) = before.take() {
            // Gives the row before this one's values, but for its key.
            target[1..].clone_from_slice(&row[1..]);
            let sets: Vec<String> = group.fields[1..]
                .iter()
                .map(|f| {
                    format!(
                        "\"{0}\" = (SELECT \"{0}\" FROM \"group\" WHERE id = {1})",
                        f.name,
                        key.as_int().unwrap()
                    )
                })
                .collect();
            let target_key = target[0].as_int().unwrap();
            database
                .run(&format!(
                    "UPDATE \"group\" SET {} WHERE id = {target_key}",
                    sets.join(", ")
                ))
                .await;
            let (op, id, old, new) = newest(&database, &group).await;
            assert_eq!((op, id), (2, Value::Int(target_key)));
            assert!(old.is_some());
            same(&new.unwrap(), &target);
            database
                .run(&format!("DELETE FROM \"group\" WHERE id = {target_key}"))
                .await;
            let (op, id, old, new) = newest(&database, &group).await;
            assert_eq!((op, id, new), (3, Value::Int(target_key), None));
            same(&old.unwrap(), &target);
        }
        before = Some(row);
    }
}

#[tokio::test]
async fn every_update_is_a_change_even_one_that_changes_nothing() {
    let schema = schema(ALL_TYPES);
    let database = Database::with(&schema).await;
    database
        .run("INSERT INTO \"group\" (s) VALUES ('a'), ('b')")
        .await;
    database.run("UPDATE \"group\" SET s = s").await;
    let counted = database
        .rows("SELECT op, count(*) FROM _alyx_changes GROUP BY op")
        .await;
    assert_eq!(
        counted,
        [[Value::Int(1), Value::Int(2)], [Value::Int(2), Value::Int(2)]]
    );
}

#[tokio::test]
async fn values_made_by_json_functions_stay_text() {
    let schema = schema(ALL_TYPES);
    let group = only(&schema);
    let database = Database::with(&schema).await;
    database
        .run("INSERT INTO \"group\" (j, s) VALUES (json('{\"a\": 1}'), json('[1]'))")
        .await;
    let (_, _, _, new) = newest(&database, &group).await;
    let new = new.unwrap();
    assert_eq!(
        (&new[8], &new[2]),
        (&Value::from("{\"a\":1}"), &Value::from("[1]"))
    );
    database.run("UPDATE \"group\" SET j = json('null')").await;
    let (_, _, _, new) = newest(&database, &group).await;
    assert_eq!(new.unwrap()[8], Value::from("null"));
}

#[tokio::test]
async fn floats_of_every_magnitude_are_exact() {
    let schema = schema(
        "collections: {m: {fields: {id: {type: int, primary: true, default: auto}, f: {type: float}}}}",
    );
    let m = only(&schema);
    let database = Database::with(&schema).await;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut floats: Vec<f64> = (0..20_000)
        .map(|_| f64::from_bits(next()))
        .filter(|f| f.is_finite())
        .collect();
    for power in (-324..=308).chain([-60, -61, 60, 61, -150, 150, -240, 240]) {
        let edge: f64 = format!("1e{power}").parse().unwrap();
        floats.extend([edge, edge.next_up(), edge.next_down(), -edge]);
    }
    #[expect(clippy::cast_precision_loss, reason = "any value will do")]
    floats.extend((0..5_000).map(|_| (next() % 1_000_000_000) as f64 / 1000.0));
    floats.retain(|float| float.is_finite());
    database.run("BEGIN").await;
    let insert = database.0.prepare("INSERT INTO m (f) VALUES (?1)").await.unwrap();
    for float in &floats {
        insert.reset();
        insert
            .execute([driver_value(&Value::Float(*float))])
            .await
            .unwrap();
    }
    database.run("COMMIT").await;
    let images = database.rows("SELECT new FROM _alyx_changes ORDER BY seq").await;
    assert_eq!(images.len(), floats.len());
    for (image, float) in images.iter().zip(&floats) {
        let row = row_from_image(&m, image[0].as_text().unwrap()).unwrap();
        assert!(
            matches!(row[1], Value::Float(read) if read == *float),
            "{float:?} {image:?}"
        );
    }
    database
        .run("DELETE FROM _alyx_changes; INSERT INTO m (f) VALUES (9e999), (-9e999)")
        .await;
    for (image, float) in database
        .rows("SELECT new FROM _alyx_changes ORDER BY seq")
        .await
        .iter()
        .zip([1.0, -1.0])
    {
        let row = row_from_image(&m, image[0].as_text().unwrap()).unwrap();
        assert_eq!(row[1], Value::Float(float * f64::INFINITY));
    }
}

#[tokio::test]
async fn two_hundred_fields_fit_into_an_image() {
    for count in [1, 59, 60, 61, 120, 121, 199] {
        let kinds = ["string", "float", "blob", "int", "json"];
        let fields =
            (0..count).map(|i| format!("f{i}: {{type: {}, nullable: true}}", kinds[i % kinds.len()]));
        let fields: Vec<String> = fields.collect();
        let schema = schema(&format!(
            "collections: {{wide: {{fields: {{{}}}}}}}",
            fields.join(", ")
        ));
        let wide = only(&schema);
        let database = Database::with(&schema).await;
        let members = (0..count).map(|i| match kinds[i % kinds.len()] {
            "string" => format!("\"f{i}\":\"{{}}{i}}}\""),
            "float" => format!("\"f{i}\":{i}.5"),
            "blob" => format!("\"f{i}\":\"AAEC\""),
            "int" => format!("\"f{i}\":{i}"),
            _ => format!("\"f{i}\":{{\"a\":{{}}}}"),
        });
        let body = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        let row = read_create(&wide, body.as_bytes(), NOW).unwrap();
        database.insert(&wide, &row).await;
        let (_, _, _, new) = newest(&database, &wide).await;
        same(&new.unwrap(), &row);
        database.run("UPDATE wide SET f0 = NULL").await;
        let (_, _, old, new) = newest(&database, &wide).await;
        same(&old.unwrap(), &row);
        assert_eq!(new.unwrap()[1], Value::Null);
    }
}

#[tokio::test]
async fn cascades_are_logged() {
    let schema = schema(
        "collections: {a: {fields: {s: {type: string}}}, \
         b: {fields: {a: {type: uuid, references: a.id, onDelete: cascade}}}, \
         c: {fields: {a: {type: uuid, nullable: true, references: a.id, onDelete: set null}}}, \
         d: {fields: {a: {type: uuid, references: a.id}}}}",
    );
    let database = Database::with(&schema).await;
    database
        .run("INSERT INTO a (id, s) VALUES ('1', 'x'), ('2', 'y')")
        .await;
    database
        .run("INSERT INTO b (id, a) VALUES ('b1', '1'); INSERT INTO c (id, a) VALUES ('c1', '1')")
        .await;
    database
        .run("INSERT INTO d (id, a) VALUES ('d1', '2'); DELETE FROM _alyx_changes")
        .await;
    database.run("DELETE FROM a WHERE id = '1'").await;
    let mut changes = database
        .rows("SELECT collection, op, id FROM _alyx_changes")
        .await;
    changes.sort_by(|a, b| a[0].sql_cmp(&b[0]));
    assert_eq!(
        changes,
        [
            [Value::from("a"), Value::Int(3), Value::from("1")],
            [Value::from("b"), Value::Int(3), Value::from("b1")],
            [Value::from("c"), Value::Int(2), Value::from("c1")],
        ]
    );
    let error = database
        .try_run("DELETE FROM a WHERE id = '2'")
        .await
        .expect_err("restricted");
    assert!(error.contains("FOREIGN KEY"), "{error}");
}
