//! What became of a rule and of its parts, and the reasons in words.

use serde_json::Value as Json;

use crate::value::{Val, time_text};

/// Longest value that is told whole, in bytes of JSON.
const MAX_TOLD: usize = 1024;

/// What a rule says to one caller about one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// Whether it allows.
    pub allowed: bool,
    /// Whether it says so whatever the document is.
    pub always: bool,
    /// The rule as a whole.
    pub root: Seen,
}

/// One part of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// As it is written.
    pub text: String,
    /// What it comes to.
    pub came: Came,
    /// Its parts in turn; constants that something is compared with are not among them.
    pub parts: Vec<Seen>,
    pub(crate) joins: Joins,
}

/// What a part comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be evaluated, which denies.
    Error,
    /// It is neither: a value. One of more than 1024 bytes of JSON is a text with its beginning.
    Value(Json),
}

/// How the truth of a part depends on that of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    All,
    Any,
    Not,
    If,
    /// They are values that it looks at.
    Nothing,
}

impl Came {
    pub(crate) fn of(value: &Val) -> Self {
        match value {
            Val::Bool(true) => Self::True,
            Val::Bool(false) => Self::False,
            other => Self::Value(told(other)),
        }
    }

    /// In the words of a sentence.
    pub fn words(&self) -> String {
        match self {
            Self::True => "true".to_owned(),
            Self::False => "false".to_owned(),
            Self::Error => "an error".to_owned(),
            Self::Value(value) => value.to_string(),
        }
    }
}

impl Explained {
    /// What denies, a sentence each; none where the rule allows.
    pub fn because(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.allowed {
            self.root.keeps_from(true, &mut reasons);
            if reasons.is_empty() {
                reasons
                    .push("the rule takes too many steps or cannot be evaluated, and errors deny".to_owned());
            }
            reasons.dedup();
        }
        reasons
    }
}

impl Seen {
    /// Why it is not what is wanted of it.
    fn keeps_from(&self, wanted: bool, reasons: &mut Vec<String>) {
        if self.came == Self::meant(wanted) {
            return;
        }
        match self.joins {
            Joins::All | Joins::Any => {
                for part in &self.parts {
                    part.keeps_from(wanted, reasons);
                }
            }
            Joins::Not => match self.parts.first() {
                Some(part) => part.keeps_from(!wanted, reasons),
                None => reasons.push(self.sentence()),
            },
            Joins::If => match self.parts.as_slice() {
                [condition, yes, no] => match condition.came {
                    Came::True => yes.keeps_from(wanted, reasons),
                    Came::False => no.keeps_from(wanted, reasons),
                    Came::Error | Came::Value(_) => condition.keeps_from(true, reasons),
                },
                _ => reasons.push(self.sentence()),
            },
            Joins::Nothing => reasons.push(self.sentence()),
        }
    }

    fn meant(wanted: bool) -> Came {
        if wanted { Came::True } else { Came::False }
    }

    fn sentence(&self) -> String {
        let mut values = Vec::new();
        for part in &self.parts {
            part.values(&mut values);
        }
        let values = match values.len() {
            0 => String::new(),
            _ => format!(": {}", values.join(", ")),
        };
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        match &self.came {
            Came::True | Came::False => format!("`{text}` is {}{values}", self.came.words()),
            Came::Error => format!("`{text}` cannot be evaluated, and errors deny{values}"),
            Came::Value(value) => {
                format!("`{text}` is {value}, which is neither true nor false, and errors deny{values}")
            }
        }
    }

    /// What it was made of, each once.
    fn values(&self, values: &mut Vec<String>) {
        let value = format!("`{}` is {}", self.text, self.came.words());
        if !values.contains(&value) {
            values.push(value);
        }
        for part in &self.parts {
            part.values(values);
        }
    }
}

/// What parts make of the whole.
pub(crate) fn truth(joins: Joins, parts: &[Seen]) -> Came {
    let all = |wanted: &Came| parts.iter().all(|part| part.came == *wanted);
    let any = |wanted: &Came| parts.iter().any(|part| part.came == *wanted);
    match (joins, parts) {
        (Joins::All, _) if any(&Came::False) => Came::False,
        (Joins::All, _) if all(&Came::True) => Came::True,
        (Joins::Any, _) if any(&Came::True) => Came::True,
        (Joins::Any, _) if all(&Came::False) => Came::False,
        (Joins::Not, [part]) if part.came == Came::True => Came::False,
        (Joins::Not, [part]) if part.came == Came::False => Came::True,
        (Joins::If, [condition, yes, _]) if condition.came == Came::True => yes.came.clone(),
        (Joins::If, [condition, _, no]) if condition.came == Came::False => no.came.clone(),
        (Joins::All | Joins::Any | Joins::Not | Joins::If | Joins::Nothing, _) => Came::Error,
    }
}

/// A value for people, cut where it is long.
fn told(value: &Val) -> Json {
    let json = json(value);
    let text = json.to_string();
    if text.len() <= MAX_TOLD {
        return json;
    }
    let end = text.floor_char_boundary(MAX_TOLD);
    Json::String(format!("{}…", &text[..end]))
}

fn json(value: &Val) -> Json {
    match value {
        Val::Null => Json::Null,
        Val::Bool(truth) => Json::Bool(*truth),
        Val::Int(int) => Json::from(*int),
        Val::Float(float) => Json::from(*float),
        Val::Text(text) => Json::from(&**text),
        Val::Bytes(bytes) => Json::String(format!("{} bytes", bytes.len())),
        Val::List(parts) => parts.iter().map(json).collect(),
        Val::Map(members) => {
            let members = members
                .iter()
                .map(|(name, value)| (name.to_string(), json(value)));
            Json::Object(members.collect())
        }
        Val::Time(millis) => time_text(*millis).map_or(Json::Null, Json::String),
        Val::Span(millis) => Json::String(format!("{millis}ms")),
    }
}
