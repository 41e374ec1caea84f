//! Mails to owners of accounts, as a mail server receives them, and the secrets in them.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alyx_config::{Smtp, SmtpTls};
use alyx_core::Value;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::accounts::{PASSWORD, Tokens, setup};
use crate::site::{Setup, Site};

/// A mail server that keeps what it is handed: whom it is for, and its text.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<Mutex<Vec<(String, String)>>>);

impl Inbox {
    /// Starts it; its port.
    pub(crate) async fn start() -> (Self, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let inbox = Self::default();
        let receiving = inbox.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receiving.clone().receive(stream));
            }
        });
        (inbox, port)
    }

    /// As RFC 5321 has it, as far as a client needs it.
    async fn receive(self, stream: TcpStream) -> Option<()> {
        let (reading, mut writing) = stream.into_split();
        let mut lines = BufReader::new(reading).lines();
        writing.write_all(b"220 test\r\n").await.ok()?;
        let mut to = String::new();
        loop {
            let line = lines.next_line().await.ok()??;
            let reply = match line.get(..4)?.to_ascii_uppercase().as_str() {
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1)?.to_owned();
                    "250 ok\r\n"
                }
                "DATA" => {
                    writing.write_all(b"354 go on\r\n").await.ok()?;
                    let mut text = String::new();
                    loop {
                        let line = lines.next_line().await.ok()??;
                        if line == "." {
                            break;
                        }
                        text.push_str(&line);
                        text.push('\n');
                    }
                    // A long line is folded by quoted-printable.
                    let text = text.replace("=\n", "").replace("=3D", "=");
                    self.0.lock().expect("not poisoned").push((to.clone(), text));
                    "250 ok\r\n"
                }
                "QUIT" => "221 bye\r\n",
                _ => "250 ok\r\n",
            };
            writing.write_all(reply.as_bytes()).await.ok()?;
        }
    }

    /// The next mail for that address whose text has `part`.
    pub(crate) async fn mail(&self, to: &str, part: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = {
                let mut mails = self.0.lock().expect("not poisoned");
                let at = mails
                    .iter()
                    .position(|(whom, text)| whom == to && text.contains(part));
                at.map(|at| mails.remove(at).1)
            };
            if let Some(text) = found {
                return text;
            }
            assert!(
                Instant::now() < deadline,
                "no mail for {to} with {part}: {:?}",
                self.0
            );
            tokio::task::yield_now().await;
        }
    }

    fn count(&self) -> usize {
        self.0.lock().expect("not poisoned").len()
    }
}

pub(crate) fn token(mail: &str) -> String {
    let (_, rest) = mail.split_once("?token=").expect("a link");
    rest.split_whitespace().next().expect("a token").to_owned()
}

pub(crate) fn code(mail: &str) -> String {
    let (_, rest) = mail.split_once("with the code ").expect("a code");
    rest.split_whitespace().next().expect("a code").to_owned()
}

pub(crate) fn mailing(port: u16) -> Setup {
    let mut setup = setup();
    let config = &mut setup.config;
    config.server.public_url = Some("https://app.example.com".to_owned());
    config.mail.from = Some("Alyx <no-reply@example.com>".to_owned());
    config.mail.smtp = Some(Smtp {
        host: "127.0.0.1".to_owned(),
        port,
        tls: SmtpTls::None,
        ..Smtp::default()
    });
    config.auth.mail_limit.max = 100;
    setup
}

async fn start() -> (Site, Inbox) {
    let (inbox, port) = Inbox::start().await;
    (mailing(port).start().await, inbox)
}

#[tokio::test]
async fn an_address_is_verified_by_the_link_that_was_sent_to_it_once() {
    let (inbox, port) = Inbox::start().await;
    let mut setup = mailing(port);
    setup.config.auth.require_verification = true;
    let site = setup.start().await;
    let body = json!({"email": "a@x.io", "password": PASSWORD});
    let request = site
        .request("POST", "/api/auth/register")
        .header("host", "evil.example")
        .header("x-forwarded-host", "evil.example");
    assert_eq!(site.send(request, body.to_string()).await.status, 202);
    let mail = inbox.mail("a@x.io", "Confirm").await;
    assert!(
        mail.contains("https://app.example.com/auth/verify?token="),
        "{mail}"
    );
    assert!(!mail.contains("evil.example"), "{mail}");
    assert!(mail.contains("no-reply@example.com"), "{mail}");
    assert_eq!(
        site.login("a@x.io", PASSWORD).await.refusal().1,
        "EMAIL_NOT_VERIFIED"
    );
    let secret = json!({"token": token(&mail)});
    assert_eq!(site.post("verify", secret.clone()).await.status, 204);
    assert_eq!(
        site.post("verify", secret).await.refusal(),
        (400, "LINK_INVALID".to_owned())
    );
    let tokens = site.sign_in("a@x.io").await;
    assert_eq!(site.me(&tokens.access).await.json()["verified"], true);
    // Nothing is left to be verified, and nobody is told.
    assert_eq!(
        site.post("verify/request", json!({"email": "a@x.io"}))
            .await
            .status,
        202
    );
    assert_eq!(
        site.post("magic-link", json!({"email": "a@x.io"})).await.status,
        202
    );
    inbox.mail("a@x.io", "Sign in").await;
    assert_eq!(inbox.count(), 0);
}

