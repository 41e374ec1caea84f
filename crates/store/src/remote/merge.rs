//! Inserts that differ only in their values, as one statement.
//!
//! A server prepares every statement of a batch anew, and the triggers of its table with it, which costs more than the
//! insert itself. Many clients that create documents of one collection send just that: the same text again and again.
//! What fails in such a statement fails for all of its writes, none of which is carried out then; the group takes them
//! one by one in that case.

use std::fmt::Write as _;
use std::sync::Arc;

use alyx_core::{Statement, Value};

use super::hrana::{Batch, BatchReply, When};
use super::plan::WriteId;
use super::sql::{self, Facts, Kind};
use crate::failure::Failure;
use crate::{Expect, Rows, Write};

/// Writes that become one statement at most.
pub(super) const MERGED_WRITES: usize = 64;
/// Parameters of one statement at most; SQLite allows 32,766.
const MERGED_PARAMS: usize = 4_096;

/// The statement of a write that may share one with others.
pub(super) fn statement<'a>(write: &'a Write, facts: &[Facts]) -> Option<&'a Statement> {
    let ([step], [facts]) = (write.steps.as_slice(), facts) else {
        return None;
    };
    let plain = facts.inserts_given_rows && !facts.returns && !facts.partial;
    (plain && matches!(step.expect, Expect::Any | Expect::Row)).then_some(&step.statement)
}

/// An insert of one row, taken apart where further rows go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Insert<'a> {
    /// Up to and with `VALUES`.
    head: &'a str,
    /// The texts between the row's parameters, one more than there are parameters, and the parameters' numbers.
    texts: Vec<&'a str>,
    numbers: Vec<usize>,
    params: usize,
}

impl<'a> Insert<'a> {
    /// Nothing where the text has another form than `INSERT … VALUES (…)` with numbered parameters.
    pub(super) fn of(statement: &'a Statement) -> Option<Self> {
        let text: &str = &statement.sql;
        let mut tokens = sql::tokens(text).peekable();
        let mut depth = 0_usize;
        loop {
            let token = tokens.next()?;
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.checked_sub(1)?,
                Kind::Word if depth == 0 && token.text.eq_ignore_ascii_case("VALUES") => break,
                // A parameter outside the row has one value for all rows.
                Kind::Other if token.text == "?" => return None,
                Kind::Word | Kind::Other | Kind::Semicolon => {}
            }
        }
        let open = tokens.next().filter(|token| token.kind == Kind::Open)?;
        let (mut texts, mut numbers, mut start) = (Vec::new(), Vec::new(), open.at);
        depth = 1;
        let end = loop {
            let token = tokens.next()?;
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close if depth == 1 => break token.at + 1,
                Kind::Close => depth -= 1,
                Kind::Other if token.text == "?" => {
                    let digits = tokens.next()?;
                    if digits.at != token.at + 1 {
                        return None;
                    }
                    numbers.push(digits.text.parse().ok()?);
                    texts.push(&text[start..token.at]);
                    start = digits.at + digits.text.len();
                }
                // Parameters by name are numbered by their place.
                Kind::Other if matches!(token.text, ":" | "@" | "$" | "#") => return None,
                Kind::Word | Kind::Other | Kind::Semicolon => {}
            }
        };
        texts.push(&text[start..end]);
        let params = statement.params.len();
        let known = numbers.iter().all(|number| (1..=params).contains(number));
        (tokens.next().is_none() && known).then(|| Self {
            head: &text[..open.at],
            texts,
            numbers,
            params,
        })
    }

    /// How many rows one statement may have.
    pub(super) fn most(&self) -> usize {
        (MERGED_PARAMS / self.params.max(1)).clamp(1, MERGED_WRITES)
    }

    /// The same with that many rows.
    fn with_rows(&self, rows: usize) -> String {
        let mut sql = self.head.to_owned();
        for row in 0..rows {
            if row > 0 {
                sql.push(',');
            }
            for (text, number) in self.texts.iter().zip(&self.numbers) {
                let _ = write!(sql, "{text}?{}", row * self.params + number);
            }
            sql.push_str(self.texts.last().copied().unwrap_or_default());
        }
        sql
    }
}

