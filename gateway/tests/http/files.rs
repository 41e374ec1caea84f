//! Files over HTTP: what is refused, and when; and what is left behind by what broke off.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::site::{Reply, Setup, Site};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nnot much of a picture";

/// A form with one file.
fn form(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut form =
        format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n")
            .into_bytes();
    form.extend_from_slice(bytes);
    form.extend_from_slice(b"\r\n--b--\r\n");
    form
}

impl Site {
    async fn upload(&self, bucket: &str, name: &str, bytes: &[u8]) -> Reply {
        self.send_form(bucket, form(name, bytes)).await
    }

    async fn send_form(&self, bucket: &str, form: Vec<u8>) -> Reply {
        let request = self
            .request("POST", &format!("/api/files/{bucket}"))
            .header("content-type", "multipart/form-data; boundary=b");
        self.send(request, form).await
    }

    /// Every file below the folder of files, but for the mark of the folder.
    fn kept(&self) -> Vec<PathBuf> {
        let walk = walkdir::WalkDir::new(self.dir.path().join("files"))
            .into_iter()
            .flatten();
        let files = walk.filter(|entry| entry.file_type().is_file());
        let files = files.filter(|entry| !entry.file_name().to_string_lossy().starts_with(".alyx-"));
        files.map(walkdir::DirEntry::into_path).collect()
    }
}

/// Waits until it holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < patience, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_upload_is_larger_than_other_bodies_may_be_and_comes_back_as_it_was() {
    let site = Site::start().await;
    let bytes: Vec<u8> = PNG.iter().copied().cycle().take(900_000).collect();
    let made = site.upload("images", "photo.png", &bytes).await;
    assert_eq!(made.status, 201, "{made:?}");
    let file = made.json();
    assert_eq!(
        (&file["size"], &file["mime_type"]),
        (&json!(900_000), &json!("image/png"))
    );
    let path = format!("/api/files/images/{}", file["id"].as_str().expect("an id"));
    assert_eq!(site.get(&path).await.json(), file);
    let kept = site.kept();
    assert_eq!(kept.len(), 1);
    assert!(std::fs::read(&kept[0]).expect("read") == bytes);
    let gone = site.call("DELETE", &path, &Json::Null).await;
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    for suffix in ["", "/download", "/view"] {
        let missing = site.get(&format!("{path}{suffix}")).await;
        assert_eq!(missing.refusal(), (404, "FILE_NOT_FOUND".to_owned()), "{suffix}");
    }
    until("its bytes are gone", || site.kept().is_empty()).await;
}

#[tokio::test]
async fn what_is_refused_says_why_and_leaves_nothing_behind() {
    let site = Site::start().await;
    let check = async |bucket: &str, name: &str, bytes: &[u8], expected: (u16, &str)| {
        let refused = site.upload(bucket, name, bytes).await;
        assert_eq!(
            refused.refusal(),
            (expected.0, expected.1.to_owned()),
            "{bucket} {name}"
        );
    };
    check("none", "a", b"a", (404, "BUCKET_NOT_FOUND")).await;
    check("..%2Fimages", "a", b"a", (404, "BUCKET_NOT_FOUND")).await;
    check("closed", "a", b"a", (403, "FORBIDDEN")).await;
    check("lost", "a", b"a", (503, "STORAGE_UNKNOWN")).await;
    check(
        "images",
        "a.png",
        &vec![0; (1 << 20) + 1],
        (413, "FILE_TOO_LARGE"),
    )
    .await;
    check("images", "a.pdf", b"%PDF-1.7", (415, "FILE_TYPE_NOT_ALLOWED")).await;
    check(
        "images",
        "a.png",
        b"\0\x01 no picture",
        (415, "FILE_TYPE_NOT_ALLOWED"),
    )
    .await;
    for name in ["../../etc/passwd", "/etc/passwd", "C:\\x", "a/b", ".."] {
        check("images", name, PNG, (400, "INVALID_FILE_NAME")).await;
    }
    check("tight", "a", &[b'x'; 101], (413, "BUCKET_FULL")).await;
    for (form, code) in [
        (
            &b"--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--b--"[..],
            "INVALID_FORM",
        ),
        (b"--b--", "FILE_REQUIRED"),
        (b"no form", "BODY_INCOMPLETE"),
        (
            b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nbroken off",
            "BODY_INCOMPLETE",
        ),
    ] {
        let refused = site.send_form("images", form.to_vec()).await;
        assert_eq!(refused.refusal(), (400, code.to_owned()));
    }
    let twice = [form("a.txt", b"a"), form("b.txt", b"b")].concat();
    let twice = String::from_utf8(twice)
        .expect("text")
        .replacen("--b--\r\n", "", 1);
    let refused = site.send_form("images", twice.into_bytes()).await;
    assert_eq!(refused.refusal(), (400, "INVALID_FORM".to_owned()));
    let json = site.call("POST", "/api/files/images", &json!({})).await;
    assert_eq!(json.refusal(), (400, "INVALID_FORM".to_owned()));
    assert_eq!(site.get("/api/files/images").await.json()["total"], 0);
    until("nothing is left", || site.kept().is_empty()).await;
}

