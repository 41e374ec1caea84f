//! The frontend beside the API: built files, and a development server behind the proxy.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::site::{Setup, Site};

const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

async fn with_files() -> (tempfile::TempDir, Site) {
    let dist = tempfile::tempdir().expect("a folder");
    std::fs::write(dist.path().join("index.html"), "<p>home</p>").expect("a file");
    std::fs::write(dist.path().join("app.js"), "let a").expect("a file");
    let mut setup = Setup::default();
    setup.config.frontend.dist = Some(dist.path().to_path_buf());
    (dist, setup.start().await)
}

#[tokio::test]
async fn pages_come_from_the_folder_and_the_api_never_does() {
    let (_dist, site) = with_files().await;
    let html = |path: &str| site.request("GET", path).header("accept", HTML);
    for path in ["/", "/index.html", "/rooms/general"] {
        let page = site.send(html(path), "").await;
        assert_eq!((page.status, page.text.as_str()), (200, "<p>home</p>"), "{path}");
        assert_eq!(page.header("cache-control"), "no-cache");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert!(!page.header("x-request-id").is_empty());
    }
    assert_eq!(
        site.get("/app.js").await.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    for path in ["/api/nothing", "/api", "/missing.js"] {
        let reply = site.send(html(path), "").await;
        assert_eq!(reply.refusal(), (404, "NOT_FOUND".to_owned()), "{path}");
    }
    assert_eq!(site.send(html("/health/live"), "").await.json()["status"], "ok");
    assert_eq!(
        site.send(html("/api/collections/notes"), "").await.json()["total"],
        0
    );
    let post = site.send(site.request("POST", "/app.js"), "").await;
    assert_eq!(post.refusal(), (405, "METHOD_NOT_ALLOWED".to_owned()));
}

#[tokio::test]
async fn a_frontend_folder_with_the_database_in_it_is_refused() {
    let setup = Setup {
        dist_is_the_data_folder: true,
        ..Setup::default()
    };
    let error = setup.try_start().await.err().expect("no gateway");
    assert_eq!(error.code(), "FRONTEND_INVALID");
}

/// A development server that answers with what it was asked, and echoes after an upgrade.
async fn development_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(develop))
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    address
}

async fn develop(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut socket = TokioIo::new(upgrade.await.expect("an upgrade"));
            let mut word = [0; 5];
            socket.read_exact(&mut word).await.expect("a word");
            socket.write_all(&word).await.expect("sent");
        });
        let switching = Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "hot");
        return Ok(switching.body(Full::default()).expect("a reply"));
    }
    let forwarded = request
        .headers()
        .get("x-forwarded-host")
        .map(|host| host.to_str().expect("ASCII").to_owned());
    let line = format!(
        "{} {} for {}",
        request.method(),
        request.uri(),
        forwarded.unwrap_or_default()
    );
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let text = format!("{line}: {}", String::from_utf8_lossy(&body));
    Ok(Response::new(Full::from(text)))
}

async fn with_proxy(target: SocketAddr) -> Site {
    let mut setup = Setup::default();
    setup.config.dev.enabled = true;
    setup.config.frontend.dev_proxy = Some(format!("http://{target}"));
    setup.start().await
}

#[tokio::test]
async fn what_the_api_does_not_serve_goes_to_the_development_server() {
    let site = with_proxy(development_server().await).await;
    let host = site.address;
    let page = site.get("/src/main.ts?v=1").await;
    assert_eq!(
        (page.status, page.text),
        (200, format!("GET /src/main.ts?v=1 for {host}: "))
    );
    let posted = site.send(site.request("POST", "/form"), "a=1").await;
    assert_eq!(posted.text, format!("POST /form for {host}: a=1"));
    assert_eq!(site.get("/api/collections/notes").await.json()["total"], 0);
    assert_eq!(
        site.get("/api/nothing").await.refusal(),
        (404, "NOT_FOUND".to_owned())
    );
}

#[tokio::test]
async fn upgrades_are_passed_through() {
    let site = with_proxy(development_server().await).await;
    let mut stream = TcpStream::connect(site.address).await.expect("a connection");
    stream
        .write_all(b"GET /hmr HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: hot\r\n\r\nhello")
        .await
        .expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 101 "), "{reply}");
    assert!(reply.ends_with("hello"), "{reply}");
}

#[tokio::test]
async fn a_development_server_that_is_down_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    let site = with_proxy(closed).await;
    let json = site.get("/").await;
    assert_eq!(json.refusal(), (502, "DEV_SERVER_UNREACHABLE".to_owned()));
    let page = site
        .send(site.request("GET", "/").header("accept", HTML), "")
        .await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (502, "text/html; charset=utf-8")
    );
    assert!(page.text.contains(&closed.to_string()), "{}", page.text);
    assert_eq!(site.get("/health/live").await.status, 200);
}
