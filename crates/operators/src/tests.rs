//! Operators and tokens over a database of their own.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use alyx_core::{Clock, Scopes, Value};
use alyx_store::EmbeddedOptions;
use parking_lot::Mutex;

use super::*;

const PASSWORD: &str = "correct horse";

/// A clock that stands until it is moved.
#[derive(Debug)]
struct Hand(Mutex<SystemTime>);

impl Clock for Hand {
    fn now(&self) -> SystemTime {
        *self.0.lock()
    }
}

impl Hand {
    fn move_by(&self, time: Duration) {
        *self.0.lock() += time;
    }
}

struct Desk {
    operators: Operators,
    clock: Arc<Hand>,
    _dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let options = EmbeddedOptions::new(dir.path().join("a.db"));
        let store = Store::open_embedded(options, |_| {}).expect("opened");
        let clock = Arc::new(Hand(Mutex::new(SystemTime::now())));
        Self {
            operators: Operators::new(store, Arc::clone(&clock) as Arc<dyn Clock>),
            clock,
            _dir: dir,
        }
    }

    async fn operator(&self, email: &str) -> Result<Operator> {
        let new = NewOperator {
            email: email.to_owned(),
            password_hash: hash_new_password(PASSWORD)?,
        };
        self.operators.create_operator(new, soon()).await
    }

    async fn token(&self, name: &str, scopes: &str, expires_in: Option<Duration>) -> Result<MadeToken> {
        let new = NewToken {
            name: name.to_owned(),
            scopes: Scopes::parse(scopes.split(' '))?,
            expires_in,
        };
        self.operators.create_token(new, soon()).await
    }

    async fn find(&self, token: &str) -> Option<Known> {
        self.operators.find(token, soon()).await.expect("a look")
    }

    async fn changes(&self) -> i64 {
        self.operators.changes(soon()).await.expect("a number")
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test]
async fn a_token_is_found_until_it_expires_or_is_revoked() {
    let desk = Desk::new();
    let hour = Duration::from_secs(3600);
    let brief = desk.token("brief", "read:notes", Some(hour)).await.expect("made");
    let lasting = desk.token("lasting", "deploy write:*", None).await.expect("made");
    assert!(is_api_token(&brief.token) && brief.token != lasting.token);
    assert!(!format!("{brief:?}").contains(&brief.token));
    let known = desk.find(&lasting.token).await.expect("it is good");
    assert_eq!((known.id.as_str(), known.expires_at), (lasting.id.as_str(), None));
    assert_eq!(known.scopes.to_string(), "deploy write:*");
    assert!(desk.find("alyx_guess").await.is_none());
    assert!(desk.find(&brief.id).await.is_none(), "the id is no token");

    desk.clock.move_by(hour - Duration::from_secs(1));
    assert!(desk.find(&brief.token).await.is_some());
    desk.clock.move_by(Duration::from_secs(1));
    assert!(desk.find(&brief.token).await.is_none());

    let before = desk.changes().await;
    let revoked = desk.operators.revoke("lasting", soon()).await.expect("revoked");
    assert_eq!(revoked, Revoked::Token);
    assert!(desk.find(&lasting.token).await.is_none());
    assert!(desk.changes().await > before);
    let error = desk.operators.revoke("lasting", soon()).await.expect_err("gone");
    assert_eq!(error.code(), "OPERATOR_NOT_FOUND");
}

#[tokio::test]
async fn what_is_kept_of_a_token_does_not_open_anything() {
    let desk = Desk::new();
    let made = desk.token("a", "admin", None).await.expect("made");
    let all = Statement::new("SELECT * FROM _alyx_api_tokens", Vec::new());
    let rows = desk
        .operators
        .query(all, ReadCost::Scan, soon())
        .await
        .expect("rows");
    let shown = format!("{:?}", rows.rows);
    assert!(
        shown.contains(&made.id) && !shown.contains(&made.token),
        "{shown}"
    );
}

#[tokio::test]
async fn names_scopes_and_times_are_checked() {
    let desk = Desk::new();
    let long = "a".repeat(65);
    for name in ["", "a b", "a@b", "ä", long.as_str()] {
        let error = desk.token(name, "admin", None).await.expect_err(name);
        assert_eq!(error.code(), "INVALID_TOKEN_NAME", "{name}");
    }
    for seconds in [0, u64::MAX] {
        let within = Some(Duration::from_secs(seconds));
        let error = desk.token("a", "admin", within).await.expect_err("no time");
        assert_eq!(error.code(), "INVALID_EXPIRY", "{seconds}");
    }
    desk.token("a", "admin", None).await.expect("made");
    let error = desk.token("a", "read:x", None).await.expect_err("twice");
    assert_eq!(error.code(), "TOKEN_EXISTS");
}

