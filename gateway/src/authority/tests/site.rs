//! A gateway without its sockets: requests go to the handlers with a caller of the test's choice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_config::Config;
use alyx_core::{Account, ApiToken, Caller, Row, Scopes, Statement, SystemClock, Value};
use alyx_query::{Elsewhere, Filter, Query, SortKey, holds, insert, referring};
use alyx_rules::{Action, Decision, Facts, Incoming, Rule};
use alyx_schema::{Collection, RuleTexts, Schema, key_to_json, read_create, read_update};
use alyx_service::state::{ControlPlane, DesiredState, StateWatch};
use alyx_store::{EmbeddedOptions, Expect, Read, ReadCost, Store, Write, WriteStep};
use async_trait::async_trait;
use axum::body::Body;
use http::{HeaderMap, Request};
use serde_json::{Map, Value as Json, json};
use tokio::sync::watch;

use super::random::Random;
use crate::auth::Identity;
use crate::realtime::RuledQuery;
use crate::request_id::RequestTag;
use crate::routes::{Context, dispatch};
use crate::{Gateway, GatewayParts};

const SCHEMA: &str = "
collections:
  teams:
    fields:
      id: {type: string, primary: true}
      name: {type: string, nullable: true}
      open: {type: bool, nullable: true}
      lead: {type: string, nullable: true}
  members:
    fields:
      id: {type: int, primary: true, default: auto}
      team_id: {type: string, nullable: true}
      user_id: {type: string, nullable: true}
  items:
    fields:
      id: {type: int, primary: true, default: auto}
      owner: {type: string, nullable: true}
      title: {type: string, nullable: true}
      rank: {type: int, nullable: true}
      done: {type: bool, nullable: true}
      meta: {type: json, nullable: true}
      team_id: {type: string, nullable: true, references: teams.id}
";
/// Documents at first.
const DOCUMENTS: usize = 8;

pub(super) fn callers() -> Vec<Caller> {
    let account = |id: &str, role: &str, metadata: Json| {
        Caller::Account(Arc::new(Account {
            id: id.to_owned(),
            email: None,
            verified: true,
            role: role.to_owned(),
            metadata: metadata.as_object().cloned().unwrap_or_else(Map::new),
            session: None,
        }))
    };
    vec![
        Caller::Anonymous,
        account("a", "user", json!({"team": "t", "teams": ["t", "u"], "level": 1})),
        account("b", "admin", json!({"team": null, "teams": [], "level": 2})),
        account("ab", "user", json!({})),
        Caller::Operator,
        // Scopes that leave nothing out are limited by the same code as those that do.
        Caller::Token(Arc::new(ApiToken {
            id: "t".to_owned(),
            scopes: Scopes::parse(["read:*", "write:*"]).expect("scopes"),
        })),
    ]
}

/// Text for a query string.
pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) text: String,
    pub(super) json: Json,
}

impl Reply {
    /// The keys of a page.
    pub(super) fn keys(&self) -> Vec<i64> {
        let docs = self.json["docs"].as_array().expect("a page").iter();
        docs.map(|doc| doc["id"].as_i64().expect("a key")).collect()
    }
}

/// Something to write.
#[derive(Debug)]
pub(super) enum Attempt {
    Create(Json),
    Update(i64, Json),
    Delete(i64),
    Upsert(Json),
}

impl Attempt {
    pub(super) fn new(random: &mut Random, rows: &[Row]) -> Self {
        let mut fields = Map::new();
        let owner = ["a", "b", "ab"][random.below(3)];
        fields.insert("owner".to_owned(), json!(owner));
        fields.insert(
            "title".to_owned(),
            json!(format!("{}{}", random.of(&["a", "b"]), random.below(1 << 30))),
        );
        fields.insert("rank".to_owned(), json!(random.below(5)));
        for name in ["owner", "rank"] {
            if random.below(2) == 0 {
                fields.shift_remove(name);
            }
        }
        let key = match random.below(rows.len() + 1) {
            place if place < rows.len() => rows[place][0].as_int().expect("a key"),
            _ => 10_000 + i64::try_from(random.below(1 << 40)).expect("small"),
        };
        match random.below(4) {
            0 => Self::Create(fields.into()),
            1 => Self::Update(key, fields.into()),
            2 => Self::Delete(key),
            _ => {
                fields.insert("id".to_owned(), json!(key));
                Self::Upsert(fields.into())
            }
        }
    }

