//! `${VAR}` in values: `${VAR}` must be set, `${VAR:-text}` falls back, `$${` is a literal `${`.

use std::collections::BTreeMap;

/// Replaces every reference in `text`. Values are inserted as they are, never expanded again.
///
/// # Errors
/// What is wrong with the first bad reference, for people.
pub fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if let Some(literal) = rest[..start].strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let Some(end) = inner.find('}') else {
            return Err("`${` without its `}`; close it, or write `$${` for the two characters".to_owned());
        };
        out.push_str(&resolve(&inner[..end], env)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn resolve(reference: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    let (name, fallback) = match reference.split_once(":-") {
        Some((name, fallback)) => (name, Some(fallback)),
        None => (reference, None),
    };
    let mut chars = name.chars();
    let valid = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(format!(
            "`${{{reference}}}` names no variable; write `${{NAME}}`, or `$${{` for the two characters"
        ));
    }
    match (env.get(name), fallback) {
        (Some(value), None) => Ok(value.clone()),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value.clone()),
        (_, Some(fallback)) => Ok(fallback.to_owned()),
        (None, None) => Err(format!(
            "the environment variable {name} is not set; set it, or write `${{{name}:-fallback}}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_wherever_they_stand() {
        let env = BTreeMap::from([
            ("A".to_owned(), "x".to_owned()),
            ("EMPTY".to_owned(), String::new()),
            ("NESTED".to_owned(), "${A}".to_owned()),
        ]);
        let check = |text: &str, expected: Result<&str, &str>| match (expand(text, &env), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(found), Err(word)) => assert!(found.contains(word), "{text}: {found}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("plain $A $ {A}", Ok("plain $A $ {A}"));
        check("${A}", Ok("x"));
        check("http://${A}:80/${A}", Ok("http://x:80/x"));
        check("$${A} ${A}", Ok("${A} x"));
        check("${EMPTY}", Ok(""));
        check("${EMPTY:-y}${MISSING:-z}", Ok("yz"));
        check("${NESTED}", Ok("${A}"));
        check("${MISSING}", Err("MISSING is not set"));
        check("${A", Err("without its"));
        check("${}", Err("names no variable"));
        check("${A B}", Err("names no variable"));
    }
}
