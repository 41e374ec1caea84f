//! The migration that a refusal proposes carries the change out, pasted as it stands.

use alyx_core::Value;

use crate::support::Project;

const BASE: &str = "collections:
  users:
    fields:
      name: {type: string, unique: true}
  posts:
    indexes: [{name: by-title, fields: [title, stars]}]
    fields:
      title: {type: string, index: true}
      stars: {type: int, default: 0}
      owner: {type: uuid, nullable: true, references: users.id}
      maker: {type: uuid, references: users.id}
      body: {type: text, nullable: true}
";
const BODY: &str = "body: {type: text, nullable: true}";

/// The files that a message proposes: path and text.
fn proposed(message: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for part in message.split("write the migration `").skip(1) {
        let (path, rest) = part.split_once("`:\n").expect("a path");
        let lines = rest.lines().take_while(|line| line.starts_with("      "));
        files.push((path.to_owned(), lines.collect::<Vec<_>>().join("\n")));
    }
    files
}

/// What a database has of the two tables, apart from the order of columns.
async fn shape(project: &Project) -> Vec<Vec<Value>> {
    let mut shape = Vec::new();
    for sql in [
        "SELECT l.name, t.name, t.type, t.\"notnull\", t.pk FROM pragma_table_list l, pragma_table_info(l.name) t \
         WHERE l.type = 'table' AND l.name NOT LIKE '|_alyx%' ESCAPE '|' AND l.name NOT LIKE 'sqlite%' ORDER BY 1, 2",
        "SELECT l.name, f.\"from\", f.\"table\", f.\"to\", f.on_delete FROM pragma_table_list l, \
         pragma_foreign_key_list(l.name) f ORDER BY 1, 2",
        "SELECT name, sql FROM sqlite_schema WHERE type IN ('index', 'trigger') ORDER BY name",
    ] {
        shape.extend(project.rows(sql).await.expect("rows"));
    }
    shape
}

/// The base schema with documents.
async fn populated() -> Project {
    let project = Project::new(BASE);
    assert_eq!(project.restart().await, None);
    for (id, name) in [("a", "ada"), ("b", "bob")] {
        project
            .execute(&format!("INSERT INTO users (id, name) VALUES ('{id}', '{name}')"))
            .await;
    }
    for (id, owner, body) in [("1", "'a'", "'7'"), ("2", "NULL", "NULL"), ("3", "'b'", "'7'")] {
        project
            .execute(&format!(
                "INSERT INTO posts (id, title, stars, owner, maker, body) VALUES ('{id}', 't', 1, {owner}, 'a', {body})"
            ))
            .await;
    }
    project
}

/// Goes from the base schema to `to` by what the refusal proposes.
async fn follow(to: &str) -> Project {
    let project = populated().await;
    project.write("schema.yaml", to);
    let message = project.restart().await.expect("refused");
    let files = proposed(&message);
    assert!(!files.is_empty(), "{message}");
    std::fs::create_dir(project.path("migrations")).expect("made");
    for (path, text) in &files {
        project.write(path, text);
    }
    assert_eq!(project.restart().await, None, "{to}\n{message}");
    let fresh = Project::new(to);
    assert_eq!(fresh.restart().await, None);
    assert_eq!(shape(&project).await, shape(&fresh).await, "{message}");
    project
}

async fn check(from: &str, to: &str, query: &str, expected: &[&str]) {
    assert!(BASE.contains(from), "{from}");
    let project = follow(&BASE.replacen(from, to, 1)).await;
    assert_eq!(project.texts(query).await, expected, "{to}");
}

