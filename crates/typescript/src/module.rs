//! What a file takes from other modules and gives to them: types among it are erased, and so are imports that nothing but
//! types uses; modules get the names by which they can be loaded.

use oxc_ast::ast::{
    ExportAllDeclaration, ExportDefaultDeclaration, ExportDefaultDeclarationKind, ExportFromDeclaration,
    ExportNamedDeclaration, ExportSpecifier, ImportDeclaration, ImportDeclarationSpecifier, Statement,
    StringLiteral, TSImportEqualsDeclaration, TSModuleReference, TSNamespaceDeclarationBody,
};
use oxc_ast_visit::walk;
use oxc_span::{GetSpan as _, Span};

use crate::erase::{Eraser, range};
use crate::{Language, Resolve, scan};

/// What was found of modules so far.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    /// Whether something makes the file an ES module.
    pub(crate) is_module: bool,
    named: Vec<Named>,
    imports: Vec<Import>,
}

/// The name of a module where it stands, quotes included.
#[derive(Debug)]
struct Named {
    place: Span,
    name: String,
}

/// An import of which is not known yet whether it is used.
#[derive(Debug)]
struct Import {
    whole: Span,
    names: Vec<ImportedName>,
    module: Option<Named>,
}

#[derive(Debug)]
struct ImportedName {
    place: Span,
    local: String,
    kind: NameKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameKind {
    Default,
    /// `* as name`
    Namespace,
    /// In braces.
    One,
    /// In braces, with `type`.
    Type,
    /// `import name = …`
    Equals,
}

impl Modules {
    /// Notes the name of a module.
    pub(crate) fn name(&mut self, name: &StringLiteral<'_>) {
        self.named.push(Named::of(name));
    }
}

impl Named {
    fn of(name: &StringLiteral<'_>) -> Self {
        Self {
            place: name.span,
            name: name.value.to_string(),
        }
    }
}

impl Eraser<'_> {
    pub(crate) fn refuse_in_commonjs(&mut self, at: Span) {
        if self.language == Language::CommonTypeScript {
            self.refuse(
                at,
                "a .cts file is a CommonJS module: write `import name = require(\"…\")` and `export =`, or call it .ts",
            );
        }
    }

    pub(crate) fn import(&mut self, it: &ImportDeclaration<'_>) {
        self.modules.is_module = true;
        if it.import_kind.is_type() {
            self.edits.erase_whole(range(it.span));
            return;
        }
        self.refuse_in_commonjs(it.span);
        let module = Named::of(&it.source);
        let Some(specifiers) = &it.specifiers else {
            self.modules.named.push(module);
            return;
        };
        let names = specifiers.iter().map(|specifier| {
            let kind = match specifier {
                ImportDeclarationSpecifier::ImportSpecifier(one) if one.import_kind.is_type() => {
                    NameKind::Type
                }
                ImportDeclarationSpecifier::ImportSpecifier(_) => NameKind::One,
                ImportDeclarationSpecifier::ImportDefaultSpecifier(_) => NameKind::Default,
                ImportDeclarationSpecifier::ImportNamespaceSpecifier(_) => NameKind::Namespace,
            };
            ImportedName {
                place: specifier.span(),
                local: specifier.local().name.to_string(),
                kind,
            }
        });
        self.modules.imports.push(Import {
            whole: it.span,
            names: names.collect(),
            module: Some(module),
        });
    }

    pub(crate) fn import_equals(&mut self, it: &TSImportEqualsDeclaration<'_>) {
        let module = match &it.module_reference {
            TSModuleReference::ExternalModuleReference(module) => Some(Named::of(&module.expression)),
            TSModuleReference::IdentifierReference(_) | TSModuleReference::QualifiedName(_) => None,
        };
        self.modules.imports.push(Import {
            whole: it.span,
            names: vec![ImportedName {
                place: it.id.span,
                local: it.id.name.to_string(),
                kind: NameKind::Equals,
            }],
            module,
        });
        walk::walk_ts_import_equals_declaration(self, it);
    }

    pub(crate) fn export_default(&mut self, it: &ExportDefaultDeclaration<'_>) {
        self.modules.is_module = true;
        self.refuse_in_commonjs(it.span);
        let gone = match &it.declaration {
            ExportDefaultDeclarationKind::TSInterfaceDeclaration(_) => true,
            ExportDefaultDeclarationKind::FunctionDeclaration(it) => it.body.is_none(),
            _ => false,
        };
        if gone {
            self.edits.erase_whole(range(it.span));
        } else {
            walk::walk_export_default_declaration(self, it);
        }
    }

