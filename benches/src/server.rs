//! The two servers, each with the same `messages` collection, and how to ask each for the same thing.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::client::{Connection, request};

/// Which product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Alyx,
    PocketBase,
}

/// Where a product is asked, and how.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) kind: Kind,
    pub(crate) address: String,
}

/// A running server with an empty `messages` collection.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) started_in: Duration,
    endpoint: Endpoint,
    child: Child,
    dir: TempDir,
}

impl std::ops::Deref for Server {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

pub(crate) const SCHEMA: &str = "collections:
  messages:
    fields:
      id: {type: uuid, primary: true, default: auto}
      channel: {type: string, index: true}
      author: {type: string}
      content: {type: text}
      created_at: {type: timestamp, default: now, index: true}
  accounts:
    fields:
      id: {type: uuid, primary: true, default: auto}
      owner: {type: string}
      balance: {type: int}
  teams:
    fields:
      name: {type: string}
  authors:
    fields:
      name: {type: string}
      team: {type: uuid, references: teams.id}
  articles:
    search: [title, body]
    fields:
      title: {type: string}
      body: {type: text}
      author: {type: uuid, references: authors.id}
      created_at: {type: timestamp, default: now, index: true}
  hits:
    fields:
      id: {type: int, primary: true, default: auto}
      page: {type: string, index: true}
  notes:
    rules:
      create: data.owner == auth.id
      read: doc.owner == auth.id
    fields: &note
      owner: {type: string}
      content: {type: text}
      created_at: {type: timestamp, default: now, index: true}
    indexes:
      - {name: notes-by-owner, fields: [owner, created_at], order: desc}
  open_notes:
    fields: *note
    indexes:
      - {name: open-notes-by-owner, fields: [owner, created_at], order: desc}
  writers:
    fields:
      name: {type: string}
  permissions:
    fields:
      writer: {type: uuid, index: true, references: writers.id}
      reader: {type: string, index: true}
  posts:
    rules:
      read: \"exists('permissions', {'writer': doc.writer.id, 'reader': auth.id})\"
    fields:
      title: {type: string}
      writer: {type: uuid, index: true, references: writers.id}
      created_at: {type: timestamp, default: now, index: true}
";

pub(crate) const CONFIG: &str = "database: {path: data.db}
realtime: {max_connections: 20000}
auth: {rate_limit: {register: {max: 1000}, login: {max: 1000}}}
functions: {path: functions, pools: {node: {min_warm: 1, max_instances: 1, concurrency: 64}}}
";

pub(crate) const FUNCTION: &str = "export default { handler(input) { return input; } };\n";

impl Server {
    /// Starts a server on an empty folder and waits until it is ready.
    pub(crate) async fn start(kind: Kind) -> Self {
        let server = match kind {
            Kind::Alyx => {
                let files = [
                    ("schema.yaml", SCHEMA),
                    ("alyx.yaml", CONFIG),
                    ("functions/echo.js", FUNCTION),
                ];
                return Self::start_with(&files).await;
            }
            Kind::PocketBase => Self::spawn(kind, tempfile::tempdir().expect("a temporary folder")).await,
        };
        server.make_collection().await;
        server
    }

    /// Starts Alyx on a folder of these files and waits until it is ready.
    pub(crate) async fn start_with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            std::fs::write(path, text).expect("a file");
        }
        Self::spawn(Kind::Alyx, dir).await
    }

    async fn spawn(kind: Kind, dir: TempDir) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let mut command = match kind {
            Kind::Alyx => alyx(dir.path(), port),
            Kind::PocketBase => pocketbase(dir.path(), &address),
        };
        let begin = Instant::now();
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let health = match kind {
            Kind::Alyx => "/health/ready",
            Kind::PocketBase => "/api/health",
        };
        loop {
            if tokio::net::TcpStream::connect(&address).await.is_ok() {
                let mut connection = Connection::open(&address).await;
                if connection.send(&request("GET", health, None, None)).await.status == 200 {
                    break;
                }
            }
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "{kind:?} does not get ready"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self {
            endpoint: Endpoint { kind, address },
            started_in: begin.elapsed(),
            child,
            dir,
        }
    }

    /// Writes a file of its folder as editors do: another file, then a rename.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let unfinished = self.dir.path().join(".unfinished");
        std::fs::write(&unfinished, text).expect("written");
        std::fs::rename(unfinished, self.dir.path().join(name)).expect("renamed");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A token of PocketBase's superuser.
    pub(crate) async fn superuser(&self) -> String {
        let login = json!({"identity": EMAIL, "password": PASSWORD}).to_string();
        let login = request(
            "POST",
            "/api/collections/_superusers/auth-with-password",
            None,
            Some(&login),
        );
        let reply = self.connect().await.expect(&login, 200).await.json();
        reply["token"].as_str().expect("a token").to_owned()
    }

    async fn make_collection(&self) {
        let token = self.superuser().await;
        let mut connection = self.connect().await;
        let text = |name: &str| json!({"name": name, "type": "text"});
        let collection = json!({
            "name": "messages", "type": "base",
            "listRule": "", "viewRule": "", "createRule": "", "updateRule": "", "deleteRule": "",
            "fields": [text("channel"), text("author"), text("content"),
                       {"name": "created", "type": "autodate", "onCreate": true}],
            "indexes": ["CREATE INDEX idx_channel ON messages (channel)", "CREATE INDEX idx_created ON messages (created)"],
        });
        let mut create = async |collection: serde_json::Value| -> String {
            let body = collection.to_string();
            let create = request("POST", "/api/collections", Some(&token), Some(&body));
            let made = connection.expect(&create, 200).await.json();
            made["id"].as_str().expect("an id").to_owned()
        };
        create(collection).await;
        let open = |name: &str, fields: serde_json::Value, indexes: serde_json::Value| {
            json!({
                "name": name, "type": "base",
                "listRule": "", "viewRule": "", "createRule": "", "updateRule": "", "deleteRule": "",
                "fields": fields, "indexes": indexes,
            })
        };
        let relation = |name: &str, to: &str| json!({"name": name, "type": "relation", "collectionId": to, "maxSelect": 1});
        let teams = create(open("teams", json!([text("name")]), json!([]))).await;
        let fields = json!([text("name"), relation("team", &teams)]);
        let authors = create(open("authors", fields, json!([]))).await;
        let created = json!({"name": "created", "type": "autodate", "onCreate": true});
        let fields = json!([text("title"), text("body"), relation("author", &authors), created]);
        let index = json!(["CREATE INDEX idx_articles_created ON articles (created)"]);
        create(open("articles", fields, index)).await;
    }
}

