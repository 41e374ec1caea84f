//! Conditions on one stored value as filters.

use std::sync::Arc;

use alyx_core::Value;
use alyx_query::{CompareOp, Exists, Filter, JsonNeedle, PathTest, Through, prefix_end};
use alyx_schema::Collection;

use crate::condition::{Condition, and, or};
use crate::expr::{ExistsExpr, Function, Hop, Kind, Leaf};
use crate::value::{Val, time_text};

/// Elements of a list that a stored value is looked for in, at most.
pub(crate) const MAX_LIST: usize = 500;
/// Longest text that is looked for, in bytes.
const MAX_NEEDLE: usize = 4096;

/// Where the way to a stored value begins.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// At the document in question.
    Row,
    /// At the document whose field has that value.
    At {
        collection: Arc<Collection>,
        target: usize,
        key: Val,
    },
}

/// A stored value that is not known.
#[derive(Debug, Clone)]
pub(crate) struct Reference<'e> {
    pub(crate) origin: Origin,
    pub(crate) hops: &'e [Hop],
    pub(crate) leaf: &'e Leaf,
}

/// The value as the field stores it; none where no stored value equals it or has an order with it.
pub(crate) fn storage(kind: Kind, value: &Val) -> Option<Value> {
    match (kind, value) {
        (Kind::Text, Val::Text(text)) => Some(Value::Text(text.clone())),
        (Kind::Number, Val::Int(int)) => Some(Value::Int(*int)),
        (Kind::Number, Val::Float(float)) => Some(Value::Float(*float)),
        (Kind::Truth, Val::Bool(truth)) => Some(Value::from(*truth)),
        (Kind::Time, Val::Time(millis)) => time_text(*millis).map(Value::from),
        _ => None,
    }
}

