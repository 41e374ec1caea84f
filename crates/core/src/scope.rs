//! What an API token may do: a list of scopes such as `read:posts`, each of which only ever adds.
//!
//! | Scope | Lets do |
//! |---|---|
//! | `read:<collection>` | read its documents, live too |
//! | `write:<collection>` | create, change and delete its documents; not read them |
//! | `files.read:<bucket>` | see and download its files |
//! | `files.write:<bucket>` | upload and delete its files; not see them |
//! | `functions:<name>` | call it |
//! | `admin:read` | see what operators see |
//! | `admin:nodes` | the same, and drain nodes |
//! | `deploy` | the same as `admin:read`, and change the schema and reload functions |
//! | `admin` | everything, operators and tokens among it |
//!
//! A name may end with `*`, which stands for any rest.

use std::fmt;

use crate::{Error, ErrorKind, Result};

/// Most scopes of one token.
const MAX_SCOPES: usize = 64;
/// Longest scope in bytes.
const MAX_LENGTH: usize = 128;

/// Something that may be done, as a scope would have to allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission<'a> {
    /// Read documents of a collection.
    Read(&'a str),
    /// Create, change or delete documents of a collection.
    Write(&'a str),
    /// See and download files of a bucket.
    ReadFiles(&'a str),
    /// Upload or delete files of a bucket.
    WriteFiles(&'a str),
    /// Call a function.
    Invoke(&'a str),
    /// See what operators see: status, nodes, schema, functions.
    Observe,
    /// Drain nodes.
    Nodes,
    /// Change the schema, reload functions.
    Deploy,
    /// Make and revoke operators and tokens.
    Administer,
}

impl fmt::Display for Permission<'_> {
    /// The scope that allows this and nothing more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(collection) => write!(f, "read:{collection}"),
            Self::Write(collection) => write!(f, "write:{collection}"),
            Self::ReadFiles(bucket) => write!(f, "files.read:{bucket}"),
            Self::WriteFiles(bucket) => write!(f, "files.write:{bucket}"),
            Self::Invoke(function) => write!(f, "functions:{function}"),
            Self::Observe => f.write_str("admin:read"),
            Self::Nodes => f.write_str("admin:nodes"),
            Self::Deploy => f.write_str("deploy"),
            Self::Administer => f.write_str("admin"),
        }
    }
}

/// The scopes of one token, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(Box<[Scope]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Read(Names),
    Write(Names),
    ReadFiles(Names),
    WriteFiles(Names),
    Functions(Names),
    Observe,
    Nodes,
    Deploy,
    Admin,
}

/// One name, or all that begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    One(String),
    Beginning(String),
}

impl Scopes {
    /// Scopes as people write them. One that is there twice counts once.
    ///
    /// # Errors
    ///
    /// `INVALID_SCOPE` where there is none, one that is not known, or more than 64.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self> {
        let mut scopes = Vec::new();
        for text in texts {
            let scope = Scope::parse(text)?;
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
            if scopes.len() > MAX_SCOPES {
                return Err(invalid(format!("a token has at most {MAX_SCOPES} scopes")));
            }
        }
        if scopes.is_empty() {
            return Err(invalid(
                "a token needs at least one scope, such as `read:posts` or `functions:*`".to_owned(),
            ));
        }
        Ok(Self(scopes.into()))
    }

    /// Whether that may be done.
    pub fn allow(&self, permission: Permission<'_>) -> bool {
        self.0.iter().any(|scope| scope.allows(permission))
    }

    /// Whether everything may be done.
    pub fn is_unlimited(&self) -> bool {
        self.0.contains(&Scope::Admin)
    }
}

impl fmt::Display for Scopes {
    /// With a blank between each two, as [`Scopes::parse`] takes them after splitting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{scope}")?;
        }
        Ok(())
    }
}

impl Scope {
    fn parse(text: &str) -> Result<Self> {
        match text {
            "admin" => return Ok(Self::Admin),
            "admin:read" => return Ok(Self::Observe),
            "admin:nodes" => return Ok(Self::Nodes),
            "deploy" => return Ok(Self::Deploy),
            _ => {}
        }
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let names = Names::parse(name).filter(|_| text.len() <= MAX_LENGTH);
        match (kind, names) {
            ("read", Some(names)) => Ok(Self::Read(names)),
            ("write", Some(names)) => Ok(Self::Write(names)),
            ("files.read", Some(names)) => Ok(Self::ReadFiles(names)),
            ("files.write", Some(names)) => Ok(Self::WriteFiles(names)),
            ("functions", Some(names)) => Ok(Self::Functions(names)),
            _ => {
                let shown: String = text.chars().take(MAX_LENGTH).collect();
                Err(invalid(format!(
                    "`{shown}` is no scope; write `read:<collection>`, `write:<collection>`, `files.read:<bucket>`, \
                     `files.write:<bucket>`, `functions:<name>` (a name may end with `*`), `admin:read`, `admin:nodes`, `deploy` or `admin`"
                )))
            }
        }
    }

