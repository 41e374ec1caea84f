// Finds the handler in a function's module, whichever way it was written, and calls it.

import { compile } from "./checks.mjs";
import { Context, hybrid } from "./context.mjs";
import { current } from "./logs.mjs";

/** Reads the styles: `export default` a function, or an object with `handler` and perhaps `input`; a `handler`
 *  export; `module.exports` with the same; `config` beside a function for its input checks. */
export function handlerOf(module) {
  let found = module.default;
  if (found?.__esModule && found.default !== undefined) {
    found = found.default;
  }
  if (typeof found === "function") {
    const config = module.config ?? found.config;
    return new Handler(found, false, compile(config?.input, "config.input"));
  }
  if (typeof found?.handler === "function") {
    const declared = found.input ?? found.config?.input;
    return new Handler(found.handler.bind(found), true, compile(declared, "input"));
  }
  if (typeof module.handler === "function") {
    return new Handler(module.handler, false, compile(module.config?.input, "config.input"));
  }
  throw new TypeError(
    "it exports no handler: write `export default async function (ctx) { … }` " +
      "or `export default { async handler(input, ctx) { … } }`",
  );
}

class Handler {
  #call;
  #takesInput;
  #check;

  constructor(call, takesInput, check) {
    this.#call = call;
    this.#takesInput = takesInput;
    this.#check = check;
  }

  /** What is wrong with the input; `undefined` where nothing is. */
  problems(input) {
    const problems = this.#check?.(input);
    return problems === undefined || problems.length === 0 ? undefined : problems;
  }

  /** Calls the handler; throws and returns as it does. */
  run(invocation) {
    const context = new Context(invocation);
    const first = this.#takesInput ? invocation.input : hybrid(invocation, context);
    return current.run(invocation, this.#call, first, context);
  }
}

/** What a thrown value says, in the form that the worker reads. */
export function describe(thrown) {
  if (typeof thrown !== "object" || thrown === null) {
    return { message: thrown === undefined ? "the handler threw undefined" : String(thrown), extra: {} };
  }
  // The runtime's own codes (ENOENT, ERR_INVALID_ARG_TYPE) report a defect, not an answer meant for the caller.
  const system = isSystem(thrown);
  const { code, status, message } = thrown;
  const { code: _c, status: _s, message: _m, stack: _k, cause: _u, name: _n, ...extra } = thrown;
  return {
    code: typeof code === "string" && code !== "" && !system ? code.slice(0, 128) : undefined,
    status: Number.isInteger(status) && status >= 400 && status <= 599 ? status : undefined,
    message: typeof message === "string" && message !== "" ? message.slice(0, 8192) : nameOf(thrown, code),
    extra: system ? {} : extra,
  };
}

function isSystem(thrown) {
  return thrown instanceof Error && (thrown.errno !== undefined || /^ERR_[A-Z]/.test(String(thrown.code)));
}

function nameOf(thrown, code) {
  if (typeof code === "string" && code !== "") {
    return code;
  }
  return thrown instanceof Error ? thrown.name : "the handler threw an object without a message";
}
