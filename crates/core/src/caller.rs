//! Who a request acts for, as access rules, functions and live queries see it.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::{Permission, Scopes};

/// Who acts. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Caller {
    /// Nobody has signed in: `auth` is null in rules.
    #[default]
    Anonymous,
    /// An end user of the application, by an access token.
    Account(Arc<Account>),
    /// An operator. Rules do not apply.
    Operator,
    /// An API token. Rules do not apply; it may do what its scopes say and nothing else.
    Token(Arc<ApiToken>),
    /// The server itself and functions with their own authority. Rules do not apply.
    System,
}

/// A signed-in account as rules see it by the name `auth`.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// A UUID.
    pub id: String,
    /// Normalised; none for an anonymous account that was not upgraded yet.
    pub email: Option<String>,
    /// Whether the account has shown that the address is its own.
    pub verified: bool,
    /// `user` unless an operator gave another.
    pub role: String,
    /// What the application keeps of the account.
    pub metadata: Map<String, Json>,
    /// The session that the access token belongs to.
    pub session: Option<String>,
}

/// A token for programs. It is nobody: it acts for the operator who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// A UUID; says nothing about the token itself.
    pub id: String,
    /// What it may do.
    pub scopes: Scopes,
}

impl Caller {
    /// Whether access rules apply to this caller.
    pub fn is_bound_by_rules(&self) -> bool {
        match self {
            Self::Anonymous | Self::Account(_) => true,
            Self::Operator | Self::Token(_) | Self::System => false,
        }
    }

    /// The account, where one has signed in.
    pub fn account(&self) -> Option<&Arc<Account>> {
        match self {
            Self::Account(account) => Some(account),
            Self::Anonymous | Self::Operator | Self::Token(_) | Self::System => None,
        }
    }

    /// Whether this is not closed to the caller whatever it is about. To whom access rules apply, these decide on
    /// documents, and functions for themselves.
    pub fn may(&self, permission: Permission<'_>) -> bool {
        match self {
            Self::Anonymous | Self::Account(_) => match permission {
                Permission::Read(_)
                | Permission::Write(_)
                | Permission::ReadFiles(_)
                | Permission::WriteFiles(_)
                | Permission::Invoke(_) => true,
                Permission::Observe | Permission::Nodes | Permission::Deploy | Permission::Administer => {
                    false
                }
            },
            Self::Token(token) => token.scopes.allow(permission),
            Self::Operator | Self::System => true,
        }
    }
}

impl Account {
    /// The object behind `auth` in rules and in a function's context: `{id, email, verified, role, metadata}`.
    pub fn to_json(&self) -> Json {
        serde_json::json!({
            "id": self.id,
            "email": self.email,
            "verified": self.verified,
            "role": self.role,
            "metadata": self.metadata,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_callers_from_outside_are_bound_by_rules() {
        assert!(Caller::Anonymous.is_bound_by_rules());
        assert!(!Caller::Operator.is_bound_by_rules());
        assert!(!Caller::System.is_bound_by_rules());
    }

    #[test]
    fn what_operators_do_is_closed_to_everybody_else() {
        let token = |scope: &str| {
            let scopes = Scopes::parse([scope]).expect("a scope");
            Caller::Token(Arc::new(ApiToken {
                id: "1".into(),
                scopes,
            }))
        };
        let operators = [
            Permission::Observe,
            Permission::Nodes,
            Permission::Deploy,
            Permission::Administer,
        ];
        for permission in operators {
            assert!(!Caller::Anonymous.may(permission), "{permission}");
            assert!(!token("read:*").may(permission), "{permission}");
            assert!(token("admin").may(permission), "{permission}");
            assert!(Caller::Operator.may(permission), "{permission}");
        }
        assert!(Caller::Anonymous.may(Permission::Read("posts")));
        assert!(!token("admin:read").may(Permission::Read("posts")));
        assert!(!token("read:*").is_bound_by_rules());
    }

    #[test]
    fn the_session_is_not_among_what_rules_see() {
        let account = Account {
            id: "1".into(),
            email: None,
            verified: false,
            role: "user".into(),
            metadata: Map::new(),
            session: Some("secret".into()),
        };
        assert!(account.to_json().get("session").is_none());
        assert!(Caller::Account(Arc::new(account)).is_bound_by_rules());
    }
}
