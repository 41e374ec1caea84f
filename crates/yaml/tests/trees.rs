//! What files become, and what is wrong with broken ones.

use alyx_yaml::{Kind, Node, Place, parse, parse_unique};

fn faults(source: &str) -> Vec<(usize, usize, String)> {
    parse_unique(source)
        .expect_err(source)
        .into_iter()
        .map(|fault| (fault.place.line, fault.place.column, fault.message))
        .collect()
}

fn json(source: &str) -> String {
    let root = parse_unique(source).expect(source);
    root.to_json().expect("no repeated keys").to_string()
}

fn value<'n>(node: &'n Node, name: &str) -> &'n Node {
    let Kind::Map(entries) = node.kind.as_ref() else {
        panic!("{node:?}")
    };
    let (_, value) = entries.iter().find(|(key, _)| key.text == name).expect(name);
    value
}

#[test]
fn comments_are_left_out_wherever_they_stand() {
    let with = json("# head\na: 1 # one\n# between\nb: # list\n  - x # item\n");
    assert_eq!(with, json("a: 1\nb:\n  - x\n"));
    assert_eq!(with, r#"{"a":1,"b":["x"]}"#);
}

#[test]
fn every_key_and_value_knows_its_place_in_characters() {
    let root = parse("a: 1\nb:\n  - x\n  - {c: 'y'}\nä: ö\n").expect("valid");
    assert_eq!(value(&root, "a").place, Place { line: 1, column: 4 });
    assert_eq!(value(&root, "ä").place, Place { line: 5, column: 4 });
    let Kind::Map(entries) = root.kind.as_ref() else {
        panic!("{root:?}")
    };
    assert_eq!(entries[1].0.place, Place { line: 2, column: 1 });
    let Kind::List(items) = value(&root, "b").kind.as_ref() else {
        panic!("{root:?}")
    };
    assert_eq!(items[1].place, Place { line: 4, column: 5 });
}

#[test]
fn plain_scalars_become_json_and_quoted_ones_stay_text() {
    for (source, expected) in [
        (
            "[1, -2, 1.5, true, False, ~, x, 'true', \"1\", 1.2.3, +x, +1, .5]",
            r#"[1,-2,1.5,true,false,null,"x","true","1","1.2.3","+x",1,0.5]"#,
        ),
        ("!!str 5", r#""5""#),
        ("18446744073709551615", "18446744073709551615"),
        ("", "null"),
        ("# nothing\n", "null"),
    ] {
        assert_eq!(json(source), expected, "{source}");
    }
    let root = parse("a: '~'\nb: ~\nc: word").expect("valid");
    assert_eq!(value(&root, "a").text(), Some("~"));
    assert_eq!(value(&root, "a").plain_text(), None);
    assert!(value(&root, "b").is_null() && value(&root, "b").text().is_none());
    assert_eq!(value(&root, "c").plain_text(), Some("word"));
}

#[test]
fn aliases_and_merge_keys_are_resolved() {
    assert_eq!(json("a: &x {k: 1}\nb: *x"), r#"{"a":{"k":1},"b":{"k":1}}"#);
    assert_eq!(
        json("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}"),
        r#"{"a":{"k":1,"l":2},"b":{"k":3,"l":2}}"#
    );
}

#[test]
fn repeated_keys_stay_for_the_walker_or_are_all_reported() {
    let source = "a: 1\nb: 2\na: 3\nb: 4\n";
    let root = parse(source).expect("valid");
    assert!(matches!(root.kind.as_ref(), Kind::Map(entries) if entries.len() == 4));
    assert!(
        root.to_json()
            .expect_err("repeated")
            .message
            .contains("`a` twice")
    );
    let found = faults(source);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[0].0, found[0].1), (3, 1));
    assert!(
        found[0].2.contains("`a`") && found[0].2.contains("line 1"),
        "{found:?}"
    );
    assert_eq!(found[1].0, 4);
}

#[test]
fn broken_files_name_the_place() {
    let check = |source: &str, line: usize, word: &str| {
        let found = faults(source);
        assert_eq!(found[0].0, line, "{source}: {found:?}");
        assert!(found[0].2.contains(word), "{source}: {found:?}");
    };
    check("a: 1\nb: [1, 2\nc: 3\n", 3, "not valid YAML");
    check("a: 1\n---\nb: 2\n", 2, "second document");
    check("? [a]\n: 1\n", 1, "single word");
    check("a: 1\nb: !int 2\n", 2, "tag");
    check("a: 1\nb: {<<: 2}\n", 2, "one mapping");
    check("a: &x [*x]\n", 1, "inside");
}

#[test]
fn alias_bombs_and_deep_nesting_end_in_an_error() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let names = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{names}]\n"));
    }
    assert!(faults(&bomb)[0].2.contains("more than"));
    assert!(!faults(&"[".repeat(100_000)).is_empty());
}