    /// The document that it is about, where there is one.
    pub(super) fn row<'r>(&self, rows: &'r [Row]) -> Option<&'r Row> {
        let key = match self {
            Self::Create(_) => return None,
            Self::Update(key, _) | Self::Delete(key) => *key,
            Self::Upsert(fields) => fields["id"].as_i64()?,
        };
        rows.iter().find(|row| row[0] == Value::Int(key))
    }
}

pub(super) struct Site {
    _dir: tempfile::TempDir,
    store: Store,
    gateway: Gateway,
    state: watch::Sender<Arc<DesiredState>>,
}

struct Control(StateWatch);

#[async_trait]
impl ControlPlane for Control {
    fn watch(&self) -> StateWatch {
        self.0.clone()
    }

    async fn reload_functions(&self) -> alyx_core::Result<usize> {
        Ok(0)
    }
}

impl Site {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let parsed = alyx_schema::parse(SCHEMA, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
        let path = dir.path().join("alyx.db");
        let store = Store::open_embedded(EmbeddedOptions::new(path), |_| {}).expect("a store");
        let steps = alyx_schema::plan(&Schema::default(), &parsed.schema).statements();
        let steps = steps
            .into_iter()
            .map(|sql| Statement::new(sql, Vec::new()))
            .collect();
        store.migrate(steps).await.expect("tables");
        let mut config = Config::default();
        config.server.host = "127.0.0.1".to_owned();
        config.server.port = 0;
        config.database.path = dir.path().join("alyx.db");
        let (state, watched) = watch::channel(Arc::new(DesiredState {
            revision: 1,
            schema_revision: 1,
            schema: Arc::new(parsed.schema),
            functions: Arc::default(),
        }));
        let gateway = Gateway::bind(GatewayParts {
            config: Arc::new(config),
            store: store.clone(),
            state: watched.clone(),
            control: Arc::new(Control(watched)),
            functions: None,
            realtime: None,
            peers: None,
            clock: Arc::new(SystemClock),
            checks: Vec::new(),
        });
        let gateway = gateway.await.expect("a gateway");
        Self {
            _dir: dir,
            store,
            gateway,
            state,
        }
    }

    fn desired(&self) -> Arc<DesiredState> {
        Arc::clone(&self.state.borrow())
    }

    fn collection(&self, name: &str) -> Arc<Collection> {
        Arc::clone(self.desired().schema.collection(name).expect("it is declared"))
    }

    /// Serves the schema with other rules.
    pub(super) fn set_rules(&self, items: RuleTexts, read_teams: Option<alyx_schema::RuleText>) {
        let desired = self.desired();
        let mut schema = Schema::clone(&desired.schema);
        let edit = |schema: &mut Schema, name: &str, rules: RuleTexts| {
            let collection = schema.collections.get_mut(name).expect("it is declared");
            Arc::make_mut(collection).rules = rules;
        };
        edit(&mut schema, "items", items);
        // A rule for items says nothing about teams; whether there is one is what matters here.
        let read = read_teams.map(|rule| alyx_schema::RuleText {
            text: if rule.text.len() % 2 == 0 {
                "doc.lead == auth.id"
            } else {
                "doc.name != null"
            }
            .into(),
            ..rule
        });
        edit(
            &mut schema,
            "teams",
            RuleTexts {
                read,
                ..RuleTexts::default()
            },
        );
        self.state.send_replace(Arc::new(DesiredState {
            schema_revision: desired.schema_revision + 1,
            schema: Arc::new(schema),
            ..DesiredState::clone(&desired)
        }));
    }

