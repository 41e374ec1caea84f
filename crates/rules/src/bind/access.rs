//! Names and what is reached from them.

use std::sync::Arc;

use alyx_query::JsonPath;
use alyx_schema::{Collection, FILES_TABLE, Field};

use super::{Binder, Binding, Part, Subject, meant, part, problem};
use crate::expr::{AuthPart, CallPart, Expr, Hop, Kind, Leaf, Node, Shape, Stored};
use crate::problem::Problem;
use crate::rule::Action;
use crate::syntax::{Ast, AstKind, Span};
use crate::value::Val;

/// References that one path follows at most.
const MAX_HOPS: usize = 4;
/// Names with a meaning of their own in any rule.
pub(super) const NAMES: [&str; 6] = ["auth", "doc", "file", "data", "request", "now"];
/// Names in a rule about documents, and in one about files.
const OF_DOCUMENTS: [&str; 5] = ["auth", "doc", "data", "request", "now"];
const OF_FILES: [&str; 4] = ["auth", "file", "request", "now"];
const OF_CALLS: [&str; 5] = ["auth", "input", "data", "request", "now"];
/// The input of a call, whose other name `data` is that of what comes in anywhere.
pub(super) const INPUT: &str = "input";
const OF_REQUEST: [&str; 3] = ["body", "method", "time"];
/// What the names of fields with a key end with.
const KEY_SUFFIX: &str = "_id";

/// One step of a path.
#[derive(Debug, Clone)]
struct Step<'a> {
    name: String,
    ast: &'a Ast,
}

