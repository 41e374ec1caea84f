use super::parse;

fn problems(text: &str) -> Vec<String> {
    parse("m/007_x.yaml", 7, "x", text).expect_err(text)
}

#[test]
fn a_migration_has_operations_in_order() {
    let text = "version: 7\nname: Tidy up\ndescription: why\noperations:\n  - type: sql\n    up: |\n      DELETE FROM a;\n      \
                DELETE FROM b;\n    down: SELECT 1\n  - {type: rename_field, collection: a, from: b-c, to: d}\n";
    let migration = parse("m/007_x.yaml", 7, "x", text).expect("valid");
    assert_eq!((migration.version, migration.name.as_str()), (7, "Tidy up"));
    let sql: Vec<&str> = migration
        .operations
        .iter()
        .map(|operation| operation.up.as_str())
        .collect();
    assert_eq!(
        sql,
        [
            "DELETE FROM a;\nDELETE FROM b;\n",
            "ALTER TABLE \"a\" RENAME COLUMN \"b-c\" TO \"d\""
        ]
    );
    assert_eq!(migration.operations[1].place, (10, 5));
    let unnamed = parse("m/007_x.yaml", 7, "x", "version: 7\noperations: []").expect("valid");
    assert_eq!((unnamed.name.as_str(), unnamed.operations.len()), ("x", 0));
}

#[test]
fn the_ends_of_lines_do_not_change_the_checksum() {
    let sum = |text: &str| parse("p", 7, "x", text).expect(text).checksum;
    assert_eq!(
        sum("version: 7\noperations: []\n"),
        sum("version: 7\r\noperations: []\r\n")
    );
    assert_ne!(
        sum("version: 7\noperations: []\n"),
        sum("version: 7\noperations: [] # 1\n")
    );
}

#[test]
fn everything_wrong_is_reported_with_its_place() {
    let operation = |operation: &str| format!("version: 7\noperations:\n  - {operation}\n");
    for (text, place, word) in [
        ("version: [7\n".to_owned(), "1:10", "not valid YAML"),
        (
            "version: 7\nversion: 7\noperations: []".to_owned(),
            "2:1",
            "second time",
        ),
        ("- 1".to_owned(), "1:1", "holds keys"),
        ("operations: []".to_owned(), "1:1", "version: 7"),
        ("version: 8\noperations: []".to_owned(), "1:10", "must be 7"),
        ("version: 7".to_owned(), "1:1", "`operations` is missing"),
        (
            "version: 7\nops: []\noperations: []".to_owned(),
            "2:1",
            "no key `ops`",
        ),
        ("version: 7\noperations: 5".to_owned(), "2:13", "must be a list"),
        (
            "version: 7\nname: [a]\noperations: []".to_owned(),
            "2:7",
            "must be text",
        ),
        (operation("DROP TABLE x"), "3:5", "is a mapping"),
        (operation("{up: SELECT 1}"), "3:5", "`type` is missing"),
        (operation("{type: sql}"), "3:5", "`up` is missing"),
        (operation("{type: sql, up: ' '}"), "3:21", "empty"),
        (operation("{type: sql, up: x, down: [x]}"), "3:30", "must be text"),
        (operation("{type: sql, up: x, from: y}"), "3:24", "no key `from`"),
        (
            operation("{type: drop_field, collection: a}"),
            "3:12",
            "ALTER TABLE",
        ),
        (operation("{type: delete}"), "3:12", "sql or rename_field"),
        (
            operation("{type: rename_field, collection: a, from: b}"),
            "3:5",
            "`to` is missing",
        ),
        (
            operation("{type: rename_field, collection: _alyx_changes, from: b, to: c}"),
            "3:38",
            "server's own",
        ),
    ] {
        let found = problems(&text);
        let [problem] = found.as_slice() else {
            panic!("{text}: {found:?}")
        };
        assert!(
            problem.starts_with(&format!("m/007_x.yaml:{place}: ")) && problem.contains(word),
            "{text}: {problem}"
        );
    }
    assert_eq!(
        problems("version: 1\nname: []\noperations: [1, {type: x}]").len(),
        4
    );
}

#[test]
fn the_examples_of_the_guide_are_migrations() {
    let guide = include_str!("../../../../docs/migrations.md");
    let mut examples = 0;
    for block in guide.split("```yaml\n").skip(1) {
        let (text, _) = block.split_once("```").expect("an end");
        let version = text
            .split("version: ")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        let version = version.and_then(|number| number.parse().ok()).expect("a number");
        let migration = parse("docs/migrations.md", version, "x", text).expect(text);
        assert!(!migration.operations.is_empty(), "{text}");
        examples += 1;
    }
    assert_eq!(examples, 5);
}
