//! The rules of a whole schema.

use std::collections::HashMap;
use std::sync::Arc;

use alyx_schema::{Collection, ParsedSchema, RuleText, Schema, SchemaErrors};

use crate::problem::Problem;
use crate::rule::{Action, Decision, Facts, Rule};

/// The rules of a schema, compiled. The default knows no collection, and denies everything.
#[derive(Debug, Default)]
pub struct RuleSet {
    collections: HashMap<String, [Entry; 4]>,
}

#[derive(Debug)]
enum Entry {
    Always,
    Never,
    When(Rule),
}

/// A rule that does not compile.
#[derive(Debug)]
pub struct Broken {
    /// The rule, and where it stands.
    pub rule: RuleText,
    /// What it would decide about.
    pub collection: String,
    /// What it would decide.
    pub action: Action,
    /// What is wrong with it.
    pub problem: Problem,
}

impl RuleSet {
    /// Compiles every rule of the schema.
    ///
    /// # Errors
    /// Every rule that does not compile.
    pub fn compile(schema: &Schema) -> Result<Self, Vec<Broken>> {
        let mut broken = Vec::new();
        let collections = schema.collections.values().map(|collection| {
            let entries = Action::ALL.map(|action| match written(collection, action) {
                (false, _) => Entry::Never,
                (true, None) => Entry::Always,
                (true, Some(rule)) => match Rule::compile(schema, collection, action, &rule.text) {
                    Ok(rule) => Entry::When(rule),
                    Err(problem) => {
                        broken.push(Broken {
                            rule: rule.clone(),
                            collection: collection.name.clone(),
                            action,
                            problem,
                        });
                        Entry::Never
                    }
                },
            });
            (collection.name.clone(), entries)
        });
        let collections = collections.collect();
        if broken.is_empty() {
            Ok(Self { collections })
        } else {
            Err(broken)
        }
    }

    /// What the rule of the collection says. Of a collection that is not known: no.
    pub fn decide(&self, collection: &Collection, action: Action, facts: &Facts<'_>) -> Decision {
        match self.entry(collection, action) {
            Some(Entry::Always) => Decision::Allow,
            Some(Entry::Never) | None => Decision::Deny,
            Some(Entry::When(rule)) => rule.decide(collection, facts),
        }
    }

    /// The rule, where one with an expression decides.
    pub fn rule(&self, collection: &Collection, action: Action) -> Option<&Rule> {
        match self.entry(collection, action) {
            Some(Entry::When(rule)) => Some(rule),
            Some(Entry::Always | Entry::Never) | None => None,
        }
    }

    fn entry(&self, collection: &Collection, action: Action) -> Option<&Entry> {
        let entries = self.collections.get(&collection.name)?;
        let place = match action {
            Action::Create => 0,
            Action::Read => 1,
            Action::Update => 2,
            Action::Delete => 3,
        };
        entries.get(place)
    }
}

/// Whether anybody from outside may, and the rule that has to agree.
fn written(collection: &Collection, action: Action) -> (bool, Option<&RuleText>) {
    let (access, rules) = (&collection.access, &collection.rules);
    match action {
        Action::Create => (access.create, rules.create.as_ref()),
        Action::Read => (access.read, rules.read.as_ref()),
        Action::Update => (access.update, rules.update.as_ref()),
        Action::Delete => (access.delete, rules.delete.as_ref()),
    }
}

/// Reads the text of a schema file, rules included; `file` is its name in messages.
///
/// # Errors
/// Every problem of the file, or else every rule that does not compile.
pub fn read_schema(source: &str, file: &str) -> Result<(ParsedSchema, Arc<RuleSet>), SchemaErrors> {
    let parsed = alyx_schema::parse(source, file)?;
    match RuleSet::compile(&parsed.schema) {
        Ok(rules) => Ok((parsed, Arc::new(rules))),
        Err(broken) => {
            let mut problems: Vec<_> = broken.iter().map(|broken| told(broken, source)).collect();
            // A default that fits nowhere is wrong once.
            problems.dedup();
            Err(SchemaErrors::new(problems, file, source))
        }
    }
}

/// The problem with its place in the file: that of the part in question where the rule is written in one line.
fn told(broken: &Broken, source: &str) -> alyx_schema::Problem {
    let Broken { rule, problem, .. } = broken;
    let line = source
        .lines()
        .nth(rule.line.saturating_sub(1))
        .unwrap_or_default();
    let written: String = line.chars().skip(rule.column.saturating_sub(1)).collect();
    let start = [0, 1].into_iter().find(|skip| {
        let inside = written.chars().skip(*skip).collect::<String>();
        inside.starts_with(rule.text.as_ref())
    });
    let before = rule.text.get(..problem.span.start).unwrap_or_default();
    let column = match start {
        Some(quote) => rule.column + quote + before.chars().count(),
        None => rule.column,
    };
    let part = problem.span.of(&rule.text);
    let mut message = problem.message.clone();
    if start.is_none() && !part.is_empty() {
        message = format!("`{part}`: {message}");
    }
    if rule.path == "default_access" {
        let (collection, action) = (&broken.collection, broken.action.word());
        message = format!("{message} (as the {action} rule of `{collection}`)");
    }
    alyx_schema::Problem {
        path: rule.path.clone(),
        line: rule.line,
        column,
        message,
        hint: problem.hint.clone(),
    }
}