#[tokio::test]
async fn fields_go_change_their_name_and_their_type() {
    let kept = "SELECT title FROM posts ORDER BY id";
    check(BODY, "", kept, &["t", "t", "t"]).await;
    check(
        "      owner: {type: uuid, nullable: true, references: users.id}\n",
        "",
        kept,
        &["t", "t", "t"],
    )
    .await;
    check(
        BODY,
        "content: {type: text, nullable: true}",
        "SELECT coalesce(content, '-') FROM posts ORDER BY id",
        &["7", "-", "7"],
    )
    .await;
    let project = follow(
        &BASE
            .replace("title: {", "heading: {")
            .replace("[title,", "[heading,"),
    )
    .await;
    assert_eq!(
        project.texts("SELECT heading FROM posts ORDER BY id").await,
        ["t", "t", "t"]
    );
    check(
        "type: int, default: 0",
        "type: string",
        "SELECT stars FROM posts ORDER BY id",
        &["1", "1", "1"],
    )
    .await;
    check(
        "type: int, default: 0",
        "type: bool",
        "SELECT stars || '' FROM posts ORDER BY id",
        &["1", "1", "1"],
    )
    .await;
    check(
        "type: int, default: 0",
        "type: timestamp",
        "SELECT stars FROM posts WHERE id = '1'",
        &["1970-01-01T00:00:01.000Z"],
    )
    .await;
    check(
        BODY,
        "body: {type: int, nullable: true}",
        "SELECT coalesce(body * 6, '-') || '' FROM posts ORDER BY id",
        &["42", "-", "42"],
    )
    .await;
    check(
        BODY,
        "body: {type: json, nullable: true}",
        "SELECT coalesce(body, '-') FROM posts ORDER BY id",
        &["\"7\"", "-", "\"7\""],
    )
    .await;
}

#[tokio::test]
async fn texts_and_numbers_become_the_newer_types() {
    check(
        "title: {type: string, index: true}",
        "title: {type: richtext, index: true}",
        "SELECT title FROM posts ORDER BY id",
        &["t", "t", "t"],
    )
    .await;
    check(
        "type: int, default: 0",
        "type: date",
        "SELECT stars FROM posts ORDER BY id",
        &["1970-01-01", "1970-01-01", "1970-01-01"],
    )
    .await;
    check(
        "type: int, default: 0",
        "type: email",
        "SELECT stars FROM posts ORDER BY id",
        &["1", "1", "1"],
    )
    .await;
    check(
        BODY,
        "body: {type: select, nullable: true, select: {values: ['7', b]}}",
        "SELECT coalesce(body, '-') FROM posts ORDER BY id",
        &["7", "-", "7"],
    )
    .await;
    check(
        BODY,
        "body: {type: json, nullable: true}\n      code: {type: id, unique: true}",
        "SELECT count(DISTINCT code) || '/' || min(length(code)) || '/' || max(length(code)) FROM posts",
        &["3/15/15"],
    )
    .await;
}

#[tokio::test]
async fn fields_become_required_and_unique() {
    check(
        BODY,
        "body: {type: text}",
        "SELECT body FROM posts ORDER BY id",
        &["7", "", "7"],
    )
    .await;
    check(
        BODY,
        "body: {type: text, nullable: true, unique: true}",
        "SELECT coalesce(body, '-') FROM posts ORDER BY id",
        &["7", "-", "-"],
    )
    .await;
    check(
        "title: {type: string, index: true}",
        "title: {type: string, unique: true}",
        "SELECT title FROM posts ORDER BY id",
        &["t", "t-2", "t-3"],
    )
    .await;
    check(
        "stars]}",
        "stars], unique: true}",
        "SELECT id FROM posts ORDER BY id",
        &["1"],
    )
    .await;
    let added = |field: &str| format!("{BODY}\n      n: {{{field}}}");
    let count = "SELECT count(n) || '' FROM posts";
    for field in [
        "type: int",
        "type: json",
        "type: timestamp",
        "type: blob",
        "type: uuid, unique: true",
        "type: string, unique: true",
        "type: int, default: 1, unique: true",
        "type: uuid, references: users.id",
    ] {
        check(BODY, &added(field), count, &["3"]).await;
    }
}

#[tokio::test]
async fn references_change() {
    check(
        BODY,
        "body: {type: text, nullable: true, references: users.name}",
        "SELECT coalesce(body, '-') FROM posts ORDER BY id",
        &["-", "-", "-"],
    )
    .await;
}

