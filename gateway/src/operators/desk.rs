//! What operators do over REST: sign in and out, make and revoke operators and tokens.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind};
use alyx_core::{Result, Scopes, format_timestamp, parse_duration};
use alyx_operators::{Listing, MadeToken, NewOperator, NewToken, Operator, Revoked, SignIn};
use serde::{Deserialize, Serialize};

use super::Tokens;

/// A body that makes a token.
#[derive(Deserialize)]
pub(crate) struct TokenRequest {
    #[serde(default)]
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
    /// Such as `90d`.
    #[serde(default)]
    expires_in: Option<String>,
}

/// A token as it is shown once.
#[derive(Serialize)]
pub(crate) struct TokenReply {
    token: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    scopes: Vec<String>,
    expires_at: Option<String>,
}

impl TokenReply {
    fn new(made: MadeToken, name: Option<String>, scopes: &Scopes) -> Self {
        let at = |seconds| format_timestamp(std::time::UNIX_EPOCH + Duration::from_secs(seconds));
        Self {
            expires_at: made.expires_at.map(at),
            token: made.token,
            id: made.id,
            name,
            scopes: scopes.to_string().split(' ').map(str::to_owned).collect(),
        }
    }
}

impl Tokens {
    /// The operator with that normalised address, and the hash of the password.
    pub(crate) async fn find_operator(
        &self,
        email: &str,
        deadline: Instant,
    ) -> Result<Option<(Operator, String)>> {
        self.rows.find_operator(email, deadline).await
    }

    /// A token for an operator whose password was right.
    pub(crate) async fn sign_in(&self, sign_in: SignIn<'_>, deadline: Instant) -> Result<TokenReply> {
        let made = self.rows.sign_in(sign_in, deadline).await?;
        Ok(TokenReply::new(made, None, &Scopes::parse(["admin"])?))
    }

    /// Ends a sign-in.
    pub(crate) async fn sign_out(&self, id: &str, deadline: Instant) -> Result<()> {
        self.rows.sign_out(id, deadline).await?;
        self.stirred.notify_one();
        Ok(())
    }

    /// Makes an operator whose password's hash is this.
    pub(crate) async fn create_operator(
        &self,
        (email, password_hash): (String, String),
        deadline: Instant,
    ) -> Result<Operator> {
        let new = NewOperator { email, password_hash };
        self.rows.create_operator(new, deadline).await
    }

    /// Makes a token.
    ///
    /// Errors: `INVALID_SCOPE`, `INVALID_EXPIRY`, and those of [`alyx_operators::Operators::create_token`].
    pub(crate) async fn create_token(&self, request: TokenRequest, deadline: Instant) -> Result<TokenReply> {
        let scopes = Scopes::parse(request.scopes.iter().map(String::as_str))?;
        let expires_in = request.expires_in.as_deref().map(parse_duration).transpose();
        let expires_in = expires_in.map_err(|error| {
            let message = format!("`expires_in` is no duration ({error}); write `90d` or `12h`");
            Error::new(ErrorKind::InvalidInput, "INVALID_EXPIRY", message).with_field("expires_in")
        })?;
        let new = NewToken {
            name: request.name.clone(),
            scopes: scopes.clone(),
            expires_in,
        };
        let made = self.rows.create_token(new, deadline).await?;
        Ok(TokenReply::new(made, Some(request.name), &scopes))
    }

    /// All operators and tokens.
    pub(crate) async fn list(&self, deadline: Instant) -> Result<Listing> {
        self.rows.list(deadline).await
    }

    /// Ends an operator or a token.
    pub(crate) async fn revoke(&self, who: &str, deadline: Instant) -> Result<Revoked> {
        let revoked = self.rows.revoke(who, deadline).await?;
        self.stirred.notify_one();
        Ok(revoked)
    }
}
