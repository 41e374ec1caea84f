//! From a bundle to its functions: flat files `name.js`, `name.py` or `name.go`, each with a manifest `name.yaml` where
//! it needs one, and folders `name/` with `index.js`, `index.py` or `main.go`, whose manifest is `name/manifest.yaml`.
//! TypeScript is JavaScript there already; messages name the file that the author knows.
//!
//! Skipped: hidden files, names that begin with `_` (shared code), other folders, Go's tests, files of other kinds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alyx_service::state::{Function, Runtime};

use super::bundle::Bundle;
use super::manifest::{self, Manifest};
use super::rule::Written;
use super::{Notice, Scan, Source, shown};

/// Largest manifest in bytes.
const MAX_MANIFEST: u64 = 256 << 10;

/// Names of a folder's code and manifests.
const INDEX: [&str; 6] = [
    "index.js",
    "index.mjs",
    "index.cjs",
    "index.py",
    "main.go",
    "index.go",
];
const MANIFEST: [&str; 2] = ["manifest.yaml", "manifest.yml"];

/// The files of one name, relative to the bundle.
#[derive(Debug, Default)]
struct Candidate {
    code: Vec<String>,
    manifests: Vec<String>,
}

/// Reads all functions of a bundle; what is wrong with one leaves the others alone.
pub(super) fn discover(source: &Source, bundle: &Bundle) -> Scan {
    let mut scan = Scan {
        notices: bundle.translation.notices.clone(),
        ..Scan::default()
    };
    for (name, candidate) in candidates(source, &bundle.root, &mut scan.notices) {
        if let Some((function, rule)) = load(source, bundle, &name, &candidate, &mut scan.notices) {
            scan.rules.extend(rule.map(|rule| (name.clone(), rule)));
            scan.functions.insert(name, Arc::new(function));
        }
    }
    scan
}

fn candidates(source: &Source, root: &Path, notices: &mut Vec<Notice>) -> BTreeMap<String, Candidate> {
    let mut found: BTreeMap<String, Candidate> = BTreeMap::new();
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) => {
            notices.push(Notice::error(
                root.display().to_string(),
                format!("the bundle cannot be read: {error}"),
            ));
            return found;
        }
    };
    let mut files: Vec<(String, bool)> = entries
        .filter_map(Result::ok)
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path().is_dir(),
            )
        })
        .filter(|(file, _)| !file.starts_with(['.', '_']) && file != "node_modules")
        .collect();
    files.sort();
    for (file, is_folder) in files {
        if is_folder {
            let within = |names: &[&str]| -> Vec<String> {
                let paths = names.iter().map(|name| format!("{file}/{name}"));
                paths.filter(|path| root.join(path).is_file()).collect()
            };
            let (code, manifests) = (within(&INDEX), within(&MANIFEST));
            if !code.is_empty() || !manifests.is_empty() {
                let candidate = found.entry(file).or_default();
                candidate.code.extend(code);
                candidate.manifests.extend(manifests);
            }
            continue;
        }
        let Some((stem, extension)) = file.rsplit_once('.') else {
            continue;
        };
        if stem.ends_with(".d") || (extension == "go" && stem.ends_with("_test")) {
            continue;
        }
        match extension {
            _ if runtime_of(extension).is_some() => {
                found.entry(stem.to_owned()).or_default().code.push(file.clone());
            }
            "yaml" | "yml" => found
                .entry(stem.to_owned())
                .or_default()
                .manifests
                .push(file.clone()),
            "tsx" | "jsx" => notices.push(Notice::warning(
                shown(&source.folder, &file),
                format!(
                    "JSX is not supported, so `.{extension}` is not served; write the function as .ts or .js"
                ),
            )),
            _ => {}
        }
    }
    found
}

/// What runs files of that kind.
fn runtime_of(extension: &str) -> Option<Runtime> {
    match extension {
        "js" | "mjs" | "cjs" => Some(Runtime::Node),
        "py" => Some(Runtime::Python),
        "go" => Some(Runtime::Go),
        _ => None,
    }
}

