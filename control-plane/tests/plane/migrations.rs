//! Migration files: carried out once, whole or not at all.

use std::fs;

use alyx_core::Value;
use alyx_service::health::Status;
use alyx_service::state::ControlPlane as _;

use crate::support::{Project, health, health_where, state_where};

const NOTES: &str = "collections:
  notes:
    indexes: [{name: by-text, fields: [text, stars]}]
    fields:
      id: {type: int, primary: true, default: auto}
      text: {type: text, index: true}
      stars: {type: int, default: 0}
      extra: {type: string, nullable: true}
";

/// The base schema with `from` replaced.
fn variant(from: &str, to: &str) -> String {
    assert!(NOTES.contains(from), "{from}");
    NOTES.replacen(from, to, 1)
}

fn without_extra() -> String {
    variant("      extra: {type: string, nullable: true}\n", "")
}

fn renamed() -> String {
    NOTES
        .replace("text: {", "body: {")
        .replace("[text, stars]", "[body, stars]")
}

const RENAME: &str =
    "version: 1\noperations:\n  - {type: rename_field, collection: notes, from: text, to: body}\n";
const DROP_EXTRA: &str =
    "version: 1\noperations:\n  - {type: sql, up: 'ALTER TABLE notes DROP COLUMN extra'}\n";

/// A project with two notes.
async fn notes() -> Project {
    let project = Project::new(NOTES);
    assert_eq!(project.restart().await, None);
    fs::create_dir(project.path("migrations")).expect("made");
    project
        .execute("INSERT INTO notes (text, stars, extra) VALUES ('one', 1, 'x'), ('two', 2, NULL)")
        .await;
    project
}

/// Everything that the database has of tables, indexes, triggers and revisions.
async fn shape(project: &Project) -> Vec<Vec<Value>> {
    let schema = "SELECT name, sql FROM sqlite_schema ORDER BY name";
    let mut shape = project.rows(schema).await.expect("rows");
    shape.extend(
        project
            .rows("SELECT id FROM _alyx_schema_revisions")
            .await
            .expect("rows"),
    );
    shape
}

