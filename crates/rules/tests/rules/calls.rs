//! Rules of functions: what a call brings is known, and what is stored is asked for by name.

use alyx_core::Caller;
use alyx_rules::{Call, Decision, Facts, Incoming, Rule, placed};
use serde_json::{Value as Json, json};

use crate::support::{account, now, schema};

fn compiled(text: &str) -> Rule {
    Rule::compile_of_calls(&schema(), text).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

fn decide(text: &str, caller: &Caller, input: &Json) -> Decision {
    let call = Call::new("POST", input);
    compiled(text).decide_of_call(&Facts {
        incoming: Incoming::Call(&call),
        ..Facts::of(caller, now())
    })
}

#[test]
fn the_input_and_the_caller_decide() {
    let ann = account("ann", "editor", json!({"teams": ["a"]}));
    let input = json!({"to": "ann", "team": "a", "tags": ["x", "y"], "n": 3});
    for (text, expected) in [
        ("true", true),
        ("false", false),
        ("auth != null", true),
        ("input.to == auth.id", true),
        ("data.to == auth.id && request.body.to == input.to", true),
        ("input.to == 'bob'", false),
        ("input.team in auth.metadata.teams", true),
        ("has(input.n) && !has(input.m)", true),
        ("input.n + 1 == 4 && size(input.tags) == 2", true),
        ("input.tags.exists(tag, tag == 'y')", true),
        ("request.method == 'POST'", true),
        ("request.method == 'GET'", false),
        ("now > timestamp('2025-12-31T00:00:00Z')", true),
        // Errors deny.
        ("input.to < 3", false),
        ("input.missing.deeper == null", true),
    ] {
        let expected = if expected { Decision::Allow } else { Decision::Deny };
        assert_eq!(decide(text, &ann, &input), expected, "{text}");
    }
}

#[test]
fn who_has_not_signed_in_is_nobody() {
    for text in ["auth != null", "input.to == auth.id", "auth.role == 'admin'"] {
        let denied = decide(text, &Caller::Anonymous, &json!({"to": null}));
        assert_eq!(denied, Decision::Deny, "{text}");
    }
    let scalar = decide("input == 5", &Caller::Anonymous, &json!(5));
    assert_eq!(scalar, Decision::Allow, "an input need not be an object");
}

#[test]
fn what_is_stored_is_a_filter_over_other_collections() {
    let ann = account("ann", "user", json!({}));
    for text in [
        "get('teams', input.team).open",
        "exists('members', {'team_id': input.team, 'user_id': auth.id})",
    ] {
        let decided = decide(text, &ann, &json!({"team": "a"}));
        assert!(matches!(decided, Decision::Filter(_)), "{text}: {decided:?}");
    }
}

#[test]
fn only_rules_that_look_at_the_input_need_it() {
    for (text, uses) in [
        ("auth != null", false),
        ("request.method == 'POST'", false),
        ("input.a == 1", true),
        ("request.body.a == 1", true),
        ("auth.id in data", true),
        ("exists('members', {'user_id': input.who})", true),
        ("get('teams', input.team).open", true),
        ("['a'].exists(x, x == input.x)", true),
    ] {
        assert_eq!(compiled(text).uses_input(), uses, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, part, message) in [
        ("doc.owner == auth.id", "doc", "there is no `doc`"),
        ("auth != null && file.size > 1", "file", "there is no `file`"),
        ("auth.nmae == 'x'", "auth.nmae", "`auth` has no `nmae`"),
        (
            "exists('mmbers', {'user_id': auth.id})",
            "'mmbers'",
            "there is no collection `mmbers`",
        ),
        (
            "input.list.exists(input, true)",
            "input",
            "`input` has a meaning of its own",
        ),
        ("'text'", "'text'", "this is neither true nor false"),
        ("auth.id ==", "", ""),
    ] {
        let problem = Rule::compile_of_calls(&schema(), text).expect_err(text);
        assert!(problem.message.contains(message), "{text}: {problem}");
        assert!(problem.span.of(text).contains(part), "{text}: {problem:?}");
    }
    let text = "auth != null && auth.nmae == 'x'";
    let problem = Rule::compile_of_calls(&schema(), text).expect_err(text);
    for (written, offset) in [
        (text.to_owned(), 16),
        (format!("'{text}'"), 17),
        (">-".to_owned(), 0),
    ] {
        assert_eq!(placed(&problem, text, &written).0, offset, "{written}");
    }
}
