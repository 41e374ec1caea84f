// One invocation and what its handler sees of it.
//
// `Context` is the second argument: input, auth, env, log, db, signal, and json/status/send for handlers written
// as (req, res). `hybrid` is the first argument of plain functions: the context's members first, so that no input
// can pose as `auth`, and behind them the fields of the input, so that `ctx.input.name`, `req.input.name`,
// `input.name` and `({ name })` all read the same.

import { TYPE } from "./frames.mjs";
import { transactionOf } from "./transaction.mjs";
import { LogBudget, loggerOf } from "./logs.mjs";

const MAX_OPEN_CALLS = 256;

/** An error that `ctx.db` rejects with. */
export class DataError extends Error {
  constructor({ message, code, status, details, field, retryAfter }) {
    super(message);
    this.name = "DataError";
    this.code = code;
    this.status = status;
    if (details !== undefined) {
      this.details = details;
    }
    if (field !== undefined) {
      this.field = field;
    }
    if (retryAfter !== undefined) {
      this.retryAfter = retryAfter;
    }
  }
}

/** Calls under way to the worker, of all invocations of this instance. */
export class Calls {
  #link;
  #open = new Map();
  #waiting = [];
  #next = 1;

  constructor(link) {
    this.#link = link;
  }

  send(invocation, op, collection, args) {
    return new Promise((resolve, reject) => {
      if (invocation.ended) {
        const message = "ctx.db was used after its call had ended; await every ctx.db call before returning";
        throw new DataError({ message, code: "INVOCATION_ENDED", status: 409 });
      }
      const call = { stream: invocation.id, op, collection, body: JSON.stringify(args), resolve, reject };
      if (this.#open.size < MAX_OPEN_CALLS) {
        this.#start(call);
      } else {
        this.#waiting.push(call);
      }
    });
  }

  #start(call) {
    const id = this.#next++;
    this.#open.set(id, call);
    const meta = JSON.stringify({ id, op: call.op, collection: call.collection });
    this.#link.send(TYPE.CALL, call.stream, meta, call.body);
  }

  settle(meta, body) {
    const { id, error } = JSON.parse(meta);
    const call = this.#open.get(id);
    if (call === undefined) {
      return;
    }
    this.#open.delete(id);
    const next = this.#waiting.shift();
    if (next !== undefined) {
      this.#start(next);
    }
    if (error === undefined) {
      call.resolve(JSON.parse(body));
    } else {
      call.reject(new DataError(error));
    }
  }
}

/** What all invocations of this instance share. */
export class Shared {
  constructor(calls, name, env) {
    this.calls = calls;
    this.name = name;
    this.env = env;
  }
}

export class Invocation {
  ended = false;
  cancelled = false;
  replied = false;
  reply = undefined;
  status = 200;
  #meta;
  #metaText;
  #controller;
  #log;
  #db;
  #budget;

  constructor(id, metaText, input, shared) {
    this.id = id;
    this.#metaText = metaText;
    this.input = input ?? {};
    this.shared = shared;
  }

  get meta() {
    return (this.#meta ??= JSON.parse(this.#metaText));
  }

  get logBudget() {
    return (this.#budget ??= new LogBudget());
  }

  get log() {
    return (this.#log ??= loggerOf(this));
  }

  get db() {
    return (this.#db ??= databaseOf(this));
  }

  get signal() {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.cancelled) {
        this.#abort();
      }
    }
    return this.#controller.signal;
  }

  cancel() {
    this.cancelled = true;
    if (this.#controller !== undefined) {
      this.#abort();
    }
  }

  #abort() {
    this.#controller.abort(new DOMException("the call has reached its deadline or its caller is gone", "AbortError"));
  }
}

/** The second argument of every handler. */
export class Context {
  #invocation;

  constructor(invocation) {
    this.#invocation = invocation;
  }

  get input() {
    return this.#invocation.input;
  }

  get auth() {
    return this.#invocation.meta.auth ?? null;
  }

  get env() {
    return this.#invocation.shared.env;
  }

  get log() {
    return this.#invocation.log;
  }

  get db() {
    return this.#invocation.db;
  }

  get signal() {
    return this.#invocation.signal;
  }

  get request_id() {
    return this.#invocation.meta.request_id;
  }