impl Reference<'_> {
    fn field(&self) -> usize {
        self.leaf.field
    }

    fn is_null(&self) -> Filter {
        Filter::IsNull { field: self.field() }
    }

    fn not_null(&self) -> Filter {
        Filter::Not(Box::new(self.is_null()))
    }

    /// Whether there may be nothing at the end of the way.
    fn may_be_null(&self) -> bool {
        self.leaf.nullable || !self.hops.is_empty() || matches!(self.origin, Origin::At { .. })
    }

    fn compare(&self, op: CompareOp, value: Value) -> Filter {
        let field = self.field();
        Filter::Compare { field, op, value }
    }

    fn inside(&self, test: PathTest) -> Filter {
        Filter::Path {
            field: self.field(),
            path: self.leaf.path.clone(),
            test,
        }
    }

    /// The condition about the last document on the way, as one about the first.
    fn wrapped(&self, condition: Condition) -> Condition {
        Condition {
            yes: self.wrap(condition.yes),
            no: self.wrap(condition.no),
        }
    }

    fn wrap(&self, filter: Filter) -> Filter {
        if filter.is_true() || filter == Filter::FALSE {
            return filter;
        }
        let filter = self.hops.iter().rev().fold(filter, |filter, hop| {
            Filter::Through(Box::new(Through {
                field: hop.field,
                collection: Arc::clone(&hop.collection),
                target: hop.target,
                filter,
            }))
        });
        match &self.origin {
            Origin::Row => filter,
            Origin::At {
                collection,
                target,
                key,
            } => at(collection, (*target, key), filter),
        }
    }

    /// `== null`, or `!= null` negated.
    fn nothing(&self) -> Condition {
        if self.leaf.kind == Kind::Json {
            let there = self.inside(PathTest::Exists);
            return Condition {
                yes: Filter::Not(Box::new(there.clone())),
                no: there,
            };
        }
        Condition {
            yes: self.is_null(),
            no: self.not_null(),
        }
    }

    pub(crate) fn has(&self) -> Condition {
        self.wrapped(self.nothing().negated())
    }

    /// The stored truth value.
    pub(crate) fn truth(&self) -> Condition {
        let condition = match self.leaf.kind {
            Kind::Truth => Condition {
                yes: self.compare(CompareOp::Eq, Value::Int(1)),
                no: self.compare(CompareOp::Eq, Value::Int(0)),
            },
            Kind::Json => Condition {
                yes: self.inside(PathTest::Bool(true)),
                no: self.inside(PathTest::Bool(false)),
            },
            Kind::Text | Kind::Number | Kind::Time | Kind::Choice | Kind::Blob => Condition::fault(),
        };
        self.wrapped(condition)
    }

    /// `strict`: null equals nothing.
    pub(crate) fn equals(&self, value: &Val, strict: bool) -> Condition {
        let condition = match value {
            Val::Null if strict => Condition::constant(false),
            Val::Null => self.nothing(),
            value if self.leaf.kind == Kind::Json => self.equals_inside(value),
            value => match storage(self.leaf.kind, value) {
                None => Condition::constant(false),
                Some(value) => {
                    let differs = self.compare(CompareOp::Ne, value.clone());
                    Condition {
                        yes: self.compare(CompareOp::Eq, value),
                        no: if self.may_be_null() {
                            or(vec![differs, self.is_null()])
                        } else {
                            differs
                        },
                    }
                }
            },
        };
        self.wrapped(condition)
    }

    fn equals_inside(&self, value: &Val) -> Condition {
        let test = match value {
            Val::Text(text) => PathTest::Text {
                op: CompareOp::Eq,
                text: text.clone(),
            },
            Val::Bool(truth) => PathTest::Bool(*truth),
            Val::Int(_) | Val::Float(_) => PathTest::Number {
                op: CompareOp::Eq,
                number: spelled(value),
            },
            // Whole lists and objects are not compared.
            Val::List(_) | Val::Map(_) => return Condition::fault(),
            Val::Null | Val::Bytes(_) | Val::Time(_) | Val::Span(_) => return Condition::constant(false),
        };
        let yes = self.inside(test);
        Condition {
            no: Filter::Untrue(Box::new(yes.clone())),
            yes,
        }
    }

    /// An operator that is neither `Eq` nor `Ne`.
    pub(crate) fn ordered(&self, op: CompareOp, value: &Val) -> Condition {
        let opposite = opposite(op);
        let condition = match (self.leaf.kind, value) {
            (Kind::Json, Val::Text(text)) => {
                let test = |op| PathTest::Text {
                    op,
                    text: text.clone(),
                };
                Condition {
                    yes: self.inside(test(op)),
                    no: self.inside(test(opposite)),
                }
            }
            (Kind::Json, Val::Int(_) | Val::Float(_)) => {
                let number = spelled(value);
                let test = |op| PathTest::Number {
                    op,
                    number: number.clone(),
                };
                Condition {
                    yes: self.inside(test(op)),
                    no: self.inside(test(opposite)),
                }
            }
            (Kind::Truth, _) => Condition::fault(),
            (kind, value) => match storage(kind, value) {
                None => Condition::fault(),
                Some(value) => Condition {
                    yes: self.compare(op, value.clone()),
                    no: self.compare(opposite, value),
                },
            },
        };
        self.wrapped(condition)
    }

    /// The stored value is in a list.
    pub(crate) fn within(&self, list: &[Val]) -> Condition {
        if list.len() > MAX_LIST {
            return Condition::fault();
        }
        let condition = if self.leaf.kind == Kind::Json {
            let each = list.iter().filter(|value| !value.is_null());
            let yes = or(each.map(|value| self.equals_inside(value).yes).collect());
            Condition {
                no: Filter::Untrue(Box::new(yes.clone())),
                yes,
            }
        } else {
            let mut values: Vec<Value> = list
                .iter()
                .filter_map(|value| storage(self.leaf.kind, value))
                .collect();
            values.sort_by(Value::sql_cmp);
            values.dedup();
            let yes = Filter::In {
                field: self.field(),
                values,
            };
            let no = Filter::Not(Box::new(yes.clone()));
            Condition {
                no: if self.may_be_null() {
                    or(vec![no, self.is_null()])
                } else {
                    no
                },
                yes,
            }
        };
        self.wrapped(condition)
    }

    /// The stored list has the value.
    pub(crate) fn holds(&self, value: &Val) -> Condition {
        if value.is_null() {
            return Condition::constant(false);
        }
        let condition = match (self.leaf.kind, value) {
            (Kind::Choice, Val::Text(text)) => {
                let yes = or(vec![
                    self.compare(CompareOp::Eq, Value::Text(text.clone())),
                    Filter::JsonContains {
                        field: self.field(),
                        needle: JsonNeedle::Text(text.clone()),
                    },
                ]);
                let no = Filter::Untrue(Box::new(yes.clone()));
                Condition {
                    no: and(vec![no, self.not_null()]),
                    yes,
                }
            }
            (Kind::Choice, _) => Condition {
                yes: Filter::FALSE,
                no: self.not_null(),
            },
            (Kind::Json, value) => {
                let needle = match value {
                    Val::Text(text) => JsonNeedle::Text(text.clone()),
                    Val::Bool(truth) => JsonNeedle::Bool(*truth),
                    Val::Int(_) | Val::Float(_) => JsonNeedle::Number(spelled(value)),
                    _ => return Condition::fault(),
                };
                let yes = self.inside(PathTest::Holds(needle));
                Condition {
                    no: Filter::Not(Box::new(yes.clone())),
                    yes,
                }
            }
            _ => Condition::fault(),
        };
        self.wrapped(condition)
    }

    /// `startsWith`, `endsWith` or `contains`.
    pub(crate) fn has_part(&self, function: Function, value: &Val) -> Condition {
        let Some(text) = value
            .text()
            .filter(|text| text.len() <= MAX_NEEDLE && !text.contains('\0'))
        else {
            return Condition::fault();
        };
        let is_json = match self.leaf.kind {
            Kind::Json => true,
            Kind::Text => false,
            Kind::Number | Kind::Truth | Kind::Time | Kind::Choice | Kind::Blob => return Condition::fault(),
        };
        let compared = |op: CompareOp, text: &str| {
            if is_json {
                self.inside(PathTest::Text {
                    op,
                    text: text.into(),
                })
            } else {
                self.compare(op, Value::from(text))
            }
        };
        let any_text = || compared(CompareOp::Gte, "");
        let field = self.field();
        let condition = match function {
            _ if text.is_empty() => Condition {
                yes: any_text(),
                no: Filter::FALSE,
            },
            Function::StartsWith => {
                let end = prefix_end(text);
                let end = |op| end.iter().map(move |end| (op, end.clone()));
                let within = end(CompareOp::Lt).map(|(op, end)| compared(op, &end));
                let beyond = end(CompareOp::Gte).map(|(op, end)| compared(op, &end));
                Condition {
                    yes: and(std::iter::once(compared(CompareOp::Gte, text))
                        .chain(within)
                        .collect()),
                    no: or(std::iter::once(compared(CompareOp::Lt, text))
                        .chain(beyond)
                        .collect()),
                }
            }
            Function::EndsWith if is_json => with_opposite(self.inside(PathTest::EndsWith(text.into()))),
            Function::EndsWith => with_opposite(Filter::EndsWith {
                field,
                needle: text.into(),
            }),
            Function::Contains if is_json => {
                let found = self.inside(PathTest::Contains(JsonNeedle::Text(text.into())));
                let Condition { yes, no } = with_opposite(found);
                Condition {
                    yes: and(vec![any_text(), yes]),
                    no: and(vec![any_text(), no]),
                }
            }
            Function::Contains => with_opposite(Filter::Contains {
                field,
                needle: text.into(),
            }),
            _ => Condition::fault(),
        };
        self.wrapped(condition)
    }

    /// Another collection has a document with these values, of which one is this stored one.
    pub(crate) fn linked(&self, exists: &ExistsExpr, target: usize, filter: Filter) -> Condition {
        let yes = Filter::Exists(Box::new(Exists {
            field: Some(self.field()),
            collection: Arc::clone(&exists.collection),
            target,
            filter,
        }));
        self.wrapped(with_opposite(yes))
    }
}

