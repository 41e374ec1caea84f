//! Access rules: writes and lists under them, one decision by itself, and reads while many people sign in.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use alyx_core::{Account, Caller, Value};
use alyx_rules::{Action, Facts, read_schema};
use serde_json::json;

use crate::client::request;
use crate::documents::{Figures, closed_loop};
use crate::queries::{create_all, middle};
use crate::report::{Better, Report, median, percentile};
use crate::server::{Kind, SCHEMA, Server};
use crate::{CLIENTS, ROWS, RUNS};

const RUN: Duration = Duration::from_secs(3);
/// People with an account; each owns as many notes as the others.
const PEOPLE: usize = 64;
const WRITERS: usize = 500;
/// Writers whose posts one person may read.
const READABLE: usize = 5;
/// People who sign in at the same time, and for how long.
const LOGINS: usize = 250;
const STORM: Duration = Duration::from_secs(5);
const DECISIONS: u32 = 200_000;
const PASSWORD: &str = "correct-horse-battery";

/// Who has signed in.
struct Person {
    id: String,
    token: String,
}

pub(crate) async fn measure(report: &mut Report, ours: &Server, theirs: &Server) {
    decisions(report);
    make_collections(theirs).await;
    let mut people = Vec::new();
    eprintln!("rules: loading {PEOPLE} accounts, {ROWS} notes and {ROWS} posts");
    for server in [ours, theirs] {
        people.push(accounts(server).await);
        let of = people.last().expect("just added");
        create_all(server, ROWS, |number| note(server, "notes", of, number)).await;
        if server.kind == Kind::Alyx {
            // As full as the other one, so that the two creates differ in nothing but the rule.
            create_all(server, ROWS, |number| note(server, "open_notes", of, number)).await;
        }
        posts(server, of).await;
    }
    let people = [&people[0][..], &people[1][..]];
    creates(report, [ours, theirs], people).await;
    lists(report, [ours, theirs], people).await;
    logins(report, [ours, theirs], people).await;
}

/// What a rule says of one document: its filter for the caller, and whether the document passes it.
fn decisions(report: &mut Report) {
    let (parsed, rules) = read_schema(SCHEMA, "schema.yaml").expect("the schema is right");
    let notes = parsed.schema.collection("notes").expect("it is declared");
    let account = Account {
        id: "0195f2a0-0000-7000-8000-000000000001".to_owned(),
        email: None,
        verified: true,
        role: "user".to_owned(),
        metadata: serde_json::Map::new(),
        session: None,
    };
    let row: Vec<Value> = notes
        .fields
        .iter()
        .map(|field| {
            Value::from(if field.name == "owner" {
                account.id.as_str()
            } else {
                "x"
            })
        })
        .collect();
    let caller = Caller::Account(account.into());
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let begin = Instant::now();
        for _ in 0..DECISIONS {
            let facts = Facts::of(black_box(&caller), SystemTime::UNIX_EPOCH);
            let filter = rules.decide(notes, Action::Read, &facts).into_filter();
            assert!(filter.matches(black_box(&row)), "it is the owner's");
        }
        runs.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(DECISIONS));
    }
    let figures = (median(runs), None);
    report.add(
        "an owner rule's decision on one document",
        "µs",
        figures,
        Better::Less,
        "≤ 2 µs",
    );
}

/// PocketBase's collections, with the rules of the schema in its own language.
async fn make_collections(theirs: &Server) {
    let token = theirs.superuser().await;
    let mut connection = theirs.connect().await;
    let mut make = async |name: &str, rules: [&str; 2], fields: serde_json::Value, indexed: &[&str]| {
        let indexes = indexed.iter().enumerate();
        let indexes =
            indexes.map(|(number, fields)| format!("CREATE INDEX idx_{name}_{number} ON {name} ({fields})"));
        let [read, create] = rules;
        let body = json!({
            "name": name, "type": "base", "listRule": read, "viewRule": read, "createRule": create,
            "updateRule": "", "deleteRule": "", "fields": fields, "indexes": indexes.collect::<Vec<_>>(),
        });
        let create = request("POST", "/api/collections", Some(&token), Some(&body.to_string()));
        let made = connection.expect(&create, 200).await.json();
        made["id"].as_str().expect("an id").to_owned()
    };
    let text = |name: &str| json!({"name": name, "type": "text"});
    let created = json!({"name": "created", "type": "autodate", "onCreate": true});
    let writer = |to: &str| json!({"name": "writer", "type": "relation", "collectionId": to, "maxSelect": 1});
    let own = [
        "owner = @request.auth.id",
        "@request.body.owner = @request.auth.id",
    ];
    let fields = json!([text("owner"), text("content"), created]);
    make("notes", own, fields, &["owner, created", "created"]).await;
    let writers = make("writers", ["", ""], json!([text("name")]), &[]).await;
    let fields = json!([writer(&writers), text("reader")]);
    make("permissions", ["", ""], fields, &["writer", "reader"]).await;
    let readable = "writer.permissions_via_writer.reader ?= @request.auth.id";
    let fields = json!([text("title"), writer(&writers), created]);
    make("posts", [readable, ""], fields, &["writer", "created"]).await;
}

