//! Passwords of operators, guarded as those of accounts are.

use std::time::Instant;

use alyx_core::Result;
use alyx_operators::{SignIn, hash_new_password};

use super::credentials::Credentials;
use super::sessions::Device;
use super::{Auth, accounts::wrong};
use crate::operators::{TokenReply, Tokens};

impl Auth {
    /// A token for an operator. Whether there is such an operator shows neither in the answer nor in its time.
    ///
    /// Errors: `INVALID_CREDENTIALS`, `TOO_MANY_ATTEMPTS`, `AUTH_BUSY`, those of the address.
    pub(crate) async fn sign_in_operator(
        &self,
        tokens: &Tokens,
        credentials: Credentials,
        device: &Device,
        deadline: Instant,
    ) -> Result<TokenReply> {
        let credentials = credentials.check()?;
        let found = tokens.find_operator(&credentials.email, deadline).await?;
        let kept = found.as_ref().map(|(_, hash)| hash.clone());
        // Guesses count apart from those for an account with the same address.
        let counted = format!("operator {}", credentials.email);
        self.prove(&counted, device, credentials.password, kept).await?;
        let (operator, password_hash) = found.as_ref().ok_or_else(wrong)?;
        let sign_in = SignIn {
            operator,
            password_hash,
        };
        tokens.sign_in(sign_in, deadline).await
    }

    /// What is kept of a new operator's address and password.
    ///
    /// Errors: of the address and the password, `AUTH_BUSY`.
    pub(crate) async fn new_operator(&self, credentials: Credentials) -> Result<(String, String)> {
        let credentials = credentials.check()?;
        let password = credentials.password;
        let hash = self.hashing.run(move || hash_new_password(&password)).await??;
        Ok((credentials.email, hash))
    }
}
