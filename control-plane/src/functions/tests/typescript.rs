//! TypeScript in a bundle.

use super::*;

fn text(function: &alyx_service::state::Function, file: &str) -> String {
    fs::read_to_string(function.root.join(file)).expect("in the bundle")
}

#[test]
fn typescript_is_javascript_in_the_bundle() {
    let project = project(&[
        (
            "a.ts",
            "import { b } from './_lib/b';\nimport type { T } from './_lib/t';\nexport default (x: T) => b(x);\n",
        ),
        ("_lib/b.ts", "export { b } from './c.ts';\n"),
        ("_lib/c.ts", "export const b = (x: unknown) => x;\n"),
        ("_lib/t.ts", "export type T = string;\n"),
        ("f/index.mts", "import './g';\nexport default (): void => {};\n"),
        ("f/g/index.cts", "export = 1;\n"),
        ("j.js", "import { b } from './_lib/b.ts';\nexport default b;\n"),
        ("types.d.ts", "declare const x: number;"),
        ("f/manifest.yaml", "runtime: typescript\n"),
    ]);
    let scan = project.scan();
    assert!(scan.notices.is_empty(), "{:?}", scan.notices);
    assert_eq!(names(&scan), ["a", "f", "j"]);
    let a = &scan.functions["a"];
    assert_eq!(
        (a.entrypoint.as_path(), a.runtime),
        (Path::new("a.js"), Runtime::Node)
    );
    let written = text(a, "a.js");
    assert!(
        written.starts_with("import { b } from './_lib/b.js';\n;"),
        "{written}"
    );
    assert!(written.ends_with("\n//# sourceURL=functions/a.ts\n"), "{written}");
    assert!(text(a, "_lib/b.js").starts_with("export { b } from './c.js';"));
    assert!(text(a, "f/index.mjs").starts_with("import './g/index.cjs';"));
    assert!(text(a, "j.js").starts_with("import { b } from './_lib/b.js';"));
    assert!(!a.root.join("a.ts").exists() && !a.root.join("_lib/c.ts").exists());
    assert_eq!(scan.functions["f"].entrypoint, Path::new("f/index.mjs"));
}

#[test]
fn a_fault_is_told_with_its_place_and_by_all_who_load_the_file() {
    let project = project(&[
        ("a.ts", "import './_lib/b';\n"),
        ("c.js", "import './_lib/b.js';\n"),
        ("d.ts", "export default () => 1;\n"),
        ("_lib/b.ts", "import './broken.ts';\n"),
        ("_lib/broken.ts", "const a = 1;\nlet b: = 2;\n"),
    ]);
    let scan = project.scan();
    assert_eq!(names(&scan), ["a", "c", "d"]);
    let found = notices(&scan);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("functions/_lib/broken.ts:2:8: "), "{found:?}");
    assert_eq!(scan.notices[0].severity, Severity::Broken);
    let function = &scan.functions["a"];
    for file in ["a.js", "c.js", "_lib/b.js", "_lib/broken.js"] {
        let written = text(function, file);
        assert!(
            written.contains("new Error(\"functions/_lib/broken.ts:2:8: "),
            "{file}: {written}"
        );
    }
    assert!(text(function, "d.js").contains("() => 1"));
}

#[test]
fn a_name_is_written_once() {
    let check = one_notice;
    check(
        &[("a.ts", ""), ("a.js", "")],
        &["a"],
        "a.ts: `a.js` beside it is what runs",
    );
    check(
        &[("a.ts", ""), ("a.mts", "")],
        &[],
        "a.mts: `a.ts` is also the code",
    );
    check(&[("1st.ts", "")], &[], "1st.ts: `1st` is no function name");
    check(
        &[("a.ts", ""), ("a.yaml", "runtime: python")],
        &[],
        "runtime: `a.ts` runs on `node`, not on `python`",
    );
    check(&[("a.tsx", "")], &[], "a.tsx: JSX is not supported");
    check(
        &[("a.cts", "export default 1")],
        &["a"],
        "a.cts:1:1: a .cts file is a CommonJS module",
    );
}
