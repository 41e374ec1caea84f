//! What may be run inside a write or a read: one statement that reads or writes rows.
//!
//! Statements about transactions, settings and tables would take effect beyond the request that sent them; and of
//! several statements in one text the driver would run the first and drop the rest without a word. This looks at the
//! text only as far as that takes; the database itself judges the rest.

/// Why a text is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no statement in it.
    Empty,
    /// It does not begin with one of the [`ALLOWED`] words.
    NotRows,
    /// Something follows the first statement.
    Several,
    /// A database server does not run it, or not with the effects that it must have.
    NotOnServer,
}

/// Words that a statement about rows begins with.
const ALLOWED: [&str; 8] = [
    "SELECT", "WITH", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE", "EXPLAIN",
];

/// Whether `sql` is one statement about rows.
pub(crate) fn check(sql: &str) -> Result<(), Refusal> {
    let text = skip_blanks(sql);
    let word = text
        .find(|c: char| !c.is_ascii_alphabetic())
        .map_or(text, |end| &text[..end]);
    if text.is_empty() {
        return Err(Refusal::Empty);
    }
    if !ALLOWED.iter().any(|allowed| allowed.eq_ignore_ascii_case(word)) {
        return Err(Refusal::NotRows);
    }
    match after_statement(text) {
        Some(rest) if !skip_blanks(rest).is_empty() => Err(Refusal::Several),
        _ => Ok(()),
    }
}

/// Skips what the database ignores between statements: white space, comments, semicolons and byte order marks.
fn skip_blanks(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || matches!(c, ';' | '\u{feff}'));
        match skip_comment(text) {
            Some(rest) => text = rest,
            None => return text,
        }
    }
}

/// The text after the comment that it begins with. One that is not closed goes to the end.
fn skip_comment(text: &str) -> Option<&str> {
    let (body, end) = match text.strip_prefix("--") {
        Some(body) => (body, "\n"),
        None => (text.strip_prefix("/*")?, "*/"),
    };
    Some(body.find(end).map_or("", |at| &body[at + end.len()..]))
}

/// What follows the first semicolon outside of quotes and comments.
fn after_statement(mut text: &str) -> Option<&str> {
    loop {
        let at = text.find(['\'', '"', '`', '[', ';', '-', '/'])?;
        let found = &text[at..];
        if let Some(rest) = skip_comment(found) {
            text = rest;
            continue;
        }
        let rest = &found[1..];
        let quote = match found.as_bytes()[0] {
            b';' => return Some(rest),
            b'[' => ']',
            quote @ (b'\'' | b'"' | b'`') => char::from(quote),
            _ => {
                text = rest;
                continue;
            }
        };
        // A doubled quote reads as the end of one quoted text and the start of the next, which comes to the same.
        text = &rest[rest.find(quote)? + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_about_rows_is_allowed() {
        for sql in [
            "SELECT 1",
            " \n\tselect 1 ; ; -- the end\n /* really */ ",
            "/* a; b */ -- c;\n WITH x AS (SELECT 1) SELECT * FROM x",
            "INSERT INTO t (a) VALUES ('it''s; \"fine\"')",
            "UPDATE t SET \"odd;name\" = 1, [other;name] = 2, `third;` = 3 - 1 / 2",
            "replace into t values (1) /* not closed; SELECT",
            "VALUES (1)",
            "DELETE FROM t -- ; not the end",
        ] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let refused = |sql: &str, expected: Refusal| assert_eq!(check(sql), Err(expected), "{sql}");
        for sql in ["", "  ", ";;", "-- SELECT 1", "/* SELECT 1 */ ;"] {
            refused(sql, Refusal::Empty);
        }
        for sql in [
            "COMMIT",
            "rollback",
            "/**/ ; \u{feff}END",
            "PRAGMA query_only = OFF",
            "ATTACH 'x' AS x",
            "CREATE TABLE t (a)",
            "DROP TABLE t",
            "VACUUM",
            "SAVEPOINT s",
            "SELECTED",
            "(SELECT 1)",
            "1",
        ] {
            refused(sql, Refusal::NotRows);
        }
        for sql in [
            "SELECT 1; SELECT 2",
            "SELECT ';'; COMMIT",
            "SELECT 1; -- two\n SELECT 2",
            "SELECT 1 - 1; DELETE FROM t",
        ] {
            refused(sql, Refusal::Several);
        }
    }
}
