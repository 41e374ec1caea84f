//! What must be known of a statement before it is sent: a server has no way to ask whether a prepared statement
//! reads, and it has no authorizer.

use crate::failure::Failure;
use crate::statement_text::{self, Refusal};

/// Longest text of an insert that is taken to return few rows.
const FEW_ROWS_TEXT: usize = 32 << 10;
/// SQLite's result code for what is not allowed.
const AUTH: i32 = 23;

/// What a statement about rows does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether it changes rows.
    pub(super) writes: bool,
    /// Whether it returns rows.
    pub(super) returns: bool,
    /// Whether what it returns may be more rows than a reply may have.
    pub(super) many_rows: bool,
    /// Whether it changes at most the rows that its text holds, and at least one of them.
    pub(super) inserts_given_rows: bool,
    /// Whether it may leave something behind when it fails.
    pub(super) partial: bool,
}

/// Looks at a statement of a write or a read.
pub(super) fn facts(sql: &str) -> Result<Facts, Refusal> {
    statement_text::check(sql)?;
    refuse_replace(sql)?;
    let (mut writes, mut returning, mut selects, mut partial, mut conflict) =
        (false, false, false, false, false);
    let (mut depth, mut first) = (0_i32, None);
    for token in tokens(sql) {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            Kind::Word => {
                let word = Keyword::of(token.text);
                first = first.or(Some(word));
                match word {
                    Keyword::Insert | Keyword::Update | Keyword::Delete if depth == 0 => writes = true,
                    Keyword::Returning => returning = true,
                    Keyword::Select => selects = true,
                    Keyword::Fail => partial = true,
                    Keyword::Ignore | Keyword::Conflict => conflict = true,
                    _ => {}
                }
            }
            Kind::Semicolon | Kind::Other => {}
        }
    }
    let explains = first == Some(Keyword::Explain);
    writes &= !explains;
    let inserts = first == Some(Keyword::Insert) && !selects && sql.len() <= FEW_ROWS_TEXT;
    Ok(Facts {
        writes,
        returns: !writes || returning,
        many_rows: if writes { returning && !inserts } else { !explains },
        inserts_given_rows: inserts && !conflict,
        partial: writes && partial,
    })
}

/// The first statement of a text, without what follows it.
pub(super) fn first(sql: &str) -> &str {
    split(sql).first().copied().unwrap_or(sql)
}

/// Splits a script and refuses what may not be in a migration.
pub(super) fn script(sql: &str) -> Result<Vec<&str>, Failure> {
    let statements = split(sql);
    for statement in &statements {
        refuse_replace(statement).map_err(Failure::Refused)?;
        let first = tokens(statement).find(|token| token.kind == Kind::Word);
        let forbidden = ["BEGIN", "COMMIT", "END", "ROLLBACK", "ATTACH", "DETACH"];
        if first.is_some_and(|first| forbidden.iter().any(|word| word.eq_ignore_ascii_case(first.text))) {
            return Err(Failure::Sqlite {
                code: AUTH,
                message: "not authorized".to_owned(),
            });
        }
    }
    Ok(statements)
}

/// A server's triggers do not see the rows that `REPLACE` deletes (it has recursive triggers off, and lets nobody turn
/// them on), so the change log would miss them.
fn refuse_replace(sql: &str) -> Result<(), Refusal> {
    let mut before: Option<&str> = None;
    let mut words = tokens(sql)
        .filter(|token| token.kind == Kind::Word)
        .map(|token| token.text)
        .peekable();
    while let Some(word) = words.next() {
        let is = |text: Option<&str>, word: &str| text.is_some_and(|text| text.eq_ignore_ascii_case(word));
        if is(Some(word), "REPLACE")
            && (before.is_none()
                || is(before, "OR")
                || is(before, "CONFLICT")
                || is(words.peek().copied(), "INTO"))
        {
            return Err(Refusal::NotOnServer);
        }
        before = Some(word);
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Insert,
    Update,
    Delete,
    Returning,
    Select,
    Explain,
    Fail,
    Ignore,
    Conflict,
    Other,
}

impl Keyword {
    fn of(word: &str) -> Self {
        const WORDS: [(&str, Keyword); 9] = [
            ("INSERT", Keyword::Insert),
            ("UPDATE", Keyword::Update),
            ("DELETE", Keyword::Delete),
            ("RETURNING", Keyword::Returning),
            ("SELECT", Keyword::Select),
            ("EXPLAIN", Keyword::Explain),
            ("FAIL", Keyword::Fail),
            ("IGNORE", Keyword::Ignore),
            ("CONFLICT", Keyword::Conflict),
        ];
        WORDS
            .iter()
            .find(|(text, _)| text.eq_ignore_ascii_case(word))
            .map_or(Self::Other, |(_, keyword)| *keyword)
    }
}

/// The statements of a script, without what is between them. A trigger's body ends with `; END`, as SQLite's own
/// `sqlite3_complete` has it.
fn split(sql: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut start = None;
    let mut words: u32 = 0;
    let (mut creates, mut trigger, mut closing) = (false, false, 0_u8);
    for token in tokens(sql) {
        if token.kind == Kind::Semicolon && (!trigger || closing == 2) {
            if let Some(start) = start.take() {
                statements.push(&sql[start..token.at]);
            }
            (words, creates, trigger, closing) = (0, false, false, 0);
            continue;
        }
        start = start.or(Some(token.at));
        let is = |word: &str| token.kind == Kind::Word && token.text.eq_ignore_ascii_case(word);
        creates |= is("CREATE") && words < 4;
        trigger |= creates && words < 6 && is("TRIGGER");
        words += u32::from(token.kind == Kind::Word);
        closing = match (token.kind, closing) {
            (Kind::Semicolon, _) => 1,
            (Kind::Word, 1) if is("END") => 2,
            _ => 0,
        };
    }
    if let Some(start) = start {
        statements.push(&sql[start..]);
    }
    statements
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bare name or keyword.
    Word,
    Semicolon,
    Open,
    Close,
    /// Quoted text, a number, an operator.
    Other,
}

/// A piece of a statement's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Where it begins, in bytes.
    pub(super) at: usize,
}

