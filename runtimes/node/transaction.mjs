// `ctx.db.transaction(work)`: runs `work` with a database of its own whose writes are seen by it alone until it
// returns, and are carried out then, all or none, if nothing that it has read was changed meanwhile. If something
// was, `work` runs again from the start.

/** Times that `work` is run before the conflict is thrown. */
const ATTEMPTS = 10;
/** Longest first pause between two runs, in milliseconds; doubled each time. */
const PAUSE = 2;
const LONGEST_PAUSE = 100;

/** `send(op, collection, args)` calls the gateway; `databaseOf(send, transaction, atomically)` makes a
 *  database of it. */
export function transactionOf(send, databaseOf) {
  return async function transaction(work) {
    if (typeof work !== "function") {
      throw new TypeError("ctx.db.transaction takes a function: ctx.db.transaction(async (tx) => { … })");
    }
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await once(send, databaseOf, work);
      } catch (error) {
        if (error?.code !== "TRANSACTION_CONFLICT" || attempt >= ATTEMPTS) {
          throw error;
        }
      }
      await pause(attempt);
    }
  };
}

async function once(send, databaseOf, work) {
  const { tx } = await send("begin", "", {});
  const within = (op, collection, args) => send("within", collection, { tx, op, args });
  const db = databaseOf(within, nested, (inner) => inner(db));
  let result;
  try {
    result = await work(db);
  } catch (error) {
    // What was thrown is what matters, whether or not there is anything left to roll back.
    await send("rollback", "", { tx }).catch(() => undefined);
    throw error;
  }
  await send("commit", "", { tx });
  return result;
}

function nested() {
  throw new TypeError("a transaction has no transactions of its own: use the one that is open");
}

function pause(attempt) {
  const longest = Math.min(PAUSE * 2 ** attempt, LONGEST_PAUSE);
  return new Promise((resolve) => setTimeout(resolve, Math.random() * longest));
}
