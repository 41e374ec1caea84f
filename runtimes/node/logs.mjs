// What user code logs, as LOG frames of the invocation that logged it.
//
// `ctx.log` knows its invocation; `console` and `process.stdout` find it by asynchronous context. Both are
// bounded here, so that a chatty handler costs itself and not the socket; the worker checks the bounds again.

import { AsyncLocalStorage } from "node:async_hooks";
import { Readable, Writable } from "node:stream";
import { format, inspect } from "node:util";

import { TYPE } from "./frames.mjs";

const MAX_LINE = 64 * 1024;
const MAX_BYTES = 1024 * 1024;
const MAX_ENTRIES = 1000;

/** The invocation that runs now. */
export const current = new AsyncLocalStorage();

/** Counts what one invocation has logged. */
export class LogBudget {
  entries = 0;
  bytes = 0;
  spent = false;
}

let link;

/** Sends one line. `invocation` is undefined where no invocation logged it. */
export function record(invocation, level, message, data) {
  const stream = invocation === undefined || invocation.ended ? 0 : invocation.id;
  const entry = { level, message: cut(message), data: undefined, timestamp: new Date().toISOString() };
  if (data !== undefined) {
    entry.data = portable(data);
  }
  if (stream !== 0) {
    const budget = invocation.logBudget;
    if (budget.spent) {
      return;
    }
    budget.entries += 1;
    budget.bytes += entry.message.length;
    if (budget.entries > MAX_ENTRIES || budget.bytes > MAX_BYTES) {
      budget.spent = true;
      entry.level = "warn";
      entry.message = `log truncated: one call may log ${MAX_ENTRIES} lines and ${MAX_BYTES} bytes`;
      entry.data = undefined;
    }
  }
  let body = JSON.stringify(entry);
  if (body.length > 2 * MAX_LINE) {
    entry.data = "data left out: too large";
    body = JSON.stringify(entry);
  }
  if (stream !== 0) {
    invocation.logBudget.bytes += body.length - entry.message.length;
  }
  link.send(TYPE.LOG, stream, "", body);
}

function cut(text) {
  return text.length <= MAX_LINE ? text : `${text.slice(0, MAX_LINE - 16)}… [truncated]`;
}

// Whatever is logged must travel as JSON: errors have no enumerable members, cycles and BigInt have no JSON.
function portable(data) {
  const seen = data instanceof Error ? describeError(data) : data;
  try {
    const text = JSON.stringify(seen, (_key, value) => (value instanceof Error ? describeError(value) : value));
    return text === undefined ? inspect(seen) : JSON.parse(text);
  } catch {
    return inspect(seen, { depth: 4, maxArrayLength: 50, maxStringLength: 4096 });
  }
}

function describeError(error) {
  return { ...error, name: error.name, message: error.message, stack: error.stack };
}

/** `ctx.log` of one invocation; its functions may be taken off it. */
export function loggerOf(invocation) {
  const at = (level) => (message, data) =>
    record(invocation, level, typeof message === "string" ? message : format(message), data);
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** Points `console`, `process.stdout`, `process.stderr` here and closes `process.stdin`, whose descriptor is the
 *  worker's socket. */
export function capture(toLink) {
  link = toLink;
  const levels = { log: "info", info: "info", debug: "debug", warn: "warn", error: "error" };
  for (const [method, level] of Object.entries(levels)) {
    console[method] = (...args) => record(current.getStore(), level, format(...args));
  }
  console.trace = (...args) => {
    const holder = { name: "Trace", message: format(...args) };
    Error.captureStackTrace(holder, console.trace);
    record(current.getStore(), "debug", holder.stack);
  };
  redirect("stdout", 1, "info");
  redirect("stderr", 2, "error");
  lazily("stdin", () => Readable.from([]));
}

function redirect(name, fd, level) {
  lazily(name, () => {
    const stream = new Writable({
      decodeStrings: false,
      write(chunk, encoding, done) {
        const text = typeof chunk === "string" ? chunk : chunk.toString();
        for (const line of text.split("\n")) {
          if (line !== "") {
            record(current.getStore(), level, line);
          }
        }
        done();
      },
    });
    stream.fd = fd;
    stream.isTTY = false;
    return stream;
  });
}

function lazily(name, make) {
  let made;
  Object.defineProperty(process, name, {
    configurable: true,
    enumerable: true,
    get: () => (made ??= make()),
  });
}