#[tokio::test]
async fn collections_go_and_keys_change() {
    let users = "collections:\n  users:\n    fields:\n      name: {type: string, unique: true}\n";
    let project = follow(users).await;
    assert_eq!(project.texts("SELECT name FROM users").await, ["ada", "bob"]);
    check(
        "      title: {type: string, index: true}\n",
        "      number: {type: int, primary: true, default: auto}\n      title: {type: text}\n      id: {type: uuid, nullable: true}\n",
        "SELECT number || id FROM posts ORDER BY id",
        &["11", "22", "33"],
    )
    .await;
    check(
        "      title: {type: string, index: true}\n",
        "      key: {type: uuid, primary: true}\n      title: {type: string, index: true}\n",
        "SELECT length(key) || title FROM posts",
        &["36t", "36t", "36t"],
    )
    .await;
}

/// Needs no migration; afterwards the tables are those of a fresh database, and the documents as they were.
async fn check_safe(from: &str, to: &str) {
    assert!(BASE.contains(from), "{from}");
    let project = populated().await;
    let documents = "SELECT id, title, stars, owner, maker, body FROM posts ORDER BY id";
    let before = project.rows(documents).await.expect("rows");
    let to = BASE.replacen(from, to, 1);
    project.write("schema.yaml", &to);
    assert_eq!(project.restart().await, None, "{to}");
    assert_eq!(project.rows(documents).await.expect("rows"), before, "{to}");
    let fresh = Project::new(&to);
    assert_eq!(fresh.restart().await, None);
    let tables =
        "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE '|_alyx|_m%' ESCAPE '|' ORDER BY name";
    assert_eq!(project.rows(tables).await, fresh.rows(tables).await, "{to}");
}

#[tokio::test]
async fn what_loses_nothing_needs_no_migration_even_where_others_refer_to_it() {
    let owner = "owner: {type: uuid, nullable: true, references: users.id}";
    let maker = "maker: {type: uuid, references: users.id}";
    for (from, to) in [
        (owner, "owner: {type: uuid, nullable: true}"),
        (
            owner,
            "owner: {type: uuid, nullable: true, references: users.id, onDelete: cascade}",
        ),
        (maker, "maker: {type: uuid, nullable: true, references: users.id}"),
        (
            "name: {type: string, unique: true}",
            "name: {type: text, default: x}",
        ),
        (
            "stars: {type: int, default: 0}",
            "stars: {type: float, default: 0, nullable: true}",
        ),
        (
            BODY,
            "body: {type: text, nullable: true}\n      at: {type: timestamp, default: now}",
        ),
        (
            "      title: {",
            "      first: {type: int, default: 1}\n      title: {",
        ),
    ] {
        check_safe(from, to).await;
    }
}

#[tokio::test]
async fn texts_become_rich_text_by_operations_only() {
    let project =
        Project::new("collections: {notes: {fields: {id: {type: int, primary: true}, body: {type: text}}}}");
    assert_eq!(project.restart().await, None);
    project
        .execute("INSERT INTO notes (id, body) VALUES (1, '<script>x</script>')")
        .await;
    let rich = "collections: {notes: {fields: {id: {type: int, primary: true}, body: {type: richtext}}}}";
    project.write("schema.yaml", rich);
    std::fs::create_dir(project.path("migrations")).expect("made");
    project.write("migrations/001_rich.yaml", "version: 1\noperations: []\n");
    let told = project.restart().await.unwrap_or_default();
    assert!(
        told.contains("richtext") && told.contains("a migration without operations does not do"),
        "{told}"
    );
    let stored = "SELECT body FROM notes";
    assert_eq!(project.texts(stored).await, ["<script>x</script>"]);
    let escape =
        "version: 1\noperations: [{type: sql, up: \"UPDATE notes SET body = replace(body, '<', '&lt;')\"}]\n";
    project.write("migrations/001_rich.yaml", escape);
    assert_eq!(project.restart().await, None);
    assert_eq!(project.texts(stored).await, ["&lt;script>x&lt;/script>"]);
}
