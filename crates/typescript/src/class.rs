//! Classes: modifiers, members without a body, parameter properties.

use oxc_ast::ast::{
    AccessorProperty, BindingPattern, Class, Expression, FormalParameter, FunctionBody, MethodDefinition,
    MethodDefinitionKind, PropertyDefinition, Statement,
};
use oxc_ast_visit::walk;
use oxc_span::{GetSpan as _, Span};

use crate::erase::{Eraser, range};
use crate::scan;

/// Words before a member that say something of its type alone.
const MODIFIERS: [&str; 7] = [
    "public",
    "private",
    "protected",
    "override",
    "abstract",
    "readonly",
    "declare",
];
/// Words before a member that stay.
const KEPT: [&str; 5] = ["static", "async", "get", "set", "accessor"];

impl Eraser<'_> {
    pub(crate) fn class(&mut self, it: &Class<'_>) {
        let start = it.span.start as usize;
        if it.r#abstract && scan::word(self.source, start) == "abstract" {
            self.edits.erase(start..start + "abstract".len());
        }
        if !it.implements.is_empty() {
            let named = it.id.as_ref().map_or(start, |id| id.span.end as usize);
            let generic = it.type_parameters.as_ref().map(|types| types.span.end as usize);
            let heritage = it.heritage.as_ref().map(|heritage| {
                let types = heritage.type_arguments.as_ref();
                types.map_or(heritage.expression.span().end, |types| types.span.end) as usize
            });
            // An anonymous class has nothing but the word `class` before it.
            let after = heritage.or(generic).unwrap_or(named);
            let from = self.source[after..]
                .find("implements")
                .map_or(after, |at| after + at);
            self.edits.erase(from..it.body.span.start as usize);
        }
        self.derived.push(it.heritage.is_some());
        walk::walk_class(self, it);
        self.derived.pop();
    }

    pub(crate) fn method(&mut self, it: &MethodDefinition<'_>) {
        if it.value.body.is_none() {
            self.edits.erase_whole(range(it.span));
            return;
        }
        let hazard = it.computed || it.value.generator;
        self.modifiers(it.span, it.key.span(), hazard);
        if it.optional {
            self.mark_after_key(it.key.span(), it.computed, '?');
        }
        walk::walk_method_definition(self, it);
        if it.kind == MethodDefinitionKind::Constructor
            && let Some(body) = &it.value.body
        {
            self.parameter_properties(&it.value.params.items, body);
        }
    }

    pub(crate) fn property(&mut self, it: &PropertyDefinition<'_>) {
        if it.declare || it.r#type.is_abstract() {
            self.edits.erase_whole(range(it.span));
            return;
        }
        self.modifiers(it.span, it.key.span(), it.computed);
        if it.optional {
            self.mark_after_key(it.key.span(), it.computed, '?');
        }
        if it.definite {
            self.mark_after_key(it.key.span(), it.computed, '!');
        }
        walk::walk_property_definition(self, it);
    }

    pub(crate) fn accessor(&mut self, it: &AccessorProperty<'_>) {
        self.refuse(
            it.span,
            "`accessor` is not supported; write a getter and a setter",
        );
    }

    /// Erases an index signature with the modifiers before it, wherever its own place begins.
    pub(crate) fn index_signature(&mut self, place: Span) {
        let mut start = place.start as usize;
        loop {
            let before = self.source[..start].trim_end();
            let word = ["static", "readonly"]
                .iter()
                .find(|word| before.ends_with(**word));
            let Some(word) = word else { break };
            start = before.len() - word.len();
        }
        self.edits.erase_whole(start..place.end as usize);
    }

    /// Erases the modifiers between the beginning of a member and its key. Where they stand before a bracket or a star,
    /// the member before them must be ended.
    fn modifiers(&mut self, member: Span, key: Span, hazard: bool) {
        let mut at = scan::token(self.source, member.start as usize);
        let mut first = None;
        while at < key.start as usize {
            let word = scan::word(self.source, at);
            if MODIFIERS.contains(&word) {
                self.edits.erase(at..at + word.len());
                first = first.or(Some(at));
            } else if !KEPT.contains(&word) {
                break;
            } else {
                first = first.filter(|_| word != "static");
            }
            at = scan::token(self.source, at + word.len());
        }
        if let Some(first) = first
            && hazard
        {
            self.edits.overwrite(first, ';');
        }
    }

    fn mark_after_key(&mut self, key: Span, computed: bool, mark: char) {
        let end = key.end as usize;
        let after = if computed {
            scan::next_is(self.source, end, ']').map_or(end, |at| at + 1)
        } else {
            end
        };
        self.erase_mark(after, mark);
    }

    /// Writes what `constructor(private x)` does: `this.x = x`, as soon as there is a `this`.
    fn parameter_properties(&mut self, parameters: &[FormalParameter<'_>], body: &FunctionBody<'_>) {
        let mut assignments = String::new();
        for parameter in parameters {
            if parameter.accessibility.is_none() && !parameter.readonly && !parameter.r#override {
                continue;
            }
            match &parameter.pattern {
                BindingPattern::BindingIdentifier(name) => {
                    let name = name.name.as_str();
                    assignments.push_str(&format!("this.{name}={name};"));
                }
                other => self.refuse(other.span(), "a parameter property must have a name"),
            }
        }
        if assignments.is_empty() {
            return;
        }
        if self.derived.last() != Some(&true) {
            let directives = body.directives.last().map(|last| last.span.end as usize);
            match directives {
                Some(end) => self.edits.insert(end, &format!(";{assignments}")),
                None => self.edits.insert(body.span.start as usize + 1, &assignments),
            }
            return;
        }
        match body.statements.iter().find(|statement| is_super_call(statement)) {
            Some(call) => self
                .edits
                .insert(call.span().end as usize, &format!(";{assignments}")),
            None => self.refuse(
                body.span,
                "a constructor with parameter properties must call `super(…)` in a statement of its own",
            ),
        }
    }
}

fn is_super_call(statement: &Statement<'_>) -> bool {
    let Statement::ExpressionStatement(statement) = statement else {
        return false;
    };
    matches!(&statement.expression, Expression::CallExpression(call) if matches!(call.callee, Expression::Super(_)))
}
