// The chat demo in a real browser: two tabs, and messages from the outside, in both forms of the product.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";

import { FORMS } from "./forms.mjs";

const executablePath = process.env.ALYX_CHROMIUM ?? "/usr/bin/chromium";
const flags = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

const shown = (page, text) => page.locator("#messages li", { hasText: text });

for (const { name, startChat } of FORMS) {
  describe(name, () => inABrowser(startChat));
}

function inABrowser(startChat) {
  let server;
  let browser;

  before(async () => {
    server = await startChat();
    browser = await chromium.launch({ executablePath, args: flags });
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  async function openTab(base = server.bases.at(-1)) {
    const page = await (await browser.newContext()).newPage();
    const problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => { if (message.type() === "error") problems.push(message.text()); });
    await page.goto(base);
    await page.locator('#status[data-state="live"]').waitFor();
    return { page, problems };
  }

  async function post(path, body) {
    const reply = await fetch(server.bases[0] + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: reply.status, body: await reply.json() };
  }

  test("a message sent in one tab appears in the other", async () => {
    const [alice, bob] = [await openTab(server.bases[0]), await openTab()];
    await alice.page.fill("#author", "Alice");
    await alice.page.fill("#content", "Hello from tab one");
    await alice.page.click("#compose button");
    await shown(bob.page, "Hello from tab one").waitFor();
    await shown(alice.page, "Hello from tab one").waitFor();
    assert.equal(await shown(bob.page, "Hello from tab one").locator(".author").textContent(), "Alice");
    assert.deepEqual([...alice.problems, ...bob.problems], []);
  });

  test("messages sent by curl's REST and function calls appear in the tab", async () => {
    const { page } = await openTab();
    const created = await post("/api/collections/messages", { channel: "general", author: "Bob", content: "by REST" });
    assert.equal(created.status, 201);
    await shown(page, "by REST").waitFor();
    const sent = await post("/api/functions/sendMessage", { input: { channel: "general", content: "by function" } });
    assert.equal(sent.body.success, true);
    assert.match(sent.body.output.author, /^Anon-/);
    await shown(page, "by function").waitFor();
  });

  test("a changed and a deleted message change in the open tab", async () => {
    const { page } = await openTab();
    const { body } = await post("/api/collections/messages", { channel: "general", author: "Eve", content: "first words" });
    await shown(page, "first words").waitFor();
    await fetch(`${server.bases[0]}/api/collections/messages/${body.id}`, {
      method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ content: "better words" }),
    });
    await shown(page, "better words").waitFor();
    await fetch(`${server.bases[0]}/api/collections/messages/${body.id}`, { method: "DELETE" });
    await shown(page, "better words").waitFor({ state: "detached" });
  });

  test("a tab shows only the channel that it is in", async () => {
    const { page } = await openTab();
    await post("/api/collections/messages", { channel: "random", author: "Bob", content: "elsewhere" });
    await post("/api/collections/messages", { channel: "general", author: "Bob", content: "right here" });
    await shown(page, "right here").waitFor();
    assert.equal(await shown(page, "elsewhere").count(), 0);
    await page.click('button[data-channel="random"]');
    await shown(page, "elsewhere").waitFor();
    assert.equal(await shown(page, "right here").count(), 0);
  });

  test("text is shown as text, never as markup", async () => {
    const { page } = await openTab();
    await post("/api/collections/messages", { channel: "general", author: "<b>M</b>", content: "<img src=x onerror=alert(1)>" });
    await shown(page, "<img src=x onerror=alert(1)>").waitFor();
    assert.equal(await page.locator("#messages img, #messages b").count(), 0);
  });

  test("a tab catches up after the server was killed and started again", async () => {
    const { page } = await openTab();
    await post("/api/collections/messages", { channel: "general", author: "Bob", content: "before the crash" });
    await shown(page, "before the crash").waitFor();
    await server.crashAndRestart();
    await post("/api/collections/messages", { channel: "general", author: "Bob", content: "after the crash" });
    await shown(page, "after the crash").waitFor({ timeout: 60_000 });
    await shown(page, "before the crash").waitFor();
  });

  test("the docs page renders the API from embedded assets", async () => {
    const page = await (await browser.newContext()).newPage();
    const base = server.bases.at(-1);
    const foreign = [];
    page.on("request", (request) => { if (!request.url().startsWith(base) && !request.url().startsWith("data:")) foreign.push(request.url()); });
    await page.goto(`${base}/docs`);
    await page.getByText("/api/collections/messages", { exact: true }).first().waitFor();
    assert.deepEqual(foreign, []);
    if (process.env.ALYX_SCREENSHOTS) await page.screenshot({ path: `${process.env.ALYX_SCREENSHOTS}/docs.png`, fullPage: true });
  });
}
