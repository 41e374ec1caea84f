//! Reading small tokens of a source between nodes of its tree, which have no places of their own.

/// Offset of the first token at or after `at`: past white space and comments.
pub(crate) fn token(source: &str, mut at: usize) -> usize {
    loop {
        let rest = source.get(at..).unwrap_or("");
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        at += rest.len() - trimmed.len();
        if trimmed.starts_with("//") {
            at += trimmed
                .find(['\n', '\r', '\u{2028}', '\u{2029}'])
                .unwrap_or(trimmed.len());
        } else if let Some(comment) = trimmed.strip_prefix("/*") {
            at += comment.find("*/").map_or(trimmed.len(), |end| end + 4);
        } else {
            return at;
        }
    }
}

/// The word at `at`, empty where there is none.
pub(crate) fn word(source: &str, at: usize) -> &str {
    let rest = source.get(at..).unwrap_or("");
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$')))
        .unwrap_or(rest.len());
    &rest[..end]
}

/// Whether the next token is that character; its offset.
pub(crate) fn next_is(source: &str, at: usize, c: char) -> Option<usize> {
    let at = token(source, at);
    source
        .get(at..)
        .is_some_and(|rest| rest.starts_with(c))
        .then_some(at)
}

/// The first character after `at` that is no comment, where the end of a line comes before it.
pub(crate) fn first_of_a_later_line(source: &str, at: usize) -> Option<char> {
    let next = token(source, at);
    let between = source.get(at..next)?;
    between.contains('\n').then(|| source[next..].chars().next())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_comments_are_no_tokens() {
        let source = "a /* b */ // c\n  ? d";
        assert_eq!(next_is(source, 1, '?'), source.find('?'));
        assert_eq!(next_is(source, 1, 'd'), None);
        assert_eq!(first_of_a_later_line(source, 1), Some('?'));
        assert_eq!(first_of_a_later_line("a /* \n */ (b)", 1), Some('('));
        assert_eq!(first_of_a_later_line("a (b)", 1), None);
        assert_eq!(word("privateé x", 0), "privateé");
        assert_eq!(token("a // b", 1), 6);
        assert_eq!(token("a /* b", 1), 6);
    }
}
