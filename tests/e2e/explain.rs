//! `alyx rules explain`: it says what requests are answered, and why.

use alyx_tests::{Form, Http, Project, Reply, Server};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    what_is_explained_is_what_requests_are_answered,
    who_and_what_is_not_there_is_said_so,
}

const SCHEMA: &str = "
default_access: deny
collections:
  teams:
    rules: {read: 'true'}
    fields:
      id: {type: string, primary: true}
      lead: {type: uuid, nullable: true}
  notes:
    rules:
      read: doc.open || doc.owner == auth.id || doc.team.lead == auth.id
      create: auth.id != null && data.owner == auth.id && get('teams', data.team_id).lead == auth.id
      update: doc.owner == auth.id && (!has(data.owner) || data.owner == auth.id)
      delete: auth != null && doc.owner == auth.id
    fields:
      id: {type: string, primary: true}
      owner: {type: uuid, index: true}
      open: {type: bool, default: false}
      team_id: {type: string, nullable: true, references: teams.id}
      secret: {type: string, internal: true, default: hidden-from-everybody}
";
const ENV: [(&str, &str); 1] = [("ALYX_AUTH_JWT_SECRET", "a secret of the tests, 32 bytes or more")];

struct World {
    project: Project,
    server: Server,
    people: Vec<Person>,
}

/// Somebody, and by what name `--as` knows them.
struct Person {
    id: String,
    name: String,
    bearer: Option<String>,
}

impl World {
    async fn new(form: Form) -> Self {
        let project = Project::with_schema(SCHEMA);
        let server = form.start_with(&project, &ENV).await;
        let mut people = Vec::new();
        for name in ["ann@x.io", "bob@x.io"] {
            let body = json!({"email": name, "password": "correct horse"});
            let told = server.http().post("/api/auth/register", &body).await.json();
            people.push(Person {
                id: told["user"]["id"].as_str().expect("an id").to_owned(),
                name: name.to_owned(),
                bearer: told["access_token"]
                    .as_str()
                    .map(|token| format!("Bearer {token}")),
            });
        }
        people.push(Person {
            id: String::new(),
            name: "anonymous".to_owned(),
            bearer: None,
        });
        let world = Self {
            project,
            server,
            people,
        };
        let token = world.operator_token().await;
        let [ann, bob] = [&world.people[0].id, &world.people[1].id];
        for (path, body) in [
            ("teams", json!({"id": "red", "lead": bob})),
            ("notes", json!({"id": "closed", "owner": ann})),
            ("notes", json!({"id": "open", "owner": ann, "open": true})),
            ("notes", json!({"id": "team", "owner": ann, "team_id": "red"})),
            ("notes", json!({"id": "own", "owner": ann})),
        ] {
            let path = format!("/api/collections/{path}");
            let made = send(&world.server.http(), Method::POST, &path, Some(&token), &body).await;
            assert_eq!(made.status, 201, "{made:?}");
        }
        world
    }

    async fn operator_token(&self) -> String {
        let args = ["admin", "create-token", "ci", "--scopes", "write:*", "--json"];
        let (code, printed) = self.server.operate(&self.project, &args).await;
        assert_eq!(code, Some(0), "{printed}");
        let made: Value = serde_json::from_str(&printed).expect("JSON");
        format!("Bearer {}", made["token"].as_str().expect("a token"))
    }

    async fn explain(&self, args: &[&str]) -> (Option<i32>, String) {
        let args = [&["rules", "explain"], args].concat();
        self.server.operate(&self.project, &args).await
    }
}

async fn send(http: &Http, method: Method, path: &str, bearer: Option<&str>, body: &Value) -> Reply {
    let headers: Vec<(&str, &str)> = bearer
        .map(|bearer| ("authorization", bearer))
        .into_iter()
        .collect();
    http.send(method, path, &headers, body.to_string()).await
}

/// As `alyx rules explain` words it.
fn answer(reply: &Reply) -> Value {
    if reply.status < 400 {
        Value::Null
    } else {
        json!(format!("{} {}", reply.status, reply.code()))
    }
}