#[tokio::test]
async fn who_may_upload_nothing_is_refused_before_anything_is_read() {
    let site = Site::start().await;
    for (bucket, length, expected) in [
        ("closed", 1_u64 << 40, StatusCode::FORBIDDEN),
        ("none", 1 << 40, StatusCode::NOT_FOUND),
        ("images", 1 << 40, StatusCode::PAYLOAD_TOO_LARGE),
        ("papers", 1 << 40, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let mut socket = TcpStream::connect(site.address).await.expect("a connection");
        let head = format!(
            "POST /api/files/{bucket} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\
             Content-Length: {length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.expect("sent");
        let mut start = [0; 12];
        socket.read_exact(&mut start).await.expect("an answer");
        let told = String::from_utf8_lossy(&start).into_owned();
        assert_eq!(told, format!("HTTP/1.1 {}", expected.as_u16()), "{bucket}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let site = Site::start().await;
    let mut socket = TcpStream::connect(site.address).await.expect("a connection");
    let head = "POST /api/files/papers HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\
                Content-Length: 1000000\r\n\r\n--b\r\nContent-Disposition: form-data; name=file\r\n\r\n";
    socket.write_all(head.as_bytes()).await.expect("sent");
    socket.write_all(&[b'x'; 100_000]).await.expect("sent");
    until("it is being received", || !site.kept().is_empty()).await;
    drop(socket);
    until("it is gone", || site.kept().is_empty()).await;
    assert_eq!(site.get("/api/files/papers").await.json()["total"], 0);
}

#[tokio::test]
async fn what_no_row_knows_of_is_swept_once_it_is_old_and_nothing_else() {
    const FORGOTTEN: &str = "0199c3f2-0000-7000-8000-000000000009";
    let mut setup = Setup::default();
    setup.config.storage.sweep_interval = Duration::from_secs(1);
    let site = setup.start().await;
    let made = site.upload("papers", "kept.txt", b"kept").await;
    assert_eq!(made.status, 201, "{made:?}");
    let kept = site.kept().pop().expect("a file");
    let folder = kept.parent().expect("a folder").to_path_buf();
    let (old, young) = (folder.join(FORGOTTEN), folder.join(FORGOTTEN.replace('9', "8")));
    let broken = site.dir.path().join("files/.incoming/broken");
    let foreign = folder.join("notes.txt");
    for path in [&old, &young, &broken, &foreign] {
        std::fs::write(path, "x").expect("written");
    }
    let before = std::time::SystemTime::now() - Duration::from_secs(7200);
    for path in [&old, &broken, &foreign, &kept] {
        let file = std::fs::File::options().append(true).open(path).expect("a file");
        file.set_modified(before).expect("an older one");
    }
    until("what is forgotten is gone", || !old.exists() && !broken.exists()).await;
    assert!(kept.exists() && young.exists() && foreign.exists());
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let figures = site.get("/metrics").await.text;
        assert!(figures.contains("alyx_files_uploads_total 1"), "{figures}");
        if figures.contains("alyx_files_removed_total{reason=\"orphaned\"} 2") {
            break;
        }
        assert!(Instant::now() < patience, "{figures}");
    }
}

#[tokio::test]
async fn a_bucket_holds_no_more_than_it_may_and_frees_what_is_deleted() {
    let site = Site::start().await;
    let first = site.upload("tight", "a", &[b'x'; 60]).await.json();
    assert_eq!(
        site.upload("tight", "b", &[b'x'; 41]).await.refusal(),
        (413, "BUCKET_FULL".to_owned())
    );
    assert_eq!(site.upload("tight", "b", &[b'x'; 40]).await.status, 201);
    let path = format!("/api/files/tight/{}", first["id"].as_str().expect("an id"));
    assert_eq!(site.call("DELETE", &path, &Json::Null).await.status, 204);
    assert_eq!(site.upload("tight", "c", &[b'x'; 60]).await.status, 201);
    until("two are kept", || site.kept().len() == 2).await;
}

#[tokio::test]
async fn a_range_a_tag_and_a_head_are_answered() {
    let site = Site::start().await;
    let made = site.upload("papers", "digits.txt", b"0123456789").await.json();
    let path = format!(
        "/api/files/papers/{}/download",
        made["id"].as_str().expect("an id")
    );
    let tag = format!("\"{}\"", made["checksum"].as_str().expect("a checksum"));
    let with = async |method: &str, headers: &[(&str, &str)]| {
        let mut request = site.request(method, &path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        site.send(request, "").await
    };
    let whole = with("GET", &[]).await;
    assert_eq!((whole.status, whole.text.as_str()), (200, "0123456789"));
    assert_eq!(whole.header("etag"), tag);
    assert_eq!(whole.header("content-length"), "10");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    assert_eq!(whole.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(
        whole.header("content-disposition"),
        "attachment; filename=\"digits.txt\"; filename*=UTF-8''digits.txt"
    );
    let part = with("GET", &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status, part.text.as_str()), (206, "234"));
    assert_eq!(
        (part.header("content-range"), part.header("content-length")),
        ("bytes 2-4/10", "3")
    );
    let end = with("GET", &[("range", "bytes=-2"), ("if-range", &tag)]).await;
    assert_eq!((end.status, end.text.as_str()), (206, "89"));
    assert_eq!(
        with("GET", &[("range", "bytes=-2"), ("if-range", "\"old\"")])
            .await
            .status,
        200
    );
    let beyond = with("GET", &[("range", "bytes=10-")]).await;
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, "bytes */10")
    );
    let known = with("GET", &[("if-none-match", &tag)]).await;
    assert_eq!(
        (known.status, known.text.as_str(), known.header("etag")),
        (304, "", tag.as_str())
    );
    assert_eq!(with("GET", &[("if-match", "\"old\"")]).await.refusal().0, 412);
    let head = with("HEAD", &[]).await;
    assert_eq!(
        (head.status, head.text.as_str(), head.header("content-length")),
        (200, "", "10")
    );
    let head = with("HEAD", &[("range", "bytes=0-0")]).await;
    assert_eq!((head.status, head.header("content-length")), (206, "1"));
    let empty = site.upload("papers", "empty", b"").await.json();
    let path = format!(
        "/api/files/papers/{}/download",
        empty["id"].as_str().expect("an id")
    );
    let empty = site.get(&path).await;
    assert_eq!((empty.status, empty.text.as_str()), (200, ""));
}
