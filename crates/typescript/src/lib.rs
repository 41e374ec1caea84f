//! TypeScript as JavaScript that a runtime without TypeScript can load: types become spaces, so that every line and, but
//! for what is said below, every column of a stack trace is the one in the TypeScript file, without source maps.
//!
//! - Erased: annotations, interfaces, aliases, overloads, `declare`, `import type`, imports that only types use.
//! - Written anew, line by line: enums, parameter properties, `import x = require()`, `export =`. What follows one of
//!   them in the same line may move to the right.
//! - Refused, with its place: decorators, namespaces that hold values, JSX, imports in CommonJS files.
//!
//! Types are not checked. Names of modules are resolved by the caller, since files change their names with their
//! language: see [`Resolve`].
//!
//! **Invariant:** the result has as many lines as the source, and each token of the source that it keeps is in its line.

mod class;
mod edits;
mod enumeration;
mod erase;
mod module;
mod scan;

use std::fmt;

use oxc_allocator::Allocator;
use oxc_ast_visit::Visit as _;
use oxc_parser::Parser;
use oxc_span::SourceType;

use crate::erase::Eraser;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// TypeScript as an ES module, or as whatever its content says.
    TypeScript,
    /// TypeScript as a CommonJS module (`.cts`).
    CommonTypeScript,
    /// JavaScript, of which only the names of modules are of interest.
    JavaScript,
}

/// Something that keeps a file from being run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column in UTF-16 code units, from 1.
    pub column: usize,
    /// What is wrong and, where it can be told, how to fix it.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Says by which name a module is to be loaded that the source calls by another one; `None` leaves it.
pub type Resolve<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A file that was read.
#[derive(Debug, Default)]
pub struct Compiled {
    /// What to run.
    pub text: String,
    /// The modules that it names, as the source calls them, in their order.
    pub modules: Vec<String>,
}

/// Most faults that are told of one file.
const MAX_FAULTS: usize = 10;

/// Reads `source` and writes it as JavaScript.
///
/// # Errors
/// At least one and at most ten faults, in the order of their places.
pub fn compile(source: &str, language: Language, resolve: &Resolve<'_>) -> Result<Compiled, Vec<Fault>> {
    let allocator = Allocator::default();
    let kind = match language {
        Language::TypeScript => SourceType::ts(),
        Language::CommonTypeScript => SourceType::ts().with_commonjs(true),
        Language::JavaScript => SourceType::unambiguous(),
    };
    let parsed = Parser::new(&allocator, source, kind).parse();
    let mut faults: Vec<(usize, String)> = parsed.diagnostics.iter().map(fault_of).collect();
    if faults.is_empty() {
        let mut eraser = Eraser::new(source, language);
        eraser.visit_program(&parsed.program);
        match eraser.finish(resolve) {
            Ok(compiled) => return Ok(compiled),
            Err(found) => faults = found,
        }
    }
    faults.sort();
    faults.dedup();
    faults.truncate(MAX_FAULTS);
    Err(faults
        .into_iter()
        .map(|(at, message)| placed(source, at, message))
        .collect())
}

fn fault_of(told: &oxc_diagnostics::OxcDiagnostic) -> (usize, String) {
    let at = told
        .labels
        .as_ref()
        .first()
        .map_or(0, |label| label.offset() as usize);
    let mut words = told.message.to_string();
    if let Some(help) = &told.help {
        words.push_str("; ");
        words.push_str(help);
    }
    (at, words)
}

fn placed(source: &str, at: usize, message: String) -> Fault {
    let before = &source[..source.floor_char_boundary(at.min(source.len()))];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    Fault {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].encode_utf16().count() + 1,
        message,
    }
}

#[cfg(test)]
mod tests;
