//! What is wrong with a schema file, where, and how to put it right.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path, such as `collections.posts.fields.title.type`; empty for the file as a whole.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to put it right; may be empty where the message says it.
    pub hint: String,
}

/// Everything that is wrong with a schema file, in the order of the file; never empty. `Display` prints all of
/// it with the lines of the source.
#[derive(Debug, Clone)]
pub struct SchemaErrors {
    /// The problems.
    pub problems: Vec<Problem>,
    file: String,
    source: String,
}

impl SchemaErrors {
    /// At least one problem of the file with that name and text.
    pub fn new(mut problems: Vec<Problem>, file: &str, source: &str) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Self {
            problems,
            file: file.to_owned(),
            source: source.to_owned(),
        }
    }
}

impl fmt::Display for SchemaErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            self.write_problem(problem, f)?;
        }
        Ok(())
    }
}

impl SchemaErrors {
    fn write_problem(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            path,
            line,
            column,
            message,
            hint,
        } = problem;
        write!(f, "{}:{line}:{column}: ", self.file)?;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        writeln!(f, "{message}")?;
        if let Some(text) = self.source.lines().nth(line.saturating_sub(1)) {
            const WIDEST: usize = 160;
            let shown: String = text
                .chars()
                .take(WIDEST)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            writeln!(f, "{line:>5} | {shown}")?;
            if *column <= WIDEST {
                writeln!(f, "      | {}^", " ".repeat(column.saturating_sub(1)))?;
            }
        }
        if !hint.is_empty() {
            writeln!(f, "      = {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SchemaErrors {}
