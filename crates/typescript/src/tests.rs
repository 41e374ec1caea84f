use super::*;

fn javascript(source: &str) -> String {
    let compiled = compile(source, Language::TypeScript, &|_| None).unwrap_or_else(|faults| {
        panic!("{source}\n{faults:?}");
    });
    // What is made must be JavaScript, whatever a test expects of it.
    if let Err(faults) = compile(&compiled.text, Language::JavaScript, &|_| None) {
        panic!("{source}\n→\n{}\n{faults:?}", compiled.text);
    }
    compiled.text
}

/// `source` without what is erased; how much space is left in its place is judged by where everything else stands.
#[track_caller]
fn check(source: &str, expected: &str) {
    let made = check_text(source, expected);
    for (number, (written, kept)) in source.lines().zip(made.lines()).enumerate() {
        let (written, kept): (Vec<u16>, Vec<u16>) =
            (written.encode_utf16().collect(), kept.encode_utf16().collect());
        for (column, unit) in kept.iter().enumerate() {
            let added = b" ();".iter().any(|added| u16::from(*added) == *unit);
            assert!(
                added || written.get(column) == Some(unit),
                "{source}\n→\n{made}\nline {number}, column {column}"
            );
        }
    }
}

/// The same where something is written anew and may move what follows in its line.
#[track_caller]
fn check_text(source: &str, expected: &str) -> String {
    let made = javascript(source);
    let made = made.strip_suffix("\nexport {};").unwrap_or(&made).to_owned();
    let words = |text: &str| -> Vec<String> {
        text.split('\n')
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(words(&made), words(expected), "{source}");
    made
}

#[track_caller]
fn refused(source: &str, language: Language, expected: &str) {
    let faults = compile(source, language, &|_| None).expect_err("refused");
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(told[0].contains(expected), "{source}: {told:?}");
}

#[test]
fn types_become_spaces() {
    check("let x: number = 1;", "let x         = 1;");
    check("let x!: Map<string, number[]>;", "let x                       ;");
    check(
        "const f = <T,>(a?: T): a is T => !!a;",
        "const f =     (a    )         => !!a;",
    );
    check(
        "function f<T>(this: Foo, a: T, ...b: T[]): void {}",
        "function f   (           a   , ...b     )       {}",
    );
    check(
        "const y = f<string>(x!) as unknown as T;",
        "const y = f        (x )                ;",
    );
    check(
        "const y = { a: 1 } satisfies Foo;",
        "const y = { a: 1 }              ;",
    );
    check("const y = <any>x;", "const y =      x;");
    check(
        "const y = () => <any>{ a: 1 };",
        "const y = () => (    { a: 1 });",
    );
    check("new Map<string, number>();", "new Map                ();");
    check("try { } catch (e: unknown) { }", "try { } catch (e         ) { }");
    check(
        "const { a, b }: { a: string; b: number } = c;",
        "const { a, b }                           = c;",
    );
    check(
        "for (const x of y as string[]) { }",
        "for (const x of y            ) { }",
    );
    check("tag<string>`x`;", "tag        `x`;");
    check("const g = f<string>;", "const g = f        ;");
    check("a?.b!.c;", "a?.b .c;");
    check("let é: Maß = 1;", "let é      = 1;");
}

#[test]
fn declarations_of_types_are_erased_with_their_lines() {
    check("interface A {\n  b: string;\n}\nx();", ";\n\n\nx();");
    check("type A = string\nx()", ";\nx()");
    check("export type A = string;\nexport interface B {}", ";\n;");
    check(
        "declare const x: number;\ndeclare function f(): void;\ndeclare class C {}",
        ";\n;\n;",
    );
    check("declare global { interface Window { a: string } }", ";");
    check("declare module \"x\" { export const a: string }", ";");
    check("namespace A { export type B = string }", ";");
    check(
        "function f(a: string): void;\nfunction f(a: any) {}",
        ";\nfunction f(a     ) {}",
    );
    check(
        "export default function f(a: string): void;\nexport default function f(a: any) {}",
        ";\nexport default function f(a     ) {}",
    );
    check("declare enum A { B }", ";");
    check("export default interface A {}", ";");
}

#[test]
fn a_statement_does_not_run_into_the_next_one() {
    check("const x = y as T\n(z)", "const x = y;\n(z)");
    check("foo\ntype A = B\n(bar)", "foo\n;\n(bar)");
    check(
        "const f = (\n  a: T,\n): Promise<\n  T\n> => a;",
        "const f = (\n  a   ,\n\n\n) => a;",
    );
    check(
        "const f = async <\n  T,\n>(a: T) => a;",
        "const f = async (\n\n a   ) => a;",
    );
    check(
        "class A { x = 1\n  private [\"y\"] = 2 }",
        "class A { x = 1\n  ;       [\"y\"] = 2 }",
    );
    check(
        "class A { x = 1\n  public *y() {} }",
        "class A { x = 1\n  ;      *y() {} }",
    );
    check(
        "const f = (\n  a,\n): |\n  Maß => a;",
        "const f = (\n  a,\n\n) => a;",
    );
    check("const x = a as number\n + b", "const x = a\n + b");
}

#[test]
fn classes_lose_what_is_of_types() {
    check(
        "export abstract class A<T> extends B<T> implements C, D {}",
        "export          class A    extends B                    {}",
    );
    check("export default abstract class A {}", "export default class A {}");
    check("const A = class implements B {};", "const A = class {};");
    check(
        "class A { x = 1; static readonly [key: string]: T; readonly [key: string]: T; y = 2 }",
        "class A { x = 1; ; ; y = 2 }",
    );
}

#[test]
fn members_lose_their_modifiers() {
    check(
        "class A {\n  private readonly x: number = 1;\n  static override async f?(a: T): Promise<void> {}\n  y!: string;\n  z?: T;\n}",
        "class A {\n                   x         = 1;\n  static          async f (a   )                {}\n  y         ;\n  z    ;\n}",
    );
    check(
        "abstract class A { abstract f(): void; declare x: T; [key: string]: T; g(): void; g(a?: T) {} }",
        "         class A { ;                   ;             ;                 ;          g(a    ) {} }",
    );
    check(
        "class A { private() {} public = 1; static static: T }",
        "class A { private() {} public = 1; static static    }",
    );
    check_text(
        "class A { constructor(private x: T, public readonly y = 2) {} }",
        "class A { constructor(        x   ,                 y = 2) {this.x=x;this.y=y;} }",
    );
    check_text(
        "class A extends B { constructor(private x: T) { super(x); f(); } }",
        "class A extends B { constructor(        x   ) { super(x);;this.x=x; f(); } }",
    );
}

#[test]
fn imports_of_types_are_erased_and_others_stay() {
    check("import type { A } from './a';\nx();", ";\nx();");
    check(
        "import { type A, b } from './a';\nb();",
        "import {         b } from './a';\nb();",
    );
    check(
        "import { A, b } from './a';\nb() as A;",
        "import {    b } from './a';\nb()     ;",
    );
    check(
        "import A, { b } from './a';\nb() as A;",
        "import    { b } from './a';\nb()     ;",
    );
    check(
        "import a, * as T from './a';\na() as T.B;",
        "import a         from './a';\na()       ;",
    );
    check("import { A } from './a';\nlet x: A;", ";\nlet x   ;");
    check("import './a';", "import './a';");
    check(
        "export { type A, b } from './a';",
        "export {         b } from './a';",
    );
    check(
        "export type { A } from './a';\nexport type * from './b';\nexport * from './c';",
        ";\n;\nexport * from './c';",
    );
    check(
        "import { a } from './a';\nexport { a };",
        "import { a } from './a';\nexport { a };",
    );
    check_text(
        "import fs = require('fs');\nfs.x();",
        "const  fs = require('fs');\nfs.x();",
    );
    check(
        "import fs = require('fs');\nlet x: fs.Stats;",
        ";\nlet x          ;",
    );
    check_text("export import a = b.c;", "export const a = b.c;");
    check_text("const x = 1;\nexport = x;", "const x = 1;\nmodule.exports = x;");
}

#[test]
fn a_file_of_types_alone_is_a_module_still() {
    assert_eq!(
        javascript("export type A = string;").trim_start_matches([';', ' ']),
        "\nexport {};"
    );
    assert_eq!(javascript("const x = 1;"), "const x = 1;");
}

#[test]
fn enums_are_objects() {
    check_text(
        "enum Color {\n  Red, // first\n  Green = 5,\n  Blue\n}",
        "var Color;(function(Color){\n  Color[Color[\"Red\"]=0]=\"Red\"; // first\n  Color[Color[\"Green\"]=5]=\"Green\";\n  Color[Color[\"Blue\"]=6]=\"Blue\"\n})(Color||(Color={}));",
    );
    check_text(
        "export const enum E { A = 1 << 3, B = A | 2, C = 'c', D = E.A + 1, F, G = f(A) }",
        "export var E;(function(E){ E[E[\"A\"]=1 << 3]=\"A\"; E[E[\"B\"]=E.A | 2]=\"B\"; E[\"C\"]='c'; E[E[\"D\"]=E.A + 1]=\"D\"; E[E[\"F\"]=10]=\"F\"; E[E[\"G\"]=f(E.A)]=\"G\" })(E||(E={}));",
    );
    refused(
        "enum E { A = 'a', B }",
        Language::TypeScript,
        "1:19: this member needs a value",
    );
}

#[test]
fn modules_are_called_as_the_caller_says() {
    let resolve = |name: &str| name.strip_suffix(".ts").map(|stem| format!("{stem}.js"));
    let source = "import { a } from './a.ts';\nexport * from \"./b.ts\";\nawait import('./c.ts');\nrequire('./d.ts');\na(x)";
    let compiled = compile(source, Language::TypeScript, &resolve).expect("fine");
    assert_eq!(compiled.modules, ["./a.ts", "./b.ts", "./c.ts", "./d.ts"]);
    let expected = source.replace(".ts", ".js") + "\nexport {};";
    assert_eq!(compiled.text, expected);
    let javascript = compile("import './a.ts'\nx", Language::JavaScript, &resolve).expect("fine");
    assert_eq!(javascript.text, "import './a.js'\nx");
}

#[test]
fn what_cannot_be_run_is_refused_with_its_place() {
    refused("const a = 1;\nconst b: = 2;", Language::TypeScript, "2:10: ");
    refused(
        "class A {\n  @dec x = 1;\n}",
        Language::TypeScript,
        "2:3: decorators",
    );
    refused(
        "namespace A { export const b = 1 }",
        Language::TypeScript,
        "1:1: a namespace",
    );
    refused(
        "import a from 'a';\na();",
        Language::CommonTypeScript,
        "1:1: a .cts file",
    );
    refused(
        "export const a = 1;",
        Language::CommonTypeScript,
        "1:1: a .cts file",
    );
    refused(
        "class A extends B { constructor(private x: T) { f(super()); } }",
        Language::TypeScript,
        "must call `super(…)`",
    );
}