    pub(crate) fn export_names(&mut self, it: &ExportNamedDeclaration<'_>) {
        self.modules.is_module = true;
        if it.export_kind.is_type() {
            self.edits.erase_whole(range(it.span));
            return;
        }
        self.refuse_in_commonjs(it.span);
        for specifier in &it.specifiers {
            if !self.erases_type(specifier) {
                walk::walk_export_specifier(self, specifier);
            }
        }
    }

    pub(crate) fn export_from(&mut self, it: &ExportFromDeclaration<'_>) {
        self.modules.is_module = true;
        let all_types = !it.specifiers.is_empty()
            && it
                .specifiers
                .iter()
                .all(|specifier| specifier.export_kind.is_type());
        if it.export_kind.is_type() || all_types {
            self.edits.erase_whole(range(it.span));
            return;
        }
        self.refuse_in_commonjs(it.span);
        for specifier in &it.specifiers {
            self.erases_type(specifier);
        }
        self.modules.name(&it.source);
    }

    pub(crate) fn export_all(&mut self, it: &ExportAllDeclaration<'_>) {
        self.modules.is_module = true;
        if it.export_kind.is_type() {
            self.edits.erase_whole(range(it.span));
            return;
        }
        self.refuse_in_commonjs(it.span);
        self.modules.name(&it.source);
    }

    fn erases_type(&mut self, specifier: &ExportSpecifier<'_>) -> bool {
        let is_type = specifier.export_kind.is_type();
        if is_type {
            self.erase_with_comma(specifier.span);
        }
        is_type
    }

    fn erase_with_comma(&mut self, place: Span) {
        let end = place.end as usize;
        let comma = scan::next_is(self.source, end, ',').map_or(end, |at| at + 1);
        self.edits.erase(place.start as usize..comma);
    }

    /// Erases imports that no value uses, and renames modules. The modules that are left, as the source names them.
    pub(crate) fn settle_modules(&mut self, resolve: &Resolve<'_>) -> Vec<String> {
        let typed = self.language != Language::JavaScript;
        for import in std::mem::take(&mut self.modules.imports) {
            let is_used = |name: &ImportedName| {
                !typed || (name.kind != NameKind::Type && self.used.contains(name.local.as_str()))
            };
            let unused: Vec<bool> = import.names.iter().map(|name| !is_used(name)).collect();
            if !unused.is_empty() && unused.iter().all(|unused| *unused) {
                self.edits.erase_whole(range(import.whole));
                continue;
            }
            if import.names.iter().any(|name| name.kind == NameKind::Equals) {
                let at = import.whole.start as usize;
                // No longer than what it replaces, so that nothing moves.
                self.edits.replace(at..at + "import".len(), "const");
            }
            for (name, unused) in import.names.iter().zip(unused) {
                if !unused {
                    continue;
                }
                if name.kind == NameKind::Namespace {
                    // What is left is the default before it: `import name, * as all from`.
                    let first = import.names.first().map_or(name.place, |name| name.place);
                    self.edits.erase(first.end as usize..name.place.end as usize);
                } else {
                    self.erase_with_comma(name.place);
                }
            }
            self.modules.named.extend(import.module);
        }
        let mut named = std::mem::take(&mut self.modules.named);
        named.sort_by_key(|named| named.place.start);
        for Named { place, name } in &named {
            if let Some(target) = resolve(name) {
                let (start, end) = (place.start as usize + 1, place.end as usize - 1);
                self.edits.replace(start..end, &target);
            }
        }
        if typed && self.modules.is_module {
            // What exported types alone was a module too.
            let end = self.source.len();
            self.edits.insert(end, "\nexport {};");
        }
        named.into_iter().map(|named| named.name).collect()
    }
}

/// Whether nothing of a namespace is there when the program runs.
pub(crate) fn holds_only_types(body: &TSNamespaceDeclarationBody<'_>) -> bool {
    match body {
        TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => {
            inner.declare || holds_only_types(&inner.body)
        }
        TSNamespaceDeclarationBody::TSModuleBlock(block) => block.body.iter().all(is_type),
    }
}

fn is_type(statement: &Statement<'_>) -> bool {
    match statement {
        Statement::TSTypeAliasDeclaration(_) | Statement::TSInterfaceDeclaration(_) => true,
        Statement::ExportDeclaration(export) => matches!(
            &export.declaration,
            oxc_ast::ast::Declaration::TSTypeAliasDeclaration(_)
                | oxc_ast::ast::Declaration::TSInterfaceDeclaration(_)
        ),
        Statement::TSNamespaceDeclaration(inner) => inner.declare || holds_only_types(&inner.body),
        _ => false,
    }
}
