//! What the tables refuse, and what they give back.

use alyx_core::{Statement, Value};
use alyx_store::ReadCost;

use crate::support::{Backend, Published, Tuning, code, migrate, read_of, step, with_items, write, write_of};

const TABLES: &str = "
CREATE TABLE teams (id TEXT PRIMARY KEY NOT NULL);
CREATE TABLE users (
    id TEXT PRIMARY KEY NOT NULL,
    email TEXT NOT NULL UNIQUE,
    team TEXT REFERENCES teams (id),
    age INTEGER CHECK (age >= 0),
    seat INTEGER,
    UNIQUE (team, seat)
) STRICT;
INSERT INTO teams (id) VALUES ('t');
INSERT INTO users (id, email, team, age, seat) VALUES ('u', 'u@example.org', 't', 1, 1);";

pub(crate) async fn violations_name_the_field(backend: &dyn Backend) {
    let store = backend
        .open(Tuning::default(), Published::default().follower())
        .await;
    migrate(&store, TABLES).await.expect("the tables");
    let check = async |sql: &str, expected: (&str, u16, Option<&str>)| {
        let error = write(&store, sql).await.expect_err(sql);
        assert_eq!(
            (error.code(), error.kind().http_status(), error.field()),
            expected,
            "{sql}"
        );
        assert!(
            expected.2.is_none_or(|field| error.message().contains(field)),
            "{}",
            error.message()
        );
    };
    let unique = "UNIQUE_VIOLATION";
    check(
        "INSERT INTO users (id, email) VALUES ('u', 'x')",
        (unique, 409, Some("id")),
    )
    .await;
    check(
        "INSERT INTO users (id, email) VALUES ('v', 'u@example.org')",
        (unique, 409, Some("email")),
    )
    .await;
    check(
        "INSERT INTO users (id, email, team, seat) VALUES ('v', 'v', 't', 1)",
        (unique, 409, Some("team, seat")),
    )
    .await;
    check(
        "INSERT INTO users (id) VALUES ('v')",
        ("REQUIRED_FIELD_MISSING", 400, Some("email")),
    )
    .await;
    check(
        "UPDATE users SET team = 'none'",
        ("FOREIGN_KEY_VIOLATION", 409, None),
    )
    .await;
    check("DELETE FROM teams", ("FOREIGN_KEY_VIOLATION", 409, None)).await;
    check(
        "UPDATE users SET age = -1",
        ("CHECK_CONSTRAINT_FAILED", 400, None),
    )
    .await;
    check("UPDATE users SET age = 'old'", ("INVALID_TYPE", 400, None)).await;
    check("UPDATE nothing SET x = 1", ("INTERNAL_ERROR", 500, None)).await;
}

pub(crate) async fn values_come_back_as_they_were_written(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    let values = [
        Value::Null,
        Value::Int(i64::MIN),
        Value::Int(i64::MAX),
        Value::Float(-0.5),
        Value::Float(1e300),
        Value::text(""),
        Value::text("häßlich 😀 \u{1}'\""),
        Value::Blob([0_u8, 1, 255].as_slice().into()),
        Value::Blob([].as_slice().into()),
    ];
    let marks: Vec<String> = (1..=values.len()).map(|index| format!("?{index}")).collect();
    let sql = format!("SELECT {}", marks.join(", "));
    for cost in [ReadCost::Point, ReadCost::Scan] {
        let mut read = read_of("", cost);
        read.statements = vec![Statement::new(sql.as_str(), values.to_vec())];
        let reply = store.read(read).await.expect("the values");
        // `Value`'s equality does not tell 1 from 1.0.
        assert_eq!(
            format!("{:?}", reply.results[0].rows[0]),
            format!("{:?}", values.to_vec())
        );
    }
    // The driver would cut such a text off on the way out.
    let nul = step("INSERT INTO items (id, n) VALUES (?1, 1)", vec!["a\0b".into()]);
    assert_eq!(code(store.write(write_of(vec![nul])).await), "INVALID_TEXT");
}
