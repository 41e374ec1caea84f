//! Names that follow references.

use alyx_core::Error;
use alyx_query::{ListParams, Reach, Scope, parse_query_json};
use serde_json::json;

const RELATED: &str = "
collections:
  teams:
    fields:
      name: {type: string}
  authors:
    rules: {read: false}
    fields:
      name: {type: string}
  posts:
    fields:
      title: {type: string}
      team_id: {type: uuid, nullable: true, references: teams.id}
      parent: {type: uuid, nullable: true, references: posts.id}
      author: {type: uuid, nullable: true, references: authors.id}
";

fn related(text: &str, reach: Reach) -> Result<ListParams, Box<Error>> {
    let parsed = alyx_schema::parse(RELATED, "schema.yaml").expect("the schema is right");
    let posts = parsed.schema.collection("posts").expect("declared");
    ListParams::parse(Scope::new(&parsed.schema, posts, reach), text).map_err(Box::new)
}

#[test]
fn references_are_followed_as_far_as_the_caller_may_read() {
    let check = |text: &str, code: &str, words: &str| {
        let refused = related(text, Reach::Caller).expect_err(text);
        assert_eq!(refused.code(), code, "{text}: {refused}");
        assert!(refused.message().contains(words), "{text}: {refused}");
    };
    check("filter=author.name:eq:a", "INVALID_FILTER", "may not be read");
    check(
        "expand=author",
        "FORBIDDEN",
        "does not let callers read documents of `authors`",
    );
    check("expand=parent.author", "FORBIDDEN", "`authors`");
    check(
        "expand=title",
        "INVALID_QUERY",
        "what can be expanded: team_id, parent, author",
    );
    check(
        "expand=parent.parent.parent.parent.parent",
        "INVALID_QUERY",
        "more than 4",
    );
    check(
        "filter=parent.parent.parent.parent.parent.title:eq:a",
        "INVALID_FILTER",
        "more than 4",
    );
    check(
        "filter=parent.titel:eq:a",
        "INVALID_FILTER",
        "did you mean `title`?",
    );
    for text in [
        "filter=author.name:eq:a",
        "expand=author",
        "filter=team.name:eq:a",
        "expand=team,parent.team_id,parent.parent",
    ] {
        related(text, Reach::Function).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let expand = related("expand=parent.team,team_id,team&fields=title", Reach::Caller).expect("sound");
    assert_eq!(expand.expand.len(), 2);
    assert_eq!(expand.expand[0].inner.len(), 1);
    let names = expand.query.fields.expect("some").into_iter();
    let names: Vec<_> = names
        .map(|field| expand.query.collection.fields[field].name.clone())
        .collect();
    assert_eq!(names, ["title", "team_id", "parent"]);
    let alone = parse_query_json(
        &expand.query.collection,
        &json!({"filter": {"parent.title": "a"}}),
    );
    let alone = alone.expect_err("nothing is known of other collections");
    assert!(
        alone
            .message()
            .contains("only documents of this collection are looked at"),
        "{alone}"
    );
}