    fn allows(&self, permission: Permission<'_>) -> bool {
        match (self, permission) {
            (Self::Read(names), Permission::Read(name))
            | (Self::Write(names), Permission::Write(name))
            | (Self::ReadFiles(names), Permission::ReadFiles(name))
            | (Self::WriteFiles(names), Permission::WriteFiles(name))
            | (Self::Functions(names), Permission::Invoke(name)) => names.hold(name),
            (Self::Observe | Self::Nodes | Self::Deploy, Permission::Observe)
            | (Self::Nodes, Permission::Nodes)
            | (Self::Deploy, Permission::Deploy)
            | (Self::Admin, _) => true,
            (
                Self::Read(_)
                | Self::Write(_)
                | Self::ReadFiles(_)
                | Self::WriteFiles(_)
                | Self::Functions(_)
                | Self::Observe
                | Self::Nodes
                | Self::Deploy,
                _,
            ) => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(names) => write!(f, "read:{names}"),
            Self::Write(names) => write!(f, "write:{names}"),
            Self::ReadFiles(names) => write!(f, "files.read:{names}"),
            Self::WriteFiles(names) => write!(f, "files.write:{names}"),
            Self::Functions(names) => write!(f, "functions:{names}"),
            Self::Observe => Permission::Observe.fmt(f),
            Self::Nodes => Permission::Nodes.fmt(f),
            Self::Deploy => Permission::Deploy.fmt(f),
            Self::Admin => Permission::Administer.fmt(f),
        }
    }
}

impl Names {
    fn parse(text: &str) -> Option<Self> {
        let is_name = |text: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            text.bytes().all(fits)
        };
        match text.strip_suffix('*') {
            Some(start) if is_name(start) => Some(Self::Beginning(start.to_owned())),
            None if is_name(text) && !text.is_empty() => Some(Self::One(text.to_owned())),
            Some(_) | None => None,
        }
    }

    fn hold(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Beginning(start) => name.starts_with(start.as_str()),
        }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => f.write_str(name),
            Self::Beginning(start) => write!(f, "{start}*"),
        }
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_SCOPE", message).with_field("scopes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Permission<'static>; 9] = [
        Permission::Read("posts"),
        Permission::Write("posts"),
        Permission::ReadFiles("posts"),
        Permission::WriteFiles("posts"),
        Permission::Invoke("posts"),
        Permission::Observe,
        Permission::Nodes,
        Permission::Deploy,
        Permission::Administer,
    ];

    fn allowed(scopes: &str) -> Vec<String> {
        let scopes = Scopes::parse(scopes.split(' ')).expect(scopes);
        let allowed = ALL.iter().filter(|permission| scopes.allow(**permission));
        allowed.map(ToString::to_string).collect()
    }

    #[test]
    fn each_scope_allows_what_it_says_and_nothing_else() {
        let check = |scopes: &str, expected: &[&str]| assert_eq!(allowed(scopes), expected, "{scopes}");
        check("read:posts", &["read:posts"]);
        check("read:po*", &["read:posts"]);
        check("read:*", &["read:posts"]);
        check("write:posts", &["write:posts"]);
        check("files.read:posts", &["files.read:posts"]);
        check("files.write:p*", &["files.write:posts"]);
        check("functions:posts", &["functions:posts"]);
        check("read:posts write:*", &["read:posts", "write:posts"]);
        check("read:post", &[]);
        check("read:postss", &[]);
        check("read:Posts", &[]);
        check("write:p functions:q*", &[]);
        check("admin:read", &["admin:read"]);
        check("admin:nodes", &["admin:read", "admin:nodes"]);
        check("deploy", &["admin:read", "deploy"]);
        let everything: Vec<String> = ALL.iter().map(ToString::to_string).collect();
        assert_eq!(allowed("admin"), everything);
        for (index, permission) in ALL.iter().enumerate() {
            let own = Scopes::parse([permission.to_string().as_str()]).expect("its own scope");
            assert!(own.allow(ALL[index]), "{permission}");
            assert_eq!(own.is_unlimited(), *permission == Permission::Administer);
        }
    }

    #[test]
    fn scopes_are_written_as_they_are_read() {
        let text = "read:a write:b_* functions:* admin:read admin:nodes deploy admin";
        let scopes = Scopes::parse(text.split(' ').chain(["read:a"])).expect(text);
        assert_eq!(scopes.to_string(), text);
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        let long = format!("read:{}", "a".repeat(MAX_LENGTH));
        let texts = [
            "",
            "*",
            "read",
            "read:",
            "read:a*b",
            "read:*a",
            "read:a b",
            "read:a%",
            "root",
            "admin:*",
            "Admin",
            long.as_str(),
        ];
        for text in texts {
            let error = Scopes::parse([text]).expect_err(text);
            assert_eq!(error.code(), "INVALID_SCOPE", "{text}");
        }
        assert_eq!(Scopes::parse([]).expect_err("none").code(), "INVALID_SCOPE");
        let many: Vec<String> = (0..=MAX_SCOPES).map(|number| format!("read:a{number}")).collect();
        let error = Scopes::parse(many.iter().map(String::as_str)).expect_err("too many");
        assert_eq!(error.code(), "INVALID_SCOPE");
    }
}
