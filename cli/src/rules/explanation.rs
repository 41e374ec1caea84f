//! Why the rules decide as they do, for people and as JSON.

use std::fmt;

use alyx_proto::admin as wire;
use serde::Serialize;
use serde_json::Value as Json;

#[derive(Serialize)]
pub(super) struct Explanation {
    collection: String,
    id: String,
    caller: String,
    decisions: Vec<Decision>,
}

#[derive(Serialize)]
struct Decision {
    action: String,
    allowed: bool,
    /// Status and code of the answer to a request; null where it is allowed.
    answer: Option<String>,
    rule: String,
    because: Vec<String>,
    tree: Option<Part>,
}

#[derive(Serialize)]
struct Part {
    text: String,
    /// `true`, `false`, `error` or `value`.
    is: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Json>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
}

impl From<wire::RulesExplanation> for Explanation {
    fn from(told: wire::RulesExplanation) -> Self {
        Self {
            collection: told.collection,
            id: told.id,
            caller: told.caller,
            decisions: told.decisions.into_iter().map(Decision::from).collect(),
        }
    }
}

impl From<wire::RuleDecision> for Decision {
    fn from(told: wire::RuleDecision) -> Self {
        Self {
            action: told.action,
            allowed: told.allowed,
            answer: Some(told.answer).filter(|answer| !answer.is_empty()),
            rule: told.rule,
            because: told.because,
            tree: told.root.map(Part::from),
        }
    }
}

impl From<wire::RulePart> for Part {
    fn from(told: wire::RulePart) -> Self {
        let is = match told.state() {
            wire::RulePartState::True => "true",
            wire::RulePartState::False => "false",
            wire::RulePartState::Error => "error",
            wire::RulePartState::Value | wire::RulePartState::Unspecified => "value",
        };
        Self {
            is,
            value: (is == "value")
                .then(|| serde_json::from_str(&told.value).unwrap_or(Json::String(told.value))),
            text: told.text,
            parts: told.parts.into_iter().map(Self::from).collect(),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} as {}", self.collection, self.id, self.caller)?;
        for decision in &self.decisions {
            let verdict = match &decision.answer {
                _ if decision.allowed => "yes".to_owned(),
                Some(answer) => format!("no ({answer})"),
                None => "no".to_owned(),
            };
            writeln!(f, "\n{:<6}  {verdict}", decision.action)?;
            for reason in &decision.because {
                writeln!(f, "  {reason}")?;
            }
            match &decision.tree {
                Some(tree) => tree.write(f, 1)?,
                None if !decision.rule.is_empty() => writeln!(f, "  {}", decision.rule)?,
                None => {}
            }
        }
        Ok(())
    }
}

impl Part {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (indent, is) = (2 * depth, self.is);
        match &self.value {
            Some(value) => writeln!(f, "{:indent$}{:<5} {text} = {value}", "", "")?,
            None => writeln!(f, "{:indent$}{is:<5} {text}", "")?,
        }
        self.parts.iter().try_for_each(|part| part.write(f, depth + 1))
    }
}
