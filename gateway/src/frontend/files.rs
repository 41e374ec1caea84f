//! A folder of built files, as single-page applications want it served: paths without a file are the
//! application's own routes and get `index.html`, where a browser asks for a page.

use std::path::Path;

use alyx_core::{Error, Result};
use axum::body::Body;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};
use http::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use tower_http::services::{ServeDir, ServeFile};

use crate::envelope::{self, Reply};
use crate::request_id::RequestTag;
use crate::routes::not_found;

/// Asked for again every time, which costs a 304 where nothing changed.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// Never asked for again: another content has another name.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Folders in which build tools put files with a hash in their name.
const HASHED_FOLDERS: [&str; 3] = ["/assets/", "/_app/immutable/", "/_next/static/"];
/// Shortest hash in a file's name.
const MIN_HASH: usize = 8;

/// A served folder.
pub(crate) struct Files {
    folder: ServeDir,
    index: ServeFile,
}

impl Files {
    pub(crate) fn new(dist: &Path) -> Self {
        Self {
            folder: ServeDir::new(dist),
            index: ServeFile::new(dist.join("index.html")),
        }
    }

    pub(crate) async fn answer(&self, request: Request<Body>, tag: &RequestTag) -> Result<Reply> {
        let path = request.uri().path().to_owned();
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            return Ok(envelope::method_not_allowed("GET, HEAD", tag));
        }
        if is_refused(&path) {
            return Err(not_found(&path));
        }
        let fallback = is_page(&path, request.headers()).then(|| without_body(&request));
        let reply = self
            .folder
            .clone()
            .try_call(without_body(&request))
            .await
            .map_or_else(
                |error| missing_or_broken(error, &path),
                |reply| Ok(reply.map(Body::new)),
            );
        match (reply, fallback) {
            (Ok(reply), _) if is_served(reply.status()) => Ok(finish(reply, &path)),
            (Ok(_), Some(request)) => self.answer_index(request, &path).await,
            (Ok(_), None) => Err(not_found(&path)),
            (Err(error), _) => Err(error),
        }
    }

    async fn answer_index(&self, request: Request<Body>, path: &str) -> Result<Reply> {
        let reply = self.index.clone().try_call(request).await.map_or_else(
            |error| missing_or_broken(error, path),
            |reply| Ok(reply.map(Body::new)),
        )?;
        if !is_served(reply.status()) {
            return Err(not_found(path));
        }
        let mut reply = finish(reply, "/index.html");
        reply
            .headers_mut()
            .insert(VARY, HeaderValue::from_static("Accept"));
        Ok(reply)
    }
}

/// Whether the folder has an answer of its own, be it a redirect or a refused range.
fn is_served(status: StatusCode) -> bool {
    status != StatusCode::NOT_FOUND && status != StatusCode::BAD_REQUEST
}

fn without_body(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// A path that cannot name a file is as good as one without a file.
fn missing_or_broken(error: std::io::Error, path: &str) -> Result<Reply> {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::NotADirectory
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidFilename => Ok(envelope::empty(StatusCode::NOT_FOUND)),
        _ => Err(Error::internal(format!(
            "reading the frontend's file for {path}: {error}"
        ))),
    }
}

/// Whether a path names nothing that may be served: a segment that starts with a dot (`/.git/config`, `/..`),
/// however it is encoded, or one that a redirect would turn into another host (`//evil`, `/\evil`).
/// `/.well-known/` is meant to be read (RFC 8615).
fn is_refused(path: &str) -> bool {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    decoded.contains("//")
        || decoded.contains('\\')
        || decoded
            .split('/')
            .any(|segment| segment.starts_with('.') && segment != ".well-known")
}

/// Whether a path without a file is one of the application's own routes, asked for by a browser as a page.
fn is_page(path: &str, headers: &HeaderMap) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    let wants_html = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/html"));
    !last.contains('.') && headers.get_all(ACCEPT).iter().any(wants_html)
}

fn finish(mut reply: Reply, path: &str) -> Reply {
    let headers = reply.headers_mut();
    let cache = if is_hashed(path) { IMMUTABLE } else { REVALIDATE };
    headers.insert(CACHE_CONTROL, cache);
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(text) = media_type.filter(|text| text.starts_with("text/") && !text.contains(';'))
        && let Ok(value) = HeaderValue::try_from(format!("{text}; charset=utf-8"))
    {
        headers.insert(CONTENT_TYPE, value);
    }
    reply
}

/// Whether a build tool named this file after its content, as in `/assets/index-DiwrgTda.js`. A name without a
/// digit or capital in the place of the hash is taken for a word.
fn is_hashed(path: &str) -> bool {
    if !HASHED_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        return false;
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let in_stem = stem.rsplit('-').next().unwrap_or_default();
    let is_hash = |text: &str| {
        text.len() >= MIN_HASH
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && text
                .bytes()
                .any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
    };
    let between_dots = || name.rsplit('.').skip(1).any(is_hash);
    is_hash(in_stem) || between_dots()
}

