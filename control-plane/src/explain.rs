//! What access rules let somebody do with one document, and why: for operators, who may see all of it.
//!
//! The rules are worked out by `alyx-rules`; here is looked up what they ask about. What is answered here is what a
//! request would be answered, which `tests/e2e/explain.rs` compares.

mod caller;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use alyx_core::{Clock, Error, ErrorKind, Result, Row, Statement, Value, format_timestamp, nearest};
use alyx_proto::admin::{ExplainRulesRequest, RuleDecision, RulePart, RulePartState, RulesExplanation};
use alyx_query::get;
use alyx_rules::{Action, Came, Decision, Drawing, Explained, Facts, Incoming, RuleSet, Seen};
use alyx_schema::{Collection, Schema, is_touch, parse_key, read_create, read_update};
use alyx_store::{Read, ReadCost, Store};

use self::caller::Known;
use crate::apply::parse_applied;
use crate::revision;

/// Longest wait for the database.
const WITHIN: Duration = Duration::from_secs(10);
/// Largest values that come in, in bytes.
const MAX_DATA: usize = 1 << 20;
/// Statements of one read.
const PER_READ: usize = 64;
const FORBIDDEN: &str = "403 FORBIDDEN";
const HIDDEN: &str = "404 DOCUMENT_NOT_FOUND";

/// The same of a database that no server is running on, by the schema that was applied last.
///
/// # Errors
/// `COLLECTION_NOT_FOUND`, `DOCUMENT_NOT_FOUND`, `USER_NOT_FOUND`, `INVALID_JSON`, `PAYLOAD_TOO_LARGE`,
/// `REVISION_NOT_FOUND` where no schema was applied, and those of the store.
pub async fn explain_rules(
    store: &Store,
    clock: &dyn Clock,
    request: ExplainRulesRequest,
) -> Result<RulesExplanation> {
    let applied = revision::last(store).await?.ok_or_else(|| {
        let message =
            "no schema was applied to this database yet; start `alyx dev`, or run `alyx migrate apply`";
        Error::new(ErrorKind::NotFound, "REVISION_NOT_FOUND", message)
    })?;
    let schema = parse_applied(&applied).map_err(|errors| {
        let message = format!("the schema that was applied last cannot be read\n{errors}");
        Error::new(ErrorKind::Internal, "SCHEMA_HISTORY_BROKEN", message)
    })?;
    explain(store, &schema, clock.now(), request).await
}

/// See [`explain_rules`].
pub(crate) async fn explain(
    store: &Store,
    schema: &Arc<Schema>,
    now: SystemTime,
    request: ExplainRulesRequest,
) -> Result<RulesExplanation> {
    let collection = find_collection(schema, &request.collection)?;
    let key = parse_key(collection, &request.id).ok_or_else(|| no_document(collection, &request.id))?;
    let found = ask(store, &[get(collection, key.clone())]).await?;
    let Some(row) = found.into_iter().next().flatten() else {
        return Err(no_document(collection, &request.id));
    };
    let known = Known::find(store, &request.caller).await?;
    let asked = Asked {
        collection,
        key,
        now,
        incoming: Values::read(collection, request.data.as_deref(), &row, now)?,
        known: &known,
    };
    let decisions = if known.caller.is_bound_by_rules() {
        let rules = RuleSet::compile(schema).map_err(|broken| {
            let first = broken.first().map(|broken| broken.problem.to_string());
            Error::internal(format!(
                "the rules in force do not compile: {}",
                first.unwrap_or_default()
            ))
        })?;
        asked.decide(store, &rules).await?
    } else {
        Action::ALL.map(|action| asked.everything(action)).into()
    };
    Ok(RulesExplanation {
        collection: collection.name.clone(),
        id: request.id,
        caller: known.words,
        decisions,
    })
}

struct Asked<'a> {
    collection: &'a Arc<Collection>,
    key: Value,
    now: SystemTime,
    incoming: Values,
    known: &'a Known,
}

/// What comes in, as it would be stored; or why it is refused before rules are asked.
struct Values {
    created: std::result::Result<Row, String>,
    changes: std::result::Result<Vec<(usize, Value)>, String>,
}

/// What is said about one action before the database is asked.
enum Draft {
    Said(RuleDecision),
    Drawn(RuleDecision, Drawing),
}

impl Values {
    fn read(collection: &Collection, data: Option<&[u8]>, row: &Row, now: SystemTime) -> Result<Self> {
        let Some(data) = data else {
            return Ok(Self {
                created: Ok(row.clone()),
                changes: Ok(Vec::new()),
            });
        };
        if data.len() > MAX_DATA {
            let message = format!("the values that come in are larger than {} KiB", MAX_DATA >> 10);
            return Err(Error::new(
                ErrorKind::PayloadTooLarge,
                "PAYLOAD_TOO_LARGE",
                message,
            ));
        }
        let now = format_timestamp(now);
        let told = |error: Error| match error.code() {
            "VALIDATION_ERROR" => Ok(error.message().to_owned()),
            _ => Err(error),
        };
        let created = read_create(collection, data, &now).map_err(told);
        let changes = read_update(collection, data, &now).map_err(told);
        let (created, changes) = match (created, changes) {
            (Err(Err(error)), _) | (_, Err(Err(error))) => return Err(error),
            (created, changes) => (
                created.map_err(std::result::Result::unwrap_or_default),
                changes.map_err(std::result::Result::unwrap_or_default),
            ),
        };
        let changes = changes.map(|changes| {
            let touch = is_touch(collection, &changes);
            if touch { Vec::new() } else { changes }
        });
        Ok(Self { created, changes })
    }
}

