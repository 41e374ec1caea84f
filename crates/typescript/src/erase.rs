//! The walk over the tree: what is only a type is erased where it stands. Classes, enums and modules have files of their
//! own.

use oxc_ast::ast::{
    AccessorProperty, ExportAllDeclaration, ExportDeclaration, ExportDefaultDeclaration,
    ExportFromDeclaration, ExportNamedDeclaration, ImportDeclaration, JSXElement, JSXFragment,
    PropertyDefinition, TSEnumDeclaration, TSExportAssignment, TSImportEqualsDeclaration, TSIndexSignature,
};
use oxc_ast::ast::{
    ArrowFunctionExpression, BindingIdentifier, CallExpression, CatchParameter, Class, Declaration,
    Decorator, Expression, FormalParameter, Function, IdentifierReference, ImportExpression,
    MethodDefinition, Statement, TSAsExpression, TSInstantiationExpression, TSNonNullExpression,
    TSSatisfiesExpression, TSTypeAnnotation, TSTypeAssertion, TSTypeParameterDeclaration,
    TSTypeParameterInstantiation, VariableDeclarator,
};
use oxc_ast_visit::{Visit, walk};
use oxc_span::{GetSpan as _, Span};
use oxc_syntax::scope::ScopeFlags;
use std::collections::BTreeSet;
use std::ops::Range;

use crate::edits::Edits;
use crate::module::Modules;
use crate::scan;
use crate::{Compiled, Language, Resolve};

/// Erases types from one source.
pub(crate) struct Eraser<'s> {
    pub(crate) source: &'s str,
    pub(crate) language: Language,
    pub(crate) edits: Edits<'s>,
    pub(crate) modules: Modules,
    /// Names that are read as values.
    pub(crate) used: BTreeSet<String>,
    /// Whether the class at hand, and those around it, have a super class.
    pub(crate) derived: Vec<bool>,
    /// The members of the enum at hand that its initialisers may name, with its name.
    pub(crate) members: Option<(String, BTreeSet<String>)>,
    pub(crate) faults: Vec<(usize, String)>,
}

impl<'s> Eraser<'s> {
    pub(crate) fn new(source: &'s str, language: Language) -> Self {
        Self {
            source,
            language,
            edits: Edits::new(source),
            modules: Modules::default(),
            used: BTreeSet::new(),
            derived: Vec::new(),
            members: None,
            faults: Vec::new(),
        }
    }

    /// The JavaScript, or what cannot be made JavaScript.
    pub(crate) fn finish(mut self, resolve: &Resolve<'_>) -> Result<Compiled, Vec<(usize, String)>> {
        let modules = self.settle_modules(resolve);
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        Ok(Compiled {
            text: self.edits.finish(),
            modules,
        })
    }

    pub(crate) fn refuse(&mut self, at: Span, message: &str) {
        self.faults.push((at.start as usize, message.to_owned()));
    }

    /// Whether nothing is left of a declaration; it is erased with all that stands in `whole`.
    pub(crate) fn erases(&mut self, declaration: &Declaration<'_>, whole: Span) -> bool {
        let gone = match declaration {
            Declaration::TSTypeAliasDeclaration(_)
            | Declaration::TSInterfaceDeclaration(_)
            | Declaration::TSExternalModuleDeclaration(_)
            | Declaration::TSGlobalDeclaration(_) => true,
            Declaration::VariableDeclaration(it) => it.declare,
            Declaration::FunctionDeclaration(it) => it.declare || it.body.is_none(),
            Declaration::ClassDeclaration(it) => it.declare,
            Declaration::TSEnumDeclaration(it) => it.declare,
            Declaration::TSNamespaceDeclaration(it) => {
                if !it.declare && !crate::module::holds_only_types(&it.body) {
                    self.refuse(
                        it.span,
                        "a namespace that holds values is not supported; write its values in a module of their own",
                    );
                }
                true
            }
            Declaration::TSImportEqualsDeclaration(it) => it.import_kind.is_type(),
        };
        if gone {
            self.edits.erase_whole(range(whole));
        }
        gone
    }

    /// Erases from the end of `kept` to the end of `whole`: ` as T`.
    fn keep_beginning(&mut self, kept: Span, whole: Span) {
        self.edits.erase(kept.end as usize..whole.end as usize);
        // A type ends with its line where a value would go on in the next one.
        let next = scan::first_of_a_later_line(self.source, whole.end as usize);
        if matches!(next, Some('(' | '[' | '`')) {
            self.edits.overwrite(kept.end as usize, ';');
        }
    }

