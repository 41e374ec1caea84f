//! Every broken schema names the place and the fix.

use alyx_schema::{SchemaErrors, parse};

/// One case per line: `kind | source | path | part of the message | part of the hint`. `«` stands before the
/// place that the problem points at, `\n` for a new line. A source of kind `field` is the options of the field
/// `collections.c.fields.x`, beside a bucket `images`; one of kind `rules` or `indexes` is that option of the collection `c`.
const CASES: &str = include_str!("broken_schemas.txt");

fn errors(source: &str) -> SchemaErrors {
    parse(source, "schema.yaml").map(|_| ()).expect_err(source)
}

#[test]
fn every_broken_schema_names_its_place_and_the_fix() {
    let mut cases = 0;
    for line in CASES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        check(line);
        cases += 1;
    }
    assert!(cases > 100, "only {cases} cases");
}

fn check(case: &str) {
    let mut parts = case.split('|').map(str::trim);
    let mut part = || parts.next().unwrap_or_default();
    let (kind, source, path, message, hint) = (part(), part(), part(), part(), part());
    let source = source.replace("\\n", "\n");
    let (source, path) = match kind {
        "file" => (source, path.to_owned()),
        "rules" => (
            format!("collections: {{c: {{fields: {{x: {{type: int}}}}, rules: {source}}}}}"),
            path.to_owned(),
        ),
        "field" => (
            format!(
                "collections: {{c: {{fields: {{x: {{{source}}}, other: {{type: string}}}}}}}}\n\
                 buckets: {{images: {{backend: local}}}}"
            ),
            format!("collections.c.fields.x{path}"),
        ),
        "indexes" => (
            format!("collections: {{c: {{indexes: {source}, fields: {{x: {{type: int, index: true}}}}}}}}"),
            format!("collections.c.indexes{path}"),
        ),
        other => panic!("there is no kind {other}: {case}"),
    };
    let before = &source[..source
        .find('«')
        .unwrap_or_else(|| panic!("no place is marked: {case}"))];
    let line = before.split('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let errors = errors(&source.replace('«', ""));
    let [problem] = errors.problems.as_slice() else {
        panic!("not one problem: {case}\n{errors}");
    };
    assert_eq!((problem.line, problem.column), (line, column), "{case}\n{errors}");
    assert_eq!(problem.path, path, "{case}\n{errors}");
    assert!(problem.message.contains(message), "{case}\n{errors}");
    assert!(problem.hint.contains(hint), "{case}\n{errors}");
}

#[test]
fn a_collection_has_a_bounded_number_of_fields() {
    let fields = |count: usize| -> String {
        let fields = (0..count).map(|position| format!("      f{position}: {{type: int}}\n"));
        format!("collections:\n  c:\n    fields:\n{}", fields.collect::<String>())
    };
    assert!(parse(&fields(199), "schema.yaml").is_ok());
    assert!(
        errors(&fields(201)).problems[0]
            .message
            .contains("can have 200 fields")
    );
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_file() {
    let errors = errors(
        "collections:\n  posts:\n    fields:\n      title: {type: strnig}\n      n: {type: int, default: x}\n    \
         rules: {read: maybe}\nfunctions: {}\n",
    );
    let paths: Vec<&str> = errors
        .problems
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "collections.posts.fields.title.type",
            "collections.posts.fields.n.default",
            "collections.posts.rules.read",
            "functions"
        ]
    );
}

#[test]
fn a_problem_is_shown_with_its_line_a_caret_and_the_fix() {
    let errors = errors("collections:\n  posts:\n    fields:\n      title: {type: strnig}\n");
    assert_eq!(
        errors.to_string(),
        "schema.yaml:4:21: collections.posts.fields.title.type: there is no type `strnig`\n    \
         4 |       title: {type: strnig}\n      \
         |                     ^\n      \
         = did you mean `string`?\n"
    );
}

#[test]
fn hostile_files_are_refused_without_harm() {
    let deep = format!("collections: {}", "[".repeat(5_000));
    assert!(errors(&deep).problems[0].message.contains("YAML"));
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n\
                c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\ncollections: {t: {fields: *c}}\n";
    assert!(!errors(bomb).problems.is_empty());
    let loops = "collections: &a {c: *a}\n";
    assert!(!errors(loops).problems.is_empty());
    assert!(
        errors(&" ".repeat((4 << 20) + 1)).problems[0]
            .message
            .contains("4 MiB")
    );
    let many: String = (0..1_000).map(|i| format!("  c{i}: 5\n")).collect();
    assert_eq!(errors(&format!("collections:\n{many}")).problems.len(), 200);
}
