//! Loading a configuration from files, variables and flags.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use alyx_config::{Config, ConfigErrors, FunctionRuntime, LoadOptions, Loaded, Override};

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn load_with(yaml: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("alyx.yaml"), yaml).expect("written");
    Config::load(&LoadOptions {
        dir: dir.path().to_owned(),
        env: env(variables),
        ..LoadOptions::default()
    })
}

fn load(yaml: &str) -> Loaded {
    load_with(yaml, &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Each problem as `line:column key: message`.
fn problems(yaml: &str) -> Vec<String> {
    let errors = load_with(yaml, &[]).map(|loaded| loaded.config).expect_err(yaml);
    errors
        .to_string()
        .lines()
        .skip(1)
        .map(|line| {
            line.split_once("alyx.yaml:")
                .map_or(line, |(_, rest)| rest)
                .trim()
                .to_owned()
        })
        .collect()
}

#[test]
fn without_a_file_the_defaults_hold() {
    let dir = tempfile::tempdir().expect("a folder");
    let loaded = Config::load(&LoadOptions {
        dir: dir.path().to_owned(),
        ..LoadOptions::default()
    })
    .expect("defaults are valid");
    let mut expected = Config::default();
    expected.database.path = dir.path().join("alyx.db");
    expected.functions.path = dir.path().join("functions");
    expected.storage.path = dir.path().join("files");
    assert_eq!(loaded.config, expected);
    assert_eq!(loaded.path, None);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn an_empty_file_or_section_means_defaults() {
    for yaml in [
        "",
        "# nothing\n",
        "server:\n",
        "server:\n  port:\n",
        "functions:\n  env:\n",
    ] {
        assert_eq!(load(yaml).config.server.port, 8090, "{yaml}");
    }
    assert!(load("realtime: {enabled: true}").config.realtime.max_connections == 1000);
}

#[test]
fn the_configuration_of_the_chat_demo_loads_with_warnings() {
    let loaded = load(
        "realtime:\n  enabled: true\n  poll_interval: 50ms\n  max_connections: 500\n\
         \nfunctions:\n  enabled: true\n  path: ./functions\n  runtime: docker\n  timeout: 30s\n  memory_limit: 128\n\
         \x20 pools:\n    node:\n      min_warm: 1\n      max_instances: 5\n      idle_timeout: 5m\n\
         \x20     image: example.com/runtime:latest\n",
    );
    let config = &loaded.config;
    assert_eq!(config.realtime.max_connections, 500);
    assert_eq!(config.functions.runtime, FunctionRuntime::Docker);
    assert_eq!(config.functions.memory_limit, 128);
    let pool = config.functions.pool("node");
    assert_eq!(pool.max_instances, 5);
    assert_eq!(pool.idle_timeout, Duration::from_secs(300));
    let warned = |word: &str| loaded.warnings.iter().any(|warning| warning.contains(word));
    assert!(
        warned("realtime.poll_interval: no longer used"),
        "{:?}",
        loaded.warnings
    );
    assert!(warned("functions.pools.node.image"), "{:?}", loaded.warnings);
    assert!(warned("process driver"), "{:?}", loaded.warnings);
    assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
}

#[test]
fn all_problems_are_reported_together_with_their_places() {
    let found = problems(
        "server:\n  port: 70000\n  prot: 1\n  read_timeout: 500ms\n  max_body_size: 0\n\
         functions: {timeout: soon, runtime: wasm}\nlogging:\n  level: [info]\nfeatures: {}\n",
    );
    let expected = [
        "2:9: server.port: `70000` is not a whole number from 0 to 65535",
        "3:3: server.prot: there is no such key; did you mean `port`?",
        "4:17: server.read_timeout: `500ms` is not a duration such as 500ms, 30s, 5m or 1h30m, at least 1s, or 0 for \
         no limit",
        "5:18: server.max_body_size: `0` is not a size",
        "6:22: functions.timeout: `soon` is not a duration",
        "6:37: functions.runtime: `wasm` is not one of: auto, process, docker, podman",
        "8:10: logging.level: `the list` is not one of",
        "9:1: features: there is no such key; known here: server, database",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn a_section_of_old_spellings_alone_names_them() {
    let found = problems("cors: 7");
    let expected = "1:7: cors: this is a single value, but it holds further keys: enabled, origins";
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
}

#[test]
fn values_of_the_wrong_shape_and_unsafe_combinations_are_problems() {
    let check = |yaml: &str, expected: &str| {
        let found = problems(yaml);
        assert_eq!(found.len(), 1, "{yaml}: {found:#?}");
        assert!(found[0].contains(expected), "{yaml}: {found:#?}");
    };
    check(
        "server: 8090",
        "server: this is a single value, but it holds further keys: host, port",
    );
    check(
        "server: {port: {a: 1}}",
        "server.port: this is a mapping; write a whole number",
    );
    check("- server", "the file holds a list");
    check("server: {port: 1\n", "not valid YAML");
    check("server: {port: 1}\nserver: {port: 2}", "a second time");
    check(
        "server: {host: ''}",
        "server.host: `` is not text that is not empty",
    );
    check("server: {cors: {allow_credentials: true}}", "name the origins");
    check(
        "cors: {origins: [a]}\nserver: {cors: {allowed_origins: [b]}}",
        "also set at",
    );
    check(
        "server: {tls: {enabled: true}}",
        "server.tls.enabled: this version does not speak TLS",
    );
    check(
        "database: {turso: {enabled: true}}",
        "there is no `database.turso.url`",
    );
    check(
        "database: {turso: {enabled: true, url: x}}",
        "turso.url: this is not the URL of a libSQL server",
    );
    check(
        "database: {turso: {url: 'ftp://x'}}",
        "not the URL of a libSQL server",
    );
    check("cluster: {name: 'a.b'}", "can be part of a NATS subject");
    check("cluster: {token: short}", "cluster.token: this is too short");
    check(
        "cluster: {tls: {ca: a, cert: b}}",
        "cluster.tls.key: mutual TLS needs",
    );
    check(
        "cluster: {listen: '8190'}",
        "cluster.listen: `8190` is no address",
    );
    check("cluster: {advertise: 'host:0'}", "`host:0` is no address");
    check(
        "cluster: {control_plane: ['::1:8190']}",
        "`::1:8190` is no address",
    );
    check(
        "cluster: {nats: 'host:4222'}",
        "cluster.nats: this is not the URL",
    );
    check(
        "metrics: {listen: 'http://x:1'}",
        "metrics.listen: `http://x:1` is no address",
    );
    check(
        "functions: {pools: {node: {min_warm: 5, max_instances: 2}}}",
        "cannot be kept ready",
    );
    check(
        "functions: {pools: {ruby: {min_warm: 5}}}",
        "functions.pools.ruby: there is no such key",
    );
    check("functions: {memory_limit: 1mb}", "at least 16mb");
    check("frontend: {dev_proxy: localhost:5173}", "a URL such as");
    check(
        "storage: {backends: {local: {type: ftp}}}",
        "one of: filesystem, s3",
    );
}

#[test]
fn a_storage_is_a_folder_and_nothing_else() {
    let check = |yaml: &str, expected: &str| {
        let found = problems(yaml);
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{yaml}: {found:#?}"
        );
    };
    check(
        "storage: {backends: {far: {type: s3}}}",
        "storage.backends.far.type: `s3` is not available in this version",
    );
    check(
        "storage: {backends: {near: {type: filesystem}}}",
        "storage.backends.near.filesystem.path: a storage needs a folder",
    );
    check(
        "storage: {backends: {near: {path: files, base_path: ../up}}}",
        "storage.backends.near.filesystem.base_path",
    );
    check("storage: {orphan_age: 1s}", "at least 1m");
}

#[test]
fn storages_are_folders_beside_the_one_that_is_always_there() {
    let config = load(
        "storage:\n  path: ./blobs\n  max_file_size: 1gb\n  backends:\n    one: {type: filesystem, filesystem: {path: /srv/one}}\n    \
         two: {path: two, base_path: app-}\n",
    )
    .config;
    assert!(config.storage.path.ends_with("blobs"));
    assert_eq!(config.storage.max_file_size, 1 << 30);
    let backends = &config.storage.backends;
    assert_eq!(backends["one"].path.as_deref(), Some(Path::new("/srv/one")));
    assert!(
        backends["two"]
            .path
            .as_deref()
            .is_some_and(|path| path.ends_with("two"))
    );
    assert_eq!(backends["two"].base_path, "app-");
}

#[test]
fn a_libsql_server_is_used_where_it_is_named_and_not_switched_off() {
    let check = |yaml: &str, variables: &[(&str, &str)], expected: bool| {
        let config = load_with(yaml, variables)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .config;
        assert_eq!(config.database.turso.enabled, expected, "{yaml} {variables:?}");
    };
    check("", &[], false);
    check("database: {turso: {url: 'http://h:1'}}", &[], true);
    check("database: {turso: {url: 'libsql://h', enabled: true}}", &[], true);
    check(
        "database: {turso: {url: 'libsql://h', enabled: false}}",
        &[],
        false,
    );
    check(
        "database: {turso: {enabled: false}}",
        &[("ALYX_DATABASE_TURSO_URL", "http://h:1")],
        false,
    );
    check("database: {turso: {url: '${URL:-}'}}", &[], false);
}

#[test]
fn a_cluster_is_read_whole_and_its_secrets_stay_hidden() {
    let loaded = load_with(
        "cluster:\n  name: shop\n  tls: {ca: ca.pem, cert: /c.pem, key: k.pem, server_name: alyx}\n\
         \x20 listen: '[::]:0'\n  advertise: 'a.internal:8190'\n  control_plane: ['a:1', 'b:2']\n\
         \x20 nats: 'nats://u:s3cr3t@host:4222'\n  node_id: g1\nmetrics: {listen: '0.0.0.0:9190'}\n",
        &[("ALYX_CLUSTER_TOKEN", "s3cr3t-0123456789abcdef0123456789")],
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let cluster = &loaded.config.cluster;
    assert_eq!(cluster.name, "shop");
    assert_eq!(cluster.control_plane, ["a:1", "b:2"]);
    assert_eq!(cluster.advertise.as_deref(), Some("a.internal:8190"));
    assert_eq!(cluster.node_id.as_deref(), Some("g1"));
    let tls = cluster.tls.as_ref().expect("mutual TLS");
    assert_eq!(tls.cert, Path::new("/c.pem"));
    assert_eq!(tls.server_name.as_deref(), Some("alyx"));
    assert_eq!(loaded.config.metrics.listen.as_deref(), Some("0.0.0.0:9190"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(!format!("{:?}", loaded.config).contains("s3cr3t"));
}

#[test]
fn keys_for_other_versions_are_accepted_with_one_warning_per_reason() {
    let loaded = load(
        "storage:\n  backends: {files: {path: f, s3: {secret_access_key: s3cr3t}}}\n\
         server: {tls: {enabled: false}}\ndatabase: {turso: {enabled: false, url: x}}\nadmin_ui: {path: /_admin}\n",
    );
    assert_eq!(loaded.warnings.len(), 3, "{:#?}", loaded.warnings);
    let files = &loaded
        .warnings
        .iter()
        .find(|line| line.contains("storage.backends"))
        .expect("a warning");
    assert!(files.contains("alyx.yaml:2:"), "{files}");
    assert!(
        files.contains("storage.backends.files.s3.secret_access_key"),
        "{files}"
    );
    assert!(!loaded.warnings.concat().contains("s3cr3t"));
}

#[test]
fn the_admin_ui_is_served_beside_the_api_and_not_in_its_place() {
    for path in ["/_admin", "/_admin/", "/apis", "/ops/api"] {
        let yaml = format!("admin_ui: {{path: '{path}'}}");
        assert!(load_with(&yaml, &[]).is_ok(), "{path}");
    }
    for path in [
        "/api",
        "/api/",
        "/api/admin",
        "/auth",
        "/functions/x",
        "/docs",
        "/health/live",
        "/metrics",
        "_admin",
        "//x",
        "/a b",
        "/a?b",
        "",
    ] {
        let found = problems(&format!("admin_ui:\n  path: '{path}'\n"));
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(found[0].starts_with("2:9: admin_ui.path: "), "{path}: {found:?}");
        assert!(
            found[0].contains("such as /_admin that begins with `/`"),
            "{path}: {found:?}"
        );
    }
    let site = load_with("", &[("ALYX_ADMIN_UI_PATH", "/api")]).expect_err("a path of the API");
    assert!(site.to_string().contains("ALYX_ADMIN_UI_PATH"), "{site}");
}

#[test]
fn variables_are_replaced_everywhere_and_unset_ones_are_problems() {
    let yaml = "server:\n  host: ${HOST}\n  port: ${PORT}\n  cors: {origins: ['https://${HOST}', b]}\n\
                functions: {env: {KEY: 'k-${TOKEN}', LITERAL: '$${X}'}}\n";
    let variables = [("HOST", "h"), ("PORT", "1234"), ("TOKEN", "t")];
    let config = load_with(yaml, &variables).expect("valid").config;
    assert_eq!((config.server.host.as_str(), config.server.port), ("h", 1234));
    assert_eq!(config.server.cors.allowed_origins, ["https://h", "b"]);
    assert_eq!(config.functions.env["KEY"].expose(), "k-t");
    assert_eq!(config.functions.env["LITERAL"].expose(), "${X}");
    assert!(!format!("{config:?}").contains("k-t"));

    let found = problems(yaml);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("2:9: server.host: the environment variable HOST is not set"));
    assert!(found[2].contains("4:") && found[2].contains("HOST"), "{found:#?}");

    let errors = load_with("server: {port: '${SECRET}'}", &[("SECRET", "hunter2")]).expect_err("no port");
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
}

#[test]
fn later_layers_win() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("other.yaml");
    std::fs::write(
        &file,
        "server: {host: file, port: 1, idle_timeout: 1m}\ndatabase: {path: data/a.db}",
    )
    .expect("w");
    let loaded = Config::load(&LoadOptions {
        path: Some(file.clone()),
        env: env(&[
            ("ALYX_SERVER_HOST", "env"),
            ("ALYX_SERVER_PORT", "2"),
            ("ALYX_SERVER_WRITE_TIMEOUT", ""),
            ("ALYX_REALTIME_MAX_CONNECTIONS", "7"),
            ("ALYX_FUNCTIONS_POOLS_NODE_MIN_WARM", "0"),
            ("ALYX_FUNCTIONS_ENV_API_KEY", "x"),
            ("ALYX_SERVER_CORS_ALLOWED_ORIGINS", "https://a, https://b"),
            ("ALYX_SERVER_PROT", "3"),
            ("ALYX_CONFIG", "x"),
        ]),
        overrides: vec![Override {
            key: "server.port".to_owned(),
            value: "3".to_owned(),
            flag: "--port".to_owned(),
        }],
        ..LoadOptions::default()
    })
    .expect("valid");
    let config = &loaded.config;
    assert_eq!((config.server.host.as_str(), config.server.port), ("env", 3));
    assert_eq!(config.server.idle_timeout, Duration::from_secs(60));
    assert_eq!(config.server.write_timeout, Duration::from_secs(30));
    assert_eq!(config.realtime.max_connections, 7);
    assert_eq!(config.functions.pool("node").min_warm, 0);
    assert_eq!(config.functions.env["API_KEY"].expose(), "x");
    assert_eq!(config.server.cors.allowed_origins, ["https://a", "https://b"]);
    assert_eq!(config.database.path, dir.path().join("data/a.db"));
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("did you mean ALYX_SERVER_PORT?"));
    assert_eq!(loaded.path, Some(file));
}

#[test]
fn problems_of_variables_and_flags_name_them() {
    let errors = Config::load(&LoadOptions {
        env: env(&[("ALYX_SERVER_PORT", "x")]),
        overrides: vec![Override {
            key: "server.prot".to_owned(),
            value: "3".to_owned(),
            flag: "--set".to_owned(),
        }],
        dir: tempfile::tempdir().expect("a folder").path().to_owned(),
        ..LoadOptions::default()
    })
    .expect_err("two problems")
    .to_string();
    assert!(errors.starts_with("2 problems"), "{errors}");
    assert!(
        errors.contains("environment variable ALYX_SERVER_PORT: server.port: `x`"),
        "{errors}"
    );
    assert!(
        errors.contains("flag --set: server.prot: there is no such key"),
        "{errors}"
    );
}

#[test]
fn a_named_file_that_is_missing_is_a_problem() {
    let errors = Config::load(&LoadOptions {
        path: Some("no/such/file.yaml".into()),
        ..LoadOptions::default()
    })
    .expect_err("missing");
    assert!(
        errors
            .to_string()
            .contains("no/such/file.yaml: there is no such file"),
        "{errors}"
    );
}

#[test]
fn general_pool_settings_come_before_those_of_one_runtime() {
    let loaded =
        load("functions: {pools: {node: {max_instances: 3}}, pool: {max_instances: 7, idle_timeout: 9s}}");
    assert_eq!(loaded.config.functions.pool("node").max_instances, 3);
    assert_eq!(
        loaded.config.functions.pool("node").idle_timeout,
        Duration::from_secs(9)
    );
    assert_eq!(loaded.config.functions.pool("python").max_instances, 7);
}

#[test]
fn the_reference_is_the_one_made_from_the_registry() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = alyx_config::reference_markdown();
    if alyx_config::process_env()
        .get("ALYX_UPDATE_DOCS")
        .is_some_and(|value| value == "1")
    {
        std::fs::write(&path, &expected).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/configuration.md differs from the registry of keys; run the tests of alyx-config with ALYX_UPDATE_DOCS=1"
    );
}

#[test]
fn keys_of_accounts_are_checked_together() {
    let check = |yaml: &str, key: &str, part: &str| {
        let errors = load_with(yaml, &[])
            .map(|loaded| loaded.config)
            .expect_err(yaml)
            .to_string();
        assert!(errors.contains(key) && errors.contains(part), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    };
    let long = "hunter2-hunter2-hunter2-hunter2-hunter2";
    check("auth: {jwt: {secret: hunter2}}", "auth.jwt.secret", "32 bytes");
    check(
        &format!("auth: {{jwt: {{secret: {long}, key_file: key.pem}}}}"),
        "auth.jwt.key_file",
        "only one of them",
    );
    check(
        &format!("auth: {{jwt: {{secret: {long}}}}}\nadmin: {{token: {long}}}"),
        "auth.jwt.secret",
        "admin.token",
    );
    check(
        "auth: {jwt: {access_ttl: 2h, refresh_ttl: 1h}}",
        "auth.jwt.refresh_ttl",
        "access_ttl",
    );
    check(
        "auth: {password: {min_length: 7}}",
        "auth.password.min_length",
        "at least 8",
    );
    check(
        "auth: {rate_limit: {login: {max: 0}}}",
        "auth.rate_limit.login.max",
        "at least 1",
    );
    let smtp = "mail: {smtp: {host: mail.example.com, username: a}}";
    check(smtp, "mail.from", "no-reply@");
    check(smtp, "server.public_url", "https://");
    check(smtp, "mail.smtp.username", "both");
    check("mail: {smtp: {port: 25}}", "mail.smtp.host", "name it");
    check(
        "mail: {links: {reset: //evil.example}}",
        "mail.links.reset",
        "no path",
    );
    check(
        "server: {trusted_proxies: [10.0.0.0/40]}",
        "server.trusted_proxies",
        "10.0.0.0/40",
    );
}

#[test]
fn providers_are_read_and_their_keys_fit_together() {
    let loaded = load_with(
        "server: {public_url: 'https://app.example.com'}\nauth:\n  redirect_origins: ['https://admin.example.com']\n\
         \x20 oauth:\n    github: {client_id: a, client_secret: s3cr3t}\n\
         \x20   own: {client_id: b, client_secret: s3cr3t, issuer: 'https://id.example.com/', scopes: [openid]}\n",
        &[("ALYX_AUTH_OAUTH_GOOGLE_CLIENT_ID", "c"), ("ALYX_AUTH_OAUTH_GOOGLE_CLIENT_SECRET", "s3cr3t")],
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let providers = &loaded.config.auth.oauth;
    let names: Vec<&str> = providers.keys().map(String::as_str).collect();
    assert_eq!(names, ["github", "google", "own"]);
    assert_eq!(providers["own"].issuer.as_deref(), Some("https://id.example.com"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(!format!("{:?}", loaded.config).contains("s3cr3t"));

    let check = |yaml: &str, key: &str| {
        let yaml = format!("server: {{public_url: 'https://app.example.com'}}\nauth: {{{yaml}}}\n");
        let found = problems(&yaml);
        assert!(found.len() == 1 && found[0].contains(key), "{yaml}: {found:#?}");
    };
    check(
        "oauth: {github: {client_id: a}}",
        "auth.oauth.github.client_secret",
    );
    check(
        "oauth: {github: {client_secret: a}}",
        "auth.oauth.github.client_id",
    );
    check(
        "oauth: {own: {client_id: a, client_secret: b}}",
        "auth.oauth.own.issuer",
    );
    check(
        "oauth: {login: {client_id: a, client_secret: b, issuer: 'https://x.io'}}",
        "auth.oauth.login.client_id",
    );
    check(
        "oauth: {own: {client_id: a, client_secret: b, issuer: 'http://x.io'}}",
        "auth.oauth.own.issuer",
    );
    check(
        "oauth: {github: {client_id: a, client_secret: b, token_url: 'https://x.io'}}",
        "auth.oauth.github.issuer",
    );
    check(
        "oauth: {apple: {client_id: a, key_file: k.p8}}",
        "auth.oauth.apple.key_file",
    );
    check("redirect_origins: ['https://x.io/path']", "auth.redirect_origins");
    let found = problems("auth: {oauth: {github: {client_id: a, client_secret: b}}}");
    assert!(
        found.len() == 1 && found[0].contains("server.public_url"),
        "{found:#?}"
    );
}

#[test]
fn anonymous_accounts_and_verified_addresses_exclude_each_other() {
    let found = problems("auth:\n  allow_anonymous: true\n  require_verification: true\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("auth.allow_anonymous") && found[0].contains("turn one of them off"),
        "{found:?}"
    );
    let found = problems("auth:\n  anonymous_ttl: 1m\n");
    assert!(
        found.len() == 1 && found[0].contains("auth.anonymous_ttl"),
        "{found:?}"
    );
}