async fn what_is_explained_is_what_requests_are_answered(form: Form) {
    let world = World::new(form).await;
    let http = world.server.http();
    let mut seen = std::collections::BTreeSet::new();
    // Those first who may change nothing.
    for person in [1, 2, 0].map(|place| &world.people[place]) {
        for note in ["closed", "open", "team"] {
            let new = format!("{note}-of-{}", person.name);
            let owner = if person.id.is_empty() {
                &world.people[0].id
            } else {
                &person.id
            };
            let data = json!({"id": new, "owner": owner, "team_id": "red"});
            world.project.write("data.json", &data.to_string());
            let file = world.project.path().join("data.json");
            let file = file.to_str().expect("a path");
            let args = ["notes", note, "--as", &person.name, "--data", file, "--json"];
            let (code, printed) = world.explain(&args).await;
            assert_eq!(code, Some(0), "{printed}");
            let told: Value = serde_json::from_str(&printed).expect("JSON");
            let path = format!("/api/collections/notes/{note}");
            for decision in told["decisions"].as_array().expect("decisions") {
                let allowed = decision["allowed"] == true;
                let reply = match decision["action"].as_str().expect("a word") {
                    "create" => (Method::POST, "/api/collections/notes"),
                    "read" => (Method::GET, path.as_str()),
                    "update" => (Method::PATCH, path.as_str()),
                    // The document is asked about again.
                    _ if allowed => continue,
                    _ => (Method::DELETE, path.as_str()),
                };
                let (method, path) = reply;
                let reply = send(&http, method, path, person.bearer.as_deref(), &data).await;
                assert_eq!(answer(&reply), decision["answer"], "{decision:#} {reply:?}");
                assert_eq!(reply.status < 400, allowed, "{decision:#} {reply:?}");
                let reasons = decision["because"].as_array().expect("reasons");
                assert_eq!(reasons.is_empty(), allowed, "{decision:#}");
                assert!(decision["tree"]["text"] == decision["rule"], "{decision:#}");
                seen.insert((decision["action"].to_string(), decision["answer"].to_string()));
            }
            assert!(!printed.contains("hidden-from-everybody"), "{printed}");
        }
    }
    assert_eq!(seen.len(), 9, "every answer has been met: {seen:?}");
    let (_, words) = world
        .explain(&["notes", "own", "--as", &world.people[1].id])
        .await;
    for expected in [
        "notes own as bob@x.io",
        "read    no (404 DOCUMENT_NOT_FOUND)",
        "`doc.open` is false",
        "`doc.team.lead == auth.id` is false: `doc.team.lead` is null",
        "false doc.owner == auth.id",
        "delete  no (404 DOCUMENT_NOT_FOUND)",
    ] {
        assert!(words.contains(expected), "{expected} is not in\n{words}");
    }
    let (_, words) = world.explain(&["teams", "red", "--as", "anonymous"]).await;
    assert!(
        words.contains("read    yes") && words.contains("`teams` is closed"),
        "{words}"
    );
    let (_, words) = world.explain(&["notes", "closed", "--as", "operator"]).await;
    assert!(words.contains("rules do not apply"), "{words}");
}

async fn who_and_what_is_not_there_is_said_so(form: Form) {
    let world = World::new(form).await;
    for (args, exit, expected) in [
        (
            &["note", "open", "--as", "anonymous"][..],
            1,
            "did you mean `notes`",
        ),
        (&["notes", "gone", "--as", "anonymous"], 1, "DOCUMENT_NOT_FOUND"),
        (&["notes", "open", "--as", "eve@x.io"], 1, "USER_NOT_FOUND"),
        (
            &["notes", "open", "--as", "anonymous", "--data", "no-such-file"],
            64,
            "no-such-file",
        ),
    ] {
        let (code, printed) = world.explain(args).await;
        assert_eq!(code, Some(exit), "{args:?}: {printed}");
        assert!(printed.contains(expected), "{args:?}: {printed}");
    }
    world.project.write("data.json", "{\"owner\": 7");
    let file = world.project.path().join("data.json");
    let file = file.to_str().expect("a path");
    let args = ["notes", "open", "--as", "ANN@x.io", "--data", file];
    let (code, printed) = world.explain(&args).await;
    assert_eq!(code, Some(64), "{printed}");
    assert!(printed.contains("INVALID_JSON"), "{printed}");
    world.project.write("data.json", "{\"owner\": 7}");
    let (code, printed) = world.explain(&args).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("update  no (400 VALIDATION_ERROR)") && printed.contains("read    yes"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_database_that_no_server_runs_on_is_asked_itself() {
    let World {
        project,
        server,
        people,
    } = World::new(Form::Embedded).await;
    server.terminate().await;
    let args = [
        "rules",
        "explain",
        "notes",
        "team",
        "--as",
        &people[1].name,
        "--json",
    ];
    let (code, printed) = Server::run(&project, &args, &ENV).await;
    assert_eq!(code, Some(0), "{printed}");
    let told: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(told["decisions"][1]["allowed"], true, "{told:#}");
    assert_eq!(told["decisions"][2]["answer"], "403 FORBIDDEN", "{told:#}");
}
