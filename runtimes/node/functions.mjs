// What user code gets from `import … from "@alyx/functions"`: resolved to this file by the runtime, never fetched.

import { Context } from "./context.mjs";
import { current } from "./logs.mjs";

/** Returns its argument: a function's declaration, written down for editors and readers. */
export function defineFunction(declaration) {
  return declaration;
}

/** The context of the call that runs now, for code that is not handed it. */
export function getContext() {
  const invocation = current.getStore();
  if (invocation === undefined) {
    throw new Error("getContext() only works while a function is being called");
  }
  return new Context(invocation);
}
