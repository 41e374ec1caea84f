// Starts the built binary on a copy of the chat demo.
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const repository = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const binary = process.env.ALYX_BIN ?? join(repository, "target", "debug", "alyx");

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => probe.once("listening", done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  return port;
}

export async function startChat() {
  if (!existsSync(binary)) throw new Error(`${binary} is missing: run cargo build --workspace first`);
  const project = mkdtempSync(join(tmpdir(), "alyx-chat-"));
  cpSync(join(repository, "examples", "chat"), project, {
    recursive: true,
    filter: (path) => !path.startsWith(join(repository, "examples", "chat", "data")),
  });
  // The port must outlive a restart, so that open tabs find the server again.
  const port = await freePort();
  const base = `http://localhost:${port}`;
  let output = "";
  let child;

  async function start() {
    child = spawn(binary, ["dev", "--port", String(port)], { cwd: project, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => { output += data; });
    const deadline = Date.now() + 30_000;
    for (;;) {
      if (child.exitCode !== null) throw new Error(`the server ended:\n${output}`);
      if (Date.now() > deadline) throw new Error(`the server is not ready:\n${output}`);
      const ready = await fetch(`${base}/health/ready`).catch(() => null);
      if (ready?.ok) return;
      await new Promise((done) => setTimeout(done, 20));
    }
  }

  async function end(signal) {
    const ended = new Promise((done) => child.once("exit", done));
    child.kill(signal);
    await ended;
  }

  await start();
  return {
    base,
    async crashAndRestart() {
      await end("SIGKILL");
      await start();
    },
    async stop() {
      await end("SIGTERM");
      rmSync(project, { recursive: true, force: true });
    },
  };
}