    /// The rules in words.
    pub(super) fn told(&self) -> String {
        let (items, teams) = (self.collection("items"), self.collection("teams"));
        let text = |rule: &Option<alyx_schema::RuleText>| rule.as_ref().map(|rule| rule.text.to_string());
        let rules = &items.rules;
        format!(
            "create {:?} read {:?} update {:?} delete {:?} teams {:?}",
            text(&rules.create),
            text(&rules.read),
            text(&rules.update),
            text(&rules.delete),
            text(&teams.rules.read)
        )
    }

    async fn write(&self, statements: Vec<Statement>) {
        let steps = statements.into_iter().map(|statement| WriteStep {
            statement,
            expect: Expect::Any,
        });
        let write = Write {
            steps: steps.collect(),
            deadline: soon(),
        };
        self.store.write(write).await.expect("a write");
    }

    /// Other documents.
    pub(super) async fn fill(&self, random: &mut Random) {
        let text = |random: &mut Random| {
            Value::from(Some(random.of(&["a", "b", "ab", ""])).filter(|text| !text.is_empty()))
        };
        let truth =
            |random: &mut Random| [Value::Null, Value::Int(0), Value::Int(1)][random.below(3)].clone();
        let mut statements: Vec<Statement> = ["items", "members", "teams"]
            .map(|name| Statement::new(format!("DELETE FROM {name}"), Vec::new()))
            .into();
        let (teams, members, items) = (
            self.collection("teams"),
            self.collection("members"),
            self.collection("items"),
        );
        for id in ["t", "u", "v"] {
            let row = vec![Value::text(id), text(random), truth(random), text(random)];
            statements.push(insert(&teams, row));
        }
        for _ in 0..3 {
            let team = Value::text(random.of(&["t", "u", "v"]));
            statements.push(insert(&members, vec![Value::Null, team, text(random)]));
        }
        for _ in 0..DOCUMENTS {
            let meta = random.of(&[
                "",
                "{}",
                r#"{"kind":"x","list":["a"]}"#,
                r#"{"kind":1,"list":"ab"}"#,
                r#"["a"]"#,
            ]);
            let team = random.of(&["t", "u", "v", ""]);
            statements.push(insert(
                &items,
                vec![
                    Value::Null,
                    text(random),
                    text(random),
                    Value::Int(i64::try_from(random.below(4)).expect("small")),
                    truth(random),
                    Value::from(Some(meta).filter(|meta| !meta.is_empty())),
                    Value::from(Some(team).filter(|team| !team.is_empty())),
                ],
            ));
        }
        self.write(statements).await;
    }

    async fn read(&self, statement: Statement) -> Vec<Row> {
        let read = Read {
            statements: vec![statement],
            cost: ReadCost::Scan,
            deadline: soon(),
        };
        let mut reply = self.store.read(read).await.expect("a read");
        reply.results.pop().expect("a result").rows
    }

    async fn all(&self, name: &str) -> Vec<Row> {
        let query = Query {
            collection: self.collection(name),
            filter: Filter::TRUE,
            sort: vec![SortKey {
                field: 0,
                descending: false,
            }],
            limit: 1000,
            offset: 0,
            fields: None,
        };
        self.read(query.select()).await
    }

    pub(super) async fn rows(&self) -> Vec<Row> {
        self.all("items").await
    }

    pub(super) fn key(&self, row: &Row) -> i64 {
        row[0].as_int().expect("a key")
    }

    pub(super) fn team(&self, row: &Row) -> Option<String> {
        row[6].as_text().map(str::to_owned)
    }

    pub(super) async fn visible_teams(&self, caller: &Caller) -> Vec<String> {
        let mut visible = Vec::new();
        for row in self.all("teams").await {
            if self
                .decides(caller, ("teams", Action::Read), &row, Incoming::Nothing)
                .await
            {
                visible.push(row[0].as_text().expect("a key").to_owned());
            }
        }
        visible
    }

