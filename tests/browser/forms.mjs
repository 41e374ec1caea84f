// The chat demo in its two forms: one process, and a cluster over a real NATS and a real libSQL server.
// Either is `{bases, crashAndRestart, stop}`: requests go to the first of `bases`, tabs are opened on the last,
// and it is what serves the last that crashes.
import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import { join } from "node:path";

import { alyx, copyOfChat, freePorts, ok, repository, start } from "./process.mjs";

async function startEmbedded() {
  const { project, remove } = copyOfChat();
  const [port] = await freePorts(1);
  const base = `http://localhost:${port}`;
  const launch = () => start({
    program: alyx, args: ["dev", "--port", String(port)], cwd: project, answers: ok(`${base}/health/ready`),
  });
  let server = await launch();
  return {
    bases: [base],
    async crashAndRestart() {
      await server.end("SIGKILL");
      server = await launch();
    },
    async stop() {
      await server.end("SIGTERM");
      remove();
    },
  };
}

const accepts = (port) => () => new Promise((done) => {
  const socket = connect(port, "127.0.0.1");
  socket.once("connect", () => { socket.destroy(); done(true); });
  socket.once("error", () => done(false));
});

// One control plane, and two of each other role.
const ROLES = ["control-plane", "realtime-node", "realtime-node", "function-worker", "function-worker", "gateway", "gateway"];

async function startCluster() {
  const { project, remove } = copyOfChat();
  const [nats, database, administration, ...ports] = await freePorts(3 + 3 * ROLES.length);
  const running = [
    await start({
      program: join(repository, ".cache/nats/bin/nats-server"), args: ["-a", "127.0.0.1", "-p", String(nats)],
      cwd: project, answers: accepts(nats),
    }),
    await start({
      program: join(repository, ".cache/sqld/sqld"), cwd: project, answers: ok(`http://127.0.0.1:${database}/health`),
      args: ["--no-welcome", "--http-listen-addr", `127.0.0.1:${database}`,
        "--admin-listen-addr", `127.0.0.1:${administration}`, "--db-path", join(project, "libsql")],
    }),
  ];
  const shared = {
    ALYX_CLUSTER_TOKEN: randomBytes(24).toString("hex"),
    ALYX_CLUSTER_NATS: `nats://127.0.0.1:${nats}`,
    ALYX_CLUSTER_CONTROL_PLANE: `127.0.0.1:${ports[0]}`,
    ALYX_DATABASE_TURSO_URL: `http://127.0.0.1:${database}`,
  };
  const launch = (index) => {
    const [rpc, health, http] = ports.slice(3 * index);
    return start({
      program: alyx, args: [ROLES[index]], cwd: project, answers: ok(`http://127.0.0.1:${health}/health/ready`),
      env: {
        ...shared,
        ALYX_CLUSTER_LISTEN: `127.0.0.1:${rpc}`,
        ALYX_METRICS_LISTEN: `127.0.0.1:${health}`,
        ALYX_SERVER_PORT: String(http),
      },
    });
  };
  for (const index of ROLES.keys()) running.push(await launch(index));
  const last = ROLES.length - 1;
  return {
    bases: [last - 1, last].map((index) => `http://localhost:${ports[3 * index + 2]}`),
    async crashAndRestart() {
      await running.pop().end("SIGKILL");
      running.push(await launch(last));
    },
    async stop() {
      for (const process of running.reverse()) await process.end("SIGTERM");
      remove();
    },
  };
}

export const FORMS = [
  { name: "embedded", startChat: startEmbedded },
  { name: "cluster", startChat: startCluster },
];
