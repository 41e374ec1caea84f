//! The rules of a whole schema.

use std::collections::HashMap;
use std::sync::Arc;

use alyx_schema::{Bucket, Collection, ParsedSchema, RuleText, Schema, SchemaErrors, files};

use crate::problem::Problem;
use crate::rule::{Action, Decision, Facts, FileAction, Rule};

/// The rules of a schema, compiled. The default knows no collection, and denies everything.
#[derive(Debug, Default)]
pub struct RuleSet {
    collections: HashMap<String, [Entry; 4]>,
    buckets: HashMap<String, [Entry; 5]>,
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
    /// The collection or bucket that it would decide about.
    pub subject: String,
    /// What it would decide: the word in `schema.yaml`.
    pub action: &'static str,
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
        let mut entry =
            |(subject, action): (&str, &'static str), (open, rule): Written<'_>, compile: Compile<'_>| {
                let (true, Some(rule)) = (open, rule) else {
                    return if open { Entry::Always } else { Entry::Never };
                };
                compile(&rule.text).map_or_else(
                    |problem| {
                        broken.push(Broken {
                            rule: rule.clone(),
                            subject: subject.to_owned(),
                            action,
                            problem,
                        });
                        Entry::Never
                    },
                    Entry::When,
                )
            };
        let mut collections = HashMap::new();
        for collection in schema.collections.values() {
            let entries = Action::ALL.map(|action| {
                entry(
                    (&collection.name, action.word()),
                    written(collection, action),
                    &|text| Rule::compile(schema, collection, action, text),
                )
            });
            collections.insert(collection.name.clone(), entries);
        }
        let mut buckets = HashMap::new();
        for bucket in schema.buckets.values() {
            let entries = FileAction::ALL.map(|action| {
                entry(
                    (&bucket.name, action.word()),
                    written_of_files(bucket, action),
                    &|text| Rule::compile_of_files(schema, action, text),
                )
            });
            buckets.insert(bucket.name.clone(), entries);
        }
        if broken.is_empty() {
            Ok(Self { collections, buckets })
        } else {
            Err(broken)
        }
    }

    /// What the rule of the bucket says: a filter over [`alyx_schema::files`], which does not look at the bucket itself.
    /// Of a bucket that is not known: no.
    pub fn decide_of_files(&self, bucket: &Bucket, action: FileAction, facts: &Facts<'_>) -> Decision {
        let place = match action {
            FileAction::Create => 0,
            FileAction::Read => 1,
            FileAction::Update => 2,
            FileAction::Delete => 3,
            FileAction::Download => 4,
        };
        let entries = self.buckets.get(&bucket.name);
        match entries.and_then(|entries| entries.get(place)) {
            Some(Entry::Always) => Decision::Allow,
            Some(Entry::Never) | None => Decision::Deny,
            Some(Entry::When(rule)) => rule.decide(files(), facts),
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
type Written<'r> = (bool, Option<&'r RuleText>);
type Compile<'c> = &'c dyn Fn(&str) -> Result<Rule, Problem>;

/// What a bucket says of an action.
fn written_of_files(bucket: &Bucket, action: FileAction) -> Written<'_> {
    let (access, rules) = (&bucket.access, &bucket.rules);
    match action {
        FileAction::Create => (access.create, rules.create.as_ref()),
        FileAction::Read => (access.read, rules.read.as_ref()),
        FileAction::Update => (access.update, rules.update.as_ref()),
        FileAction::Delete => (access.delete, rules.delete.as_ref()),
        FileAction::Download => (bucket.download, rules.download.as_ref()),
    }
}

/// What a collection says of an action.
fn written(collection: &Collection, action: Action) -> Written<'_> {
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

/// How many characters behind the beginning of a rule its problem begins, and what it says: the part in question by its
/// place where the rule is `written` in one line, quoted or not, and else by its text.
pub fn placed(problem: &Problem, rule: &str, written: &str) -> (usize, String) {
    let start = [0, 1].into_iter().find(|skip| {
        let inside = written.chars().skip(*skip).collect::<String>();
        inside.starts_with(rule)
    });
    let part = problem.span.of(rule);
    match start {
        Some(quote) => {
            let before = rule.get(..problem.span.start).unwrap_or_default();
            (quote + before.chars().count(), problem.message.clone())
        }
        None if part.is_empty() => (0, problem.message.clone()),
        None => (0, format!("`{part}`: {}", problem.message)),
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
    let (offset, mut message) = placed(problem, &rule.text, &written);
    let column = rule.column + offset;
    if rule.path == "default_access" {
        let (subject, action) = (&broken.subject, broken.action);
        message = format!("{message} (as the {action} rule of `{subject}`)");
    }
    alyx_schema::Problem {
        path: rule.path.clone(),
        line: rule.line,
        column,
        message,
        hint: problem.hint.clone(),
    }
}
