//! The page for people: Swagger UI, embedded in the binary.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, REFERRER_POLICY,
};
use http::{Request, Response};
use swagger_ui_dist::{ApiDefinition, OpenApiSource, generate_routes};
use tower::ServiceExt as _;

use super::{fresh_or_not, tag_of};
use crate::app::AppState;
use crate::envelope::Failure;
use crate::routes::not_found;

/// Nothing from elsewhere and no script in the page itself. Swagger UI sets styles by attribute and shows icons
/// from `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
/// Starts the page. `validatorUrl`: no badge from a public service.
const START: &str = "window.ui = SwaggerUIBundle({\n  url: '/api/openapi.json',\n  dom_id: '#swagger-ui',\n  \
    deepLinking: true,\n  displayRequestDuration: true,\n  validatorUrl: null,\n});\n";
/// Assets stay the same for as long as the program does, which their tags tell.
const CACHING: &str = "public, max-age=3600";
/// More than the largest asset, in bytes.
const MAX_ASSET: usize = 16 * 1024 * 1024;

/// The page and its assets under `prefix`.
pub(super) fn router(prefix: &'static str) -> Router<AppState> {
    let assets = Arc::new(Assets::new());
    let asset = move |Path(name): Path<String>, headers: HeaderMap| {
        let assets = Arc::clone(&assets);
        async move { assets.serve(&name, &headers).await }
    };
    let page = move |State(app): State<AppState>| async move { page(&app.config.docs.title, prefix) };
    Router::new()
        .route(prefix, get(page))
        .route(&format!("{prefix}/"), get(page))
        .route(&format!("{prefix}/{{*asset}}"), get(asset))
}

fn page(title: &str, prefix: &str) -> Response<Body> {
    let title = escaped(title);
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <link rel=\"stylesheet\" href=\"{prefix}/swagger-ui.css\">\n</head>\n<body>\n\
         <div id=\"swagger-ui\"></div>\n<noscript>The description of this API is at \
         <a href=\"/api/openapi.json\">/api/openapi.json</a>.</noscript>\n\
         <script src=\"{prefix}/swagger-ui-bundle.js\"></script>\n\
         <script src=\"{prefix}/start.js\"></script>\n</body>\n</html>\n"
    );
    let mut reply = Response::new(Body::from(html));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The files of Swagger UI. They come as a router of their own, which is asked for the bytes only.
struct Assets {
    files: Router,
}

impl Assets {
    fn new() -> Self {
        let files = generate_routes(ApiDefinition {
            uri_prefix: "/files",
            api_definition: OpenApiSource::Uri("/api/openapi.json"),
            title: None,
        });
        Self { files }
    }

    async fn serve(&self, name: &str, headers: &HeaderMap) -> Result<Response<Body>, Failure> {
        let kind = match name {
            "swagger-ui.css" => "text/css; charset=utf-8",
            "swagger-ui-bundle.js" => "text/javascript; charset=utf-8",
            "start.js" => {
                let start = Bytes::from_static(START.as_bytes());
                return Ok(fresh_or_not(
                    headers,
                    &tag_of(&start),
                    "text/javascript; charset=utf-8",
                    CACHING,
                    start,
                ));
            }
            _ => return Err(not_found(name).into()),
        };
        let file = self.file(name).await?;
        // The files are large and never change while the program runs; their size tells versions apart.
        let tag = format!("\"{}-{:x}\"", env!("CARGO_PKG_VERSION"), file.len());
        Ok(fresh_or_not(headers, &tag, kind, CACHING, file))
    }

    async fn file(&self, name: &str) -> Result<Bytes, Failure> {
        let request = Request::builder()
            .uri(format!("/files/{name}"))
            .body(Body::empty());
        let request = request.expect("a path of plain letters");
        let Ok(reply) = self.files.clone().oneshot(request).await;
        let body = axum::body::to_bytes(reply.into_body(), MAX_ASSET).await;
        body.map_err(|error| alyx_core::Error::internal(error).into())
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::{ETAG, IF_NONE_MATCH};

    use super::*;

    async fn text(reply: Response<Body>) -> String {
        let bytes = axum::body::to_bytes(reply.into_body(), MAX_ASSET)
            .await
            .expect("a body");
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn the_page_loads_only_what_is_served_beside_it() {
        let reply = page("A <b>\"bold\"</b> & 'quoted' title", "/docs");
        let policy = reply.headers()[CONTENT_SECURITY_POLICY]
            .to_str()
            .expect("text")
            .to_owned();
        assert!(policy.contains("script-src 'self';") && policy.contains("default-src 'none'"));
        let html = text(reply).await;
        assert!(
            html.contains(
                "<title>A &lt;b&gt;&quot;bold&quot;&lt;/b&gt; &amp; &#39;quoted&#39; title</title>"
            )
        );
        assert!(!html.contains("http://") && !html.contains("https://"));
        let assets = Assets::new();
        for line in html.lines().filter(|line| line.contains("/docs/")) {
            let name = line
                .split("/docs/")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .expect("an asset");
            let reply = assets.serve(name, &HeaderMap::new()).await.expect("it is there");
            assert_eq!(reply.status(), StatusCode::OK, "{name}");
            assert!(text(reply).await.len() > 100, "{name}");
        }
    }

    #[tokio::test]
    async fn assets_have_their_type_and_are_not_sent_twice() {
        let assets = Assets::new();
        for (name, kind) in [
            ("swagger-ui.css", "text/css"),
            ("swagger-ui-bundle.js", "text/javascript"),
            ("start.js", "text/javascript"),
        ] {
            let reply = assets.serve(name, &HeaderMap::new()).await.expect("it is there");
            assert!(
                reply.headers()[CONTENT_TYPE]
                    .as_bytes()
                    .starts_with(kind.as_bytes()),
                "{name}"
            );
            let known = HeaderMap::from_iter([(IF_NONE_MATCH, reply.headers()[ETAG].clone())]);
            let again = assets.serve(name, &known).await.expect("it is there");
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{name}");
            assert!(text(again).await.is_empty());
        }
    }

    #[tokio::test]
    async fn what_is_no_asset_is_not_found() {
        let assets = Assets::new();
        for name in [
            "",
            "nothing.js",
            "../Cargo.toml",
            "swagger-ui-bundle.js.map",
            "oauth2-redirect.html",
        ] {
            let error = assets
                .serve(name, &HeaderMap::new())
                .await
                .expect_err("nothing is there");
            assert_eq!(error.0.code(), "NOT_FOUND", "{name}");
        }
    }
}
