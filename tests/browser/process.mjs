// Processes that the tests start, and what they wait for.
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
export const alyx = process.env.ALYX_BIN ?? join(repository, "target", "debug", "alyx");

// Ports are chosen before the processes start, and outlive their restarts, so that open tabs find them again.
export async function freePorts(count) {
  const probes = await Promise.all(Array.from({ length: count }, () => new Promise((done) => {
    const probe = createServer().listen(0, "127.0.0.1", () => done(probe));
  })));
  const ports = probes.map((probe) => probe.address().port);
  await Promise.all(probes.map((probe) => new Promise((done) => probe.close(done))));
  return ports;
}

// A copy of the chat demo in a folder of its own, without anybody's data.
export function copyOfChat() {
  const project = mkdtempSync(join(tmpdir(), "alyx-chat-"));
  cpSync(join(repository, "examples", "chat"), project, {
    recursive: true,
    filter: (path) => !path.startsWith(join(repository, "examples", "chat", "data")),
  });
  return { project, remove: () => rmSync(project, { recursive: true, force: true }) };
}

// A process that is started now; `answers` says when it is ready.
export async function start({ program, args, cwd, env = {}, answers }) {
  if (!existsSync(program)) {
    throw new Error(`${program} is missing: run scripts/install-test-tools.sh and cargo build --workspace first`);
  }
  let output = "";
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => { output = (output + data).slice(-20_000); });
  }
  const ended = new Promise((done) => child.once("exit", done));
  const deadline = Date.now() + 60_000;
  while (!(await answers())) {
    const what = `${program} ${args.join(" ")}`;
    if (child.exitCode !== null) throw new Error(`${what} ended:\n${output}`);
    if (Date.now() > deadline) throw new Error(`${what} is not ready:\n${output}`);
    await new Promise((done) => setTimeout(done, 20));
  }
  return {
    async end(signal) {
      child.kill(signal);
      await ended;
    },
  };
}

export const ok = (url) => async () => (await fetch(url).catch(() => null))?.ok ?? false;