/// Where several writes are in the batch, as one statement.
#[derive(Debug)]
pub(super) struct Merged {
    recorded: Option<usize>,
    step: usize,
    /// How many writes.
    pub(super) writes: usize,
}

impl Merged {
    /// Adds the writes' rows and ids. On failure the batch is spoilt.
    pub(super) fn add(
        batch: &mut Batch,
        insert: &Insert<'_>,
        statements: &[&Statement],
        ids: &[&WriteId],
    ) -> Result<Self, Failure> {
        let ids: Vec<Value> = ids.iter().map(|id| Value::Text(Arc::clone(id))).collect();
        let recorded = match ids.len() {
            0 => None,
            count => Some(batch.run(When::Open, &record(count), &ids)?),
        };
        let params: Vec<Value> = statements
            .iter()
            .flat_map(|statement| statement.params.iter().cloned())
            .collect();
        let when = recorded.map_or(When::Open, When::Worked);
        let step = batch.run(when, &insert.with_rows(statements.len()), &params)?;
        if let Some(recorded) = recorded {
            let forget = format!("DELETE FROM _alyx_writes WHERE id IN ({})", numbered(ids.len()));
            batch.run(When::Undone(recorded, step), &forget, &ids)?;
        }
        Ok(Self {
            recorded,
            step,
            writes: statements.len(),
        })
    }

    /// Whether all of them were carried out; else none was.
    pub(super) fn done(&self, reply: &BatchReply) -> bool {
        self.recorded.is_none_or(|recorded| reply.worked(recorded)) && reply.worked(self.step)
    }

    /// What each of them did.
    pub(super) fn rows() -> Vec<Rows> {
        vec![Rows {
            rows: Vec::new(),
            affected: 1,
        }]
    }
}

/// Records that many write ids.
fn record(count: usize) -> String {
    let rows: Vec<String> = (1..=count).map(|number| format!("(?{number})")).collect();
    format!(
        "INSERT INTO _alyx_writes (id, seq) SELECT column1, (SELECT coalesce(max(seq), 0) FROM _alyx_commits) \
         FROM (VALUES {})",
        rows.join(",")
    )
}

fn numbered(count: usize) -> String {
    let names: Vec<String> = (1..=count).map(|number| format!("?{number}")).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(sql: &str, params: usize) -> Option<String> {
        let statement = Statement::new(sql, vec![Value::Null; params]);
        Insert::of(&statement).map(|insert| insert.with_rows(2))
    }

    #[test]
    fn an_insert_gets_further_rows() {
        let check = |sql: &str, params: usize, expected: &str| {
            assert_eq!(insert(sql, params).as_deref(), Some(expected));
        };
        check(
            r#"INSERT INTO "values (?1)" ("a") VALUES (?1)"#,
            1,
            r#"INSERT INTO "values (?1)" ("a") VALUES (?1),(?2)"#,
        );
        check(
            "insert into t values (?2, '?1', (json(?1)), 5) -- end",
            2,
            "insert into t values (?2, '?1', (json(?1)), 5),(?4, '?1', (json(?3)), 5)",
        );
        check("INSERT INTO t VALUES (1)", 0, "INSERT INTO t VALUES (1),(1)");
    }

    #[test]
    fn other_forms_stay_as_they_are() {
        for (sql, params) in [
            ("INSERT INTO t VALUES (?1) RETURNING a", 1),
            ("INSERT INTO t VALUES (?1), (?2)", 2),
            ("INSERT INTO t VALUES (?2)", 1),
            ("INSERT INTO t VALUES (?)", 1),
            ("INSERT INTO t VALUES (:a)", 1),
            ("INSERT INTO t DEFAULT VALUES", 0),
            ("INSERT INTO t SELECT ?1", 1),
            ("WITH x AS (VALUES (?1)) INSERT INTO t VALUES (?1)", 1),
        ] {
            assert_eq!(insert(sql, params), None, "{sql}");
        }
    }
}