fn email(number: usize) -> String {
    format!("person{number}@example.com")
}

fn login(server: &Server, number: usize) -> Vec<u8> {
    let (path, name) = match server.kind {
        Kind::Alyx => ("/api/auth/login", "email"),
        Kind::PocketBase => ("/api/collections/users/auth-with-password", "identity"),
    };
    let body = json!({name: email(number), "password": PASSWORD});
    request("POST", path, None, Some(&body.to_string()))
}

/// Makes the accounts and signs everybody in.
async fn accounts(server: &Server) -> Vec<Person> {
    let mut connection = server.connect().await;
    let mut people = Vec::with_capacity(PEOPLE);
    for number in 0..PEOPLE {
        let body = json!({"email": email(number), "password": PASSWORD, "passwordConfirm": PASSWORD});
        let path = match server.kind {
            Kind::Alyx => "/api/auth/register",
            Kind::PocketBase => "/api/collections/users/records",
        };
        let body = match server.kind {
            Kind::Alyx => json!({"email": body["email"], "password": body["password"]}),
            Kind::PocketBase => body,
        };
        let register = request("POST", path, None, Some(&body.to_string()));
        connection.expect(&register, server.created()).await;
        let reply = connection.expect(&login(server, number), 200).await.json();
        let (user, token) = match server.kind {
            Kind::Alyx => ("user", "access_token"),
            Kind::PocketBase => ("record", "token"),
        };
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        people.push(Person {
            id: text(&reply[user]["id"]),
            token: text(&reply[token]),
        });
    }
    people
}

/// Creates a note of one of the people, as that one.
fn note(server: &Server, collection: &str, people: &[Person], number: usize) -> Vec<u8> {
    let owner = &people[number % PEOPLE];
    let content = format!("note number {number}: the quick brown fox jumps over the lazy dog");
    let body = json!({"owner": owner.id, "content": content}).to_string();
    let token = (collection == "notes").then_some(owner.token.as_str());
    request("POST", &server.collection(collection), token, Some(&body))
}

/// Posts of writers, each of whom some may read.
async fn posts(server: &Server, people: &[Person]) {
    let post = |collection: &str, body: serde_json::Value| {
        request(
            "POST",
            &server.collection(collection),
            None,
            Some(&body.to_string()),
        )
    };
    let writers = create_all(server, WRITERS, |number| {
        post("writers", json!({"name": format!("writer {number}")}))
    })
    .await;
    create_all(server, PEOPLE * READABLE, |number| {
        let writer = &writers[number * 7919 % WRITERS];
        post(
            "permissions",
            json!({"writer": writer, "reader": people[number % PEOPLE].id}),
        )
    })
    .await;
    create_all(server, ROWS, |number| {
        let writer = &writers[number * 104_729 % WRITERS];
        post(
            "posts",
            json!({"title": format!("post {number}"), "writer": writer}),
        )
    })
    .await;
}

async fn creates(report: &mut Report, [ours, theirs]: [&Server; 2], people: [&[Person]; 2]) {
    let (mut ruled, mut open, mut their_runs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ruled.push(closed_loop(ours, CLIENTS, RUN, |n| note(ours, "notes", people[0], n)).await);
        open.push(closed_loop(ours, CLIENTS, RUN, |n| note(ours, "open_notes", people[0], n)).await);
        their_runs.push(closed_loop(theirs, CLIENTS, RUN, |n| note(theirs, "notes", people[1], n)).await);
    }
    let name = "create under an owner rule with a token";
    let cpu = |runs: &[Figures]| middle(runs, |f| f.cpu);
    let beside = |other: &[Figures]| (cpu(&ruled), Some(cpu(other)));
    report.add(
        &format!("{name}: server CPU"),
        "µs",
        beside(&their_runs),
        Better::Less,
        "≤ 1/6",
    );
    report.add(
        &format!("{name}, beside our open create"),
        "µs",
        beside(&open),
        Better::Less,
        "within 15 %",
    );
}

