// node --experimental-websocket check.mjs A B: the chat demo, held to its promises through two public addresses.
// Prints a line for each promise; ends with status 1 where one is broken.
import { setTimeout as limit } from "node:timers/promises";

const [a, b] = process.argv.slice(2);
const LONGEST = 20_000;
let passed = 0;
let failed = 0;

async function promise(text, keep) {
  try {
    await Promise.race([
      keep(),
      limit(LONGEST, undefined, { ref: false }).then(() => { throw new Error(`not within ${LONGEST} ms`); }),
    ]);
    passed += 1;
    console.log(`  ok    ${text}`);
  } catch (error) {
    failed += 1;
    console.log(`  FAIL  ${text}: ${error.message}`);
  }
}

async function post(url, body) {
  const reply = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${url} answered ${reply.status} ${text}`);
  return JSON.parse(text);
}

/// A live query of one channel's messages. `until(seen)` waits until `seen(docs)` holds.
async function follow(base, channel) {
  const socket = new WebSocket(`${base.replace("http", "ws")}/api/realtime`);
  const docs = new Map();
  let changed = () => {};
  let problem;
  socket.onmessage = ({ data }) => {
    const { type, payload } = JSON.parse(data);
    if (type === "connected") {
      socket.send(JSON.stringify({ type: "subscribe", payload: { collection: "messages", filter: { channel } } }));
    } else if (type === "snapshot") {
      docs.clear();
      for (const doc of payload.docs) docs.set(doc.id, doc);
      docs.whole = true;
    } else if (type === "delta") {
      for (const doc of [...payload.changes.inserts, ...payload.changes.updates]) docs.set(doc.id, doc);
      for (const id of payload.changes.deletes) docs.delete(id);
    } else if (type === "error") {
      problem = new Error(`${payload.code} ${payload.message}`);
    }
    changed();
  };
  socket.onerror = () => { problem = new Error(`the socket to ${base} failed`); changed(); };
  socket.onclose = () => { problem ??= new Error(`the socket to ${base} closed`); changed(); };
  const until = async (seen) => {
    for (;;) {
      if (problem) throw problem;
      if (docs.whole && seen(docs)) return;
      await new Promise((wake) => { changed = wake; });
    }
  };
  await until(() => true);
  return { until, close: () => socket.close() };
}

const channel = `check-${Date.now()}`;
const says = (content) => (docs) => [...docs.values()].some((doc) => doc.content === content);
const create = (base, content) => post(`${base}/api/collections/messages`, { channel, author: "Check", content });
const send = (base, content) => post(`${base}/api/functions/sendMessage`, { input: { channel, content } });
const sockets = [];

for (const [name, base] of [["A", a], ["B", b]]) {
  await promise(`${name} is ready`, async () => {
    const reply = await fetch(`${base}/health/ready`);
    if (!reply.ok) throw new Error(`it answered ${reply.status} ${await reply.text()}`);
  });
  await promise(`${name} serves the demo's page`, async () => {
    const page = await (await fetch(`${base}/`)).text();
    if (!page.includes("<html")) throw new Error(`it answered ${page.slice(0, 200)}`);
  });
}
await promise("live queries open on A and on B", async () => {
  sockets.push(await follow(a, channel), await follow(b, channel));
});
const [onA, onB] = sockets;
if (onB) {
  await promise("a message posted through A arrives on B, and on A", async () => {
    await create(a, "from A");
    await Promise.all([onB.until(says("from A")), onA.until(says("from A"))]);
  });
  await promise("a message posted through B arrives on A", async () => {
    await create(b, "from B");
    await onA.until(says("from B"));
  });
  await promise("a function called through A arrives on B", async () => {
    await send(a, "function from A");
    await onB.until(says("function from A"));
  });
  await promise("a function called through B arrives on A", async () => {
    await send(b, "function from B");
    await onA.until(says("function from B"));
  });
  await promise("fifty messages through both arrive on both, once each", async () => {
    const made = await Promise.all(
      Array.from({ length: 50 }, (_, i) => create(i % 2 ? a : b, `many ${i}`)),
    );
    const all = (docs) => made.every(({ id }) => docs.has(id)) && docs.size === 54;
    await Promise.all([onA.until(all), onB.until(all)]);
  });
}
for (const [name, base] of [["A", a], ["B", b]]) {
  await promise(`a list through ${name} holds every message`, async () => {
    const list = await (await fetch(`${base}/api/collections/messages?channel=${channel}`)).json();
    if (list.total !== 54) throw new Error(`it holds ${JSON.stringify(list.total)}, not 54`);
  });
}
for (const socket of sockets) socket.close();

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
