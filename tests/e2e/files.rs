//! Files in buckets: uploaded, described, read and deleted, by whom the rules let.

use alyx_tests::{Form, Http, Project, Reply, Server, eventually};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    a_file_lives_through_upload_download_view_and_delete,
    a_file_is_what_its_bytes_say_and_harmless_in_a_browser,
    rules_of_buckets_decide_about_each_file,
    lists_search_page_and_delete_several,
    a_file_that_was_acknowledged_is_there_after_kill_nine,
    files_are_expanded_for_whom_their_bucket_lets_see_them,
    a_link_opens_one_file_in_one_way,
    a_link_that_was_changed_or_has_expired_opens_nothing,
}

const SCHEMA: &str = "
collections:
  users:
    fields:
      id: {type: string, primary: true}
      avatar: {type: file, nullable: true, file: {bucket: images}}
      paper: {type: file, nullable: true, file: {bucket: private}}
  members:
    fields:
      id: {type: string, primary: true}
      user_id: {type: string, index: true}
buckets:
  any: {backend: local}
  images: {backend: local, max_file_size: 20kb, allowed_types: [image/*]}
  private:
    backend: local
    rules:
      create: auth.id != null && file.size < 100
      read: file.uploader_id == auth.id || file.metadata.shared == 'yes'
      download: file.uploader_id == auth.id
      delete: file.uploader_id == auth.id && file.mime_type.startsWith('text/')
  members:
    backend: local
    rules:
      create: \"exists('members', {'user_id': auth.id})\"
      read: true
      delete: false
";
/// Of the text that is uploaded first.
const CHECKSUM: &str = "c9afa8f555bcb1a16869666782d21bbc9abdab9f76a999d8b4dd9010ebdb4707";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

async fn start(form: Form) -> (Project, Server) {
    let project = Project::with_schema(SCHEMA);
    let server = restart(form, &project).await;
    (project, server)
}

/// Gateways share the folder of files, as they must.
async fn restart(form: Form, project: &Project) -> Server {
    let files = project.path().join("files");
    let env = [
        ("ALYX_AUTH_JWT_SECRET", "a secret of the tests, 32 bytes or more"),
        ("ALYX_STORAGE_PATH", files.to_str().expect("a path")),
    ];
    form.start_with(project, &env).await
}

struct Upload<'a> {
    name: &'a str,
    kind: Option<&'a str>,
    bytes: &'a [u8],
    metadata: &'a [(&'a str, &'a str)],
}

impl<'a> Upload<'a> {
    fn of(name: &'a str, bytes: &'a [u8]) -> Self {
        Self {
            name,
            kind: None,
            bytes,
            metadata: &[],
        }
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (key, text) in self.metadata {
            let part =
                format!("--b\r\nContent-Disposition: form-data; name=\"metadata[{key}]\"\r\n\r\n{text}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\n",
            self.name
        );
        body.extend_from_slice(head.as_bytes());
        if let Some(kind) = self.kind {
            body.extend_from_slice(format!("Content-Type: {kind}\r\n").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(self.bytes);
        body.extend_from_slice(b"\r\n--b--\r\n");
        body
    }
}

async fn upload(http: &Http, bucket: &str, form: &Upload<'_>, bearer: Option<&str>) -> Reply {
    let mut headers = vec![("content-type", "multipart/form-data; boundary=b")];
    headers.extend(bearer.map(|bearer| ("authorization", bearer)));
    http.send(
        Method::POST,
        &format!("/api/files/{bucket}"),
        &headers,
        form.body(),
    )
    .await
}

#[track_caller]
fn created(reply: &Reply) -> Value {
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()
}

fn path_of(file: &Value) -> String {
    let text = |name: &str| file[name].as_str().expect("a text").to_owned();
    format!("/api/files/{}/{}", text("bucket"), text("id"))
}

async fn a_file_lives_through_upload_download_view_and_delete(form: Form) {
    let (project, server) = start(form).await;
    let http = server.http();
    let text = "Grüße, Welt\n".repeat(1000);
    let form = Upload {
        metadata: &[("album", "summer")],
        ..Upload::of("grüße.txt", text.as_bytes())
    };
    let file = created(&upload(&http, "any", &form, None).await);
    assert_eq!(file["name"], "grüße.txt");
    assert_eq!(file["size"], text.len());
    assert_eq!(file["mime_type"], "text/plain; charset=utf-8");
    assert_eq!(file["metadata"], json!({"album": "summer"}));
    assert_eq!(file["uploader_id"], Value::Null);
    assert_eq!(file["checksum"], CHECKSUM);
    let path = path_of(&file);
    // Each gateway serves what any of them took.
    for _ in 0..4 {
        assert_eq!(http.get(&path).await.json(), file);
        let download = http.get(&format!("{path}/download")).await;
        assert_eq!((download.status, download.text.as_str()), (200, text.as_str()));
        assert!(
            download.header("content-disposition").starts_with("attachment; "),
            "{download:?}"
        );
        let view = http.get(&format!("{path}/view")).await;
        assert_eq!((view.status, view.text.as_str()), (200, text.as_str()));
        assert!(
            view.header("content-disposition").starts_with("inline; "),
            "{view:?}"
        );
        assert_eq!(view.header("x-content-type-options"), "nosniff");
    }
    let range = [("range", "bytes=-6")];
    let part = http
        .send(Method::GET, &format!("{path}/download"), &range, "")
        .await;
    assert_eq!((part.status, part.text.as_str()), (206, " Welt\n"));
    assert_eq!(http.delete(&path).await.status, 204);
    for suffix in ["", "/download", "/view"] {
        let gone = http.get(&format!("{path}{suffix}")).await;
        assert_eq!(
            (gone.status, gone.code().as_str()),
            (404, "FILE_NOT_FOUND"),
            "{suffix}"
        );
    }
    assert_eq!(http.delete(&path).await.status, 404);
    let folder = project.path().join("files/any");
    eventually("its bytes are gone", async || {
        let left = std::fs::read_dir(&folder).map(|entries| entries.count());
        if matches!(left, Ok(0)) { Ok(()) } else { Err(left) }
    })
    .await;
}

async fn a_file_is_what_its_bytes_say_and_harmless_in_a_browser(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let too_large = vec![b'x'; 21 * 1024];
    for (bucket, name, bytes, status, code) in [
        (
            "images",
            "page.png",
            &b"<!doctype html><script>1</script>"[..],
            415,
            "FILE_TYPE_NOT_ALLOWED",
        ),
        ("images", "x.png", b"no picture", 415, "FILE_TYPE_NOT_ALLOWED"),
        ("images", "x.png", &too_large, 413, "FILE_TOO_LARGE"),
        ("images", "../x.png", PNG, 400, "INVALID_FILE_NAME"),
        ("nothing", "x.png", PNG, 404, "BUCKET_NOT_FOUND"),
    ] {
        let refused = upload(&http, bucket, &Upload::of(name, bytes), None).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{name}"
        );
    }
    created(&upload(&http, "images", &Upload::of("x", PNG), None).await);
    for (name, kind, bytes, expected, active) in [
        (
            "data.json",
            Some("application/json"),
            &b"{\"a\": 1}"[..],
            "application/json",
            false,
        ),
        (
            "film.mp4",
            Some("video/mp4"),
            b"\0\0\0\x18ftypisom",
            "video/mp4",
            false,
        ),
        (
            "drawing.svg",
            Some("image/svg+xml"),
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "image/svg+xml",
            true,
        ),
        (
            "notes.txt",
            Some("text/plain"),
            b"<html><script>alert(1)</script>",
            "text/html; charset=utf-8",
            true,
        ),
    ] {
        let form = Upload {
            kind,
            ..Upload::of(name, bytes)
        };
        let file = created(&upload(&http, "any", &form, None).await);
        assert_eq!(file["mime_type"], expected, "{name}");
        let view = http.get(&format!("{}/view", path_of(&file))).await;
        assert_eq!(view.header("content-type"), expected);
        let policy = view.header("content-security-policy");
        assert_eq!(
            policy.contains("sandbox") && policy.contains("default-src 'none'"),
            active,
            "{name}: {policy}"
        );
    }
}

struct Person {
    id: String,
    bearer: String,
}

async fn register(http: &Http, email: &str) -> Person {
    let body = json!({"email": email, "password": "correct horse"});
    let told = http.post("/api/auth/register", &body).await.json();
    Person {
        id: told["user"]["id"].as_str().expect("an id").to_owned(),
        bearer: format!("Bearer {}", told["access_token"].as_str().expect("a token")),
    }
}

async fn rules_of_buckets_decide_about_each_file(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let (ann, bob) = (
        register(&http, "ann@x.io").await,
        register(&http, "bob@x.io").await,
    );
    let ask = async |method: Method, path: &str, person: &Person| {
        http.send(method, path, &[("authorization", person.bearer.as_str())], "")
            .await
    };
    let note = Upload::of("note.txt", b"note");
    let nobody = upload(&http, "private", &note, None).await;
    assert_eq!((nobody.status, nobody.code().as_str()), (403, "FORBIDDEN"));
    let large = upload(
        &http,
        "private",
        &Upload::of("large", &[b'x'; 100]),
        Some(&ann.bearer),
    )
    .await;
    assert_eq!((large.status, large.code().as_str()), (403, "FORBIDDEN"));

    let own = created(&upload(&http, "private", &note, Some(&ann.bearer)).await);
    assert_eq!(own["uploader_id"], ann.id.as_str());
    let shared = Upload {
        metadata: &[("shared", "yes")],
        ..Upload::of("shared.png", PNG)
    };
    let shared = created(&upload(&http, "private", &shared, Some(&ann.bearer)).await);
    for (file, action, person, status) in [
        (&own, "", &ann, 200),
        (&own, "/download", &ann, 200),
        (&own, "", &bob, 404),
        (&own, "/download", &bob, 404),
        (&own, "/view", &bob, 404),
        (&shared, "", &bob, 200),
        (&shared, "/download", &bob, 403),
        (&shared, "/view", &ann, 200),
    ] {
        let reply = ask(Method::GET, &format!("{}{action}", path_of(file)), person).await;
        assert_eq!(reply.status, status, "{action} {reply:?}");
    }
    for (person, names) in [
        (&ann, json!(["shared.png", "note.txt"])),
        (&bob, json!(["shared.png"])),
    ] {
        let list = ask(Method::GET, "/api/files/private", person).await.json();
        let listed: Vec<&Value> = list["files"]
            .as_array()
            .expect("files")
            .iter()
            .map(|file| &file["name"])
            .collect();
        assert_eq!(
            (json!(listed), &list["total"]),
            (names.clone(), &json!(names.as_array().map(Vec::len)))
        );
    }
    for (file, person, status) in [
        (&own, &bob, 404),
        (&shared, &bob, 403),
        (&shared, &ann, 403),
        (&own, &ann, 204),
    ] {
        let reply = ask(Method::DELETE, &path_of(file), person).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }

    // A rule that asks about documents is checked with the row.
    let refused = upload(&http, "members", &note, Some(&ann.bearer)).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "FORBIDDEN"));
    let member = json!({"id": "m1", "user_id": ann.id});
    assert_eq!(http.post("/api/collections/members", &member).await.status, 201);
    let file = created(&upload(&http, "members", &note, Some(&ann.bearer)).await);
    let kept = ask(Method::DELETE, &path_of(&file), &ann).await;
    assert_eq!((kept.status, kept.code().as_str()), (403, "FORBIDDEN"));
    assert_eq!(http.get("/api/files/members").await.json()["total"], 1);
}

async fn lists_search_page_and_delete_several(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let empty = http.get("/api/files/any").await.json();
    assert_eq!(empty, json!({"files": [], "limit": 100, "offset": 0, "total": 0}));
    let mut ids = Vec::new();
    for (name, bytes) in [
        ("Report.txt", &b"a"[..]),
        ("photo.png", PNG),
        ("report-2.txt", b"bb"),
        ("other.txt", b"ccc"),
    ] {
        ids.push(created(&upload(&http, "any", &Upload::of(name, bytes), None).await)["id"].clone());
    }
    let names = async |query: &str| -> (Value, Value) {
        let list = http.get(&format!("/api/files/any?{query}")).await.json();
        let files = list["files"]
            .as_array()
            .unwrap_or_else(|| panic!("{query}: {list}"));
        let names: Vec<&Value> = files.iter().map(|file| &file["name"]).collect();
        (json!(names), list["total"].clone())
    };
    let newest_first = json!(["other.txt", "report-2.txt", "photo.png", "Report.txt"]);
    assert_eq!(names("").await, (newest_first, json!(4)));
    assert_eq!(
        names("search=REPORT").await,
        (json!(["report-2.txt", "Report.txt"]), json!(2))
    );
    assert_eq!(names("mime_type=image/").await, (json!(["photo.png"]), json!(1)));
    assert_eq!(
        names("limit=1&offset=1&sort=size").await,
        (json!(["report-2.txt"]), json!(4))
    );
    assert_eq!(
        names("filter=size:gt:2&mime_type=text/*").await,
        (json!(["other.txt"]), json!(1))
    );
    let first = http.get("/api/files/any?limit=3").await.json();
    let next = first["next"].as_str().expect("another page");
    assert_eq!(
        names(&format!("limit=3&after={next}")).await.0,
        json!(["Report.txt"])
    );
    for (query, code) in [
        ("limit=x", "INVALID_QUERY"),
        ("bucket:x", "INVALID_QUERY"),
        ("filter=backend:eq:local", "INVALID_FILTER"),
    ] {
        let refused = http.get(&format!("/api/files/any?{query}")).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{query}");
    }
    let unknown = "0199c3f2-0000-7000-8000-000000000000";
    let body = json!({"ids": [ids[0], ids[1], unknown, "../x"]});
    let path = "/api/files/any/batch";
    let done = http
        .send(Method::DELETE, path, &[], body.to_string())
        .await
        .json();
    let failed =
        json!([{"id": "../x", "error": "FILE_NOT_FOUND"}, {"id": unknown, "error": "FILE_NOT_FOUND"}]);
    assert_eq!(done, json!({"deleted": 2, "failed": failed}));
    let none = http.send(Method::DELETE, path, &[], "{}").await;
    assert_eq!((none.status, none.code().as_str()), (400, "IDS_REQUIRED"));
    assert_eq!(names("").await, (json!(["other.txt", "report-2.txt"]), json!(2)));
}

async fn a_file_that_was_acknowledged_is_there_after_kill_nine(form: Form) {
    let (project, server) = start(form).await;
    let lanes = (0..6).map(|lane| {
        let http = server.http();
        async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let text = format!("{lane}-{number} ").repeat(2000);
                let form = Upload::of("x.txt", text.as_bytes()).body();
                let headers = [("content-type", "multipart/form-data; boundary=b")];
                match http
                    .try_send(Method::POST, "/api/files/any", &headers, form)
                    .await
                {
                    Ok(reply) if reply.status == 201 => acknowledged.push((reply.json(), text)),
                    Ok(reply) => panic!("{reply:?}"),
                    Err(_) => return acknowledged,
                }
            }
            unreachable!("the server is killed")
        }
    });
    // Made now, so that none of them holds on to the server.
    let load = futures_util::future::join_all(lanes);
    let probe = server.http();
    let kill = async {
        eventually("some files are there", async || {
            let total = probe.get("/api/files/any?limit=0").await.json()["total"].clone();
            if total.as_u64() >= Some(40) {
                Ok(())
            } else {
                Err(total)
            }
        })
        .await;
        server.kill().await;
    };
    let (acknowledged, ()) = tokio::join!(load, kill);
    let server = restart(form, &project).await;
    let http = server.http();
    assert!(acknowledged.iter().flatten().count() > 30);
    for (file, text) in acknowledged.iter().flatten() {
        let path = path_of(file);
        assert_eq!(&http.get(&path).await.json(), file);
        let content = http.get(&format!("{path}/download")).await;
        assert!(
            content.status == 200 && content.text == *text,
            "{file}: {content:?}"
        );
    }
    // No row is without its bytes, not even of what nobody was told of.
    let mut after = String::new();
    loop {
        let page = http.get(&format!("/api/files/any?limit=50{after}")).await.json();
        for file in page["files"].as_array().expect("files") {
            let content = http.get(&format!("{}/download", path_of(file))).await;
            assert_eq!(content.text.len(), file["size"], "{file}");
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
}

async fn files_are_expanded_for_whom_their_bucket_lets_see_them(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let users = "/api/collections/users";
    let image = created(&upload(&http, "images", &Upload::of("x", PNG), None).await);
    let ann = register(&http, "ann@x.io").await;
    let paper = created(&upload(&http, "private", &Upload::of("p.txt", b"p"), Some(&ann.bearer)).await);
    let user = json!({"id": "u1", "avatar": image["id"], "paper": paper["id"]});
    assert_eq!(http.post(users, &user).await.status, 201);
    // A file of another bucket is none of the field's.
    let other = json!({"id": "u2", "avatar": paper["id"]});
    assert_eq!(http.post(users, &other).await.status, 201);

    let path = format!("{users}/u1?expand=paper,avatar");
    let anybody = http.get(&path).await.json();
    assert_eq!((&anybody["paper"], &anybody["avatar"]), (&paper["id"], &image));
    let own = [("authorization", ann.bearer.as_str())];
    let own = http.send(Method::GET, &path, &own, "").await.json();
    assert_eq!((&own["paper"], &own["avatar"]), (&paper, &image));
    let listed = http.get(&format!("{users}?expand=avatar&sort=id")).await.json();
    assert_eq!(
        (&listed["docs"][0]["avatar"], &listed["docs"][1]["avatar"]),
        (&image, &paper["id"])
    );
    let unknown = http.get(&format!("{users}?expand=avatar.name")).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "INVALID_QUERY"));
    assert_eq!(http.delete(&path_of(&image)).await.status, 204);
    let gone = http.get(&path).await.json();
    assert_eq!(gone["avatar"], image["id"]);
}

async fn a_link_opens_one_file_in_one_way(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let (ann, bob) = (
        register(&http, "ann@x.io").await,
        register(&http, "bob@x.io").await,
    );
    let paper = Upload::of("a.txt", b"for Ann's friends");
    let file = created(&upload(&http, "private", &paper, Some(&ann.bearer)).await);
    let path = path_of(&file);
    assert_eq!(
        sign(&http, &path, "", &bob).await.status,
        404,
        "who may not read it gets no link"
    );
    let link = sign(&http, &path, "", &ann).await.json();
    let (url, token) = (
        link["url"].as_str().expect("a URL"),
        link["token"].as_str().expect("a token"),
    );
    assert!(url.starts_with("http://"), "{url}");
    assert!(url.ends_with(&format!("{path}/download?token={token}")), "{url}");
    assert_eq!(
        http.get(&format!("{path}/download")).await.status,
        403,
        "without the link it is private"
    );
    // At every gateway, and to nobody in particular.
    for _ in 0..3 {
        let opened = http.get(&format!("{path}/download?token={token}")).await;
        assert_eq!(
            (opened.status, opened.text.as_str()),
            (200, "for Ann's friends"),
            "{opened:?}"
        );
    }
    let opened = Http::new("").get(url).await;
    assert_eq!(
        (opened.status, opened.text.as_str()),
        (200, "for Ann's friends"),
        "{opened:?}"
    );
    let gone = http
        .send(Method::DELETE, &path, &[("authorization", &ann.bearer)], "")
        .await;
    assert_eq!(gone.status, 204);
    assert_eq!(
        http.get(&format!("{path}/download?token={token}")).await.status,
        404
    );
}

async fn a_link_that_was_changed_or_has_expired_opens_nothing(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let ann = register(&http, "ann@x.io").await;
    let paper = |name| Upload::of(name, b"for Ann's friends");
    let file = created(&upload(&http, "private", &paper("a.txt"), Some(&ann.bearer)).await);
    let other = created(&upload(&http, "private", &paper("b.txt"), Some(&ann.bearer)).await);
    let path = path_of(&file);
    let link = sign(&http, &path, "", &ann).await.json();
    let token = link["token"].as_str().expect("a token");
    let tampered = format!(
        "{}{}",
        &token[..token.len() - 1],
        if token.ends_with('A') { 'B' } else { 'A' }
    );
    for refused in [
        format!("{path}/view?token={token}"),
        format!("{}/download?token={token}", path_of(&other)),
        format!("{path}/download?token={tampered}"),
        format!("{path}/download?token="),
    ] {
        let refused = http.get(&refused).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "INVALID_TOKEN"));
    }
    let brief = sign(&http, &path, "expiry=1s&operation=view", &ann).await.json();
    let brief = format!("{path}/view?token={}", brief["token"].as_str().expect("a token"));
    eventually("the link expires", async || {
        let reply = http.get(&brief).await;
        if reply.status == 200 {
            return Err(reply);
        }
        assert_eq!((reply.status, reply.code().as_str()), (401, "TOKEN_EXPIRED"));
        Ok(())
    })
    .await;
    for (query, code) in [
        ("expiry=-1m", "INVALID_EXPIRY"),
        ("operation=delete", "INVALID_OPERATION"),
    ] {
        let refused = sign(&http, &path, query, &ann).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, code));
    }
}

async fn sign(http: &Http, path: &str, query: &str, person: &Person) -> Reply {
    let headers = [("authorization", person.bearer.as_str())];
    http.send(Method::GET, &format!("{path}/sign?{query}"), &headers, "")
        .await
}
