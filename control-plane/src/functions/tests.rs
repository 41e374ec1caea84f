use std::fs;

use alyx_service::state::Runtime;

use super::*;

mod typescript;

struct Project {
    dir: tempfile::TempDir,
    source: Source,
}

fn project(files: &[(&str, &str)]) -> Project {
    let dir = tempfile::tempdir().expect("a folder");
    let source = Source {
        folder: dir.path().join("functions"),
        bundles: dir.path().join("state/bundles"),
        defaults: Defaults {
            timeout: Duration::from_secs(30),
            memory_mib: 256,
            env: BTreeMap::from([
                ("SHARED".to_owned(), "s".to_owned()),
                ("OWN".to_owned(), "x".to_owned()),
            ]),
        },
        environment: Arc::new(BTreeMap::from([("TOKEN".to_owned(), "t0k".to_owned())])),
    };
    fs::create_dir(&source.folder).expect("made");
    let project = Project { dir, source };
    for (path, text) in files {
        project.write(path, text);
    }
    project
}

impl Project {
    fn write(&self, path: &str, text: &str) {
        let path = self.source.folder.join(path);
        fs::create_dir_all(path.parent().expect("in the folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn scan(&self) -> Scan {
        self.source.scan().expect("a bundle")
    }

    fn bundles(&self) -> usize {
        fs::read_dir(&self.source.bundles).expect("bundles").count()
    }
}

fn names(scan: &Scan) -> Vec<&str> {
    scan.functions.keys().map(String::as_str).collect()
}

fn notices(scan: &Scan) -> Vec<String> {
    scan.notices.iter().map(ToString::to_string).collect()
}

#[test]
fn flat_files_are_functions_and_the_rest_is_not() {
    let project = project(&[
        ("sendMessage.js", ""),
        ("get-stats.mjs", ""),
        ("old.cjs", ""),
        ("_shared/db.js", ""),
        ("_helper.js", ""),
        (".hidden.js", ""),
        ("types.d.ts", ""),
        ("README.md", ""),
        ("lib/x.js", ""),
        ("node_modules/dep/index.js", ""),
    ]);
    let scan = project.scan();
    assert_eq!(names(&scan), ["get-stats", "old", "sendMessage"]);
    assert!(scan.notices.is_empty(), "{:?}", scan.notices);
    let function = &scan.functions["sendMessage"];
    assert_eq!(function.timeout, Duration::from_secs(30));
    assert!(function.root.join(&function.entrypoint).is_file());
    assert!(function.root.join("_shared/db.js").is_file());
    assert!(function.root.join("node_modules/dep/index.js").is_file());
    assert!(!function.root.join(".hidden.js").exists());
}

#[test]
fn a_manifest_says_how_its_function_runs() {
    let project = project(&[
        ("a.js", ""),
        (
            "a.yaml",
            "name: a\nruntime: node\ntimeout: 500ms\nmemory: 128mb\ndescription: Does it.\n\
             env: {OWN: 'v-${TOKEN}', N: 5}\nsample_input: {text: hi, n: 1}\n",
        ),
        ("b.js", ""),
        ("b.yml", "timeout: 10\nmemory: 64\n"),
    ]);
    let scan = project.scan();
    assert!(scan.notices.is_empty(), "{:?}", scan.notices);
    let a = &scan.functions["a"];
    assert_eq!((a.timeout, a.memory_mib), (Duration::from_millis(500), 128));
    assert_eq!(a.description, "Does it.");
    assert_eq!(a.sample_input, Some(serde_json::json!({"text": "hi", "n": 1})));
    let env: Vec<_> = a
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(env, [("N", "5"), ("OWN", "v-t0k"), ("SHARED", "s")]);
    let b = &scan.functions["b"];
    assert_eq!((b.timeout, b.memory_mib), (Duration::from_secs(10), 64));
}

#[test]
fn a_broken_manifest_drops_its_function_and_no_other() {
    let check = |manifest: &str, place: &str, word: &str| {
        let project = project(&[("good.js", ""), ("bad.js", ""), ("bad.yaml", manifest)]);
        let scan = project.scan();
        assert_eq!(names(&scan), ["good"], "{manifest}");
        let found = notices(&scan);
        assert_eq!(found.len(), 1, "{manifest}: {found:?}");
        assert!(found[0].contains(&format!("bad.yaml:{place}: ")), "{found:?}");
        assert!(found[0].contains(word), "{found:?}");
        assert_eq!(scan.notices[0].severity, Severity::Error);
    };
    check("timeout: soon", "1:10", "`soon` is no timeout");
    check("timeout: 0s", "1:10", "`0s` is no timeout");
    check("description: x\nmemory: lots", "2:9", "128mb");
    check("memory: 1mb", "1:9", "at least 16mb");
    check(
        "runtime: python",
        "1:10",
        "`bad.js` runs on `node`, not on `python`",
    );
    check("runtime: deno", "1:10", "not in this version");
    check("runtime: cobol", "1:10", "no runtime");
    check("env: [A]", "1:6", "NAME: value");
    check("env:\n  A: ${MISSING}", "2:6", "MISSING is not set");
    check("timeout: [1]", "1:10", "a single value");
    check("a: [", "1:4", "not valid YAML");
    check("- a", "1:1", "a manifest holds keys");
}

#[test]
fn the_ending_decides_the_runtime() {
    let project = project(&[
        ("a.js", ""),
        ("b.py", ""),
        ("b.yaml", "runtime: python"),
        ("c.go", ""),
        ("c.yaml", "runtime: go"),
        ("c_test.go", ""),
        ("go.mod", ""),
        ("_shared.py", ""),
        ("__pycache__/b.cpython-311.pyc", ""),
    ]);
    let scan = project.scan();
    assert!(scan.notices.is_empty(), "{:?}", scan.notices);
    assert_eq!(names(&scan), ["a", "b", "c"]);
    assert_eq!(scan.functions["a"].runtime, Runtime::Node);
    assert_eq!(scan.functions["b"].runtime, Runtime::Python);
    assert_eq!(scan.functions["c"].runtime, Runtime::Go);
    let root = &scan.functions["b"].root;
    assert!(root.join("_shared.py").is_file());
    assert!(!root.join("__pycache__").exists());
}

#[test]
fn a_folder_with_an_index_is_a_function() {
    let project = project(&[
        ("order/index.js", ""),
        ("order/manifest.yaml", "name: order\ntimeout: 2s\n"),
        ("order/lines.js", ""),
        ("report/index.py", ""),
        ("thumb/main.go", ""),
        ("thumb/size.go", ""),
        ("lib/tools.js", ""),
        ("_shared/index.js", ""),
    ]);
    let scan = project.scan();
    assert!(scan.notices.is_empty(), "{:?}", scan.notices);
    assert_eq!(names(&scan), ["order", "report", "thumb"]);
    assert_eq!(scan.functions["thumb"].entrypoint, Path::new("thumb/main.go"));
    let order = &scan.functions["order"];
    assert_eq!(order.entrypoint, Path::new("order/index.js"));
    assert_eq!(order.timeout, Duration::from_secs(2));
    assert_eq!(scan.functions["report"].runtime, Runtime::Python);
}

/// Of these files those functions are served, and one notice says so.
fn one_notice(files: &[(&str, &str)], served: &[&str], expected: &str) {
    let scan = project(files).scan();
    assert_eq!(names(&scan), served, "{files:?}");
    let found = notices(&scan);
    assert_eq!(found.len(), 1, "{files:?}: {found:?}");
    assert!(found[0].contains(expected), "{files:?}: {found:?}");
}

#[test]
fn what_is_not_served_is_named() {
    let check = one_notice;
    check(
        &[("a.py", ""), ("a.js", ""), ("b.py", "")],
        &["b"],
        "a.py: `a.js` is also the code",
    );
    check(&[("1st.js", "")], &[], "`1st` is no function name");
    check(&[("a b.js", "")], &[], "`a b` is no function name");
    check(
        &[("a.js", ""), ("a.mjs", "")],
        &[],
        "a.mjs: `a.js` is also the code",
    );
    check(
        &[("a.js", ""), ("a.yaml", ""), ("a.yml", "")],
        &[],
        "a.yml: `a.yaml` is also the manifest",
    );
    check(&[("a.yaml", "")], &[], "a.yaml: there is no function file");
    check(
        &[("a.js", ""), ("a.yaml", "timeuot: 1s")],
        &["a"],
        "a.yaml:1:1: there is no key `timeuot`",
    );
    check(
        &[("a.js", ""), ("a.yaml", "hooks: []")],
        &["a"],
        "does not read `hooks`",
    );
    check(&[("a.js", ""), ("a.yaml", "name: b")], &["a"], "served as `a`");
    check(
        &[("order/index.js", ""), ("order.js", "")],
        &[],
        "order.js: `order/index.js` is also the code",
    );
    check(
        &[("order/manifest.yaml", ""), ("order/main.js", "")],
        &[],
        "order/manifest.yaml: there is no function file beside",
    );
}

#[test]
fn a_missing_folder_holds_no_functions() {
    let project = project(&[]);
    fs::remove_dir(&project.source.folder).expect("removed");
    let scan = project.scan();
    assert!(scan.functions.is_empty());
    assert!(notices(&scan)[0].contains("no such folder"));
}

#[test]
fn the_version_is_that_of_the_content() {
    let project = project(&[("a.js", "1"), ("_lib/b.js", "1")]);
    let first = project.scan().functions["a"].clone();
    assert_eq!(project.scan().functions["a"].version, first.version);
    project.write("_lib/b.js", "2");
    let second = project.scan().functions["a"].clone();
    assert_ne!(second.version, first.version);
    assert_eq!(
        fs::read_to_string(first.root.join("_lib/b.js")).expect("still there"),
        "1"
    );
    assert_eq!(
        fs::read_to_string(second.root.join("_lib/b.js")).expect("there"),
        "2"
    );
    project.write("_lib/b.js", "1");
    assert_eq!(project.scan().functions["a"].version, first.version);
    assert_eq!(project.bundles(), 2);
}

#[test]
fn only_the_newest_bundles_are_kept() {
    let project = project(&[]);
    let mut roots = Vec::new();
    for version in 0..6 {
        project.write("a.js", &version.to_string());
        roots.push(project.scan().functions["a"].root.clone());
    }
    assert_eq!(project.bundles(), 4);
    let kept: Vec<bool> = roots.iter().map(|root| root.is_dir()).collect();
    assert_eq!(kept, [false, false, true, true, true, true]);
}

#[test]
fn what_a_crash_left_unfinished_is_removed() {
    let project = project(&[("a.js", "")]);
    fs::create_dir_all(project.source.bundles.join(".new-1-0/x")).expect("made");
    project.scan();
    assert_eq!(project.bundles(), 1);
}

#[test]
fn a_folder_that_is_too_large_is_refused() {
    let project = project(&[("a.js", "")]);
    let large = fs::File::create(project.source.folder.join("large.bin")).expect("made");
    large.set_len(101 << 20).expect("sparse");
    let error = project.source.scan().expect_err("too many").to_string();
    assert!(error.contains("5000 files or 100 MiB"), "{error}");
    assert_eq!(project.bundles(), 0);
}

#[test]
fn modules_and_package_of_the_project_are_taken_over() {
    let project = project(&[("a.js", "")]);
    let parent = project.dir.path();
    fs::create_dir_all(parent.join("node_modules/dep")).expect("made");
    fs::write(parent.join("package.json"), r#"{"type":"module"}"#).expect("written");
    let root = project.scan().functions["a"].root.clone();
    assert!(root.join("node_modules/dep").is_dir());
    assert!(root.join("package.json").is_file());
    project.write("package.json", "{}");
    let root = project.scan().functions["a"].root.clone();
    assert_eq!(
        fs::read_to_string(root.join("package.json")).expect("there"),
        "{}"
    );
}

#[test]
fn links_are_followed_and_those_to_nothing_are_passed_over() {
    let project = project(&[("a.js", "")]);
    let folder = &project.source.folder;
    fs::write(folder.join("_inside.js"), "x").expect("written");
    std::os::unix::fs::symlink("_inside.js", folder.join("b.js")).expect("linked");
    std::os::unix::fs::symlink("nobody@host", project.source.folder.join(".#a.js")).expect("linked");
    std::os::unix::fs::symlink("nowhere", project.source.folder.join("c.js")).expect("linked");
    let scan = project.scan();
    assert_eq!(names(&scan), ["a", "b"]);
    let b = &scan.functions["b"];
    assert_eq!(fs::read_to_string(b.root.join("b.js")).expect("copied"), "x");

    std::os::unix::fs::symlink(".", project.source.folder.join("_circle")).expect("linked");
    assert!(project.source.scan().is_err());
}

#[test]
fn links_that_lead_out_of_the_folder_are_refused() {
    let links = [("b.js", "secret.js"), ("_shared", "private"), ("_shared", "..")];
    for (name, target) in links {
        let project = project(&[("a.js", ""), ("../secret.js", "x"), ("../private/key.js", "x")]);
        let link = project.source.folder.join(name);
        std::os::unix::fs::symlink(Path::new("..").join(target), &link).expect("linked");
        let refused = project.source.scan().expect_err("it leads out").to_string();
        assert!(
            refused.contains(&link.display().to_string()) && refused.contains("outside the functions folder"),
            "{refused}"
        );
        fs::remove_file(&link).expect("removed");
        assert_eq!(names(&project.scan()), ["a"]);
    }
}

#[test]
fn a_functions_folder_that_is_a_link_itself_is_read() {
    let mut project = project(&[("a.js", "")]);
    let link = project.dir.path().join("linked");
    std::os::unix::fs::symlink(&project.source.folder, &link).expect("linked");
    project.source.folder = link;
    assert_eq!(names(&project.scan()), ["a"]);
}
