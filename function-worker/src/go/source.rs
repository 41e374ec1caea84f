//! What the Go files of a function declare, as far as the `main` that is added to them must know: read line by line
//! with comments and literals blanked, which is enough for declarations at the top of a file. What is written
//! otherwise the compiler finds.

use std::path::Path;

/// Largest file that is looked into, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// What was found in the files of one function.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Declarations {
    /// Name of the function that answers calls.
    pub(super) handler: Option<&'static str>,
    /// Whether there is a `Schema`.
    pub(super) schema: bool,
}

/// Reads the files of one function.
///
/// # Errors
/// Says what must be changed, with file and line.
pub(super) fn read(root: &Path, files: &[String]) -> Result<Declarations, String> {
    let mut found = Declarations::default();
    for file in files {
        let path = root.join(file);
        if std::fs::metadata(&path).is_ok_and(|about| about.len() > MAX_FILE) {
            return Err(format!("{file}: it is larger than {} MiB", MAX_FILE >> 20));
        }
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("{file}: it cannot be read: {error}"))?;
        declarations(file, &text, &mut found)?;
    }
    Ok(found)
}

fn declarations(file: &str, text: &str, found: &mut Declarations) -> Result<(), String> {
    let blanked = blank(text);
    let mut depth = 0_i64;
    for (number, line) in (1..).zip(blanked.lines()) {
        let (words, top) = (line.trim_end(), depth == 0);
        depth += line.bytes().map(nesting).sum::<i64>();
        if !top {
            continue;
        }
        let place = format!("{file}:{number}");
        if let Some(name) = words.trim_start().strip_prefix("package ")
            && name.trim() != "main"
        {
            return Err(format!(
                "{place}: the package of a function is `main`, not `{}`; write `package main`",
                name.trim()
            ));
        }
        if is_function(words, "main") {
            return Err(format!(
                "{place}: leave `func main` out; the server adds one that calls the handler"
            ));
        }
        if is_function(words, "Handler") {
            found.handler = Some("Handler");
        } else if is_function(words, "Handle") && found.handler.is_none() {
            found.handler = Some("Handle");
        } else if is_variable(words, "Schema") {
            found.schema = true;
        }
    }
    Ok(())
}

fn nesting(byte: u8) -> i64 {
    match byte {
        b'{' | b'(' | b'[' => 1,
        b'}' | b')' | b']' => -1,
        _ => 0,
    }
}

fn is_function(line: &str, name: &str) -> bool {
    let rest = line.strip_prefix("func ").map(str::trim_start);
    rest.and_then(|rest| rest.strip_prefix(name))
        .is_some_and(|rest| rest.trim_start().starts_with('('))
}

fn is_variable(line: &str, name: &str) -> bool {
    let rest = line.strip_prefix("var ").map(str::trim_start);
    rest.and_then(|rest| rest.strip_prefix(name))
        .is_some_and(|rest| rest.starts_with([' ', '=', '\t']))
}

/// The text with spaces in place of comments and of what is between quotes; lines stay where they are.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |at| at + 4),
            '`' => rest[1..].find('`').map_or(rest.len(), |at| at + 2),
            '"' | '\'' => quoted(rest, first),
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
        };
        let (hidden, after) = rest.split_at(length);
        out.extend(hidden.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out
}

/// Length of the quoted text that `text` begins with; it ends with its line at the latest.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return at,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_found_where_they_are_declared_and_nowhere_else() {
        let check = |text: &str, handler: Option<&'static str>, schema: bool| {
            let mut found = Declarations::default();
            declarations("a.go", text, &mut found).expect("nothing is wrong");
            assert_eq!(found, Declarations { handler, schema }, "{text}");
        };
        check(
            "package main\n\nfunc Handler(ctx *runtime.Context) (any, error) {\n}\n",
            Some("Handler"),
            false,
        );
        check(
            "package main\nfunc  Handle (w http.ResponseWriter, r *http.Request) {}\n",
            Some("Handle"),
            false,
        );
        check(
            "package main\nvar Schema = runtime.Schema{}\nfunc Handler() {}",
            Some("Handler"),
            true,
        );
        check(
            "package main\n// func Handler(\n/*\nfunc Handler() {}\n*/\nconst x = `\nfunc Handler() {}\n`\n",
            None,
            false,
        );
        check(
            "package main\nvar x = \"{\"\nvar y = '{'\nfunc Handler() {}\n",
            Some("Handler"),
            false,
        );
        check(
            "package main\nfunc (h T) Handler() {}\nfunc HandlerOf() {}\nvar SchemaOf = 1\n",
            None,
            false,
        );
        check(
            "package main // the `main` one\nfunc Handler() {}\n",
            Some("Handler"),
            false,
        );
        check(
            "package main\nfunc other() {\nfunc Handler() {}\n}\n",
            None,
            false,
        );
    }

    #[test]
    fn what_cannot_be_is_told_with_its_line() {
        let check = |text: &str, expected: &str| {
            let told = declarations("a.go", text, &mut Declarations::default()).expect_err("refused");
            assert!(told.starts_with(expected), "{told}");
        };
        check(
            "// Hello.\npackage hello\n",
            "a.go:2: the package of a function is `main`, not `hello`",
        );
        check(
            "package main\n\nfunc main() {\n}\n",
            "a.go:3: leave `func main` out",
        );
    }
}
