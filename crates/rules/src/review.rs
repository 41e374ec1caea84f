//! What the rules of a schema come to, in words, and what in them is probably not meant so.

mod indexes;

use std::sync::Arc;
use std::time::SystemTime;

use alyx_core::{Account, Caller, Value};
use alyx_query::{CompareOp, Filter};
use alyx_schema::{Bucket, Collection, Schema};

use crate::rule::{Action, Decision, Facts, FileAction, Incoming};
use crate::set::RuleSet;

/// The account that stands for any user.
const SOMEBODY: &str = "00000000-0000-0000-0000-00000000000a";
/// Another one.
const ANOTHER: &str = "00000000-0000-0000-0000-00000000000b";

/// What may be done with the documents of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Its name.
    pub collection: String,
    /// One for each action, in their order.
    pub lines: [Line; 4],
    /// What is probably not meant so, a sentence each.
    pub warnings: Vec<String>,
}

/// Who may do one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// What is done.
    pub action: Action,
    /// By who has not signed in.
    pub anonymous: Verdict,
    /// By who has, with the role `user` and no metadata.
    pub user: Verdict,
}

/// With how many documents it may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// With every one, whatever comes in.
    All,
    /// With some, or with some of what may come in.
    Some,
    /// With none.
    None,
}

impl Verdict {
    /// In one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Some => "some",
            Self::None => "none",
        }
    }
}

/// Looks at the rules of every collection.
pub fn review(schema: &Schema, rules: &RuleSet) -> Vec<Review> {
    let collections = schema.collections.values();
    collections
        .map(|collection| Reviewer { collection, rules }.review())
        .collect()
}

/// What may be done with the files of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketReview {
    /// Its name.
    pub bucket: String,
    /// One for each action, in their order.
    pub lines: [BucketLine; 5],
    /// What is probably not meant so, a sentence each.
    pub warnings: Vec<String>,
}

/// Who may do one thing with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketLine {
    /// What is done.
    pub action: FileAction,
    /// By who has not signed in.
    pub anonymous: Verdict,
    /// By who has, with the role `user` and no metadata.
    pub user: Verdict,
}

/// Looks at the rules of every bucket.
pub fn review_buckets(schema: &Schema, rules: &RuleSet) -> Vec<BucketReview> {
    let verdict = |bucket: &Bucket, action: FileAction, caller: &Caller| {
        verdict_of(&rules.decide_of_files(bucket, action, &Facts::of(caller, SystemTime::now())))
    };
    let review = |bucket: &Arc<Bucket>| {
        let lines = FileAction::ALL.map(|action| BucketLine {
            action,
            anonymous: verdict(bucket, action, &Caller::Anonymous),
            user: verdict(bucket, action, &somebody()),
        });
        let open = lines.iter().filter(|line| line.anonymous == Verdict::All);
        let warnings = open.filter_map(|line| match line.action {
            FileAction::Create => Some("anybody may upload files without signing in".to_owned()),
            FileAction::Delete => Some("anybody may delete any file without signing in".to_owned()),
            FileAction::Read | FileAction::Update | FileAction::Download => None,
        });
        BucketReview {
            bucket: bucket.name.clone(),
            lines,
            warnings: warnings.collect(),
        }
    };
    schema.buckets.values().map(review).collect()
}

fn verdict_of(decision: &Decision) -> Verdict {
    match decision {
        Decision::Allow => Verdict::All,
        Decision::Filter(_) => Verdict::Some,
        Decision::Deny => Verdict::None,
    }
}

struct Reviewer<'r> {
    collection: &'r Collection,
    rules: &'r RuleSet,
}

impl Reviewer<'_> {
    fn review(&self) -> Review {
        let lines = Action::ALL.map(|action| Line {
            action,
            anonymous: self.verdict(action, &Caller::Anonymous),
            user: self.verdict(action, &somebody()),
        });
        let mut warnings = Vec::new();
        for line in &lines {
            if line.action != Action::Read && line.anonymous == Verdict::All {
                let action = line.action.word();
                warnings.push(format!("anybody may {action} any document without signing in"));
            }
        }
        warnings.extend(self.reassignable());
        if let Decision::Filter(filter) = self.decide(Action::Read, &somebody(), Incoming::Nothing) {
            warnings.extend(indexes::missing(self.collection, &filter));
        }
        Review {
            collection: self.collection.name.clone(),
            lines,
            warnings,
        }
    }

    fn decide(&self, action: Action, caller: &Caller, incoming: Incoming<'_>) -> Decision {
        let facts = Facts {
            incoming,
            ..Facts::of(caller, SystemTime::now())
        };
        self.rules.decide(self.collection, action, &facts)
    }

    fn verdict(&self, action: Action, caller: &Caller) -> Verdict {
        verdict_of(&self.decide(action, caller, Incoming::Unknown))
    }

    /// Fields that say whose a document is, and that their owner may set to somebody else.
    fn reassignable(&self) -> Option<String> {
        let nothing = Incoming::Changes {
            changes: &[],
            sums: &[],
        };
        let filter = self.decide(Action::Update, &somebody(), nothing).into_filter();
        let mut owners = Vec::new();
        named_by(&filter, &mut owners);
        let given_away = owners.into_iter().find(|field| {
            let changes = [(*field, Value::text(ANOTHER))];
            let incoming = Incoming::Changes {
                changes: &changes,
                sums: &[],
            };
            self.decide(Action::Update, &somebody(), incoming) != Decision::Deny
        })?;
        let name = &self.collection.fields[given_away].name;
        Some(format!(
            "`{name}` says who may update a document, and may be set to anybody: add `(!has(data.{name}) || \
             data.{name} == auth.id)` to the update rule, unless documents are to be given away"
        ))
    }
}

fn somebody() -> Caller {
    Caller::Account(Arc::new(Account {
        id: SOMEBODY.to_owned(),
        email: Some("somebody@example.com".to_owned()),
        verified: true,
        role: "user".to_owned(),
        metadata: serde_json::Map::new(),
        session: None,
    }))
}

/// The fields that must hold somebody's id.
fn named_by(filter: &Filter, fields: &mut Vec<usize>) {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().for_each(|part| named_by(part, fields)),
        Filter::Compare {
            field,
            op: CompareOp::Eq,
            value,
        } if value.as_text() == Some(SOMEBODY) => fields.push(*field),
        _ => {}
    }
}
