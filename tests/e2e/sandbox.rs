//! Functions of a running server see nothing of the server.

use alyx_tests::{Form, Project};
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    functions_reach_neither_the_database_nor_the_configuration,
}

const SCHEMA: &str = "collections: {notes: {fields: {text: {type: text}}}}\n";
/// Walks what there is to see, and tells of what looks like the server's.
const NODE: &str = "
import { readdirSync, readFileSync, existsSync } from 'node:fs';
const seen = (folder, depth) => {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = `${folder === '/' ? '' : folder}/${entry.name}`;
      if (/^\\/(proc|lib|usr|dev|etc)/.test(path) || depth === 0) return [];
      return entry.isDirectory() ? seen(path, depth - 1) : [entry.name];
    });
  } catch { return []; }
};
export default async (ctx) => {
  await ctx.db.notes.create({ text: 'still reached' });
  const files = seen('/', 12);
  return {
    found: files.filter((name) => /alyx\\.(yaml|db)|schema\\.yaml|\\.env|secret/.test(name)),
    own: files.includes('look.js'),
    told: ctx.input.paths.filter((path) => existsSync(path)),
    environment: Object.keys(process.env).filter((name) => name.startsWith('ALYX')),
    first: (() => { try { return readFileSync('/proc/1/environ', 'utf8').includes('ALYX'); } catch { return false; } })(),
  };
};
";

async fn functions_reach_neither_the_database_nor_the_configuration(form: Form) {
    let project = Project::with_schema(SCHEMA);
    project.write("functions/look.js", NODE);
    project.write(".env", "SECRET=1\n");
    let server = form
        .start_with(&project, &[("ALYX_FUNCTIONS_ENV_MODE", "test")])
        .await;
    let http = server.http();
    let paths: Vec<Value> = ["schema.yaml", ".env", "data/alyx.db", "functions/look.js"]
        .map(|name| json!(project.path().join(name)))
        .into();
    let reply = http.post("/api/functions/look", &json!({"paths": paths})).await;
    assert_eq!(reply.status, 200, "{reply:?}\n{}", server.output());
    if server
        .output()
        .contains("missing from the sandbox of functions: own files")
    {
        println!("this machine refuses namespaces");
        return;
    }
    let expected = json!({"found": [], "own": true, "told": [], "environment": [], "first": false});
    assert_eq!(reply.json(), expected);
    let notes = http.get("/api/collections/notes").await;
    assert_eq!(notes.json()["total"], 1);
}