#[cfg(test)]
mod tests {
    use http::header::{ETAG, IF_NONE_MATCH, LOCATION};

    use super::*;

    struct Site {
        _root: tempfile::TempDir,
        files: Files,
    }

    fn site() -> Site {
        let root = tempfile::tempdir().expect("a folder");
        let dist = root.path().join("dist");
        std::fs::create_dir_all(dist.join("assets")).expect("folders");
        std::fs::create_dir_all(dist.join(".git")).expect("folders");
        for (name, text) in [
            ("index.html", "<p>home</p>"),
            ("app.js", "let a"),
            ("assets/index-DiwrgTda.js", "let b"),
            (".env", "SECRET=1"),
            (".git/config", "x"),
            ("../outside.txt", "secret"),
        ] {
            std::fs::write(dist.join(name), text).expect("a file");
        }
        let files = Files::new(&dist);
        Site { _root: root, files }
    }

    fn request(path: &str, accept: &str) -> Request<Body> {
        let request = Request::builder().uri(path).header(ACCEPT, accept);
        request.body(Body::empty()).expect("a request")
    }

    async fn get(site: &Site, path: &str, accept: &str) -> Result<Reply> {
        site.files
            .answer(request(path, accept), &RequestTag::fresh())
            .await
    }

    #[tokio::test]
    async fn files_have_their_type_and_cache_headers() {
        let site = site();
        let check = async |path: &str, media_type: &str, cache: &str| {
            let reply = get(&site, path, "*/*").await.expect(path);
            assert_eq!(reply.status(), StatusCode::OK, "{path}");
            assert_eq!(reply.headers()[CONTENT_TYPE], media_type, "{path}");
            assert_eq!(reply.headers()[CACHE_CONTROL], cache, "{path}");
        };
        check("/", "text/html; charset=utf-8", "no-cache").await;
        check("/index.html", "text/html; charset=utf-8", "no-cache").await;
        check("/app.js", "text/javascript; charset=utf-8", "no-cache").await;
        let immutable = "public, max-age=31536000, immutable";
        check(
            "/assets/index-DiwrgTda.js",
            "text/javascript; charset=utf-8",
            immutable,
        )
        .await;
    }

    #[tokio::test]
    async fn an_unchanged_file_is_not_sent_again() {
        let site = site();
        let first = get(&site, "/app.js", "*/*").await.expect("a file");
        let tag = first.headers()[ETAG].clone();
        let mut again = request("/app.js", "*/*");
        again.headers_mut().insert(IF_NONE_MATCH, tag);
        let reply = site
            .files
            .answer(again, &RequestTag::fresh())
            .await
            .expect("a reply");
        assert_eq!(reply.status(), StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn only_pages_fall_back_to_the_index() {
        let site = site();
        let check = async |path: &str, accept: &str, found: bool| {
            assert_eq!(
                get(&site, path, accept).await.is_ok(),
                found,
                "{path} as {accept}"
            );
        };
        let html = "text/html,application/xhtml+xml,*/*;q=0.8";
        check("/rooms/general", html, true).await;
        check("/rooms/general", "application/json", false).await;
        check("/rooms/general", "*/*", false).await;
        check("/missing.js", html, false).await;
    }

    #[tokio::test]
    async fn nothing_hidden_and_nothing_outside_is_served() {
        let site = site();
        for path in [
            "/.env",
            "/%2eenv",
            "/.git/config",
            "/../outside.txt",
            "/..%2foutside.txt",
            "/%2e%2e/outside.txt",
            "/assets/../../outside.txt",
            "/..\\outside.txt",
            "/%00",
        ] {
            let reply = get(&site, path, "*/*").await;
            assert!(reply.is_err(), "{path} gave {:?}", reply.map(|r| r.status()));
        }
    }

    #[tokio::test]
    async fn a_folder_redirects_within_this_host() {
        let site = site();
        let reply = get(&site, "/assets", "*/*").await.expect("a redirect");
        assert!(reply.status().is_redirection());
        assert_eq!(reply.headers()[LOCATION], "/assets/");
        for path in ["//assets", "/%2fassets", "/%5cassets"] {
            assert!(get(&site, path, "*/*").await.is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn other_methods_are_refused() {
        let site = site();
        let mut post = request("/app.js", "*/*");
        *post.method_mut() = Method::POST;
        let reply = site
            .files
            .answer(post, &RequestTag::fresh())
            .await
            .expect("a reply");
        assert_eq!(reply.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn hashes_are_told_from_words() {
        let check = |path: &str, hashed: bool| assert_eq!(is_hashed(path), hashed, "{path}");
        check("/assets/index-DiwrgTda.js", true);
        check("/assets/logo.4f2a9c1e.svg", true);
        check("/_app/immutable/chunks/a-B1c2D3e4.js", true);
        check("/assets/background-wallpaper.png", false);
        check("/assets/main.js", false);
        check("/index-DiwrgTda.js", false);
    }
}
