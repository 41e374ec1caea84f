//! From a dotted path or an environment name to its key, and hints for names that are none.

use alyx_core::nearest;

use crate::keys::{self, Key, RUNTIMES};

/// Variables with the product's prefix that are no keys: the command line and the tests read them.
const OTHER_VARIABLES: [&str; 5] = [
    "ALYX_CONFIG",
    "ALYX_SCHEMA",
    "ALYX_SERVER",
    "ALYX_SERVER_CA",
    "ALYX_UPDATE_DOCS",
];

/// What a path names.
pub(crate) enum Found {
    /// A key; the word is what its wildcard stood for.
    Key(&'static Key, String),
    /// The start of longer paths.
    Section,
    /// Nothing.
    Nothing,
}

/// What these path segments name.
pub(crate) fn path(segments: &[&str]) -> Found {
    let mut section = false;
    for key in keys::all() {
        for path in std::iter::once(&key.path).chain(key.aliases) {
            let pattern: Vec<&str> = path.split('.').collect();
            let Some(word) = match_segments(&pattern, segments) else {
                continue;
            };
            if pattern.len() == segments.len() {
                return Found::Key(key, word.to_owned());
            }
            section = true;
        }
    }
    if section { Found::Section } else { Found::Nothing }
}

/// Matches the segments against the start of the pattern; the word of its wildcard, `""` where there is none.
fn match_segments<'a>(pattern: &[&str], segments: &[&'a str]) -> Option<&'a str> {
    if segments.len() > pattern.len() {
        return None;
    }
    let mut word = "";
    for (expected, segment) in pattern.iter().zip(segments) {
        match *expected {
            "{runtime}" if RUNTIMES.contains(segment) => word = segment,
            "{name}" if !segment.is_empty() => word = segment,
            expected if expected == *segment => {}
            _ => return None,
        }
    }
    Some(word)
}

/// What may follow these segments, in the order of the documentation; old spellings only where nothing else may.
pub(crate) fn children(segments: &[&str]) -> Vec<String> {
    let current = below(segments, keys::all().map(|key| key.path));
    if current.is_empty() {
        return below(segments, keys::all().flat_map(|key| key.aliases.iter().copied()));
    }
    current
}

/// The segments right after these in those of the paths that begin with them, each once.
fn below(segments: &[&str], paths: impl Iterator<Item = &'static str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for path in paths {
        let pattern: Vec<&str> = path.split('.').collect();
        if pattern.len() <= segments.len() || match_segments(&pattern[..segments.len()], segments).is_none() {
            continue;
        }
        let names: Vec<String> = match pattern[segments.len()] {
            "{runtime}" => RUNTIMES.map(str::to_owned).to_vec(),
            name => vec![name.to_owned()],
        };
        for name in names {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

/// What to write in place of an unknown last segment.
pub(crate) fn hint(segments: &[&str]) -> String {
    let Some((unknown, parent)) = segments.split_last() else {
        return String::new();
    };
    let here = children(parent);
    if let Some(close) = nearest(unknown, here.iter().map(String::as_str)) {
        return format!("did you mean `{close}`?");
    }
    let elsewhere = keys::all()
        .map(|key| key.path)
        .find(|path| path.rsplit('.').next() == Some(unknown));
    if let Some(path) = elsewhere {
        return format!("did you mean `{path}`?");
    }
    format!("known here: {}", here.join(", "))
}

/// What an environment variable names: a key and the word of its wildcard.
pub(crate) fn variable(name: &str) -> Option<(&'static Key, String)> {
    keys::all().find_map(|key| {
        let pattern = environment_name(key.path);
        let Some((prefix, suffix)) = pattern.split_once('{') else {
            return (pattern == name).then(|| (key, String::new()));
        };
        let (wildcard, suffix) = suffix.split_once('}').unwrap_or((suffix, ""));
        let word = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        let lower = word.to_ascii_lowercase();
        if wildcard == "RUNTIME" {
            return RUNTIMES.contains(&lower.as_str()).then_some((key, lower));
        }
        let word = if suffix.is_empty() { word.to_owned() } else { lower };
        (!word.is_empty()).then_some((key, word))
    })
}

/// The variable that overrides a key; wildcards stay as `{RUNTIME}` and `{NAME}`.
pub(crate) fn environment_name(path: &str) -> String {
    format!("ALYX_{}", path.replace('.', "_").to_ascii_uppercase())
}

/// Whether a variable with the product's prefix is read by something else than the configuration.
pub(crate) fn is_other_variable(name: &str) -> bool {
    OTHER_VARIABLES.contains(&name)
}

/// The variable that was probably meant.
pub(crate) fn variable_hint(name: &str) -> String {
    let names: Vec<String> = keys::all().map(|key| environment_name(key.path)).collect();
    match nearest(name, names.iter().map(String::as_str)) {
        Some(close) => format!("; did you mean {close}?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_every_key() {
        let check = |name: &str, expected: Option<(&str, &str)>| {
            let found = variable(name).map(|(key, word)| (key.path, word));
            assert_eq!(
                found.as_ref().map(|(path, word)| (*path, word.as_str())),
                expected,
                "{name}"
            );
        };
        check("ALYX_SERVER_PORT", Some(("server.port", "")));
        check(
            "ALYX_SERVER_CORS_ALLOWED_ORIGINS",
            Some(("server.cors.allowed_origins", "")),
        );
        check(
            "ALYX_FUNCTIONS_POOLS_NODE_MIN_WARM",
            Some(("functions.pools.{runtime}.min_warm", "node")),
        );
        check("ALYX_FUNCTIONS_POOLS_RUBY_MIN_WARM", None);
        check(
            "ALYX_FUNCTIONS_ENV_Api_Key",
            Some(("functions.env.{name}", "Api_Key")),
        );
        check("ALYX_AUTH_JWT_SECRET", Some(("auth.jwt.secret", "")));
        check("ALYX_AUTH_OAUTH_GITHUB_CLIENT_ID", {
            Some(("auth.oauth.{name}.client_id", "github"))
        });
        check("ALYX_SERVER_PROT", None);
        for key in keys::all() {
            let name = environment_name(key.path)
                .replace("{RUNTIME}", "NODE")
                .replace("{NAME}", "X");
            assert!(variable(&name).is_some(), "{name}");
        }
    }

    #[test]
    fn hints_name_the_nearest_key() {
        assert_eq!(hint(&["server", "prot"]), "did you mean `port`?");
        assert_eq!(hint(&["port"]), "did you mean `server.port`?");
        assert!(hint(&["dev", "zzzzzz"]).starts_with("known here: enabled, watch"));
        assert!(variable_hint("ALYX_SERVER_PROT").contains("ALYX_SERVER_PORT"));
    }
}
