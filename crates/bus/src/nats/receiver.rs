//! Keeps the connection, and hands what arrives to the followers in this process.

use std::sync::Arc;
use std::time::Duration;

use alyx_proto::bus::announcement::Body;
use async_nats::{Client, ConnectOptions, Event, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Subjects;
use super::address::Address;
use super::status::Status;
use crate::Delivery;
use crate::convert::{self, Unreadable};
use crate::parts::{Assembled, Assembly};

/// Pause before a client that gave up (NATS refused it) is made anew.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest pause between attempts to reconnect.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// A connection on which nothing moves is given up after three of these.
const PING_EVERY: Duration = Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Commands that wait in the client for its connection, messages among them.
const CLIENT_QUEUE: usize = 64;
/// Events of the client that wait to be looked at; they are rare.
const EVENT_QUEUE: usize = 64;
/// Longest wait for room in the client's queue for the echo.
const ECHO_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Receiver {
    pub(super) address: Address,
    pub(super) node_id: String,
    pub(super) subjects: Subjects,
    pub(super) buffer: usize,
    pub(super) clients: watch::Sender<Option<Client>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) joined: Arc<Notify>,
    pub(super) deliveries: broadcast::Sender<Delivery>,
}

/// One client from its making to its end.
struct Session {
    client: Client,
    events: mpsc::Receiver<Event>,
    /// Comes back from NATS behind the subscriptions that were made before it was sent.
    echo: Subscriber,
    /// Number of the last echo that was asked for; earlier ones say nothing.
    asked: u64,
    /// Only where somebody follows.
    changes: Option<Subscriber>,
    assembly: Assembly,
}

impl Receiver {
    pub(super) async fn run(self, cancelled: CancellationToken) {
        loop {
            let Some(end) = cancelled.run_until_cancelled(self.serve()).await else {
                return;
            };
            let trouble = end
                .err()
                .map_or_else(|| "refused by NATS".to_owned(), |error| error.to_string());
            tracing::warn!(trouble, "the link to NATS is given up; trying again in a second");
            self.clients.send_replace(None);
            self.status.send_modify(|status| {
                status.connected = false;
                status.trouble.get_or_insert(trouble);
            });
            let pause = tokio::time::sleep(RETRY_AFTER);
            if cancelled.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Serves one client until it ends.
    async fn serve(&self) -> Result<(), async_nats::Error> {
        let mut session = self.open().await?;
        self.clients.send_replace(Some(session.client.clone()));
        if self.deliveries.receiver_count() > 0 {
            session.subscribe(&self.subjects).await?;
        }
        loop {
            tokio::select! {
                Some(event) = session.events.recv() => self.hear(&mut session, event).await,
                echo = session.echo.next() => match echo {
                    Some(message) if message.payload == session.asked.to_be_bytes().as_slice() => self.tell(Delivery::Lost),
                    Some(_) => {}
                    None => return Ok(()),
                },
                Some(message) = next(&mut session.changes) => self.take(&mut session.assembly, message),
                () = self.joined.notified() => {
                    session.subscribe(&self.subjects).await?;
                    // Otherwise it is asked for once there is a connection.
                    if self.status.borrow().connected {
                        self.ask_for_echo(&mut session).await;
                    }
                }
            }
        }
    }

    async fn open(&self) -> Result<Session, async_nats::Error> {
        let (event_sender, events) = mpsc::channel(EVENT_QUEUE);
        let options = ConnectOptions::new()
            .name(format!("alyx {}", self.node_id))
            .retry_on_initial_connect()
            .connection_timeout(CONNECT_WITHIN)
            .ping_interval(PING_EVERY)
            .client_capacity(CLIENT_QUEUE)
            .subscription_capacity(self.buffer)
            .reconnect_delay_callback(|attempts| {
                let pause =
                    Duration::from_millis(20).saturating_mul(u32::try_from(attempts).unwrap_or(u32::MAX));
                pause.min(MAX_RECONNECT_PAUSE)
            })
            .event_callback(move |event| {
                let event_sender = event_sender.clone();
                async move {
                    // Fails only when the session is over.
                    let _ = event_sender.send(event).await;
                }
            });
        let servers = self.address.servers.clone();
        let client = self.address.log_in(options).connect(servers).await?;
        let echo = client.subscribe(self.subjects.echo.clone()).await?;
        Ok(Session {
            client,
            events,
            echo,
            asked: 0,
            changes: None,
            assembly: Assembly::default(),
        })
    }

    async fn hear(&self, session: &mut Session, event: Event) {
        match event {
            Event::Connected => {
                self.status.send_modify(|status| {
                    status.connected = true;
                    status.connects += 1;
                    status.trouble = None;
                });
                tracing::info!("connected to NATS");
                self.ask_for_echo(session).await;
            }
            Event::Disconnected | Event::Closed => {
                tracing::warn!("NATS is away; reconnecting");
                self.status.send_modify(|status| status.connected = false);
            }
            Event::SlowConsumer(_) => self.tell(Delivery::Lost),
            Event::ServerError(_) | Event::ClientError(_) => {
                tracing::warn!(%event, "trouble with NATS");
                let trouble = event.to_string();
                self.status.send_modify(|status| status.trouble = Some(trouble));
            }
            Event::LameDuckMode | Event::Draining => {}
        }
    }

    /// Has NATS send a message back; followers are told when it is here, as everything before may be missing.
    async fn ask_for_echo(&self, session: &mut Session) {
        if session.changes.is_none() {
            return;
        }
        session.asked += 1;
        let number = Bytes::copy_from_slice(&session.asked.to_be_bytes());
        let publish = session.client.publish(self.subjects.echo.clone(), number);
        // Without it followers still look at the log every second.
        let _ = tokio::time::timeout(ECHO_WITHIN, publish).await;
    }

    fn take(&self, assembly: &mut Assembly, message: Message) {
        match read(assembly, message.payload) {
            Ok(Some(delivery)) => self.tell(delivery),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, subject = self.subjects.changes, "a message was not understood");
                self.tell(Delivery::Lost);
            }
        }
    }

    fn tell(&self, delivery: Delivery) {
        // An error means that nobody follows, which is no fault.
        let _ = self.deliveries.send(delivery);
    }
}

impl Session {
    async fn subscribe(&mut self, subjects: &Subjects) -> Result<(), async_nats::Error> {
        if self.changes.is_none() {
            self.changes = Some(self.client.subscribe(subjects.changes.clone()).await?);
        }
        Ok(())
    }
}

/// What followers are to hear of a message.
fn read(assembly: &mut Assembly, payload: Bytes) -> Result<Option<Delivery>, Unreadable> {
    let commit = match convert::read(payload)? {
        Body::Commit(commit) => commit,
        Body::Lost(_) => return Ok(Some(Delivery::Lost)),
        Body::Part(part) => match assembly.take(&part)? {
            Assembled::Waiting => return Ok(None),
            Assembled::Broken => return Ok(Some(Delivery::Lost)),
            Assembled::Whole(commit) => commit,
        },
    };
    convert::read_commit(commit).map(|commit| Some(Delivery::Commit(commit)))
}

/// The next message; never where there is no subscription.
async fn next(subscriber: &mut Option<Subscriber>) -> Option<Message> {
    match subscriber {
        Some(subscriber) => subscriber.next().await,
        None => std::future::pending().await,
    }
}