/// The tokens of a text, without blanks and comments.
pub(super) fn tokens(sql: &str) -> impl Iterator<Item = Token<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &sql[at..];
            let (length, kind) = next(rest)?;
            let token = Token {
                kind: kind.unwrap_or(Kind::Other),
                text: &rest[..length],
                at,
            };
            at += length;
            if kind.is_some() {
                return Some(token);
            }
        }
    })
}

/// The length of the next piece, and what it is; nothing for blanks and comments.
fn next(rest: &str) -> Option<(usize, Option<Kind>)> {
    let first = rest.chars().next()?;
    let until = |end: &str, from: usize| {
        rest[from..]
            .find(end)
            .map_or(rest.len(), |found| from + found + end.len())
    };
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii();
    Some(match first {
        c if c.is_ascii_whitespace() || c == '\u{feff}' => (c.len_utf8(), None),
        '-' if rest.starts_with("--") => (until("\n", 2), None),
        '/' if rest.starts_with("/*") => (until("*/", 2), None),
        '\'' => (until("'", 1), Some(Kind::Other)),
        '"' => (until("\"", 1), Some(Kind::Other)),
        '`' => (until("`", 1), Some(Kind::Other)),
        '[' => (until("]", 1), Some(Kind::Other)),
        ';' => (1, Some(Kind::Semicolon)),
        '(' => (1, Some(Kind::Open)),
        ')' => (1, Some(Kind::Close)),
        c if c.is_ascii_digit() => (
            rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
            Some(Kind::Other),
        ),
        c if is_name(c) => (rest.find(|c| !is_name(c)).unwrap_or(rest.len()), Some(Kind::Word)),
        c => (c.len_utf8(), Some(Kind::Other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_and_writing_are_told_apart() {
        let check = |sql: &str, writes: bool| assert_eq!(facts(sql).expect(sql).writes, writes, "{sql}");
        check("SELECT 1", false);
        check(
            "SELECT replace(a, 'x', 'y'), 'INSERT', \"delete\" FROM t -- UPDATE",
            false,
        );
        check("WITH x AS (SELECT 1) SELECT * FROM x", false);
        check("VALUES (1)", false);
        check("EXPLAIN INSERT INTO t VALUES (1)", false);
        check("INSERT INTO t VALUES (1)", true);
        check(
            "/* SELECT */ with x as (select 1) insert into t select * from x",
            true,
        );
        check("UPDATE t SET a = 1", true);
        check("WITH x AS (SELECT 1) DELETE FROM t", true);
    }

    #[test]
    fn how_many_rows_may_come_back() {
        let check = |sql: &str, many: bool, given: bool| {
            let facts = facts(sql).expect(sql);
            assert_eq!(
                (facts.many_rows, facts.inserts_given_rows),
                (many, given),
                "{sql}"
            );
        };
        check("INSERT INTO t VALUES (1) RETURNING a", false, true);
        check("INSERT OR IGNORE INTO t VALUES (1) RETURNING a", false, false);
        check("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", false, false);
        check("INSERT INTO t SELECT 1 RETURNING a", true, false);
        check("UPDATE t SET a = 1", false, false);
        check("UPDATE t SET a = 1 RETURNING a", true, false);
        check("SELECT a FROM t", true, false);
        assert!(
            facts("INSERT OR FAIL INTO t VALUES (1)")
                .expect("a statement")
                .partial
        );
    }

    #[test]
    fn replace_is_refused_where_it_deletes() {
        for sql in [
            "REPLACE INTO t VALUES (1)",
            "INSERT OR REPLACE INTO t VALUES (1)",
            "UPDATE or replace t SET a = 1",
            "WITH x AS (SELECT 1) REPLACE INTO t SELECT * FROM x",
        ] {
            assert_eq!(facts(sql), Err(Refusal::NotOnServer), "{sql}");
        }
        assert!(script("CREATE TABLE t (a UNIQUE ON CONFLICT REPLACE)").is_err());
        facts("UPDATE t SET a = replace(a, 'x', 'y')").expect("a function");
    }

    #[test]
    fn a_script_is_split_where_statements_end() {
        let check = |sql: &str, expected: &[&str]| assert_eq!(split(sql), expected, "{sql}");
        check(" ; ;-- nothing; \n /* ; */", &[]);
        check("SELECT ';'; SELECT 2", &["SELECT ';'", "SELECT 2"]);
        let trigger =
            "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT CASE WHEN 1 THEN 2 END; DELETE FROM u; END";
        check(
            &format!("SELECT 1;{trigger}; SELECT 2;"),
            &["SELECT 1", trigger, "SELECT 2"],
        );
        check(trigger, &[trigger]);
        check(
            "CREATE TABLE \"trigger\" (a); SELECT 1",
            &["CREATE TABLE \"trigger\" (a)", "SELECT 1"],
        );
    }

    #[test]
    fn a_migration_may_not_touch_its_transaction() {
        for sql in [
            "SELECT 1; COMMIT; SELECT 2",
            "end",
            "/**/ROLLBACK",
            "BEGIN",
            "ATTACH 'x' AS y",
        ] {
            assert_eq!(
                script(sql).expect_err(sql).into_error().code(),
                "STATEMENT_NOT_ALLOWED",
                "{sql}"
            );
        }
        script("CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END").expect("its own BEGIN and END");
    }
}
