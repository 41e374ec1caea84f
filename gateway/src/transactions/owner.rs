//! Whose an open transaction or an idempotency key is.
//!
//! It belongs to who somebody is, not to how they showed it: a session that was refreshed, or another one of the same
//! account, goes on where the last one was.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use alyx_core::Caller;

use crate::auth::Identity;

/// A caller, by a digest that says nothing about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner([u8; 32]);

impl Owner {
    /// The caller of a request. Of those who are nobody, by what they send as credentials.
    pub(crate) fn of(identity: &Identity, headers: &HeaderMap) -> Self {
        let (kind, who) = match (&identity.caller, identity.operator.as_deref()) {
            (_, Some(operator)) => (&b"operator"[..], operator.as_bytes()),
            (Caller::Account(account), None) => (&b"account"[..], account.id.as_bytes()),
            (Caller::Token(token), None) => (&b"token"[..], token.id.as_bytes()),
            (Caller::Anonymous | Caller::Operator | Caller::System, None) => {
                let credentials = headers.get(AUTHORIZATION);
                let credentials = credentials.map_or(&b""[..], http::HeaderValue::as_bytes);
                (&b"credentials"[..], credentials)
            }
        };
        Self(super::digest(&[kind, who]))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[cfg(test)]
    pub(super) const fn numbered(number: u8) -> Self {
        Self([number; 32])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alyx_core::Account;
    use http::HeaderValue;

    use super::*;

    fn account(id: &str, session: &str) -> Caller {
        Caller::Account(Arc::new(Account {
            id: id.to_owned(),
            email: None,
            verified: true,
            role: "user".to_owned(),
            metadata: serde_json::Map::new(),
            session: Some(session.to_owned()),
        }))
    }

    fn owner(caller: &Caller, credentials: Option<&str>) -> Owner {
        let mut headers = HeaderMap::new();
        if let Some(credentials) = credentials {
            let value = HeaderValue::from_str(credentials).expect("a header");
            headers.insert(AUTHORIZATION, value);
        }
        let identity = Identity {
            caller: caller.clone(),
            ..Identity::default()
        };
        Owner::of(&identity, &headers)
    }

    #[test]
    fn an_account_stays_the_owner_whatever_token_it_shows() {
        let first = owner(&account("a", "1"), Some("Bearer x"));
        assert_eq!(first, owner(&account("a", "1"), Some("Bearer y")));
        assert_eq!(first, owner(&account("a", "2"), Some("bearer z")));
        assert_ne!(first, owner(&account("b", "1"), Some("Bearer x")));
    }

    #[test]
    fn nobody_is_told_apart_by_credentials_and_cannot_pass_for_an_account() {
        let nobody = owner(&Caller::Anonymous, None);
        assert_eq!(nobody, owner(&Caller::Anonymous, None));
        assert_ne!(nobody, owner(&Caller::Anonymous, Some("Basic x")));
        assert_ne!(
            owner(&Caller::Anonymous, Some("a")),
            owner(&account("a", "1"), None)
        );
    }
}
