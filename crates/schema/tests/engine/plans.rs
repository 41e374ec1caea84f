//! Plans, carried out on data.

use alyx_core::Value;
use alyx_schema::{Plan, Schema, plan, read_create, row_from_image};

use crate::{Database, NOW, schema};

pub(crate) const BASE: &str = "
collections:
  users:
    fields:
      name: {type: string, unique: true}
  posts:
    indexes: [{name: by-title, fields: [title, stars]}]
    fields:
      title: {type: string, index: true}
      stars: {type: int, default: 0}
      owner: {type: uuid, nullable: true, references: users.id}
      body: {type: text, nullable: true}
";

/// The base schema with `from` replaced.
pub(crate) fn variant(from: &str, to: &str) -> Schema {
    assert!(BASE.contains(from), "{from}");
    schema(&BASE.replacen(from, to, 1))
}

async fn populated() -> Database {
    let base = schema(BASE);
    let database = Database::with(&base).await;
    let users = &base.collections["users"];
    let user = read_create(users, br#"{"name":"ada"}"#, NOW).unwrap();
    database.insert(users, &user).await;
    for (title, stars) in [("one", 1), ("two", 2)] {
        let body = format!(
            r#"{{"title":"{title}","stars":{stars},"owner":"{}","body":"text"}}"#,
            user[0].as_text().unwrap()
        );
        let posts = &base.collections["posts"];
        database
            .insert(posts, &read_create(posts, body.as_bytes(), NOW).unwrap())
            .await;
    }
    database
}

/// Carries a safe plan out on data, then checks that what was there is still there and that the log goes on
/// with images of the new shape.
async fn carried_out(to: &Schema, plan: &Plan) -> Database {
    assert_eq!(plan.refused().count(), 0, "{plan:?}");
    let database = populated().await;
    let posts = &to.collections["posts"];
    let kept = "SELECT title, stars, owner, body FROM posts ORDER BY title";
    let before = database.rows(kept).await;
    let changes = database.rows("SELECT count(*) FROM _alyx_changes").await;
    database.run("PRAGMA foreign_keys = OFF; BEGIN").await;
    for sql in plan.statements() {
        database.run(&sql).await;
    }
    database.run("COMMIT; PRAGMA foreign_keys = ON").await;
    assert_eq!(database.rows(kept).await, before, "data is kept");
    assert_eq!(
        database.rows("SELECT count(*) FROM _alyx_changes").await,
        changes,
        "nothing is logged"
    );
    assert_eq!(
        database.rows("PRAGMA foreign_key_check").await,
        Vec::<Vec<Value>>::new()
    );
    database
        .run("UPDATE posts SET stars = stars + 1 WHERE title = 'one'")
        .await;
    let newest = database
        .rows("SELECT new FROM _alyx_changes ORDER BY seq DESC LIMIT 1")
        .await;
    let image = row_from_image(posts, newest[0][0].as_text().unwrap()).unwrap();
    let documents = database.documents(posts).await;
    assert!(documents.contains(&image), "{image:?} in {documents:?}");
    let indexes = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name";
    let fresh = Database::with(to).await;
    assert_eq!(
        database.rows(indexes).await,
        fresh.rows(indexes).await,
        "the indexes of a fresh database"
    );
    let triggers = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name";
    assert_eq!(
        database.rows(triggers).await,
        fresh.rows(triggers).await,
        "the triggers of a fresh database"
    );
    database
}

/// The change is safe and works; its steps are on these paths.
async fn safe(from: &str, to: &str, paths: &[&str]) -> Database {
    let to = variant(from, to);
    let plan = plan(&schema(BASE), &to);
    let steps: Vec<&str> = plan.steps.iter().map(|step| step.path.as_str()).collect();
    assert_eq!(steps, paths);
    carried_out(&to, &plan).await
}

#[tokio::test]
async fn new_collections_fields_and_indexes_are_applied() {
    let tail = "      body: {type: text, nullable: true}\n";
    let added = |field: &str| format!("{tail}      new: {{{field}}}\n");
    let path = ["collections.posts.fields.new"];
    for (field, expected) in [
        ("type: string, nullable: true", Value::Null),
        ("type: string, nullable: true, unique: true", Value::Null),
        ("type: string, nullable: true, index: true", Value::Null),
        ("type: int, default: -9223372036854775808", Value::Int(i64::MIN)),
        ("type: float, default: 0.1, index: true", Value::Float(0.1)),
        ("type: string, default: it's", Value::from("it's")),
        ("type: json, default: [1]", Value::from("[1]")),
        (
            "type: blob, default: AP8=",
            Value::Blob([0, 255].as_slice().into()),
        ),
        ("type: bool, nullable: true, default: true", Value::Int(1)),
        (
            "type: uuid, nullable: true, references: users.id, onDelete: set null",
            Value::Null,
        ),
        ("type: timestamp, onUpdate: now, nullable: true", Value::Null),
    ] {
        let database = safe(tail, &added(field), &path).await;
        let values = database.rows("SELECT new FROM posts").await;
        assert_eq!(values, [[expected.clone()], [expected]], "{field}");
    }
    for field in [
        "type: timestamp, default: now",
        "type: timestamp, default: now, nullable: true, index: true",
        "type: timestamp, onUpdate: now",
    ] {
        let database = safe(tail, &added(field), &path).await;
        for row in database.rows("SELECT new FROM posts").await {
            let at = row[0].as_text().unwrap();
            assert_eq!(alyx_core::normalize_timestamp(at).as_deref(), Some(at));
            assert!(
                at > "2020",
                "{field}: old documents get the time of the change, not {at}"
            );
        }
    }
    let database = safe(
        tail,
        &format!(
            "{tail}  tags:\n    fields: {{post: {{type: uuid, references: posts.id, onDelete: cascade}}}}\n"
        ),
        &["collections.tags"],
    )
    .await;
    database
        .run("INSERT INTO tags (id, post) SELECT '1', id FROM posts LIMIT 1")
        .await;
}

#[tokio::test]
async fn a_field_may_be_added_anywhere() {
    let first = "      title: {type: string, index: true}\n";
    let added = format!("      new: {{type: int, default: 5}}\n{first}");
    safe(first, &added, &["collections.posts.fields.new"]).await;
}

#[tokio::test]
async fn constraints_are_loosened_and_indexes_exchanged() {
    let title = "title: {type: string, index: true}";
    let path = ["collections.posts.fields.title"];
    let database = safe(title, "title: {type: string, index: true, nullable: true}", &path).await;
    database.run("UPDATE posts SET title = NULL").await;
    safe(title, "title: {type: text}", &[path[0], path[0]]).await;
    let stars = "stars: {type: int, default: 0}";
    let path = ["collections.posts.fields.stars"];
    let database = safe(
        stars,
        "stars: {type: int, default: 0, nullable: true, index: true}",
        &[path[0], path[0]],
    )
    .await;
    database
        .run("INSERT INTO posts (id, title) VALUES ('x', 'x')")
        .await;
    assert_eq!(
        database.rows("SELECT stars FROM posts WHERE id = 'x'").await,
        [[Value::Int(0)]]
    );
    let database = safe(
        "name: {type: string, unique: true}",
        "name: {type: string, index: true}",
        &["collections.users.fields.name"],
    )
    .await;
    database
        .run("INSERT INTO users (id, name) VALUES ('x', 'ada')")
        .await;
    let path = ["collections.posts.indexes"];
    safe("[{name: by-title, fields: [title, stars]}]", "[]", &path).await;
    safe(
        "fields: [title, stars]}",
        "fields: [stars, title], order: desc}",
        &[path[0], path[0]],
    )
    .await;
    safe(
        "fields: [title, stars]}]",
        "fields: [title, stars]}, {name: b, fields: body}]",
        &path,
    )
    .await;
}

#[tokio::test]
async fn what_only_the_server_has_to_know_needs_no_sql() {
    for (from, to, path) in [
        (
            "type: text, nullable: true",
            "type: text, nullable: true, maxLength: 5",
            "collections.posts.fields.body",
        ),
        (
            "type: text, nullable: true",
            "type: text, nullable: true, internal: true",
            "collections.posts.fields.body",
        ),
        (
            "type: text, nullable: true",
            "type: string, nullable: true",
            "collections.posts.fields.body",
        ),
        (
            "default: 0",
            "default: 0, description: few",
            "collections.posts.fields.stars",
        ),
        (
            "  posts:\n",
            "  posts:\n    description: x\n",
            "collections.posts.description",
        ),
        (
            "  posts:\n",
            "  posts:\n    rules: {read: false}\n",
            "collections.posts.rules",
        ),
        ("\ncollections:", "version: 2\ncollections:", "version"),
        (
            "\ncollections:",
            "buckets: {b: {backend: local}}\ncollections:",
            "buckets.b",
        ),
        (
            "type: text, nullable: true",
            "type: email, nullable: true",
            "collections.posts.fields.body",
        ),
        (
            "type: string, index: true",
            "type: url, index: true",
            "collections.posts.fields.title",
        ),
    ] {
        let to = variant(from, to);
        let plan = plan(&schema(BASE), &to);
        assert!(
            !plan.is_empty() && plan.statements().is_empty(),
            "{path}: {plan:?}"
        );
        assert!(
            plan.steps.iter().all(|step| step.path == path),
            "{path}: {plan:?}"
        );
        carried_out(&to, &plan).await;
    }
    assert!(plan(&schema(BASE), &schema(BASE)).is_empty());
}

#[tokio::test]
async fn fields_may_change_places() {
    let to = schema(
        &BASE
            .replace("      title: {type: string, index: true}\n", "")
            .replace(
                "      body: {type: text, nullable: true}\n",
                "      body: {type: text, nullable: true}\n      title: {type: string, index: true}\n",
            ),
    );
    let plan = plan(&schema(BASE), &to);
    assert_eq!(plan.steps.len(), 1, "{plan:?}");
    let database = carried_out(&to, &plan).await;
    let columns = "SELECT name FROM pragma_table_info('posts') ORDER BY cid DESC LIMIT 1";
    assert_eq!(database.rows(columns).await, [[Value::from("title")]]);
}

#[tokio::test]
async fn what_sqlite_cannot_alter_is_carried_out_by_making_the_table_anew() {
    let (owner, stars) = ("collections.posts.fields.owner", "collections.posts.fields.stars");
    safe(", references: users.id", "", &[owner]).await;
    let database = safe("users.id}", "users.id, onDelete: set null}", &[owner]).await;
    database.run("DELETE FROM users").await;
    assert_eq!(
        database
            .rows("SELECT count(*) FROM posts WHERE owner IS NULL")
            .await,
        [[Value::Int(2)]],
        "the new action is in force"
    );
    let database = safe("default: 0", "default: 1", &[stars]).await;
    database
        .run("INSERT INTO posts (id, title) VALUES ('x', 'x')")
        .await;
    assert_eq!(
        database.rows("SELECT stars FROM posts WHERE id = 'x'").await,
        [[Value::Int(1)]]
    );
    let database = safe(
        "stars: {type: int, default: 0}",
        "stars: {type: float}",
        &[stars, stars],
    )
    .await;
    assert_eq!(
        database.rows("SELECT stars FROM posts ORDER BY title").await,
        [[Value::Float(2.0)], [Value::Float(2.0)]]
    );
    let maker = "owner: {type: uuid, nullable: true, references: users.id}";
    let loosened = variant(maker, "owner: {type: uuid, references: users.id}");
    let plan = plan(&loosened, &schema(BASE));
    assert_eq!(
        plan.refused().count(),
        0,
        "a reference may be null from now on: {plan:?}"
    );
}

#[tokio::test]
async fn a_full_text_index_comes_changes_and_goes_with_what_is_there() {
    let from = "    indexes: [{name: by-title, fields: [title, stars]}]\n";
    let searched = |fields: &str| variant(from, &format!("{from}    search: [{fields}]\n"));
    let found = async |database: &Database, word: &str| -> Vec<Vec<Value>> {
        let sql = format!(
            "SELECT title FROM posts WHERE rowid IN (SELECT rowid FROM _alyx_search_posts \
             WHERE _alyx_search_posts MATCH '{word}') ORDER BY title"
        );
        database.rows(&sql).await
    };
    let steps = async |database: &Database, from: &Schema, to: &Schema| {
        let plan = plan(from, to);
        let paths: Vec<_> = plan.steps.iter().map(|step| step.path.as_str()).collect();
        assert_eq!(paths, ["collections.posts.search"]);
        for sql in plan.statements() {
            database.run(&sql).await;
        }
    };
    let titles = |titles: &[&str]| -> Vec<Vec<Value>> {
        titles.iter().map(|title| vec![Value::text(*title)]).collect()
    };
    let (base, title, both) = (schema(BASE), searched("title"), searched("title, body"));
    let database = carried_out(&title, &plan(&base, &title)).await;
    assert_eq!(found(&database, "two").await, titles(&["two"]));
    assert_eq!(found(&database, "text").await, titles(&[]));
    steps(&database, &title, &both).await;
    assert_eq!(found(&database, "text").await, titles(&["one", "two"]));
    database
        .run("UPDATE posts SET body = 'other' WHERE title = 'one'")
        .await;
    assert_eq!(found(&database, "text").await, titles(&["two"]));
    assert_eq!(found(&database, "other").await, titles(&["one"]));
    steps(&database, &both, &base).await;
    let left = "SELECT name FROM sqlite_schema WHERE name LIKE '_alyx_search%'";
    assert_eq!(database.rows(left).await, titles(&[]));
    database.run("DELETE FROM posts").await;
}