    /// Teams of which it is known whether they are open.
    pub(super) async fn open_teams(&self) -> Vec<(String, bool)> {
        let rows = self.all("teams").await.into_iter();
        rows.filter_map(|row| Some((row[0].as_text()?.to_owned(), row[2].as_int()? == 1)))
            .collect()
    }

    /// What the rule says of a document that is known: nothing of it is SQL but what is asked about other documents.
    pub(super) async fn allows(
        &self,
        caller: &Caller,
        action: Action,
        row: &Row,
        incoming: Incoming<'_>,
    ) -> bool {
        self.decides(caller, ("items", action), row, incoming).await
    }

    async fn decides(
        &self,
        caller: &Caller,
        (name, action): (&str, Action),
        row: &Row,
        incoming: Incoming<'_>,
    ) -> bool {
        let desired = self.desired();
        let collection = self.collection(name);
        let rules = &collection.rules;
        let text = match action {
            Action::Create => &rules.create,
            Action::Read => &rules.read,
            Action::Update => &rules.update,
            Action::Delete => &rules.delete,
        };
        let (Some(text), true) = (text, caller.is_bound_by_rules()) else {
            return true;
        };
        let rule = Rule::compile(&desired.schema, &collection, action, &text.text)
            .unwrap_or_else(|problem| panic!("{}: {problem}", text.text));
        let facts = Facts {
            document: Some(row),
            incoming,
            ..Facts::of(caller, std::time::SystemTime::now())
        };
        match rule.decide(&collection, &facts) {
            Decision::Allow => true,
            Decision::Deny => false,
            Decision::Filter(filter) => !self.read(holds(&collection, &filter)).await.is_empty(),
        }
    }

