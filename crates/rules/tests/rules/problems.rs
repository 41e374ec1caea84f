//! What is refused, where, and what is said.

use alyx_rules::{Action, Rule};

use crate::support::{collection, schema};

/// The part of the text that the problem is about must be `part`, and the problem must say `word`.
fn refuse(action: Action, text: &str, part: &str, word: &str) {
    let schema = schema();
    let problem = Rule::compile(&schema, &collection(&schema, "items"), action, text).expect_err(text);
    let told = problem.to_string();
    assert!(told.contains(word), "{text}: {told}");
    assert_eq!(problem.span.of(text), part, "{text}: {told}");
    assert!(!problem.hint.is_empty(), "{text}");
}

fn refuse_read(text: &str, part: &str, word: &str) {
    refuse(Action::Read, text, part, word);
}

#[test]
fn names_that_are_not_there_are_told_with_their_place_and_the_nearest_one() {
    refuse_read("doc.ownr == auth.id", "doc.ownr", "`owner`");
    refuse_read("auth.idd == doc.owner", "auth.idd", "`id`");
    refuse_read("atuh.id == doc.owner", "atuh", "`auth`");
    refuse_read("request.metod == 'GET'", "request.metod", "`method`");
    refuse_read(
        "doc.title.startWith('a')",
        "doc.title.startWith('a')",
        "`startsWith`",
    );
    refuse_read("get('team', auth.id).open", "'team'", "`teams`");
    refuse_read("get('teams', auth.id).opn", "get('teams', auth.id).opn", "`open`");
    refuse_read("exists('members', {'userid': auth.id})", "'userid'", "`user_id`");
    refuse_read("doc.team.nam == 'x'", "doc.team.nam", "`name`");
    refuse_read("doc.secret == 'x'", "doc.secret", "internal");
}

#[test]
fn what_cannot_become_a_filter_is_refused() {
    refuse_read("doc.age + 1 > 3", "doc.age", "filter");
    refuse_read("size(doc.title) > 3", "doc.title", "filter");
    refuse_read(
        "doc.owner == doc.title",
        "doc.owner == doc.title",
        "two stored values",
    );
    refuse_read("doc.title.matches('a+')", "doc.title", "filter");
    refuse_read("doc.owner in doc.tags", "doc.owner in doc.tags", "stored");
    refuse_read("doc.meta.list.exists(x, x == 'a')", "doc.meta.list", "filter");
    refuse_read(
        "exists('members', {'team_id': doc.team_id, 'user_id': doc.owner})",
        "doc.owner",
        "two stored values",
    );
    refuse_read("get('teams', doc.done).open", "doc.done", "key");
}

#[test]
fn types_that_never_fit_are_refused() {
    refuse_read("doc.age == 'x'", "'x'", "number");
    refuse_read("doc.title > 3", "3", "text");
    refuse_read("doc.done < true", "doc.done", "order");
    refuse_read("doc.at > 'yesterday'", "'yesterday'", "time");
    refuse_read("doc.title", "doc.title", "neither true nor false");
    refuse_read("'x'", "'x'", "neither true nor false");
    refuse_read("now", "now", "neither true nor false");
    refuse_read("doc.tags == 'a'", "doc.tags", "choices");
    refuse_read("'a' in doc.title", "doc.title", "list");
    refuse_read("doc", "doc", "of its own");
    refuse_read("data.title == 'a'", "data.title", "no data");
    refuse_read("doc.title.x == 'a'", "doc.title.x", "refers to no document");
}

#[test]
fn broken_texts_are_told_where_they_break() {
    refuse_read("auth.id = doc.owner", "=", "==");
    refuse_read("(doc.done", "", "`)`");
    refuse_read("doc.title == 'a", "'", "does not end");
    refuse_read("doc.done doc.done", "doc", "an operator");
    refuse_read("", "", "a value");
    refuse_read("doc.", "", "a name");
    refuse_read("doc.title == '\\q'", "'\\", "escape");
    refuse_read("99999999999999999999 > 1", "99999999999999999999", "no number");
    refuse_read("auth.email.matches('(')", "'('", "pattern");
    refuse_read("[1].exists(auth, auth == 1)", "auth", "meaning of its own");
}

#[test]
fn hostile_texts_are_refused_without_harm() {
    let schema = schema();
    let items = collection(&schema, "items");
    let refused = |text: String| Rule::compile(&schema, &items, Action::Read, &text).expect_err("hostile");
    let mut texts: Vec<String> = ["(", "[", "!", "-", "{'a':", "[1].exists(x,", "true?", "a.b("]
        .iter()
        .flat_map(|part| [part.repeat(100), part.repeat(600), part.repeat(100_000)])
        .collect();
    texts.push(format!("1{} > 0", "+1".repeat(900)));
    texts.push(format!("doc{}", ".a".repeat(900)));
    texts.push(format!("[{}] == [1]", "1,".repeat(900)));
    texts.push("'".repeat(1001));
    texts.push("\"\"\"".to_owned());
    texts.push("\\".repeat(2000));
    texts.push("1e".to_owned());
    texts.push("0x".to_owned());
    texts.push("\u{0}\u{1F600}ä".to_owned());
    for text in texts {
        let problem = refused(text.clone());
        assert!(!problem.message.is_empty(), "{}", &text[..text.len().min(40)]);
    }
    let nested = "[1,2].all(a, [1,2].all(b, [1,2].all(c, true)))";
    assert!(refused(nested.to_owned()).message.contains("macros"));
}

/// The problems of a schema file, as they are printed.
fn refused_schema(source: &str) -> String {
    alyx_rules::read_schema(source, "schema.yaml")
        .expect_err("it is broken")
        .to_string()
}

#[test]
fn a_schema_is_refused_with_the_place_of_the_part_in_question() {
    let source = "collections:\n  notes:\n    fields: {owner: {type: string}}\n    rules:\n      read: doc.ownr == auth.id\n      update: \"doc.owner == auth.idd\"\n      delete: >\n        doc.owner ==\n        auth.idd\n";
    let told = refused_schema(source);
    assert!(
        told.contains("schema.yaml:5:13: collections.notes.rules.read: `notes` has no field `ownr`"),
        "{told}"
    );
    assert!(
        told.contains("schema.yaml:6:29: collections.notes.rules.update: `auth` has no `idd`"),
        "{told}"
    );
    assert!(
        told.contains("collections.notes.rules.delete: `auth.idd`: `auth` has no `idd`"),
        "{told}"
    );
    assert!(told.contains("did you mean `owner`?"), "{told}");
}

#[test]
fn a_default_must_fit_every_collection() {
    let source = "default_access: auth.id == doc.owner\ncollections:\n  notes:\n    fields: {owner: {type: string}}\n  plain:\n    fields: {x: {type: int}}\n    rules: {create: true, update: true, delete: true}\n";
    let told = refused_schema(source);
    assert!(
        told.contains("schema.yaml:1:28: default_access: `plain` has no field `owner`"),
        "{told}"
    );
    assert!(told.contains("as the read rule of `plain`"), "{told}");
}