    /// Erases a `?` or `!` behind a name.
    pub(crate) fn erase_mark(&mut self, after: usize, mark: char) {
        if let Some(at) = scan::next_is(self.source, after, mark) {
            self.edits.erase(at..at + 1);
        }
    }
}

pub(crate) fn range(span: Span) -> Range<usize> {
    span.start as usize..span.end as usize
}

impl<'a> Visit<'a> for Eraser<'_> {
    fn visit_statement(&mut self, it: &Statement<'a>) {
        let gone = match it {
            Statement::TSNamespaceExportDeclaration(it) => {
                self.edits.erase_whole(range(it.span));
                true
            }
            other => other
                .as_declaration()
                .is_some_and(|declaration| self.erases(declaration, declaration.span())),
        };
        if !gone {
            walk::walk_statement(self, it);
        }
    }

    fn visit_ts_type_annotation(&mut self, it: &TSTypeAnnotation<'a>) {
        self.edits.erase(range(it.span));
    }

    fn visit_ts_type_parameter_declaration(&mut self, it: &TSTypeParameterDeclaration<'a>) {
        self.edits.erase(range(it.span));
    }

    fn visit_ts_type_parameter_instantiation(&mut self, it: &TSTypeParameterInstantiation<'a>) {
        self.edits.erase(range(it.span));
    }

    fn visit_ts_instantiation_expression(&mut self, it: &TSInstantiationExpression<'a>) {
        self.visit_expression(&it.expression);
        self.keep_beginning(it.expression.span(), it.span);
    }

    fn visit_ts_as_expression(&mut self, it: &TSAsExpression<'a>) {
        self.visit_expression(&it.expression);
        self.keep_beginning(it.expression.span(), it.span);
    }

    fn visit_ts_satisfies_expression(&mut self, it: &TSSatisfiesExpression<'a>) {
        self.visit_expression(&it.expression);
        self.keep_beginning(it.expression.span(), it.span);
    }

    fn visit_ts_non_null_expression(&mut self, it: &TSNonNullExpression<'a>) {
        self.visit_expression(&it.expression);
        self.edits
            .erase(it.expression.span().end as usize..it.span.end as usize);
    }

    fn visit_ts_type_assertion(&mut self, it: &TSTypeAssertion<'a>) {
        let (start, value) = (it.span.start as usize, it.expression.span().start as usize);
        self.edits.erase(start..value);
        let written = &self.source[value..];
        let other_thing_alone = ["{", "function", "class", "let"]
            .iter()
            .any(|word| written.starts_with(word));
        if other_thing_alone || self.source[start..value].contains('\n') {
            self.edits.overwrite(start, '(');
            self.edits.insert(it.span.end as usize, ")");
        }
        self.visit_expression(&it.expression);
    }

    fn visit_variable_declarator(&mut self, it: &VariableDeclarator<'a>) {
        if it.definite {
            self.erase_mark(it.id.span().end as usize, '!');
        }
        walk::walk_variable_declarator(self, it);
    }

    fn visit_catch_parameter(&mut self, it: &CatchParameter<'a>) {
        walk::walk_catch_parameter(self, it);
    }

    fn visit_formal_parameter(&mut self, it: &FormalParameter<'a>) {
        let pattern = it.pattern.span();
        if it.accessibility.is_some() || it.readonly || it.r#override {
            self.edits.erase(it.span.start as usize..pattern.start as usize);
        }
        if it.optional {
            self.erase_mark(pattern.end as usize, '?');
        }
        walk::walk_formal_parameter(self, it);
    }

    fn visit_function(&mut self, it: &Function<'a>, flags: ScopeFlags) {
        if let Some(this) = &it.this_param {
            let end = this.span.end as usize;
            let comma = scan::next_is(self.source, end, ',').map_or(end, |at| at + 1);
            self.edits.erase(this.span.start as usize..comma);
        }
        walk::walk_function(self, it, flags);
    }

    fn visit_arrow_function_expression(&mut self, it: &ArrowFunctionExpression<'a>) {
        // Between `)` and `=>`, and between `async` and `(`, no line may end: the bracket moves to the other side.
        if let Some(types) = &it.return_type
            && self.source[range(types.span)].contains('\n')
        {
            self.edits.overwrite(it.params.span.end as usize - 1, ' ');
            let last = self.source.floor_char_boundary(types.span.end as usize - 1);
            self.edits.overwrite(last, ')');
        }
        if let Some(types) = &it.type_parameters
            && it.r#async
            && self.source[range(types.span)].contains('\n')
        {
            self.edits.overwrite(types.span.start as usize, '(');
            self.edits.overwrite(it.params.span.start as usize, ' ');
        }
        walk::walk_arrow_function_expression(self, it);
    }

    fn visit_decorator(&mut self, it: &Decorator<'a>) {
        self.refuse(
            it.span,
            "decorators are not supported; call the function that the decorator stands for",
        );
    }

    fn visit_jsx_element(&mut self, it: &JSXElement<'a>) {
        self.refuse(it.span, "JSX is not supported");
    }

    fn visit_jsx_fragment(&mut self, it: &JSXFragment<'a>) {
        self.refuse(it.span, "JSX is not supported");
    }

    fn visit_identifier_reference(&mut self, it: &IdentifierReference<'a>) {
        if let Some((name, members)) = &self.members
            && members.contains(it.name.as_str())
        {
            let place = format!("{name}.");
            self.edits.insert(it.span.start as usize, &place);
            return;
        }
        if !self.used.contains(it.name.as_str()) {
            self.used.insert(it.name.to_string());
        }
    }

    fn visit_binding_identifier(&mut self, _: &BindingIdentifier<'a>) {}

    fn visit_class(&mut self, it: &Class<'a>) {
        self.class(it);
    }

    fn visit_method_definition(&mut self, it: &MethodDefinition<'a>) {
        self.method(it);
    }

    fn visit_property_definition(&mut self, it: &PropertyDefinition<'a>) {
        self.property(it);
    }

    fn visit_accessor_property(&mut self, it: &AccessorProperty<'a>) {
        self.accessor(it);
    }

    fn visit_ts_index_signature(&mut self, it: &TSIndexSignature<'a>) {
        self.index_signature(it.span);
    }

    fn visit_ts_enum_declaration(&mut self, it: &TSEnumDeclaration<'a>) {
        self.enumeration(it);
    }

    fn visit_call_expression(&mut self, it: &CallExpression<'a>) {
        if let (Expression::Identifier(callee), [argument]) = (&it.callee, it.arguments.as_slice())
            && callee.name == "require"
            && let Some(Expression::StringLiteral(name)) = argument.as_expression()
        {
            self.modules.name(name);
        }
        walk::walk_call_expression(self, it);
    }

    fn visit_import_expression(&mut self, it: &ImportExpression<'a>) {
        if let Expression::StringLiteral(name) = &it.source {
            self.modules.name(name);
        }
        walk::walk_import_expression(self, it);
    }

    fn visit_import_declaration(&mut self, it: &ImportDeclaration<'a>) {
        self.import(it);
    }

    fn visit_ts_import_equals_declaration(&mut self, it: &TSImportEqualsDeclaration<'a>) {
        self.import_equals(it);
    }

    fn visit_ts_export_assignment(&mut self, it: &TSExportAssignment<'a>) {
        let value = it.expression.span().start as usize;
        self.edits
            .replace(it.span.start as usize..value, "module.exports = ");
        self.visit_expression(&it.expression);
    }

    fn visit_export_declaration(&mut self, it: &ExportDeclaration<'a>) {
        self.modules.is_module = true;
        self.refuse_in_commonjs(it.span);
        if let Declaration::TSImportEqualsDeclaration(import) = &it.declaration {
            self.used.insert(import.id.name.to_string());
        }
        if !self.erases(&it.declaration, it.span) {
            walk::walk_export_declaration(self, it);
        }
    }

    fn visit_export_default_declaration(&mut self, it: &ExportDefaultDeclaration<'a>) {
        self.export_default(it);
    }

    fn visit_export_named_declaration(&mut self, it: &ExportNamedDeclaration<'a>) {
        self.export_names(it);
    }

    fn visit_export_from_declaration(&mut self, it: &ExportFromDeclaration<'a>) {
        self.export_from(it);
    }

    fn visit_export_all_declaration(&mut self, it: &ExportAllDeclaration<'a>) {
        self.export_all(it);
    }
}
