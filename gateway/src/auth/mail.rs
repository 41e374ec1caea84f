//! Mails to owners of accounts: who sends them, and the queue that they wait in.
//!
//! A request that asks for a mail is answered before anything is looked up, so neither its answer nor its time tells
//! whether there is such an account. **Invariant:** links in mails begin with the configured address, never with
//! anything that a request says.

use std::time::Duration;

use alyx_config::{Config, Smtp, SmtpTls};
use alyx_core::{Error, ErrorKind, Result};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Mails that wait.
const MAX_WAITING: usize = 1_000;
/// Longest time for handing over one mail.
const SEND_WITHIN: Duration = Duration::from_secs(15);
/// Times that a mail is tried, with a pause after each.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// What a mail is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Shows that the address is its owner's.
    Verify,
    /// Sets another password.
    Reset,
    /// Signs in without one.
    Login,
}

impl Purpose {
    /// Its name in the database.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Reset => "reset",
            Self::Login => "login",
        }
    }

    /// How long its secret is good, in seconds.
    pub(super) const fn lifetime(self) -> u64 {
        match self {
            Self::Verify => 24 * 3600,
            Self::Reset => 3600,
            Self::Login => 600,
        }
    }
}

/// A mail that somebody wants.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) email: String,
    pub(super) purpose: Purpose,
}

/// What is sent.
pub(super) struct Letter<'a> {
    pub(super) to: &'a str,
    pub(super) purpose: Purpose,
    pub(super) secret: &'a str,
    /// Of [`Purpose::Login`].
    pub(super) code: &'a str,
}

/// The way out.
pub(super) struct Post {
    mailer: Option<Mailer>,
    /// Without a slash at the end.
    public_url: String,
    links: alyx_config::MailLinks,
    wishes: mpsc::Sender<Wish>,
    waiting: Mutex<Option<mpsc::Receiver<Wish>>>,
}

enum Mailer {
    /// `alyx dev`: mails are shown in the log.
    Log,
    Smtp {
        transport: AsyncSmtpTransport<Tokio1Executor>,
        from: Mailbox,
    },
}

impl Post {
    /// `local_url` stands for the public one in development.
    ///
    /// Errors: `MAIL_INVALID`.
    pub(super) fn new(config: &Config, local_url: &str) -> Result<Self> {
        let mailer = match &config.mail.smtp {
            Some(smtp) => Some(smtp_mailer(
                smtp,
                config.mail.from.as_deref().unwrap_or_default(),
            )?),
            None => config.dev.enabled.then_some(Mailer::Log),
        };
        let (wishes, waiting) = mpsc::channel(MAX_WAITING);
        Ok(Self {
            mailer,
            public_url: config
                .server
                .public_url
                .clone()
                .unwrap_or_else(|| local_url.to_owned()),
            links: config.mail.links.clone(),
            wishes,
            waiting: Mutex::new(Some(waiting)),
        })
    }

    pub(super) fn is_on(&self) -> bool {
        self.mailer.is_some()
    }

    /// Puts a wish into the queue.
    ///
    /// Errors: `MAIL_NOT_CONFIGURED`, `MAIL_BUSY`.
    pub(super) fn ask(&self, wish: Wish) -> Result<()> {
        if !self.is_on() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "MAIL_NOT_CONFIGURED",
                "this server sends no mail: set `mail.smtp.host`",
            ));
        }
        self.wishes.try_send(wish).map_err(|_| {
            let busy = "too many mails wait to be sent; try again";
            Error::new(ErrorKind::TooManyRequests, "MAIL_BUSY", busy)
                .with_retry_after(Duration::from_secs(10))
        })
    }

    /// The queue, for the one who works it off.
    pub(super) fn take_queue(&self) -> Option<mpsc::Receiver<Wish>> {
        self.waiting.lock().take()
    }

    /// Sends a mail. What does not work is logged, without the secret.
    pub(super) async fn send(&self, letter: &Letter<'_>) {
        let (subject, text) = self.words(letter);
        match &self.mailer {
            None => {}
            Some(Mailer::Log) => {
                tracing::info!(to = letter.to, "mail that would be sent: {subject}\n\n{text}");
            }
            Some(Mailer::Smtp { transport, from }) => {
                let Some(message) = message(from, letter.to, subject, text) else {
                    tracing::warn!(purpose = letter.purpose.word(), "an address cannot be written to");
                    return;
                };
                deliver(transport, message, letter.purpose).await;
            }
        }
    }

    fn words(&self, letter: &Letter<'_>) -> (&'static str, String) {
        let path = match letter.purpose {
            Purpose::Verify => &self.links.verify,
            Purpose::Reset => &self.links.reset,
            Purpose::Login => &self.links.login,
        };
        let link = format!("{}{path}?token={}", self.public_url, letter.secret);
        let (subject, text) = match letter.purpose {
            Purpose::Verify => (
                "Confirm your e-mail address",
                format!(
                    "Confirm that this address is yours:\n\n{link}\n\nThe link is good for 24 hours. If you did not make an \
                     account, ignore this mail.\n"
                ),
            ),
            Purpose::Reset => (
                "Set a new password",
                format!(
                    "Set a new password for your account:\n\n{link}\n\nThe link is good for one hour, once. If you did not ask \
                     for it, ignore this mail: nothing has changed.\n"
                ),
            ),
            Purpose::Login => (
                "Sign in",
                format!(
                    "Sign in:\n\n{link}\n\nor with the code {}\n\nBoth are good for ten minutes, once. If you did not ask for \
                     it, ignore this mail.\n",
                    letter.code
                ),
            ),
        };
        (subject, text)
    }
}

fn smtp_mailer(smtp: &Smtp, from: &str) -> Result<Mailer> {
    let invalid = |why: String| Error::new(ErrorKind::InvalidInput, "MAIL_INVALID", why);
    let from = from.parse().map_err(|_| {
        invalid("`mail.from` is no address; write one such as `Alyx <no-reply@example.com>`".to_owned())
    })?;
    let host = smtp.host.as_str();
    let builder = match smtp.tls {
        SmtpTls::StartTls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(host),
        SmtpTls::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(host),
        SmtpTls::None => Ok(AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)),
    };
    let mut builder = builder
        .map_err(|error| invalid(format!("`mail.smtp.host` cannot be used: {error}")))?
        .port(smtp.port)
        .timeout(Some(SEND_WITHIN));
    if let (Some(name), Some(password)) = (&smtp.username, &smtp.password) {
        builder = builder.credentials(Credentials::new(name.clone(), password.expose().to_owned()));
    }
    Ok(Mailer::Smtp {
        transport: builder.build(),
        from,
    })
}

fn message(from: &Mailbox, to: &str, subject: &str, text: String) -> Option<Message> {
    let to = Mailbox::new(None, to.parse().ok()?);
    let message = Message::builder().from(from.clone()).to(to).subject(subject);
    message.body(text).ok()
}

async fn deliver(transport: &AsyncSmtpTransport<Tokio1Executor>, message: Message, purpose: Purpose) {
    for number in 1..=TRIES {
        let Err(error) = transport.send(message.clone()).await else {
            return;
        };
        let again = number < TRIES && !error.is_permanent();
        tracing::warn!(%error, purpose = purpose.word(), again, "a mail could not be sent");
        if !again {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