  get requestId() {
    return this.#invocation.meta.request_id;
  }

  /** Where the call belongs in a trace, as the W3C header `traceparent` has it; null where it belongs to none. */
  get traceparent() {
    return this.#invocation.meta.traceparent ?? null;
  }

  get function_name() {
    return this.#invocation.shared.name;
  }

  get functionName() {
    return this.#invocation.shared.name;
  }

  status(code) {
    this.#invocation.status = Number(code);
    return this;
  }

  json(body, status) {
    this.#invocation.replied = true;
    this.#invocation.reply = body;
    if (status !== undefined) {
      this.#invocation.status = Number(status);
    }
    return undefined;
  }

  send(body) {
    return this.json(body);
  }

  end(body) {
    return this.json(body);
  }
}

const OWN = new Set(
  ["input", "auth", "env", "log", "db", "signal"].concat(["request_id", "requestId", "function_name", "functionName"]),
);

class Hybrid {
  constructor(context) {
    this.context = context;
  }

  get(input, key) {
    if (OWN.has(key)) {
      return this.context[key];
    }
    const value = input[key];
    if (value === undefined && key === "body") {
      return this.context.input;
    }
    return value === undefined && key === "traceparent" ? this.context.traceparent : value;
  }

  has(input, key) {
    return OWN.has(key) || key in input;
  }
}

/** The first argument of plain functions. Enumerates, spreads and serialises as the input. */
export function hybrid(invocation, context) {
  const { input } = invocation;
  return new Proxy(typeof input === "object" ? input : {}, new Hybrid(context));
}

function databaseOf(invocation) {
  const send = (op, name, args) => invocation.shared.calls.send(invocation, op, name, args);
  const transaction = transactionOf(send, collections);
  // A collection of that name is still there.
  Object.assign(transaction, collectionOf(send, "transaction", transaction));
  return collections(send, transaction, transaction);
}

/** The collections, each made when it is first named. `atomically` runs several calls as one. */
function collections(send, transaction, atomically) {
  const made = new Map([["transaction", transaction]]);
  return new Proxy(Object.freeze({}), {
    get(_target, name) {
      // A promise looks for `then`: the database itself is nothing to wait for.
      if (typeof name !== "string" || name === "then") {
        return undefined;
      }
      let collection = made.get(name);
      if (collection === undefined) {
        collection = collectionOf(send, name, atomically);
        made.set(name, collection);
      }
      return collection;
    },
  });
}

function collectionOf(send, name, atomically) {
  const call = (op, args) => send(op, name, args);
  const list = (query) => call("list", query ?? {});
  const needId = (id, method) => {
    if (id === undefined || id === null) {
      throw new TypeError(`ctx.db.${name}.${method}: the id is ${id}`);
    }
    return id;
  };
  const get = async (id) => call("get", { id: needId(id, "get") });
  return {
    list,
    find: async (query) => {
      const page = await list(query);
      return { ...page, data: page.docs };
    },
    aggregate: (question) => call("aggregate", question ?? {}),
    get,
    findOne: async (which) => {
      if (typeof which !== "object" || which === null) {
        return call("get", { id: needId(which, "findOne") });
      }
      const page = await list({ ...which, limit: 1 });
      return page.docs[0] ?? null;
    },
    create: (data) => call("create", { data: data ?? {} }),
    update: async (id, data) => call("update", { id: needId(id, "update"), data: data ?? {} }),
    upsert: (data) => call("upsert", { data: data ?? {} }),
    delete: async (id) => call("delete", { id: needId(id, "delete") }),
    deleteMany: async (query) => deleteMany(atomically, name, query),
  };
}

const DELETED_AT_ONCE = 500;

/** In steps, each of which is a transaction: what is deleted is what the filter selected at that moment. */
async function deleteMany(atomically, name, query) {
  let deleted = 0;
  for (;;) {
    const step = await atomically(async (tx) => {
      const page = await tx[name].list({ filter: query?.filter, limit: DELETED_AT_ONCE, fields: [] });
      // Without further fields, a document is its key.
      await Promise.all(page.docs.map((doc) => tx[name].delete(Object.values(doc)[0])));
      return page.docs.length;
    });
    deleted += step;
    if (step < DELETED_AT_ONCE) {
      return { deleted };
    }
  }
}
