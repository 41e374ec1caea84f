//! `alyx rules`: what the access rules of a schema come to.

mod explain;
mod explanation;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use alyx_core::{Error, ErrorKind};
use alyx_rules::{Action, BucketReview, FileAction, Review, RuleSet, read_schema, review, review_buckets};
use alyx_schema::{Bucket, Collection, RuleText, Schema};
use clap::{Args, Subcommand};

use self::explain::ExplainArgs;
use crate::admin::RemoteArgs;
use crate::failure::Failure;

/// Looks at rules.
#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Show who may do what with the documents of each collection, and what is probably not meant so
    Check(CheckArgs),
    /// Show what the rules let somebody do with a document, and what in them denies
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Schema file [env: ALYX_SCHEMA; default: schema.yaml, then schema.yml]
    #[arg(long, value_name = "FILE", env = "ALYX_SCHEMA", hide_env = true)]
    schema: Option<PathBuf>,
}

/// Prints what was found. It is no failure to have warnings.
pub(crate) fn run(remote: &RemoteArgs, command: &RulesCommand) -> Result<(), Failure> {
    let args = match command {
        RulesCommand::Check(args) => args,
        RulesCommand::Explain(args) => return explain::run(remote, args),
    };
    let path = args.schema.clone().unwrap_or_else(|| {
        let usual = Path::new("schema.yaml");
        let other = Path::new("schema.yml");
        if !usual.is_file() && other.is_file() {
            other
        } else {
            usual
        }
        .to_owned()
    });
    let refuse =
        |message: String| Failure::Project(Error::new(ErrorKind::InvalidInput, "SCHEMA_INVALID", message));
    let source = std::fs::read_to_string(&path)
        .map_err(|error| refuse(format!("{}: the schema cannot be read: {error}", path.display())))?;
    let (parsed, rules) =
        read_schema(&source, &path.display().to_string()).map_err(|errors| refuse(errors.to_string()))?;
    print!("{}", table(&parsed.schema, &rules));
    Ok(())
}

/// One line for each operation: who may, and the rule that decides.
fn table(schema: &Schema, rules: &RuleSet) -> String {
    let mut out = String::new();
    let mut warnings = 0;
    for found in review(schema, rules) {
        let Some(collection) = schema.collection(&found.collection) else {
            continue;
        };
        describe(&found, collection, &mut out);
        warnings += found.warnings.len();
    }
    for found in review_buckets(schema, rules) {
        let Some(bucket) = schema.buckets.get(&found.bucket) else {
            continue;
        };
        describe_bucket(&found, bucket, &mut out);
        warnings += found.warnings.len();
    }
    let _ = match warnings {
        0 => writeln!(out, "No warnings. Operators and functions may do everything."),
        1 => writeln!(out, "1 warning. Operators and functions may do everything."),
        _ => writeln!(
            out,
            "{warnings} warnings. Operators and functions may do everything."
        ),
    };
    out
}

fn describe(found: &Review, collection: &Collection, out: &mut String) {
    let _ = writeln!(out, "{:<10}  signed out  user  rule", found.collection);
    for line in found.lines {
        let (open, rule) = match line.action {
            Action::Create => (collection.access.create, &collection.rules.create),
            Action::Read => (collection.access.read, &collection.rules.read),
            Action::Update => (collection.access.update, &collection.rules.update),
            Action::Delete => (collection.access.delete, &collection.rules.delete),
        };
        let text = written(open, rule.as_ref());
        let (anonymous, user) = (line.anonymous.word(), line.user.word());
        let action = line.action.word();
        let _ = writeln!(out, "  {action:<8}  {anonymous:<10}  {user:<4}  {text}");
    }
    for warning in &found.warnings {
        let _ = writeln!(out, "  ! {warning}");
    }
    out.push('\n');
}

fn describe_bucket(found: &BucketReview, bucket: &Bucket, out: &mut String) {
    let _ = writeln!(out, "bucket {}  signed out  user  rule", found.bucket);
    for line in found.lines {
        let (open, rule) = match line.action {
            FileAction::Create => (bucket.access.create, &bucket.rules.create),
            FileAction::Read => (bucket.access.read, &bucket.rules.read),
            // Nothing changes what is known of a file.
            FileAction::Update => continue,
            FileAction::Delete => (bucket.access.delete, &bucket.rules.delete),
            FileAction::Download => (bucket.download, &bucket.rules.download),
        };
        let (anonymous, user) = (line.anonymous.word(), line.user.word());
        let (action, text) = (line.action.word(), written(open, rule.as_ref()));
        let _ = writeln!(out, "  {action:<8}  {anonymous:<10}  {user:<4}  {text}");
    }
    for warning in &found.warnings {
        let _ = writeln!(out, "  ! {warning}");
    }
    out.push('\n');
}

/// A rule in one line.
fn written(open: bool, rule: Option<&RuleText>) -> String {
    match rule {
        Some(rule) => rule.text.split_whitespace().collect::<Vec<_>>().join(" "),
        None => open.to_string(),
    }
}
