//! Who may call a function, by the rule in its manifest.

use alyx_tests::{Form, Http, Project, Reply, Server, eventually};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    a_rule_says_who_may_call,
}

const SCHEMA: &str = "
collections:
  teams:
    fields:
      id: {type: string, primary: true}
      lead: {type: string}
  runs:
    fields:
      who: {type: string}
";
const HANDLER: &str = "export default async (input, ctx) => {
    await ctx.db.runs.create({ who: ctx.auth?.id ?? 'nobody' });
    return 'done';
};";

async fn start(form: Form, project: &Project) -> Server {
    let secret = ("ALYX_AUTH_JWT_SECRET", "a secret of at least thirty-two bytes");
    form.start_with(project, &[secret]).await
}

async fn call(http: &Http, token: Option<&str>, name: &str, input: &Value) -> Reply {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer
        .iter()
        .map(|bearer| ("authorization", bearer.as_str()))
        .collect();
    let path = format!("/api/functions/{name}");
    http.send(Method::POST, &path, &headers, input.to_string()).await
}

async fn a_rule_says_who_may_call(form: Form) {
    let project = Project::with_schema(SCHEMA);
    for (name, manifest) in [
        ("signed", "rules: {invoke: auth != null}"),
        (
            "lead",
            "rules:\n  invoke: \"get('teams', input.team).lead == auth.id\"\n",
        ),
        (
            "own",
            "rules: {invoke: 'data.who == auth.id && request.method == ''POST'''}",
        ),
        ("closed", "rules: {invoke: false}"),
        ("open", "description: for everybody"),
    ] {
        project.write(&format!("functions/{name}.js"), HANDLER);
        project.write(&format!("functions/{name}.yaml"), manifest);
    }
    let server = start(form, &project).await;
    let http = server.http();
    let account = json!({"email": "a@x.io", "password": "correct horse battery"});
    let account = http.post("/api/auth/register", &account).await.json();
    let id = account["user"]["id"].as_str().expect("an id");
    let token = account["access_token"].as_str();
    for (team, lead) in [("mine", id), ("theirs", "somebody")] {
        let team = http
            .post("/api/collections/teams", &json!({"id": team, "lead": lead}))
            .await;
        assert_eq!(team.status, 201, "{team:?}");
    }
    let refused = async |token: Option<&str>, name: &str, input: Value| {
        for input in [input.clone(), json!({"input": input})] {
            let reply = call(&http, token, name, &input).await;
            let told = (reply.status, reply.code());
            assert_eq!(told, (403, "FORBIDDEN".to_owned()), "{name} {input}: {reply:?}");
            assert!(
                reply.json()["error"]["message"]
                    .as_str()
                    .is_some_and(|m| m.contains(name))
            );
        }
    };
    let allowed = async |token: Option<&str>, name: &str, input: Value| {
        let reply = call(&http, token, name, &input).await;
        assert_eq!(
            (reply.status, reply.json()),
            (200, json!("done")),
            "{name} {input}"
        );
    };
    refused(None, "signed", json!({})).await;
    refused(None, "own", json!({"who": null})).await;
    refused(token, "own", json!({"who": "other"})).await;
    refused(token, "own", json!("text")).await;
    refused(None, "lead", json!({"team": "mine"})).await;
    for team in [json!("theirs"), json!("missing"), json!(null), json!([1])] {
        refused(token, "lead", json!({"team": team})).await;
    }
    refused(token, "closed", json!({})).await;
    let runs = http.get("/api/collections/runs").await.json();
    assert_eq!(runs["total"], 0, "no handler ran: {runs}");

    allowed(token, "signed", json!({})).await;
    allowed(token, "own", json!({"who": id})).await;
    allowed(token, "lead", json!({"team": "mine"})).await;
    allowed(token, "open", json!({})).await;
    allowed(None, "open", json!({})).await;
}

/// In one form only: the control plane of a cluster does not follow the folder.
#[tokio::test]
async fn a_rule_that_does_not_fit_is_told_with_its_place_and_its_function_is_not_served() {
    let project = Project::with_schema(SCHEMA);
    project.write("functions/typo.js", HANDLER);
    project.write("functions/good.js", HANDLER);
    let server = start(Form::Embedded, &project).await;
    project.write(
        "functions/typo.yaml",
        "timeout: 5s\nrules:\n  invoke: auth != null && auth.rolle == 'x'\n",
    );
    server
        .printed("typo.yaml:3:27: rules.invoke of `typo`: `auth` has no `rolle`")
        .await;
    let http = server.http();
    eventually("the function is no longer served", || async {
        let reply = call(&http, None, "typo", &json!({})).await;
        if (reply.status, reply.code()) == (404, "FUNCTION_NOT_FOUND".to_owned()) {
            Ok(())
        } else {
            Err(reply)
        }
    })
    .await;
    assert_eq!(call(&http, None, "good", &json!({})).await.status, 200);

    project.write("functions/typo.yaml", "rules: {invoke: auth == null}\n");
    eventually("the function is served", || async {
        let reply = call(&http, None, "typo", &json!({})).await;
        if reply.status == 200 { Ok(()) } else { Err(reply) }
    })
    .await;
}
