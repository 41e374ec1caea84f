// Loads a function's module with `@alyx/functions` resolvable from anywhere, without a file in its folder.

import fs from "node:fs";
import Module, * as module from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

import * as functions from "./functions.mjs";
import { handlerOf } from "./handler.mjs";

const NAME = "@alyx/functions";
const SCAN_FILES = 500;
const SCAN_BYTES = 8 * 1024 * 1024;

/** Makes the name resolvable where that costs nothing; see `load` for the rest. */
export function provide() {
  globalThis.defineFunction = functions.defineFunction;
  const original = Module._load;
  Module._load = function load(request, ...rest) {
    return request === NAME ? functions : original.call(this, request, ...rest);
  };
  const url = new URL("./functions.mjs", import.meta.url).href;
  module.registerHooks?.({
    resolve: (specifier, context, next) =>
      specifier === NAME ? { url, format: "module", shortCircuit: true } : next(specifier, context),
  });
}

/** Imports the entry point and finds its handler. */
export async function load(root, entrypoint) {
  // Node before 22.15 resolves imports only in a thread of its own, worth its 30 ms only where it is needed.
  if (module.registerHooks === undefined && mentions(root)) {
    const url = JSON.stringify(new URL("./functions.mjs", import.meta.url).href);
    const hook = `export const resolve = (s, c, n) =>
      s === "${NAME}" ? { url: ${url}, format: "module", shortCircuit: true } : n(s, c);`;
    module.register(`data:text/javascript,${encodeURIComponent(hook)}`);
  }
  return handlerOf(await import(pathToFileURL(path.join(root, entrypoint)).href));
}

// Whether any source of the function, dependencies aside, has the name in it.
function mentions(root) {
  const folders = [root];
  let files = 0;
  let bytes = 0;
  while (folders.length > 0) {
    const folder = folders.pop();
    for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
      const file = path.join(folder, entry.name);
      if (entry.isDirectory() && entry.name !== "node_modules") {
        folders.push(file);
      } else if (/\.[cm]?[jt]s$/.test(entry.name) && files < SCAN_FILES && bytes < SCAN_BYTES) {
        const source = fs.readFileSync(file, "latin1");
        files += 1;
        bytes += source.length;
        if (source.includes(NAME)) {
          return true;
        }
      }
    }
  }
  return false;
}
