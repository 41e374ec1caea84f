//! Documents found by their texts.

use alyx_tests::{Form, Project};
use serde_json::json;

use super::{create, list, start, titles};

alyx_tests::in_both_forms! {
    search_finds_text_and_nothing_else,
    a_full_text_index_is_searched_by_words_and_follows_the_schema,
}

async fn search_finds_text_and_nothing_else(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    for (title, hidden) in [("Red 50% off", "needle"), ("blue_1", "x"), ("Zoë", "x")] {
        create(
            &http,
            "posts",
            json!({"title": title, "hidden": hidden, "meta": {"word": "needle"}, "views": 770_077_007}),
        )
        .await;
    }
    for (text, expected) in [
        ("RED", &["Red 50% off"][..]),
        ("50%25", &["Red 50% off"]),
        ("e_1", &["blue_1"]),
        ("%25", &["Red 50% off"]),
        ("zo%C3%AB", &["Zoë"]),
        ("needle", &[]),
        ("770077007", &[]),
        ("", &["Red 50% off", "Zoë", "blue_1"]),
    ] {
        let found = titles(&http, &format!("sort=title&search={text}&filter=title:notnull")).await;
        assert_eq!(found, expected, "{text}");
    }
    let red = list(&http, "title=Red+50%25+off").await["docs"][0]["id"].clone();
    let red = red.as_str().expect("an id").to_ascii_uppercase();
    assert_eq!(titles(&http, &format!("search={red}")).await, ["Red 50% off"]);
    assert_eq!(list(&http, "search=red+50&limit=0").await["total"], 1);
}

async fn a_full_text_index_is_searched_by_words_and_follows_the_schema(form: Form) {
    let project =
        Project::with_schema("collections: {notes: {search: [text], fields: {text: {type: text}}}}\n");
    let server = form.start(&project).await;
    let http = server.http();
    for text in [
        "The quick brown fox",
        "Zoë likes brownies",
        "50% \"off\" AND more",
    ] {
        create(&http, "notes", json!({"text": text})).await;
    }
    let found = async |search: &str| -> Vec<String> {
        let reply = http
            .get(&format!("/api/collections/notes?sort=text&search={search}"))
            .await;
        assert_eq!(reply.status, 200, "{search} → {reply:?}");
        let list = reply.json();
        let docs = list["docs"].as_array().expect("docs");
        assert_eq!(list["total"], docs.len());
        docs.iter()
            .map(|doc| doc["text"].as_str().expect("text").to_owned())
            .collect()
    };
    assert_eq!(
        found("BROWN").await,
        ["The quick brown fox", "Zoë likes brownies"]
    );
    assert_eq!(found("zoe+brown").await, ["Zoë likes brownies"]);
    assert_eq!(found("fox+OR+zoe").await, [""; 0]);
    assert_eq!(found("%22off%22").await, ["50% \"off\" AND more"]);
    assert_eq!(found("text:fox+%22").await, [""; 0]);
    let id = http.get("/api/collections/notes?search=fox").await.json()["docs"][0]["id"].clone();
    let path = format!("/api/collections/notes/{}", id.as_str().expect("an id"));
    assert_eq!(
        http.patch(&path, &json!({"text": "a slow dog"})).await.status,
        200
    );
    assert_eq!(found("fox").await, [""; 0]);
    assert_eq!(found("dog").await, ["a slow dog"]);
    assert_eq!(http.delete(&path).await.status, 204);
    assert_eq!(found("dog").await, [""; 0]);
    let reply = http.get("/api/aggregate/notes?search=brown").await.json();
    assert_eq!(reply["groups"][0]["count"], 1, "{reply}");
}