#[tokio::test]
async fn a_renamed_field_keeps_its_data_its_indexes_and_its_place_in_the_log() {
    let project = notes().await;
    project.write("schema.yaml", &renamed());
    assert!(project.restart().await.expect("refused").contains("rename_field"));
    project.write("migrations/001_rename.yaml", RENAME);
    assert_eq!(project.restart().await, None);
    assert_eq!(
        project.texts("SELECT body FROM notes ORDER BY id").await,
        ["one", "two"]
    );
    assert_eq!(
        project
            .texts("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = 'notes'")
            .await
            .len(),
        2
    );
    let logged = "SELECT count(*) FROM _alyx_changes";
    assert_eq!(
        project.count(logged).await,
        Some(2),
        "the migration itself is not logged"
    );
    project
        .execute("UPDATE notes SET body = 'new' WHERE stars = 1")
        .await;
    let image = project
        .texts("SELECT new FROM _alyx_changes ORDER BY seq DESC LIMIT 1")
        .await;
    assert!(image[0].contains(r#""body":"new""#), "{image:?}");
}

#[tokio::test]
async fn dropped_fields_and_collections_go_and_the_rest_stays() {
    let project = notes().await;
    project.write("migrations/001_drop_extra.yaml", DROP_EXTRA);
    project.write("schema.yaml", &without_extra());
    assert_eq!(project.restart().await, None);
    assert_eq!(project.count("SELECT sum(stars) FROM notes").await, Some(3));
    assert_eq!(project.count("SELECT count(extra) FROM notes").await, None);

    project.write(
        "schema.yaml",
        "collections: {other: {fields: {name: {type: string}}}}",
    );
    project.write(
        "migrations/002_drop.yaml",
        "version: 2\noperations: [{type: sql, up: DROP TABLE notes}]",
    );
    assert_eq!(project.restart().await, None);
    assert_eq!(project.count("SELECT count(*) FROM notes").await, None);
    assert_eq!(project.count("SELECT count(*) FROM other").await, Some(0));
}

#[tokio::test]
async fn a_type_is_changed_by_sql_and_the_constraints_follow() {
    let project = notes().await;
    project.write(
        "schema.yaml",
        &variant("{type: int, default: 0}", "{type: string, unique: true}"),
    );
    let migration = "version: 1\noperations:\n  - type: sql\n    up: |\n      \
        ALTER TABLE notes ADD COLUMN s TEXT;\n      UPDATE notes SET s = 'n' || stars;\n      \
        ALTER TABLE notes DROP COLUMN stars;\n      ALTER TABLE notes RENAME COLUMN s TO stars;\n";
    project.write("migrations/001_convert.yaml", migration);
    assert_eq!(project.restart().await, None);
    assert_eq!(
        project.texts("SELECT stars FROM notes ORDER BY id").await,
        ["n1", "n2"]
    );
    let required = "SELECT count(*) FROM pragma_table_info('notes') WHERE name = 'stars' AND \"notnull\" = 1";
    assert_eq!(project.count(required).await, Some(1));
    let unique = "SELECT count(*) FROM pragma_index_list('notes') WHERE \"unique\" = 1";
    assert_eq!(project.count(unique).await, Some(1));
    project.execute("DELETE FROM notes WHERE id = 2").await;
    project
        .execute("INSERT INTO notes (text, stars) VALUES ('three', 'n3')")
        .await;
    assert_eq!(
        project.count("SELECT max(id) FROM notes").await,
        Some(3),
        "no number is given twice, though the table was made anew"
    );
}

#[tokio::test]
async fn a_migration_without_a_change_of_the_schema_is_applied_too() {
    let project = notes().await;
    project.write(
        "migrations/001_data.yaml",
        "version: 1\nname: Ten times\noperations: [{type: sql, up: UPDATE notes SET stars = stars * 10}]",
    );
    assert_eq!(project.restart().await, None);
    assert_eq!(project.count("SELECT sum(stars) FROM notes").await, Some(30));
    assert_eq!(
        project.count("SELECT max(id) FROM _alyx_schema_revisions").await,
        Some(2),
        "live queries begin afresh"
    );
    assert_eq!(project.restart().await, None);
    assert_eq!(
        project.count("SELECT sum(stars) FROM notes").await,
        Some(30),
        "once"
    );
    assert_eq!(
        project.texts("SELECT name FROM _alyx_migrations").await,
        ["Ten times"]
    );
}

#[tokio::test]
async fn what_a_migration_leaves_undone_undoes_all_of_it() {
    let drop_extra = |more: &str| format!("{DROP_EXTRA}  - {{type: sql, up: '{more}'}}\n");
    for (schema, migration, words) in [
        (
            without_extra(),
            "version: 1\noperations: [{type: sql, up: DELETE FROM notes}]".to_owned(),
            vec!["collections.notes.fields.extra", "DROP COLUMN \"extra\""],
        ),
        (
            variant("stars: {type: int, default: 0}", "stars: {type: string}"),
            drop_extra("UPDATE notes SET stars = 5"),
            vec![
                "collections.notes.fields.stars",
                "INTEGER",
                "TEXT",
                "collections.notes.fields.extra",
            ],
        ),
        (
            NOTES.to_owned(),
            DROP_EXTRA.to_owned(),
            vec![
                "collections.notes.fields.extra",
                "took the column",
                "keep its column",
            ],
        ),
        (
            NOTES.to_owned(),
            "version: 1\noperations: [{type: sql, up: DROP TABLE notes}]".to_owned(),
            vec!["collections.notes:", "took the table"],
        ),
        (
            "collections: {other: {fields: {name: {type: string}}}}".to_owned(),
            DROP_EXTRA.to_owned(),
            vec!["collections.notes:", "DROP TABLE \"notes\""],
        ),
        (
            variant("extra: {type: string, nullable: true}", "extra: {type: string}"),
            "version: 1\noperations: []".to_owned(),
            vec!["could not be brought to the schema", "extra"],
        ),
        (
            without_extra(),
            drop_extra("DELETE FROM nots"),
            vec!["001_x.yaml:4:5: operation 2 failed", "nots", "DELETE FROM nots"],
        ),
        (
            without_extra(),
            drop_extra("COMMIT"),
            vec!["001_x.yaml:4:5: operation 2 failed"],
        ),
    ] {
        let project = notes().await;
        let before = shape(&project).await;
        project.write("schema.yaml", &schema);
        project.write("migrations/001_x.yaml", &migration);
        let message = project.restart().await.expect("refused");
        for word in words {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert_eq!(shape(&project).await, before, "{migration}");
        assert_eq!(
            project.count("SELECT sum(stars) FROM notes").await,
            Some(3),
            "{migration}"
        );
    }
}

#[tokio::test]
async fn a_new_database_is_made_from_the_schema_and_has_its_migrations_behind_it() {
    let project = Project::new(&renamed());
    fs::create_dir(project.path("migrations")).expect("made");
    project.write("migrations/001_rename.yaml", RENAME);
    assert_eq!(project.restart().await, None);
    assert_eq!(
        project.count("SELECT version FROM _alyx_migrations").await,
        Some(1)
    );
    assert_eq!(project.restart().await, None);
}

#[tokio::test]
async fn files_that_contradict_the_history_are_reported_and_nothing_is_applied() {
    let data = |version: u32| {
        format!("version: {version}\noperations: [{{type: sql, up: UPDATE notes SET stars = stars * 10}}]")
    };
    let project = notes().await;
    project.write("migrations/002_two.yaml", &data(2));
    assert_eq!(project.restart().await, None);

    project.write("migrations/001_one.yaml", &data(1));
    let message = project.restart().await.expect("refused");
    assert!(
        message.contains("001_one.yaml") && message.contains("the number 3"),
        "{message}"
    );
    fs::remove_file(project.path("migrations/001_one.yaml")).expect("removed");

    project.write("migrations/002_two.yaml", &format!("{} # changed", data(2)));
    project.write("migrations/003_three.yaml", &data(3));
    let message = project.restart().await.expect("refused");
    assert!(
        message.contains("002_two.yaml: it was changed after it was applied"),
        "{message}"
    );

    fs::remove_file(project.path("migrations/002_two.yaml")).expect("removed");
    let message = project.restart().await.expect("refused");
    assert!(
        message.contains("migration 2 (two)") && message.contains("put it back"),
        "{message}"
    );

    project.write("migrations/002_two.yaml", &data(2));
    project.write("migrations/3_again.yml", &data(3));
    let message = project.restart().await.expect("refused");
    assert!(
        message.contains("003_three.yaml") && message.contains("the number 3 too"),
        "{message}"
    );
    assert_eq!(
        project.count("SELECT sum(stars) FROM notes").await,
        Some(30),
        "nothing more was applied"
    );

    fs::remove_file(project.path("migrations/3_again.yml")).expect("removed");
    assert_eq!(project.restart().await, None);
    assert_eq!(project.count("SELECT sum(stars) FROM notes").await, Some(300));
}

#[tokio::test]
async fn broken_files_are_reported_with_line_and_column() {
    let project = notes().await;
    project.write(
        "migrations/001_a.yaml",
        "version: 1\noperations:\n  - {type: drop_field}\n  - {type: sql}\n",
    );
    project.write("migrations/two.yaml", "");
    project.write("migrations/README.md", "not ours");
    project.write("migrations/.003_hidden.yaml", "not ours either");
    let message = project.restart().await.expect("refused");
    for word in [
        "001_a.yaml:3:12: ",
        "001_a.yaml:4:5: ",
        "two.yaml: its name must be a number",
    ] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(
        !message.contains("README") && !message.contains("hidden"),
        "{message}"
    );
}

#[tokio::test]
async fn migrations_are_applied_while_running_whatever_is_saved_first() {
    let project = notes().await;
    let plane = project.start().await;
    let mut watch = plane.watch();
    let has = |state: &alyx_service::state::DesiredState, field: &str| {
        state
            .schema
            .collection("notes")
            .is_some_and(|notes| notes.field(field).is_some())
    };
    project.write("schema.yaml", &renamed());
    health_where(&plane, "schema", |report| report.status == Status::Degraded).await;
    project.write("migrations/001_rename.yaml", RENAME);
    state_where(&mut watch, |state| has(state, "body")).await;
    assert_eq!(health(&plane, "schema").await.status, Status::Healthy);

    project.write(
        "migrations/002_drop.yaml",
        &DROP_EXTRA.replace("version: 1", "version: 2"),
    );
    health_where(&plane, "schema", |report| report.status == Status::Degraded).await;
    assert!(has(&watch.borrow(), "extra"));
    project.write(
        "schema.yaml",
        &renamed().replace("      extra: {type: string, nullable: true}\n", ""),
    );
    state_where(&mut watch, |state| !has(state, "extra")).await;
    assert_eq!(health(&plane, "schema").await.status, Status::Healthy);
    assert_eq!(
        project.texts("SELECT body FROM notes ORDER BY id").await,
        ["one", "two"]
    );
}

#[tokio::test]
async fn what_migrations_have_built_beside_the_schema_survives_later_ones() {
    let project = notes().await;
    project.write(
        "migrations/001_index.yaml",
        "version: 1\noperations: [{type: sql, up: 'CREATE INDEX mine ON notes (stars) WHERE stars > 5'}]",
    );
    assert_eq!(project.restart().await, None);
    project.write(
        "schema.yaml",
        &variant("extra: {type: string, nullable: true}", "extra: {type: string}"),
    );
    project.write(
        "migrations/002_fill.yaml",
        "version: 2\noperations: [{type: sql, up: UPDATE notes SET extra = 5 WHERE extra IS NULL}]",
    );
    assert_eq!(project.restart().await, None);
    assert_eq!(
        project.texts("SELECT extra FROM notes ORDER BY id").await,
        ["x", "5"]
    );
    let mine = "SELECT count(*) FROM sqlite_schema WHERE name = 'mine'";
    assert_eq!(
        project.count(mine).await,
        Some(1),
        "though the table was made anew"
    );
}

#[tokio::test]
async fn a_renamed_collection_keeps_its_documents_and_what_refers_to_it() {
    let before = "collections:\n  a:\n    fields: {parent: {type: uuid, nullable: true, references: a.id}}\n  \
                  c:\n    fields: {to: {type: uuid, references: a.id}}\n";
    let project = Project::new(before);
    assert_eq!(project.restart().await, None);
    fs::create_dir(project.path("migrations")).expect("made");
    project
        .execute("INSERT INTO a (id, parent) VALUES ('1', NULL), ('2', '1')")
        .await;
    project
        .execute("INSERT INTO c (id, \"to\") VALUES ('1', '2')")
        .await;
    project.write(
        "schema.yaml",
        &before.replace("  a:", "  b:").replace("a.id", "b.id"),
    );
    project.write(
        "migrations/001_rename.yaml",
        "version: 1\noperations: [{type: sql, up: ALTER TABLE a RENAME TO b}]",
    );
    assert_eq!(project.restart().await, None);
    let joined = "SELECT b.parent FROM c JOIN b ON b.id = c.\"to\"";
    assert_eq!(project.texts(joined).await, ["1"]);
    project.execute("DELETE FROM c").await;
    let image = "SELECT collection FROM _alyx_changes ORDER BY seq DESC LIMIT 1";
    assert_eq!(project.texts(image).await, ["c"]);
}

#[tokio::test]
async fn a_migration_covers_what_it_mentions_and_nothing_else() {
    let project = notes().await;
    let other = "version: 1\noperations: [{type: sql, up: SELECT 1}]";
    project.write("migrations/001_other.yaml", other);
    project.write(
        "schema.yaml",
        &variant("extra: {type: string", "extra: {type: json"),
    );
    let message = project.restart().await.expect("refused");
    assert!(
        message.contains("collections.notes.fields.extra") && message.contains("json_quote"),
        "text that is no JSON must not be taken for it: {message}"
    );
    project.write(
        "migrations/001_other.yaml",
        "version: 1\noperations: [{type: sql, up: UPDATE notes SET extra = json_quote(extra)}]",
    );
    assert_eq!(project.restart().await, None);
    assert_eq!(
        project
            .texts("SELECT coalesce(extra, '-') FROM notes ORDER BY id")
            .await,
        ["\"x\"", "null"]
    );
}

#[tokio::test]
async fn what_the_documents_do_not_allow_is_refused_and_nothing_of_it_done() {
    let project = notes().await;
    project
        .execute("UPDATE notes SET stars = 9007199254740993 WHERE id = 1")
        .await;
    let before = shape(&project).await;
    project.write(
        "schema.yaml",
        &variant(
            "stars: {type: int, default: 0}",
            "stars: {type: float, default: 0}",
        ),
    );
    let message = project.restart().await.expect("refused");
    assert!(
        message.contains("1 documents of `notes`") && message.contains("2^53"),
        "{message}"
    );
    assert_eq!(shape(&project).await, before);
    project.execute("UPDATE notes SET stars = 1 WHERE id = 1").await;
    assert_eq!(project.restart().await, None);
    let reals = "SELECT count(*) FROM notes WHERE typeof(stars) = 'real'";
    assert_eq!(project.count(reals).await, Some(2));
}