/// Another collection has a document with these values.
pub(crate) fn anywhere(collection: &Arc<Collection>, filter: Filter) -> Condition {
    with_opposite(Filter::Exists(Box::new(Exists {
        field: None,
        collection: Arc::clone(collection),
        target: collection.primary(),
        filter,
    })))
}

/// A field has a value that is known; false where no field can have it.
pub(crate) fn has_value(collection: &Collection, field: usize, value: &Val) -> Filter {
    let kind = Kind::of(&collection.fields[field]);
    match storage(kind, value) {
        Some(value) => Filter::Compare {
            field,
            op: CompareOp::Eq,
            value,
        },
        None => Filter::FALSE,
    }
}

/// A filter over the document with that key; over a row of nulls where there is none.
fn at(collection: &Arc<Collection>, (target, key): (usize, &Val), filter: Filter) -> Filter {
    let of_nothing = filter.eval(&[]) == Some(true);
    let meant = has_value(collection, target, key);
    if meant == Filter::FALSE {
        return if of_nothing { Filter::TRUE } else { Filter::FALSE };
    }
    let found = anywhere(collection, and(vec![meant.clone(), filter])).yes;
    if of_nothing {
        or(vec![found, anywhere(collection, meant).no])
    } else {
        found
    }
}

/// A filter that is unknown where the rule has an error.
fn with_opposite(filter: Filter) -> Condition {
    Condition {
        no: Filter::Not(Box::new(filter.clone())),
        yes: filter,
    }
}

fn opposite(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Eq => CompareOp::Ne,
        CompareOp::Ne => CompareOp::Eq,
        CompareOp::Gt => CompareOp::Lte,
        CompareOp::Gte => CompareOp::Lt,
        CompareOp::Lt => CompareOp::Gte,
        CompareOp::Lte => CompareOp::Gt,
    }
}

/// A number in its shortest JSON spelling.
fn spelled(value: &Val) -> Arc<str> {
    let text = match value {
        Val::Int(int) => int.to_string(),
        Val::Float(float) => {
            serde_json::Number::from_f64(*float).map_or_else(String::new, |number| number.to_string())
        }
        _ => String::new(),
    };
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text.into(),
    }
}