/// The 20 newest of a collection that the person may read.
fn newest(server: &Server, collection: &str, person: &Person, total: bool) -> Vec<u8> {
    let query = match (server.kind, total) {
        (Kind::Alyx, true) => "?sort=-created_at&limit=20",
        (Kind::Alyx, false) => "?sort=-created_at&limit=20&count=false",
        (Kind::PocketBase, true) => "?sort=-created&perPage=20",
        (Kind::PocketBase, false) => "?sort=-created&perPage=20&skipTotal=1",
    };
    let path = format!("{}{query}", server.collection(collection));
    request("GET", &path, Some(&person.token), None)
}

async fn lists(report: &mut Report, servers: [&Server; 2], people: [&[Person]; 2]) {
    let kilo = ROWS / 1000;
    for (name, collection, total, goals) in [
        (
            format!("20 newest own of {kilo}k, with total"),
            "notes",
            true,
            ["", "≤ 1/6"],
        ),
        (
            format!("20 newest of {kilo}k under a rule over two references"),
            "posts",
            false,
            ["", ""],
        ),
        (
            format!("20 newest of {kilo}k under that rule, with total"),
            "posts",
            true,
            ["≥ 100×", ""],
        ),
    ] {
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            for ((server, people), runs) in servers.into_iter().zip(people).zip(&mut runs) {
                let make = |n: usize| newest(server, collection, &people[n % PEOPLE], total);
                runs.push(closed_loop(server, CLIENTS, RUN, make).await);
            }
        }
        let both = |of: fn(&Figures) -> f64| (middle(&runs[0], of), Some(middle(&runs[1], of)));
        report.add(
            &format!("{name}: rate"),
            "/s",
            both(|f| f.rate),
            Better::More,
            goals[0],
        );
        report.add(
            &format!("{name}: server CPU"),
            "µs",
            both(|f| f.cpu),
            Better::Less,
            goals[1],
        );
    }
}

/// Single reads while many sign in at once; whoever is told to wait waits a second.
async fn logins(report: &mut Report, servers: [&Server; 2], people: [&[Person]; 2]) {
    let mut all = Vec::new();
    for (server, people) in servers.into_iter().zip(people) {
        let mut connection = server.connect().await;
        let path = format!("{}?limit=200&perPage=200", server.collection("notes"));
        let list = connection
            .expect(&request("GET", &path, Some(&people[0].token), None), 200)
            .await
            .json();
        let list = list
            .get("docs")
            .or_else(|| list.get("items"))
            .and_then(|docs| docs.as_array().cloned());
        let own: Vec<String> = list
            .expect("a list")
            .iter()
            .filter_map(|doc| doc["id"].as_str().map(str::to_owned))
            .collect();
        assert!(!own.is_empty(), "everybody has notes");
        let read = |n: usize| {
            let path = format!("{}/{}", server.collection("notes"), own[n % own.len()]);
            request("GET", &path, Some(&people[0].token), None)
        };
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            let refused = RefCell::new(Vec::new());
            let signed_in = RefCell::new(0_u32);
            let (reads, ()) = tokio::join!(
                closed_loop(server, CLIENTS, STORM, read),
                storm(server, &refused, &signed_in)
            );
            let mut refused = refused.into_inner();
            refused.sort_by(f64::total_cmp);
            runs.push([
                reads.p99,
                percentile(&refused, 0.99),
                f64::from(signed_in.into_inner()) / STORM.as_secs_f64(),
            ]);
        }
        all.push(runs);
    }
    let of = |place: usize, figure: usize| median(all[place].iter().map(|run| run[figure]).collect());
    let name = format!("while {LOGINS} people sign in");
    report.add(
        &format!("single reads {name}: p99"),
        "ms",
        (of(0, 0), Some(of(1, 0))),
        Better::Less,
        "≤ 20 ms",
    );
    report.add(
        &format!("429 {name}: p99"),
        "ms",
        (of(0, 1), None),
        Better::Less,
        "≤ 100 ms",
    );
    report.add(
        &format!("logins that succeed {name}"),
        "/s",
        (of(0, 2), Some(of(1, 2))),
        Better::More,
        "",
    );
}

async fn storm(server: &Server, refused: &RefCell<Vec<f64>>, signed_in: &RefCell<u32>) {
    let begin = Instant::now();
    let lanes = (0..LOGINS).map(|lane| async move {
        let mut connection = server.connect().await;
        while begin.elapsed() < STORM {
            let sent = Instant::now();
            let reply = connection.send(&login(server, lane % PEOPLE)).await;
            match reply.status {
                200 => *signed_in.borrow_mut() += 1,
                429 => {
                    refused.borrow_mut().push(sent.elapsed().as_secs_f64() * 1e3);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                other => panic!("{other}: {}", String::from_utf8_lossy(&reply.body)),
            }
        }
    });
    futures_util::future::join_all(lanes).await;
}