#[tokio::test]
async fn an_operator_signs_in_until_revoked() {
    let desk = Desk::new();
    assert!(!desk.operators.has_operators(soon()).await.expect("a look"));
    desk.operator(" Ada@Example.com ").await.expect("made");
    assert!(desk.operators.has_operators(soon()).await.expect("a look"));
    let error = desk.operator("ada@example.com").await.expect_err("twice");
    assert_eq!(error.code(), "OPERATOR_EXISTS");
    assert_eq!(
        hash_new_password("short").expect_err("short").code(),
        "PASSWORD_TOO_SHORT"
    );
    let found = desk.operators.find_operator("ada@example.com", soon()).await;
    let (operator, hash) = found.expect("a look").expect("there");
    let sign_in = |password_hash| {
        let sign_in = SignIn {
            operator: &operator,
            password_hash,
        };
        desk.operators.sign_in(sign_in, soon())
    };
    let stale = sign_in("the hash of before").await.expect_err("it has changed");
    assert_eq!(stale.code(), "INVALID_CREDENTIALS");
    let first = sign_in(&hash).await.expect("signed in");
    let second = sign_in(&hash).await.expect("signed in");
    let known = desk.find(&first.token).await.expect("good");
    assert_eq!(known.operator.as_ref(), Some(&operator.id));
    assert!(known.scopes.is_unlimited() && known.expires_at.is_some());
    let listed = desk.operators.list(soon()).await.expect("a list");
    assert_eq!((listed.operators.len(), listed.tokens.len()), (1, 0));

    desk.operators.sign_out(&first.id, soon()).await.expect("out");
    assert!(desk.find(&first.token).await.is_none());
    assert!(desk.find(&second.token).await.is_some());
    let revoked = desk
        .operators
        .revoke("ADA@example.com", soon())
        .await
        .expect("revoked");
    assert_eq!(revoked, Revoked::Operator);
    assert!(desk.find(&second.token).await.is_none());
    assert_eq!(
        sign_in(&hash).await.expect_err("gone").code(),
        "INVALID_CREDENTIALS"
    );
}

#[tokio::test]
async fn an_operator_has_so_many_sign_ins_and_old_ones_are_removed() {
    let desk = Desk::new();
    let operator = desk.operator("a@x.io").await.expect("made");
    let (_, hash) = desk
        .operators
        .find_operator("a@x.io", soon())
        .await
        .expect("a look")
        .expect("there");
    let mut tokens = Vec::new();
    for _ in 0..21 {
        let sign_in = SignIn {
            operator: &operator,
            password_hash: &hash,
        };
        tokens.push(desk.operators.sign_in(sign_in, soon()).await.expect("signed in"));
        desk.clock.move_by(Duration::from_secs(1));
    }
    assert!(
        desk.find(&tokens[0].token).await.is_none(),
        "the oldest made place"
    );
    assert!(desk.find(&tokens[1].token).await.is_some());
    desk.clock.move_by(Duration::from_secs(13 * 3600));
    desk.token("later", "admin", None).await.expect("made");
    desk.token("latest", "admin", None).await.expect("made");
    let count = Statement::new("SELECT count(*) FROM _alyx_api_tokens", Vec::new());
    let rows = desk
        .operators
        .query(count, ReadCost::Scan, soon())
        .await
        .expect("rows");
    assert_eq!(rows.rows[0][0], Value::Int(2));
}

#[tokio::test]
async fn the_last_use_is_shown() {
    let desk = Desk::new();
    let made = desk.token("a", "read:*", None).await.expect("made");
    let used = async || {
        desk.operators.list(soon()).await.expect("a list").tokens[0]
            .used_at
            .clone()
    };
    assert_eq!(used().await, None);
    let before = desk.changes().await;
    for at in [1_700_000_000, 1_600_000_000] {
        desk.operators
            .note_uses(vec![(made.id.clone(), at)], soon())
            .await
            .expect("noted");
    }
    assert_eq!(used().await.as_deref(), Some("2023-11-14T22:13:20.000Z"));
    assert_eq!(desk.changes().await, before, "a use takes nothing away");
}
