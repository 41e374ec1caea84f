//! Who is asked about operators and API tokens: a server, or the database itself.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use alyx_core::{Error, Result, Scopes, SystemClock, format_timestamp};
use alyx_operators::{
    Listing, NewOperator, NewToken, OperatorEntry, Operators, Revoked, TokenEntry, hash_new_password,
};
use alyx_proto::admin as wire;
use alyx_store::Store;

use super::answers::{ChangedOperator, MadeOperator, ShownToken};
use crate::admin::{Client, Server, ask};

/// Longest wait for the database.
const WITHIN: Duration = Duration::from_secs(10);

/// Who is asked.
pub(super) enum Desk {
    Server(Server),
    Database(Operators, Store),
}

/// A token that is wanted.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) scopes: Vec<String>,
    pub(super) expires_in: Option<Duration>,
}

impl Desk {
    /// The database itself.
    pub(super) fn of(store: Store) -> Self {
        Self::Database(Operators::new(store.clone(), Arc::new(SystemClock)), store)
    }

    pub(super) async fn create_operator(&self, email: &str, password: &str) -> Result<MadeOperator> {
        let (id, email) = match self {
            Self::Server(server) => {
                let call = async |mut client: Client| {
                    let request = wire::CreateOperatorRequest {
                        email: email.to_owned(),
                        password: password.to_owned(),
                    };
                    client.create_operator(ask(request)).await
                };
                let made = server.call(call).await?;
                (made.id, made.email)
            }
            Self::Database(operators, _) => {
                let new = NewOperator {
                    email: email.to_owned(),
                    password_hash: hash_new_password(password)?,
                };
                let made = operators.create_operator(new, soon()).await?;
                (made.id, made.email)
            }
        };
        Ok(MadeOperator { id, email })
    }

    pub(super) async fn set_password(&self, who: &str, password: &str) -> Result<ChangedOperator> {
        let (id, email) = match self {
            Self::Server(server) => {
                let call = async |mut client: Client| {
                    let request = wire::SetOperatorPasswordRequest {
                        who: who.to_owned(),
                        password: password.to_owned(),
                    };
                    client.set_operator_password(ask(request)).await
                };
                let changed = server.call(call).await?;
                (changed.id, changed.email)
            }
            Self::Database(operators, _) => {
                let hash = hash_new_password(password)?;
                let changed = operators.set_password(who, hash, soon()).await?;
                (changed.id, changed.email)
            }
        };
        Ok(ChangedOperator { id, email })
    }

    pub(super) async fn create_token(&self, wanted: Wanted) -> Result<ShownToken> {
        let Wanted {
            name,
            scopes,
            expires_in,
        } = wanted;
        let (id, token, expires_at) = match self {
            Self::Server(server) => {
                let call = async |mut client: Client| {
                    let request = wire::CreateApiTokenRequest {
                        name: name.clone(),
                        scopes: scopes.clone(),
                        expires_in_seconds: expires_in.map(|time| time.as_secs()),
                    };
                    client.create_api_token(ask(request)).await
                };
                let made = server.call(call).await?;
                (made.id, made.token, made.expires_at)
            }
            Self::Database(operators, _) => {
                let new = NewToken {
                    name: name.clone(),
                    scopes: Scopes::parse(scopes.iter().map(String::as_str))?,
                    expires_in,
                };
                let made = operators.create_token(new, soon()).await?;
                let at = |seconds| format_timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
                (made.id, made.token, made.expires_at.map(at))
            }
        };
        Ok(ShownToken {
            id,
            name,
            token,
            expires_at,
        })
    }

    pub(super) async fn list(&self) -> Result<Listing> {
        match self {
            Self::Server(server) => {
                let call =
                    async |mut client: Client| client.list_access(ask(wire::ListAccessRequest {})).await;
                server.call(call).await.map(listing)
            }
            Self::Database(operators, _) => operators.list(soon()).await,
        }
    }

    pub(super) async fn revoke(&self, who: &str) -> Result<Revoked> {
        match self {
            Self::Server(server) => {
                let call = async |mut client: Client| {
                    let who = who.to_owned();
                    client.revoke_access(ask(wire::RevokeAccessRequest { who })).await
                };
                let revoked = server.call(call).await?;
                Ok(if revoked.operator {
                    Revoked::Operator
                } else {
                    Revoked::Token
                })
            }
            Self::Database(operators, _) => operators.revoke(who, soon()).await,
        }
    }

    /// Lets go of the database.
    pub(super) async fn close(self) {
        match self {
            Self::Server(_) => {}
            Self::Database(_, store) => store.close().await,
        }
    }
}

fn soon() -> Instant {
    Instant::now() + WITHIN
}

fn listing(list: wire::AccessList) -> Listing {
    let operator = |operator: wire::Operator| OperatorEntry {
        id: operator.id,
        email: operator.email,
        created_at: operator.created_at,
        used_at: operator.used_at,
    };
    let token = |token: wire::ApiToken| TokenEntry {
        id: token.id,
        name: token.name,
        scopes: token.scopes,
        created_at: token.created_at,
        expires_at: token.expires_at,
        used_at: token.used_at,
    };
    Listing {
        operators: list.operators.into_iter().map(operator).collect(),
        tokens: list.tokens.into_iter().map(token).collect(),
    }
}

/// Whether a server that was thought to run is not there.
pub(crate) fn is_away(error: &Error) -> bool {
    matches!(
        error.code(),
        "SERVER_UNREACHABLE" | "ADMIN_UNAUTHENTICATED" | "NO_ADMIN_API"
    )
}