#[tokio::test]
async fn a_password_is_reset_once_and_all_sessions_end() {
    let (site, inbox) = start().await;
    let tokens = site.register("a@x.io").await;
    inbox.mail("a@x.io", "Confirm").await;
    for _ in 0..6 {
        site.login("a@x.io", "wrong horse").await;
    }
    assert_eq!(
        site.login("a@x.io", PASSWORD).await.status,
        429,
        "locked out by a stranger"
    );
    assert_eq!(
        site.post("password/forgot", json!({"email": "A@x.io"}))
            .await
            .status,
        202
    );
    let secret = token(&inbox.mail("a@x.io", "/auth/reset?token=").await);
    let reset = async |password: &str| {
        let body = json!({"token": secret, "password": password});
        site.post("password/reset", body).await
    };
    assert_eq!(reset("short").await.refusal().1, "PASSWORD_TOO_SHORT");
    let replies = join_all((0..20).map(|_| reset("another horse"))).await;
    let good = replies.iter().filter(|reply| reply.status == 204).count();
    assert_eq!(good, 1, "{replies:?}");
    for refused in replies.iter().filter(|reply| reply.status != 204) {
        assert_eq!(refused.refusal().1, "LINK_INVALID");
    }
    assert_eq!(site.me(&tokens.access).await.refusal().1, "TOKEN_REVOKED");
    assert_eq!(site.login("a@x.io", "another horse").await.status, 200);
}

#[tokio::test]
async fn of_a_hundred_uses_of_a_magic_link_one_gets_a_session() {
    let (site, inbox) = start().await;
    site.register("a@x.io").await;
    site.post("magic-link", json!({"email": "a@x.io"})).await;
    let secret = json!({"token": token(&inbox.mail("a@x.io", "/auth/login?token=").await)});
    let replies = join_all((0..100).map(|_| site.post("magic-link/login", secret.clone()))).await;
    let good: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(good.len(), 1);
    let tokens = Tokens::of(good[0]);
    assert_eq!(site.me(&tokens.access).await.status, 200);
    for refused in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!(refused.refusal(), (400, "LINK_INVALID".to_owned()));
    }
}

#[tokio::test]
async fn a_code_signs_in_and_cannot_be_guessed() {
    let (site, inbox) = start().await;
    site.register("a@x.io").await;
    site.register("b@x.io").await;
    site.post("magic-link", json!({"email": "a@x.io"})).await;
    let code = code(&inbox.mail("a@x.io", "with the code").await);
    let login = async |email: &str, code: &str| {
        site.post("magic-link/login", json!({"email": email, "code": code}))
            .await
    };
    assert_eq!(
        login("b@x.io", &code).await.refusal().1,
        "LINK_INVALID",
        "it is somebody else's"
    );
    let good = login("a@x.io", &code).await;
    assert_eq!(good.status, 200, "{good:?}");
    assert_eq!(login("a@x.io", &code).await.refusal().1, "LINK_INVALID");
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..4 {
        login("a@x.io", wrong).await;
    }
    assert_eq!(
        login("a@x.io", wrong).await.refusal(),
        (429, "TOO_MANY_ATTEMPTS".to_owned())
    );
}

