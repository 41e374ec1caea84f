//! What is answered about operators and API tokens, for people and as JSON.

use std::fmt;

use alyx_operators::Listing;
use serde::Serialize;

use crate::admin::Table;

/// An operator that was made.
#[derive(Serialize)]
pub(super) struct MadeOperator {
    pub(super) id: String,
    pub(super) email: String,
}

impl fmt::Display for MadeOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} is an operator and signs in at /api/admin/login.",
            self.email
        )
    }
}

/// An operator who has another password.
#[derive(Serialize)]
pub(super) struct ChangedOperator {
    pub(super) id: String,
    pub(super) email: String,
}

impl fmt::Display for ChangedOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} has another password; all sign-ins have ended.", self.email)
    }
}

/// A token that was made.
#[derive(Serialize)]
pub(super) struct ShownToken {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) token: String,
    pub(super) expires_at: Option<String>,
}

impl fmt::Display for ShownToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.token)?;
        match &self.expires_at {
            Some(at) => writeln!(
                f,
                "Token `{}`, good until {at}. It is not shown again.",
                self.name
            ),
            None => writeln!(f, "Token `{}`. It is not shown again.", self.name),
        }
    }
}

/// Everybody and everything that operates.
#[derive(Serialize)]
pub(super) struct Listed(pub(super) Listing);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
        let mut table = Table::new(&["KIND", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED"]);
        for operator in &self.0.operators {
            table.row([
                "operator".to_owned(),
                operator.email.clone(),
                "admin".to_owned(),
                operator.created_at.clone(),
                "-".to_owned(),
                or(&operator.used_at, "never"),
            ]);
        }
        for token in &self.0.tokens {
            table.row([
                "token".to_owned(),
                token.name.clone(),
                token.scopes.join(","),
                token.created_at.clone(),
                or(&token.expires_at, "never"),
                or(&token.used_at, "never"),
            ]);
        }
        write!(f, "{table}")
    }
}

/// What is over.
#[derive(Serialize)]
pub(super) struct Over {
    pub(super) revoked: &'static str,
    pub(super) who: String,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The {} {} is revoked.", self.revoked, self.who)
    }
}