impl Asked<'_> {
    async fn decide(&self, store: &Store, rules: &RuleSet) -> Result<Vec<RuleDecision>> {
        let drafts = Action::ALL.map(|action| self.draft(rules, action));
        let statements = drafts.iter().flat_map(|draft| match draft {
            Draft::Said(_) => &[],
            Draft::Drawn(_, drawing) => drawing.statements(),
        });
        let statements: Vec<Statement> = statements.cloned().collect();
        let answers = ask(store, &statements).await?;
        let mut answers = answers
            .into_iter()
            .map(|row| row.and_then(|row| row.into_iter().next()));
        let mut decisions = Vec::with_capacity(drafts.len());
        for draft in drafts {
            decisions.push(match draft {
                Draft::Said(decision) => decision,
                Draft::Drawn(decision, drawing) => {
                    let own: Vec<Option<Value>> = answers.by_ref().take(drawing.statements().len()).collect();
                    told(decision, &drawing.answered(&own))
                }
            });
        }
        // Whether a refused write tells that the document is there depends on whether it may be read.
        let [_, read, writes @ ..] = decisions.as_mut_slice() else {
            return Ok(decisions);
        };
        for write in writes {
            if write.answer == HIDDEN && read.allowed {
                FORBIDDEN.clone_into(&mut write.answer);
            }
        }
        Ok(decisions)
    }

    fn draft(&self, rules: &RuleSet, action: Action) -> Draft {
        let decision = RuleDecision {
            action: action.word().to_owned(),
            ..RuleDecision::default()
        };
        let incoming = match action {
            Action::Create => self.incoming.created.as_ref().map(|row| Incoming::Row(row)),
            Action::Update => self
                .incoming
                .changes
                .as_ref()
                .map(|changes| Incoming::Changes { changes, sums: &[] }),
            Action::Read | Action::Delete => Ok(Incoming::Nothing),
        };
        let incoming = match incoming {
            Ok(incoming) => incoming,
            Err(problem) => {
                return Draft::Said(RuleDecision {
                    answer: "400 VALIDATION_ERROR".to_owned(),
                    because: vec![format!(
                        "the values are refused before the rule is asked: {problem}"
                    )],
                    ..decision
                });
            }
        };
        let facts = Facts {
            incoming,
            document: match incoming {
                Incoming::Row(row) => Some(row),
                _ => None,
            },
            ..Facts::of(&self.known.caller, self.now)
        };
        match rules.rule(self.collection, action) {
            Some(rule) => {
                let rule_text = rule.text().to_owned();
                let drawing = rule.draw(self.collection, &facts, &self.key);
                Draft::Drawn(
                    RuleDecision {
                        rule: rule_text,
                        ..decision
                    },
                    drawing,
                )
            }
            None if rules.decide(self.collection, action, &facts) == Decision::Allow => {
                Draft::Said(RuleDecision {
                    allowed: true,
                    rule: "true".to_owned(),
                    ..decision
                })
            }
            None => Draft::Said(RuleDecision {
                answer: FORBIDDEN.to_owned(),
                rule: "false".to_owned(),
                because: vec![format!(
                    "`{}` is closed to everybody from outside: its `{}` rule, or `default_access`, says so",
                    self.collection.name,
                    action.word()
                )],
                ..decision
            }),
        }
    }

    /// Of somebody whom rules do not bind.
    fn everything(&self, action: Action) -> RuleDecision {
        RuleDecision {
            action: action.word().to_owned(),
            allowed: true,
            rule: "rules do not apply".to_owned(),
            ..RuleDecision::default()
        }
    }
}

fn told(decision: RuleDecision, explained: &Explained) -> RuleDecision {
    let answer = match (explained.allowed, explained.always, decision.action.as_str()) {
        (true, ..) => "",
        (false, true, _) | (false, false, "create") => FORBIDDEN,
        (false, false, _) => HIDDEN,
    };
    RuleDecision {
        allowed: explained.allowed,
        answer: answer.to_owned(),
        because: explained.because(),
        root: Some(part(&explained.root)),
        ..decision
    }
}

fn part(seen: &Seen) -> RulePart {
    let (state, value) = match &seen.came {
        Came::True => (RulePartState::True, String::new()),
        Came::False => (RulePartState::False, String::new()),
        Came::Error => (RulePartState::Error, String::new()),
        Came::Value(value) => (RulePartState::Value, value.to_string()),
    };
    RulePart {
        text: seen.text.clone(),
        state: state.into(),
        value,
        parts: seen.parts.iter().map(part).collect(),
    }
}

/// The first row that each statement returns.
async fn ask(store: &Store, statements: &[Statement]) -> Result<Vec<Option<Row>>> {
    let mut first = Vec::with_capacity(statements.len());
    for statements in statements.chunks(PER_READ) {
        let read = Read {
            statements: statements.to_vec(),
            cost: ReadCost::Scan,
            deadline: Instant::now() + WITHIN,
        };
        let reply = store.read(read).await?;
        first.extend(reply.results.into_iter().map(|rows| rows.rows.into_iter().next()));
    }
    Ok(first)
}

fn find_collection<'s>(schema: &'s Schema, name: &str) -> Result<&'s Arc<Collection>> {
    schema.collection(name).ok_or_else(|| {
        let known = || schema.collections.keys().map(String::as_str);
        let hint = match nearest(name, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
        };
        let shown: String = name.chars().take(64).collect();
        let message = format!("the schema in force has no collection `{shown}`; {hint}");
        Error::new(ErrorKind::NotFound, "COLLECTION_NOT_FOUND", message)
    })
}

fn no_document(collection: &Collection, id: &str) -> Error {
    let shown: String = id.chars().take(64).collect();
    let message = format!(
        "`{}` has no document `{shown}`: rules are explained for one that is stored",
        collection.name
    );
    Error::new(ErrorKind::NotFound, "DOCUMENT_NOT_FOUND", message)
}