#[tokio::test]
async fn an_account_that_a_stranger_made_with_ones_address_becomes_ones_own_alone() {
    let (site, inbox) = start().await;
    let stranger = site.register("victim@x.io").await;
    site.post("magic-link", json!({"email": "victim@x.io"})).await;
    let secret = token(&inbox.mail("victim@x.io", "/auth/login?token=").await);
    let owner = site.post("magic-link/login", json!({"token": secret})).await;
    assert_eq!(owner.json()["user"]["verified"], true);
    assert_eq!(site.me(&stranger.access).await.refusal().1, "TOKEN_REVOKED");
    let again = site.login("victim@x.io", PASSWORD).await;
    assert_eq!(again.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    assert_eq!(site.me(&Tokens::of(&owner).access).await.status, 200);
}

#[tokio::test]
async fn nobody_learns_of_accounts_by_asking_for_mails_and_nobody_is_flooded() {
    let (inbox, port) = Inbox::start().await;
    let mut setup = mailing(port);
    setup.config.auth.mail_limit.max = 2;
    let site = setup.start().await;
    site.register("known@x.io").await;
    inbox.mail("known@x.io", "Confirm").await;
    let mut answers = Vec::new();
    for email in ["known@x.io", "unknown@x.io"] {
        for action in ["password/forgot", "magic-link", "verify/request"] {
            let replies = [
                site.post(action, json!({"email": email})).await,
                site.post(action, json!({"email": email})).await,
            ];
            answers.push(replies.map(|reply| (reply.status, reply.text)));
            let flood = site.post(action, json!({"email": email.to_uppercase()})).await;
            assert_eq!(flood.refusal(), (429, "TOO_MANY_ATTEMPTS".to_owned()));
        }
    }
    assert!(
        answers
            .iter()
            .all(|answer| answer[0].0 == 202 && *answer == answers[0]),
        "{answers:?}"
    );
    inbox.mail("known@x.io", "Sign in").await;
    let unknown = inbox
        .0
        .lock()
        .expect("not poisoned")
        .iter()
        .any(|(to, _)| to == "unknown@x.io");
    assert!(!unknown);
}

#[tokio::test]
async fn a_secret_is_good_for_its_purpose_alone_and_a_new_one_ends_the_one_before() {
    let (site, inbox) = start().await;
    site.register("a@x.io").await;
    let verify = token(&inbox.mail("a@x.io", "Confirm").await);
    let login = site.post("magic-link/login", json!({"token": verify})).await;
    assert_eq!(login.refusal().1, "LINK_INVALID");
    let reset = site
        .post(
            "password/reset",
            json!({"token": verify, "password": "another horse"}),
        )
        .await;
    assert_eq!(reset.refusal().1, "LINK_INVALID");
    site.post("verify/request", json!({"email": "a@x.io"})).await;
    let newer = token(&inbox.mail("a@x.io", "Confirm").await);
    assert_eq!(
        site.post("verify", json!({"token": verify})).await.refusal().1,
        "LINK_INVALID"
    );
    assert_eq!(site.post("verify", json!({"token": newer})).await.status, 204);
}

#[tokio::test]
async fn without_a_mail_server_mails_are_refused_by_name() {
    let site = setup().start().await;
    for action in ["password/forgot", "magic-link", "verify/request"] {
        let reply = site.post(action, json!({"email": "a@x.io"})).await;
        assert_eq!(
            reply.refusal(),
            (503, "MAIL_NOT_CONFIGURED".to_owned()),
            "{action}"
        );
    }
    let (_, port) = Inbox::start().await;
    let mut wrong = mailing(port);
    wrong.config.mail.from = Some("nobody".to_owned());
    assert_eq!(
        wrong.try_start().await.err().expect("refused").code(),
        "MAIL_INVALID"
    );
}

/// A stranger makes an account with somebody's address and links a provider of their own, to get in later.
#[tokio::test]
async fn providers_that_a_stranger_linked_go_with_the_strangers_password() {
    let (site, inbox) = start().await;
    for (email, by_link) in [("a@x.io", true), ("b@x.io", false)] {
        let stranger = site.register(email).await;
        let link =
            "INSERT INTO _alyx_identities (provider, subject, user_id, created_at) VALUES ('p', ?1, ?1, '')";
        site.sql(link, vec![Value::text(stranger.user.as_str())]).await;
        let owner = if by_link {
            site.post("magic-link", json!({"email": email})).await;
            let secret = token(&inbox.mail(email, "Sign in").await);
            Tokens::of(&site.post("magic-link/login", json!({"token": secret})).await)
        } else {
            site.post("password/forgot", json!({"email": email})).await;
            let secret = token(&inbox.mail(email, "/auth/reset?token=").await);
            let body = json!({"token": secret, "password": PASSWORD});
            assert_eq!(site.post("password/reset", body).await.status, 204);
            site.sign_in(email).await
        };
        assert_eq!(owner.user, stranger.user);
        let request = site
            .request("GET", "/api/auth/identities")
            .header("authorization", format!("Bearer {}", owner.access));
        let listed = site.send(request, "").await;
        assert_eq!(listed.json(), json!({"identities": []}), "{email}");
        assert_eq!(site.me(&stranger.access).await.status, 401, "{email}");
    }
}