fn load(
    source: &Source,
    bundle: &Bundle,
    name: &str,
    candidate: &Candidate,
    notices: &mut Vec<Notice>,
) -> Option<(Function, Option<Written>)> {
    let entrypoint = single(source, bundle, candidate, notices)?;
    let written = bundle.translation.origin(entrypoint);
    if !is_name(name) {
        notices.push(Notice::error(
            shown(&source.folder, written),
            format!("`{name}` is no function name; use letters, digits, `_` and `-`, with a letter first"),
        ));
        return None;
    }
    let manifest = match candidate.manifests.first() {
        None => Manifest::default(),
        Some(file) => read_manifest(source, &bundle.root, file, notices)?,
    };
    if let Some((place, named)) = &manifest.name
        && named != name
    {
        notices.push(Notice::warning(
            place.clone(),
            format!("the function is served as `{name}`, after its file; `name: {named}` has no effect"),
        ));
    }
    let runtime = entrypoint
        .rsplit_once('.')
        .and_then(|(_, extension)| runtime_of(extension))?;
    if let Some((place, named)) = &manifest.runtime
        && *named != runtime
    {
        notices.push(Notice::error(
            place.clone(),
            format!(
                "runtime: `{written}` runs on `{}`, not on `{}`; leave the line out, or rename the file",
                runtime.name(),
                named.name()
            ),
        ));
        return None;
    }
    let mut env = source.defaults.env.clone();
    env.extend(manifest.env);
    let function = Function {
        name: name.to_owned(),
        runtime,
        version: bundle.version.clone(),
        root: bundle.root.clone(),
        entrypoint: PathBuf::from(entrypoint),
        description: manifest.description,
        sample_input: manifest.sample_input,
        timeout: manifest.timeout.unwrap_or(source.defaults.timeout),
        memory_mib: manifest.memory_mib.unwrap_or(source.defaults.memory_mib),
        env: Arc::new(env),
        invoke_rule: manifest.invoke.as_ref().map(|rule| rule.text.as_str().into()),
    };
    Some((function, manifest.invoke))
}

/// The one code file of a candidate that has at most one manifest.
fn single<'c>(
    source: &Source,
    bundle: &Bundle,
    candidate: &'c Candidate,
    notices: &mut Vec<Notice>,
) -> Option<&'c str> {
    let mut twice = |files: &[String], what: &str| {
        let [first, second] = [0, 1].map(|at| bundle.translation.origin(&files[at]));
        notices.push(Notice::error(
            shown(&source.folder, second),
            format!("`{first}` is {what} of the same function; keep one of them"),
        ));
        None
    };
    match (candidate.code.as_slice(), candidate.manifests.as_slice()) {
        ([code], [] | [_]) => Some(code),
        ([], [manifest, ..]) => {
            notices.push(Notice::warning(
                shown(&source.folder, manifest),
                "there is no function file beside this manifest (in a folder: index.js, index.ts, index.py or main.go)",
            ));
            None
        }
        ([], []) => None,
        ([_], manifests) => twice(manifests, "also the manifest"),
        (code, _) => twice(code, "also the code"),
    }
}

fn read_manifest(source: &Source, root: &Path, file: &str, notices: &mut Vec<Notice>) -> Option<Manifest> {
    let place = shown(&source.folder, file);
    let path = root.join(file);
    let fits = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MAX_MANIFEST);
    if !fits {
        notices.push(Notice::error(
            place,
            format!("the manifest is larger than {} KiB", MAX_MANIFEST >> 10),
        ));
        return None;
    }
    match fs::read_to_string(&path) {
        Ok(text) => manifest::read(&text, &place, &source.environment, notices),
        Err(error) => {
            notices.push(Notice::error(
                place,
                format!("the manifest cannot be read: {error}"),
            ));
            None
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        && name.len() <= 128
}
