// A Node instance: starts without any user code (a stem), loads one version of one function when told to, then
// answers its invocations, many at a time, until the worker closes the socket.
//
// It loads once, holds no credential, and ends with the socket.

import { writeSync } from "node:fs";
import { performance } from "node:perf_hooks";

import { Calls, Invocation, Shared } from "./context.mjs";
import { Link, TYPE } from "./frames.mjs";
import { describe } from "./handler.mjs";
import { load, provide } from "./loading.mjs";
import { capture, current, record } from "./logs.mjs";

const exit = process.exit.bind(process);
const live = new Map();
let loaded = false;
let draining = false;
let handler;
let shared;
let maxOutput = 0;

const link = new Link(onFrame, (error) => {
  if (error !== undefined) {
    writeSync(2, `${error.stack}\n`);
  }
  exit(error === undefined ? 0 : 1);
});
const calls = new Calls(link);

function onFrame(type, stream, buffer, metaAt, bodyAt, end) {
  const meta = buffer.toString("utf8", metaAt, bodyAt);
  switch (type) {
    case TYPE.INVOKE:
      invoke(stream, meta, buffer.toString("utf8", bodyAt, end));
      break;
    case TYPE.CALL_RESULT:
      calls.settle(meta, buffer.toString("utf8", bodyAt, end));
      break;
    case TYPE.CANCEL:
      live.get(stream)?.cancel();
      break;
    case TYPE.PING:
      link.send(TYPE.PONG, stream, "", "");
      break;
    case TYPE.LOAD:
      if (loaded) {
        throw new Error("an instance loads once");
      }
      loaded = true;
      begin(JSON.parse(meta));
      break;
    case TYPE.DRAIN:
      draining = true;
      leaveWhenDone();
      break;
    default:
      throw new Error(`frame type ${type} is not one that a worker sends`);
  }
}

async function begin({ name, root, entrypoint, env, max_output }) {
  maxOutput = max_output;
  shared = new Shared(calls, name, Object.freeze({ ...env }));
  const started = performance.now();
  try {
    Object.assign(process.env, env);
    process.chdir(root);
    handler = await load(root, entrypoint);
    link.send(TYPE.READY, 0, JSON.stringify({ load_ms: performance.now() - started }), "");
  } catch (error) {
    const { message } = describe(error);
    const stack = error instanceof Error ? error.stack : undefined;
    link.send(TYPE.ERROR, 0, JSON.stringify({ message: named(error, message), stack }), "");
  }
}

// A SyntaxError's own words say nothing of its kind or place; the head of its stack names the line.
function named(error, message) {
  if (!(error instanceof SyntaxError)) {
    return message;
  }
  const place = /^(file:\/\/)?(\/.*):(\d+)$/m.exec(error.stack?.split("\n", 1)[0] ?? "");
  return place === null ? `SyntaxError: ${message}` : `SyntaxError: ${message} (line ${place[3]})`;
}

function invoke(id, meta, body) {
  let input;
  try {
    input = body === "" ? null : JSON.parse(body);
  } catch (error) {
    const message = `the input is not JSON: ${error.message}`;
    link.send(TYPE.ERROR, id, JSON.stringify({ code: "INVALID_JSON", status: 400, message }), "");
    return;
  }
  const invocation = new Invocation(id, meta, input, shared);
  live.set(id, invocation);
  const problems = handler.problems(invocation.input);
  if (problems !== undefined) {
    const [{ field, message }] = problems;
    sendError(invocation, { code: "VALIDATION_ERROR", status: 400, message, extra: { field, details: problems } });
    return;
  }
  let result;
  try {
    result = handler.run(invocation);
  } catch (thrown) {
    fail(invocation, thrown);
    return;
  }
  if (typeof result?.then === "function") {
    result.then(
      (value) => succeed(invocation, value),
      (thrown) => fail(invocation, thrown),
    );
  } else {
    succeed(invocation, result);
  }
}

function succeed(invocation, returned) {
  if (invocation.ended) {
    return;
  }
  const value = invocation.replied ? invocation.reply : returned;
  if (invocation.status >= 400) {
    sendError(invocation, refusal(invocation.status, value));
    return;
  }
  let body;
  try {
    body = JSON.stringify(value) ?? "null";
  } catch (error) {
    fail(invocation, new Error(`the return value cannot be written as JSON: ${error.message}`));
    return;
  }
  if (body.length > maxOutput || (body.length * 3 > maxOutput && Buffer.byteLength(body) > maxOutput)) {
    fail(invocation, new Error(`the return value is larger than ${maxOutput} bytes; return less, or a page of it`));
    return;
  }
  end(invocation, TYPE.RESULT, "", body);
}

// `res.json({ error: "…" }, 404)`: an error with that status, its members kept.
function refusal(status, body) {
  const told = typeof body === "object" && body !== null ? body : { message: String(body ?? `status ${status}`) };
  const inner = typeof told.error === "object" && told.error !== null ? told.error : told;
  const { code, message, error, ...extra } = inner;
  const words = [message, error, told.message].find((text) => typeof text === "string");
  return {
    code: typeof code === "string" ? code : "FUNCTION_ERROR",
    status: status <= 599 ? status : 500,
    message: words ?? `the function answered with status ${status}`,
    extra,
  };
}

function fail(invocation, thrown) {
  if (invocation.ended) {
    return;
  }
  let error;
  try {
    error = describe(thrown);
  } catch {
    error = { message: "the handler threw something that cannot be read", extra: {} };
  }
  if (error.code === undefined && thrown instanceof Error) {
    record(invocation, "error", error.message, { stack: thrown.stack });
  }
  sendError(invocation, error);
}

function sendError(invocation, error) {
  let meta;
  try {
    meta = JSON.stringify(error);
  } catch {
    meta = JSON.stringify({ ...error, extra: {} });
  }
  if (meta.length > maxOutput) {
    meta = JSON.stringify({ ...error, extra: {} });
  }
  end(invocation, TYPE.ERROR, meta, "");
}

function end(invocation, type, meta, body) {
  invocation.ended = true;
  live.delete(invocation.id);
  link.send(type, invocation.id, meta, body);
  if (draining) {
    leaveWhenDone();
  }
}

function leaveWhenDone() {
  if (live.size === 0) {
    link.flush();
    exit(0);
  }
}

// A promise that nobody waited for: told, and the instance goes on.
process.on("unhandledRejection", (reason) => {
  const invocation = current.getStore();
  record(invocation, "error", `a promise was rejected and nobody awaited it: ${describe(reason).message}`, reason);
});

// An error outside any promise, from a timer or an event: its call fails, and the instance takes no more.
process.on("uncaughtException", (error) => {
  if (!loaded || handler === undefined) {
    writeSync(2, `${error?.stack ?? error}\n`);
    exit(1);
  }
  const invocation = current.getStore();
  record(invocation, "error", `uncaught: ${describe(error).message}`, error);
  if (invocation !== undefined) {
    fail(invocation, error);
  }
  link.send(TYPE.DRAIN, 0, "", "");
});

process.on("exit", () => link.flush());

capture(link);
provide();
link.send(TYPE.HELLO, 0, JSON.stringify({ protocol: 1, runtime: process.version }), "");
