//! Who is meant: an account by its id or address, nobody, or an operator.

use std::sync::Arc;

use alyx_auth::normalize_email;
use alyx_core::{Account, Caller, Error, ErrorKind, Result, Row, Statement, Value};
use alyx_store::Store;

use super::ask;

/// Somebody, and in words who that is.
pub(super) struct Known {
    pub(super) caller: Caller,
    pub(super) words: String,
}

impl Known {
    /// # Errors
    /// `USER_NOT_FOUND`, and those of the store.
    pub(super) async fn find(store: &Store, name: &str) -> Result<Self> {
        let plain = |caller, words: &str| {
            Ok(Self {
                caller,
                words: words.to_owned(),
            })
        };
        match name {
            "anonymous" => plain(Caller::Anonymous, "nobody has signed in"),
            "operator" => plain(Caller::Operator, "an operator"),
            _ => Self::account(store, name).await,
        }
    }

    async fn account(store: &Store, name: &str) -> Result<Self> {
        // Gateways make the table when the first account is asked for.
        let there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_alyx_users'";
        let there = ask(store, &[Statement::new(there, Vec::new())]).await?;
        if there.first().is_none_or(Option::is_none) {
            return Err(unknown(name));
        }
        let email = normalize_email(name).map_or(Value::Null, Value::from);
        let sql = "SELECT id, email, verified, role, metadata FROM _alyx_users WHERE id = ?1 OR email = ?2 \
                   ORDER BY id = ?1 DESC LIMIT 1";
        let statement = Statement::new(sql, vec![Value::text(name.to_lowercase()), email]);
        let found = ask(store, &[statement]).await?;
        let row = found.into_iter().next().flatten().ok_or_else(|| unknown(name))?;
        let account = read(&row)
            .ok_or_else(|| Error::internal("a row of `_alyx_users` does not hold what was written to it"))?;
        let words = match &account.email {
            Some(email) => format!("{email} ({}, role {})", account.id, account.role),
            None => format!("{} (role {})", account.id, account.role),
        };
        Ok(Self {
            caller: Caller::Account(Arc::new(account)),
            words,
        })
    }
}

fn read(row: &Row) -> Option<Account> {
    let text = |at: usize| row.get(at).and_then(Value::as_text).map(str::to_owned);
    Some(Account {
        id: text(0)?,
        email: text(1),
        verified: row.get(2)?.as_int()? != 0,
        role: text(3)?,
        metadata: serde_json::from_str(row.get(4)?.as_text()?).ok()?,
        session: None,
    })
}

fn unknown(name: &str) -> Error {
    let shown: String = name.chars().take(254).collect();
    let message = format!(
        "there is no account `{shown}`: name one by its id or e-mail address, or say `anonymous` or `operator`"
    );
    Error::new(ErrorKind::NotFound, "USER_NOT_FOUND", message)
}
