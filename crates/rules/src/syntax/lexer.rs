//! Words, numbers, texts and signs.

use crate::problem::Problem;
use crate::value::Val;

use super::Span;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Literal(Val),
    Sign(&'static str),
    End,
}

/// Longest first, so that `<=` is not taken for `<`.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", ".", ",", "(", ")", "[", "]", "{", "}", "+",
    "-", "*", "/", "%",
];

/// All tokens with their places; the last one is the end.
///
/// Errors: the first thing that is no token.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, Problem> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = lexer.next()?;
        let end = lexer.at;
        let last = token == Token::End;
        tokens.push((token, Span { start, end }));
        if last {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Result<Token, Problem> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        if first.is_ascii_alphabetic() || first == '_' {
            return self.word();
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if first == '"' || first == '\'' {
            return self.quoted(false);
        }
        for sign in SIGNS {
            if rest.starts_with(sign) {
                self.at += sign.len();
                return Ok(Token::Sign(sign));
            }
        }
        let hint = match first {
            '=' => "equality is written ==",
            '&' => "and is written &&",
            '|' => "or is written ||",
            _ => "remove it",
        };
        Err(self.problem(first.len_utf8(), format!("`{first}` means nothing here"), hint))
    }

    fn word(&mut self) -> Result<Token, Problem> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let opens = after.starts_with(['"', '\'']);
        if opens && (word == "r" || word == "R") {
            self.at += end;
            return self.quoted(true);
        }
        if opens {
            return Err(self.problem(
                end,
                format!("`{word}` before a text means nothing here"),
                "remove it",
            ));
        }
        self.at += end;
        Ok(match word {
            "true" => Token::Literal(Val::Bool(true)),
            "false" => Token::Literal(Val::Bool(false)),
            "null" => Token::Literal(Val::Null),
            "in" => Token::Sign("in"),
            _ => Token::Name(word.to_owned()),
        })
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let hexadecimal = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X"));
        if let Some(digits) = hexadecimal {
            let end = digits
                .find(|c: char| !c.is_ascii_alphanumeric())
                .unwrap_or(digits.len());
            let number = i64::from_str_radix(digits[..end].trim_end_matches(['u', 'U']), 16);
            return self.finish(end + 2, number.ok().map(Val::Int));
        }
        let mut end = 0;
        let mut whole = true;
        while let Some(byte) = bytes.get(end) {
            let follows_digit = bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
            match byte {
                b'0'..=b'9' => {}
                b'.' if whole && follows_digit => whole = false,
                b'e' | b'E' => {
                    whole = false;
                    if matches!(bytes.get(end + 1), Some(b'+' | b'-')) {
                        end += 1;
                    }
                }
                _ => break,
            }
            end += 1;
        }
        let text = &rest[..end];
        let value = if whole {
            text.parse().ok().map(Val::Int)
        } else {
            text.parse::<f64>()
                .ok()
                .filter(|float| float.is_finite())
                .map(Val::Float)
        };
        let unsigned = whole && matches!(bytes.get(end), Some(b'u' | b'U'));
        self.finish(end + usize::from(unsigned), value)
    }

    fn finish(&mut self, length: usize, value: Option<Val>) -> Result<Token, Problem> {
        let Some(value) = value else {
            return Err(self.problem(
                length,
                "this is no number",
                "whole numbers have 64 bits, with a sign",
            ));
        };
        self.at += length;
        if self
            .rest()
            .starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        {
            return Err(self.problem(1, "a number ends here", "put a space or an operator after it"));
        }
        Ok(Token::Literal(value))
    }

    fn quoted(&mut self, raw: bool) -> Result<Token, Problem> {
        let rest = self.rest();
        let triple = ["\"\"\"", "'''"]
            .into_iter()
            .find(|quote| rest.starts_with(quote));
        let quote = triple.unwrap_or(&rest[..1]);
        let mut out = String::new();
        let mut inside = rest[quote.len()..].char_indices();
        while let Some((at, c)) = inside.next() {
            if rest[quote.len() + at..].starts_with(quote) {
                self.at += quote.len() + at + quote.len();
                return Ok(Token::Literal(Val::Text(out.into())));
            }
            if c == '\n' && triple.is_none() {
                break;
            }
            if c != '\\' || raw {
                out.push(c);
                continue;
            }
            let escaped = inside.next().map(|(_, c)| c);
            let Some(meant) = escaped.and_then(|c| unescaped(c, &mut inside)) else {
                let hint = "write \\\\ for a backslash, or r'…' for a text without escapes";
                return Err(self.problem(
                    quote.len() + at + 1,
                    "the text has an escape that is not known",
                    hint,
                ));
            };
            out.push(meant);
        }
        Err(self.problem(
            quote.len(),
            "the text does not end",
            "close it with the quote that opened it",
        ))
    }

    fn problem(&self, length: usize, message: impl Into<String>, hint: &str) -> Problem {
        let span = Span {
            start: self.at,
            end: (self.at + length).min(self.text.len()),
        };
        Problem::new(span, message, hint)
    }
}

fn unescaped(c: char, rest: &mut std::str::CharIndices<'_>) -> Option<char> {
    let mut digits = |count: usize, radix: u32| {
        let mut code = 0;
        for _ in 0..count {
            code = code * radix + rest.next()?.1.to_digit(radix)?;
        }
        char::from_u32(code)
    };
    Some(match c {
        '\\' | '\'' | '"' | '`' | '?' => c,
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        'x' | 'X' => digits(2, 16)?,
        'u' => digits(4, 16)?,
        'U' => digits(8, 16)?,
        _ => return None,
    })
}