impl Binder<'_> {
    pub(super) fn name(&mut self, name: &str, span: Span) -> Binding {
        if let Some(slot) = self.elements.iter().rposition(|known| known == name) {
            return Ok(part(Node::Element(slot), span, Shape::KNOWN));
        }
        match name {
            "auth" => Ok(Part {
                of_caller: true,
                ..part(Node::Auth, span, Shape::KNOWN)
            }),
            "now" => {
                self.uses_time = true;
                Ok(part(Node::Now, span, Shape::TIME))
            }
            INPUT | "data" if self.subject == Subject::Call => Ok(input(span)),
            name if Some(name) == self.subject.name() || matches!(name, "data" | "request") => {
                let message = format!("`{name}` is not a value of its own");
                Err(problem(
                    span,
                    message,
                    format!("name what is meant of it, as in `{name}.…`"),
                ))
            }
            _ => Err(problem(
                span,
                format!("there is no `{name}`"),
                match self.subject {
                    Subject::Document(_) => meant(name, OF_DOCUMENTS.into_iter()),
                    Subject::File(_) => meant(name, OF_FILES.into_iter()),
                    Subject::Call => meant(name, OF_CALLS.into_iter()),
                },
            )),
        }
    }

    /// `a.b`, `a['b']`, `a[0]` and so on.
    pub(super) fn access(&mut self, ast: &Ast) -> Binding {
        let mut steps = Vec::new();
        let mut base = ast;
        loop {
            match &base.kind {
                AstKind::Select(inner, name) => {
                    steps.push(Step {
                        name: name.clone(),
                        ast: base,
                    });
                    base = inner;
                }
                AstKind::Index(inner, index) => match literal_step(index) {
                    Some(name) => {
                        steps.push(Step { name, ast: base });
                        base = inner;
                    }
                    None => break,
                },
                _ => break,
            }
        }
        steps.reverse();
        match &base.kind {
            AstKind::Name(name) if !self.elements.contains(name) => match name.as_str() {
                INPUT if self.subject == Subject::Call => self.data(&steps, ast.span),
                name if Some(name) == self.subject.name() => self.document(&steps, ast.span),
                "data" => self.data(&steps, ast.span),
                "request" => self.request(&steps, ast.span),
                "auth" => Self::auth(&steps),
                _ => self.of_value(ast),
            },
            AstKind::Call {
                target: None,
                name,
                args,
            } if name == "get" => self.got(base, args, &steps),
            _ => self.of_value(ast),
        }
    }

    /// A step from a value that is known.
    fn of_value(&mut self, ast: &Ast) -> Binding {
        match &ast.kind {
            AstKind::Select(inner, name) => {
                let inner = self.known(inner, "what a member is taken of")?;
                let node = Node::Select(Box::new(inner.expr), name.as_str().into());
                Ok(Part {
                    of_caller: inner.of_caller,
                    ..part(node, ast.span, Shape::KNOWN)
                })
            }
            AstKind::Index(inner, index) => {
                let inner = self.known(inner, "what an element is taken of")?;
                let index = self.known(index, "the place of an element")?;
                let of_caller = inner.of_caller || index.of_caller;
                let node = Node::Index(Box::new(inner.expr), Box::new(index.expr));
                Ok(Part {
                    of_caller,
                    ..part(node, ast.span, Shape::KNOWN)
                })
            }
            _ => self.bind(ast),
        }
    }

    fn auth(steps: &[Step<'_>]) -> Binding {
        let first = &steps[0];
        let known = AuthPart::ALL.into_iter().find(|(name, _)| *name == first.name);
        let Some((_, known)) = known else {
            let hint = meant(&first.name, AuthPart::ALL.iter().map(|(name, _)| *name));
            return Err(problem(
                first.ast.span,
                format!("`auth` has no `{}`", first.name),
                hint,
            ));
        };
        let start = part(Node::AuthPart(known), first.ast.span, Shape::KNOWN);
        Ok(Part {
            of_caller: true,
            ..inside(start, &steps[1..])
        })
    }

    fn request(&mut self, steps: &[Step<'_>], span: Span) -> Binding {
        let first = &steps[0];
        match (first.name.as_str(), steps.len()) {
            ("body", 1) if self.subject == Subject::Call => Ok(input(span)),
            ("body", 2..) => self.data(&steps[1..], span),
            ("method", 1) => Ok(part(self.subject.method(), span, Shape::KNOWN)),
            ("time", 1) => {
                self.uses_time = true;
                Ok(part(Node::Now, span, Shape::TIME))
            }
            ("body" | "method" | "time", _) => {
                let message = format!("`request.{}` is not meant like this", first.name);
                Err(problem(
                    span,
                    message,
                    "write request.method, request.time or request.body.field",
                ))
            }
            (name, _) => {
                let hint = meant(name, OF_REQUEST.into_iter());
                Err(problem(
                    first.ast.span,
                    format!("`request` has no `{name}`"),
                    hint,
                ))
            }
        }
    }

    fn data(&mut self, steps: &[Step<'_>], span: Span) -> Binding {
        match self.subject {
            Subject::Document(action @ (Action::Read | Action::Delete)) => {
                let message = format!("`{}` brings no data", action.word());
                return Err(problem(span, message, "use `doc` for what is stored"));
            }
            Subject::File(_) => {
                let message = "files bring no `data`";
                return Err(problem(span, message, "use `file` for what is known of them"));
            }
            Subject::Call => return Ok(inside(input(span), steps)),
            Subject::Document(Action::Create | Action::Update) => {}
        }
        let first = &steps[0];
        let (position, field) = self.field(self.collection, &first.name, first.ast.span)?;
        let shape = match Kind::of(field) {
            Kind::Time => Shape::TIME,
            _ => Shape::KNOWN,
        };
        let start = part(Node::Data(position), first.ast.span, shape);
        Ok(if steps.len() == 1 {
            start
        } else {
            inside(start, &steps[1..])
        })
    }

    /// Whether a value comes in for a field: `has(data.x)`.
    pub(super) fn data_has(&mut self, ast: &Ast) -> Option<Binding> {
        let AstKind::Select(base, name) = &ast.kind else {
            return None;
        };
        let of_body = match &base.kind {
            AstKind::Name(base) => base == "data" && !self.elements.contains(base),
            AstKind::Select(request, body) => {
                body == "body" && matches!(&request.kind, AstKind::Name(name) if name == "request")
            }
            _ => false,
        };
        if !of_body || self.subject == Subject::Call {
            return None;
        }
        let step = Step {
            name: name.clone(),
            ast,
        };
        let found = self.data(std::slice::from_ref(&step), ast.span);
        Some(found.map(|found| match found.expr.node {
            Node::Data(position) => part(Node::DataHas(position), ast.span, Shape::KNOWN),
            node => part(node, ast.span, Shape::KNOWN),
        }))
    }

    fn document(&mut self, steps: &[Step<'_>], span: Span) -> Binding {
        let stored = self.stored(Arc::clone(self.collection), steps, Vec::new())?;
        Ok(self.of_stored(stored, span))
    }

    /// In a new document what is stored is what comes in, and so is known, unless other documents hold it.
    fn of_stored(&self, stored: Stored, span: Span) -> Part {
        let kind = stored.leaf.kind;
        let shape = match (self.subject, stored.hops.is_empty(), kind) {
            (Subject::Document(Action::Create), true, Kind::Time) => Shape::TIME,
            (Subject::Document(Action::Create), true, _) => Shape::KNOWN,
            (Subject::Document(_) | Subject::File(_) | Subject::Call, _, kind) => Shape::Stored(kind),
        };
        part(Node::Stored(stored), span, shape)
    }

    /// `get('collection', key)` and what is reached from it.
    fn got(&mut self, call: &Ast, args: &[Ast], steps: &[Step<'_>]) -> Binding {
        let [name, key] = args else {
            let hint = "write get('collection', id).field";
            return Err(problem(
                call.span,
                "get() takes a collection and the key of a document",
                hint,
            ));
        };
        let collection = self.collection_of(name)?;
        let key_ast = key;
        let key = self.bind(key)?;
        let span = steps.last().map_or(call.span, |step| step.ast.span);
        match (key.shape, key.expr.node) {
            (Shape::Known { .. }, node) => {
                let stored = self.stored_or_key(&collection, steps, Vec::new())?;
                let shape = Shape::Stored(stored.leaf.kind);
                let key = Box::new(Expr {
                    node,
                    span: key.expr.span,
                });
                Ok(part(
                    Node::Got {
                        collection,
                        key,
                        stored,
                    },
                    span,
                    shape,
                ))
            }
            (Shape::Stored(Kind::Text | Kind::Number), Node::Stored(from)) => {
                let mut hops = from.hops;
                let target = collection.primary();
                hops.push(Hop {
                    field: from.leaf.field,
                    collection: Arc::clone(&collection),
                    target,
                });
                let stored = self.stored_or_key(&collection, steps, hops)?;
                Ok(part(
                    Node::Stored(stored.clone()),
                    span,
                    Shape::Stored(stored.leaf.kind),
                ))
            }
            _ => {
                let hint = "the key is `auth`, `data`, a constant, or a field that holds text or a number";
                Err(problem(
                    key_ast.span,
                    "this cannot be the key of a document",
                    hint,
                ))
            }
        }
    }

    pub(super) fn got_alone(&mut self, call: &Ast, args: &[Ast]) -> Binding {
        self.got(call, args, &[])
    }

    /// Without a field the document stands for its key.
    fn stored_or_key(
        &self,
        collection: &Arc<Collection>,
        steps: &[Step<'_>],
        hops: Vec<Hop>,
    ) -> Result<Stored, Problem> {
        if steps.is_empty() {
            let field = collection.primary();
            return Ok(Stored {
                leaf: leaf(collection, field),
                hops,
            });
        }
        self.stored(Arc::clone(collection), steps, hops)
    }

    fn stored(
        &self,
        start: Arc<Collection>,
        steps: &[Step<'_>],
        mut hops: Vec<Hop>,
    ) -> Result<Stored, Problem> {
        let mut here = start;
        let mut steps = steps.iter();
        while let Some(step) = steps.next() {
            let rest = steps.as_slice();
            let span = step.ast.span;
            let (position, field) = self.referring(&here, &step.name, span, !rest.is_empty())?;
            let mut leaf = leaf(&here, position);
            if rest.is_empty() {
                return Ok(Stored { hops, leaf });
            }
            if leaf.kind == Kind::Json {
                let last = rest.last().map_or(span, |step| step.ast.span);
                (leaf.path, leaf.steps) = json_path(rest, last)?;
                return Ok(Stored { hops, leaf });
            }
            let next = field.references.as_ref().and_then(|reference| {
                let next = self.schema.collection(&reference.collection)?;
                Some((Arc::clone(next), next.field(&reference.field)?.0))
            });
            let Some((next, target)) = next else {
                let message = format!(
                    "`{}` refers to no document, so nothing is reached from it",
                    step.name
                );
                return Err(problem(
                    rest[0].ast.span,
                    message,
                    "give the field a reference, or use get()",
                ));
            };
            if hops.len() == MAX_HOPS {
                let message = format!("more than {MAX_HOPS} references are followed");
                return Err(problem(
                    span,
                    message,
                    "keep what the rule needs nearer to the document",
                ));
            }
            hops.push(Hop {
                field: position,
                collection: Arc::clone(&next),
                target,
            });
            here = next;
        }
        let primary = here.primary();
        Ok(Stored {
            leaf: leaf(&here, primary),
            hops,
        })
    }

    /// The field of that name or, where something follows, with that name and `_id`.
    fn referring<'c>(
        &self,
        collection: &'c Collection,
        name: &str,
        span: Span,
        followed: bool,
    ) -> Result<(usize, &'c Field), Problem> {
        if followed
            && collection.field(name).is_none()
            && let Some(found) = collection.visible_field(&format!("{name}{KEY_SUFFIX}"))
        {
            return Ok(found);
        }
        self.field(collection, name, span)
    }

    pub(super) fn field<'c>(
        &self,
        collection: &'c Collection,
        name: &str,
        span: Span,
    ) -> Result<(usize, &'c Field), Problem> {
        if let Some((position, field)) = collection.field(name)
            && !(field.internal && collection.name == FILES_TABLE)
        {
            if !field.internal {
                return Ok((position, field));
            }
            let hint =
                "rules see what callers can see: take `internal` off, or keep what decides in another field";
            return Err(problem(
                span,
                format!("`{name}` of `{}` is internal", collection.name),
                hint,
            ));
        }
        let visible = collection.fields.iter().filter(|field| !field.internal);
        let hint = meant(name, visible.map(|field| field.name.as_str()));
        let message = if collection.name == FILES_TABLE {
            format!("a file has no `{name}`")
        } else {
            format!("`{}` has no field `{name}`", collection.name)
        };
        Err(problem(span, message, hint))
    }

    pub(super) fn collection_of(&self, ast: &Ast) -> Result<Arc<Collection>, Problem> {
        let AstKind::Literal(Val::Text(name)) = &ast.kind else {
            let hint = "write its name in quotes, as in 'teams'";
            return Err(problem(
                ast.span,
                "a collection is named by a constant text",
                hint,
            ));
        };
        self.schema.collection(name).cloned().ok_or_else(|| {
            let names = self.schema.collections.keys().map(String::as_str);
            problem(
                ast.span,
                format!("there is no collection `{name}`"),
                meant(name, names),
            )
        })
    }
}

/// What a function is called with, as a whole.
fn input(span: Span) -> Part {
    part(Node::OfCall(CallPart::Input), span, Shape::KNOWN)
}

fn leaf(collection: &Collection, position: usize) -> Leaf {
    let field = &collection.fields[position];
    Leaf {
        field: position,
        kind: Kind::of(field),
        path: Arc::new(JsonPath::root()),
        steps: Vec::new(),
        nullable: field.nullable,
    }
}

/// A constant index as the name of a step.
fn literal_step(index: &Ast) -> Option<String> {
    match &index.kind {
        AstKind::Literal(Val::Text(name)) => Some(name.as_ref().to_owned()),
        AstKind::Literal(Val::Int(place)) => Some(place.to_string()),
        _ => None,
    }
}

fn json_path(steps: &[Step<'_>], span: Span) -> Result<(Arc<JsonPath>, Vec<Val>), Problem> {
    let refuse = |message: String| problem(span, message, "keep it in a field of its own");
    let mut values = Vec::with_capacity(steps.len());
    for step in steps {
        let is_place = step.name.bytes().all(|byte| byte.is_ascii_digit()) && !step.name.is_empty();
        if step.name.contains('.') {
            return Err(refuse(format!(
                "`{}` has a dot, which a path cannot hold",
                step.name
            )));
        }
        let by_name = match &step.ast.kind {
            AstKind::Index(_, index) => matches!(&index.kind, AstKind::Literal(Val::Text(_))),
            _ => true,
        };
        if is_place && by_name {
            return Err(refuse(format!(
                "`{}` is a number, which a path takes for a place",
                step.name
            )));
        }
        values.push(match step.name.parse() {
            Ok(place) if is_place => Val::Int(place),
            _ => Val::Text(step.name.as_str().into()),
        });
    }
    let text: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    let path = JsonPath::parse(&text.join(".")).map_err(|message| refuse(format!("the path {message}")))?;
    Ok((Arc::new(path), values))
}

/// Members of a value that is known.
fn inside(start: Part, steps: &[Step<'_>]) -> Part {
    steps.iter().fold(start, |inner, step| {
        let of_caller = inner.of_caller;
        let node = match &step.ast.kind {
            AstKind::Index(_, index) => {
                let value = match &index.kind {
                    AstKind::Literal(value) => value.clone(),
                    _ => Val::Null,
                };
                let index = Expr {
                    node: Node::Value(value),
                    span: index.span,
                };
                Node::Index(Box::new(inner.expr), Box::new(index))
            }
            _ => Node::Select(Box::new(inner.expr), step.name.as_str().into()),
        };
        Part {
            of_caller,
            ..part(node, step.ast.span, Shape::KNOWN)
        }
    })
}
