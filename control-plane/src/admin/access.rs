//! Operators and API tokens over the admin API. They are rows, so any control plane answers, whether it leads or not.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use alyx_core::{Error, Result, Scopes, format_timestamp};
use alyx_operators::{
    NewOperator, NewToken, OperatorEntry, Operators, Revoked, TokenEntry, hash_new_password,
};
use alyx_proto::admin as wire;
use alyx_rpc::ApiTokens;
use async_trait::async_trait;

/// Longest wait for the database.
const DEADLINE: Duration = Duration::from_secs(10);

/// Answers about operators and tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Access(pub(super) Arc<Operators>);

impl Access {
    pub(super) async fn create_operator(
        &self,
        request: wire::CreateOperatorRequest,
    ) -> Result<wire::Operator> {
        let password = request.password;
        let hashed = tokio::task::spawn_blocking(move || hash_new_password(&password)).await;
        let new = NewOperator {
            email: request.email,
            password_hash: hashed.map_err(Error::internal)??,
        };
        let operator = self.0.create_operator(new, deadline()).await?;
        tracing::info!(operator = %operator.id, "an operator was made");
        Ok(wire::Operator {
            id: operator.id,
            email: operator.email,
            ..wire::Operator::default()
        })
    }

    pub(super) async fn set_operator_password(
        &self,
        request: wire::SetOperatorPasswordRequest,
    ) -> Result<wire::Operator> {
        let password = request.password;
        let hashed = tokio::task::spawn_blocking(move || hash_new_password(&password)).await;
        let hashed = hashed.map_err(Error::internal)??;
        let operator = self.0.set_password(&request.who, hashed, deadline()).await?;
        tracing::info!(operator = %operator.id, "an operator's password was set");
        Ok(wire::Operator {
            id: operator.id,
            email: operator.email,
            ..wire::Operator::default()
        })
    }

    pub(super) async fn create_api_token(
        &self,
        request: wire::CreateApiTokenRequest,
    ) -> Result<wire::CreatedApiToken> {
        let new = NewToken {
            name: request.name,
            scopes: Scopes::parse(request.scopes.iter().map(String::as_str))?,
            expires_in: request.expires_in_seconds.map(Duration::from_secs),
        };
        let made = self.0.create_token(new, deadline()).await?;
        tracing::info!(token = %made.id, "an API token was made");
        let at = |seconds| format_timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        Ok(wire::CreatedApiToken {
            id: made.id,
            token: made.token,
            expires_at: made.expires_at.map(at),
        })
    }

    pub(super) async fn list_access(&self, _: wire::ListAccessRequest) -> Result<wire::AccessList> {
        let listing = self.0.list(deadline()).await?;
        Ok(wire::AccessList {
            operators: listing.operators.into_iter().map(operator).collect(),
            tokens: listing.tokens.into_iter().map(token).collect(),
        })
    }

    pub(super) async fn revoke_access(
        &self,
        request: wire::RevokeAccessRequest,
    ) -> Result<wire::AccessRevoked> {
        let revoked = self.0.revoke(&request.who, deadline()).await?;
        tracing::info!(?revoked, "an operator or an API token was revoked");
        Ok(wire::AccessRevoked {
            operator: revoked == Revoked::Operator,
        })
    }
}

#[async_trait]
impl ApiTokens for Access {
    async fn scopes(&self, token: &str) -> Result<Option<Scopes>> {
        let known = self.0.find(token, deadline()).await?;
        Ok(known.map(|known| known.scopes))
    }
}

fn deadline() -> Instant {
    Instant::now() + DEADLINE
}

fn operator(entry: OperatorEntry) -> wire::Operator {
    wire::Operator {
        id: entry.id,
        email: entry.email,
        created_at: entry.created_at,
        used_at: entry.used_at,
    }
}

fn token(entry: TokenEntry) -> wire::ApiToken {
    wire::ApiToken {
        id: entry.id,
        name: entry.name,
        scopes: entry.scopes,
        created_at: entry.created_at,
        expires_at: entry.expires_at,
        used_at: entry.used_at,
    }
}