    /// Whether a live query of the caller shows the document: what a subscription becomes under the rules, judged in memory
    /// with what realtime nodes ask the database about other documents.
    pub(super) async fn live(&self, caller: &Caller, row: &Row) -> bool {
        let desired = self.desired();
        let items = self.collection("items");
        let rules = self.gateway.app.rules.of(&desired.schema);
        let asked = ("items", &json!({}));
        let query = match RuledQuery::read(&rules, &desired, caller, asked) {
            Ok(ruled) => ruled.query(),
            Err(error) => {
                assert_eq!(error.code(), "FORBIDDEN", "{error}");
                return false;
            }
        };
        let rule = query.filter.normalize();
        let mut verdicts = Vec::new();
        for part in rule.elsewhere() {
            let value = part.field().map_or(Value::Null, |field| row[field].clone());
            if part.field().is_some() && value.is_null() {
                continue;
            }
            let held = self
                .read(referring(&items, part, std::slice::from_ref(&value)))
                .await;
            verdicts.push((part, value, !held.is_empty()));
        }
        let known = |part: Elsewhere<'_>, value: &Value| {
            let mut known = verdicts.iter();
            let verdict = known.find(|(known, of, _)| *known == part && of == value);
            verdict.map(|(.., holds)| *holds)
        };
        rule.judge(row, known).expect("everything is known")
    }

    pub(super) async fn call(&self, caller: &Caller, method: &str, path: &str, body: Option<&Json>) -> Reply {
        self.send(caller, (method, path), body, false).await
    }

    async fn send(
        &self,
        caller: &Caller,
        (method, path): (&str, &str),
        body: Option<&Json>,
        conditional: bool,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if conditional {
            request = request.header("if-match", "*");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.body(body).expect("a request");
        let tag = RequestTag::of(&HeaderMap::new());
        let identity = Identity {
            caller: caller.clone(),
            ..Identity::default()
        };
        let context = Context {
            app: &self.gateway.app,
            tag: &tag,
            started: Instant::now(),
            forwarded: false,
            identity: &identity,
            peer: None,
        };
        match dispatch(context, request).await {
            Ok(reply) => {
                let status = reply.status().as_u16();
                let body = axum::body::to_bytes(reply.into_body(), 1 << 20)
                    .await
                    .expect("a body");
                Reply {
                    status,
                    code: String::new(),
                    text: String::from_utf8_lossy(&body).into_owned(),
                    json: serde_json::from_slice(&body).unwrap_or_default(),
                }
            }
            Err(error) => Reply {
                status: error.kind().http_status(),
                code: error.code().to_owned(),
                text: error.to_string(),
                json: Json::Null,
            },
        }
    }

    /// What the rules say about a write.
    pub(super) async fn expected(&self, caller: &Caller, attempt: &Attempt, rows: &[Row]) -> bool {
        let items = self.collection("items");
        let now = "2026-01-01T00:00:00.000Z";
        let creates =
            |fields: &Json| read_create(&items, fields.to_string().as_bytes(), now).expect("it fits");
        let changes =
            |fields: &Json| read_update(&items, fields.to_string().as_bytes(), now).expect("it fits");
        match (attempt, attempt.row(rows)) {
            (Attempt::Create(fields), _) | (Attempt::Upsert(fields), None) => {
                let row = creates(fields);
                self.allows(caller, Action::Create, &row, Incoming::Row(&row))
                    .await
            }
            (Attempt::Update(_, fields) | Attempt::Upsert(fields), Some(row)) => {
                let changes = changes(fields);
                let incoming = Incoming::Changes {
                    changes: &changes,
                    sums: &[],
                };
                self.allows(caller, Action::Update, row, incoming).await
            }
            (Attempt::Delete(_), Some(row)) => {
                self.allows(caller, Action::Delete, row, Incoming::Nothing).await
            }
            (Attempt::Update(..) | Attempt::Delete(_), None) => false,
        }
    }

    /// Tries it: plainly, under a condition that any document passes, or in a batch. A condition is about a document
    /// that the caller may read, so it is left out where that would decide.
    pub(super) async fn attempt(&self, caller: &Caller, attempt: &Attempt, way: usize) -> Reply {
        let path = |key: &i64| {
            let mut text = Vec::new();
            key_to_json(&self.collection("items"), &Value::Int(*key), &mut text);
            format!("/api/collections/items/{}", String::from_utf8_lossy(&text))
        };
        let conditional = match attempt {
            Attempt::Update(key, _) | Attempt::Delete(key) if way == 1 => {
                self.call(caller, "GET", &path(key), None).await.status == 200
            }
            _ => false,
        };
        let batch = |operation: Json| json!({"operations": [operation]});
        match (attempt, way) {
            (Attempt::Create(fields), 2) => {
                let body = batch(json!({"op": "create", "collection": "items", "data": fields}));
                self.call(caller, "POST", "/api/batch", Some(&body)).await
            }
            (Attempt::Update(key, fields), 2) => {
                let body = batch(json!({"op": "update", "collection": "items", "id": key, "data": fields}));
                self.call(caller, "POST", "/api/batch", Some(&body)).await
            }
            (Attempt::Delete(key), 2) => {
                let body = batch(json!({"op": "delete", "collection": "items", "id": key}));
                self.call(caller, "POST", "/api/batch", Some(&body)).await
            }
            (Attempt::Upsert(fields), _) => {
                let body = batch(json!({"op": "upsert", "collection": "items", "data": fields}));
                self.call(caller, "POST", "/api/batch", Some(&body)).await
            }
            (Attempt::Create(fields), _) => {
                self.call(caller, "POST", "/api/collections/items", Some(fields))
                    .await
            }
            (Attempt::Update(key, fields), _) => {
                self.send(caller, ("PATCH", &path(key)), Some(fields), conditional)
                    .await
            }
            (Attempt::Delete(key), _) => self.send(caller, ("DELETE", &path(key)), None, conditional).await,
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}