impl Endpoint {
    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.address).await
    }

    /// Path of the documents.
    pub(crate) fn documents(&self) -> &'static str {
        match self.kind {
            Kind::Alyx => "/api/collections/messages",
            Kind::PocketBase => "/api/collections/messages/records",
        }
    }

    /// Creates a document.
    pub(crate) fn create(&self, channel: &str, number: usize) -> Vec<u8> {
        let body = json!({
            "channel": channel,
            "author": "Alice",
            "content": format!("message number {number}: the quick brown fox jumps over the lazy dog"),
        });
        request("POST", self.documents(), None, Some(&body.to_string()))
    }

    /// The status of a successful creation.
    pub(crate) fn created(&self) -> u16 {
        match self.kind {
            Kind::Alyx => 201,
            Kind::PocketBase => 200,
        }
    }

    /// Reads a document.
    pub(crate) fn get(&self, id: &str) -> Vec<u8> {
        request("GET", &format!("{}/{id}", self.documents()), None, None)
    }

    /// Changes a document.
    pub(crate) fn update(&self, id: &str, number: usize) -> Vec<u8> {
        let body = json!({"content": format!("changed to number {number}")}).to_string();
        request("PATCH", &format!("{}/{id}", self.documents()), None, Some(&body))
    }

    /// The 20 newest documents.
    pub(crate) fn newest(&self, total: bool) -> Vec<u8> {
        let query = match (self.kind, total) {
            (Kind::Alyx, true) => "?sort=-created_at&limit=20",
            (Kind::Alyx, false) => "?sort=-created_at&limit=20&count=false",
            (Kind::PocketBase, true) => "?sort=-created&perPage=20",
            (Kind::PocketBase, false) => "?sort=-created&perPage=20&skipTotal=1",
        };
        request("GET", &format!("{}{query}", self.documents()), None, None)
    }

    /// Path of the documents of a collection.
    pub(crate) fn collection(&self, name: &str) -> String {
        match self.kind {
            Kind::Alyx => format!("/api/collections/{name}"),
            Kind::PocketBase => format!("/api/collections/{name}/records"),
        }
    }

    /// 20 of the newest articles with their authors and the authors' teams.
    pub(crate) fn expanded(&self) -> Vec<u8> {
        let query = match self.kind {
            Kind::Alyx => "?sort=-created_at&limit=20&count=false&expand=author.team",
            Kind::PocketBase => "?sort=-created&perPage=20&skipTotal=1&expand=author.team",
        };
        request(
            "GET",
            &format!("{}{query}", self.collection("articles")),
            None,
            None,
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const EMAIL: &str = "bench@example.com";
const PASSWORD: &str = "correct-horse-battery";

fn alyx(dir: &Path, port: u16) -> Command {
    let mut command = Command::new(beside("alyx"));
    command
        .args(["dev", "--host", "127.0.0.1", "--port", &port.to_string()])
        .current_dir(dir);
    command
}

fn pocketbase(dir: &Path, address: &str) -> Command {
    let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.cache/bench/bin/pocketbase");
    assert!(
        binary.exists(),
        "{} is missing: run scripts/install-bench-tools.sh",
        binary.display()
    );
    let data = dir.join("pb_data");
    let status = Command::new(&binary)
        .args(["superuser", "upsert", EMAIL, PASSWORD, "--dir"])
        .arg(&data)
        .stdout(Stdio::null())
        .status()
        .expect("PocketBase runs");
    assert!(status.success());
    let mut command = Command::new(binary);
    command.args(["serve", "--http", address, "--dir"]).arg(&data);
    command
}

/// A binary that was built beside this one.
pub(crate) fn beside(name: &str) -> PathBuf {
    let built = std::env::current_exe().expect("own path").with_file_name(name);
    assert!(
        built.exists(),
        "{} is missing: run `make build` first",
        built.display()
    );
    built
}
