// The page is served by Alyx itself; opened as a file or from another local server it talks to port 8090.
const api = new URLSearchParams(location.search).get("api")
  ?? (location.protocol === "file:" || location.port === "3000" ? "http://localhost:8090" : location.origin);

const LIMIT = 50;
const CHANNELS = ["general", "random", "help"];
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;

const $ = (id) => document.getElementById(id);
let channel = CHANNELS[0];
let socket;
let subscription = null;
let retryMs = FIRST_RETRY_MS;
let requests = 0;
let messages = new Map();

function connect() {
  setStatus("connecting", "connecting…");
  socket = new WebSocket(`${api.replace(/^http/, "ws")}/api/realtime`);
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = () => {
    subscription = null;
    setStatus("lost", "connection lost, trying again…");
    setTimeout(connect, retryMs * (0.5 + Math.random() / 2));
    retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
  };
}

function subscribe() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  if (subscription) socket.send(JSON.stringify({ type: "unsubscribe", payload: { subscription_id: subscription } }));
  subscription = null;
  requests += 1;
  socket.send(JSON.stringify({
    id: `sub_${requests}`,
    type: "subscribe",
    payload: { collection: "messages", filter: { channel: { $eq: channel } }, sort: ["-created_at"], limit: LIMIT },
  }));
}

function receive(frame) {
  switch (frame.type) {
    case "connected":
      retryMs = FIRST_RETRY_MS;
      setStatus("live", "live");
      subscribe();
      break;
    case "snapshot":
      // A late answer to a channel that was left meanwhile carries an older id.
      if (frame.id && frame.id !== `sub_${requests}`) return;
      subscription = frame.payload.subscription_id;
      messages = new Map(frame.payload.docs.map((doc) => [doc.id, doc]));
      render();
      break;
    case "delta": {
      if (frame.payload.subscription_id !== subscription) return;
      const { inserts, updates, deletes } = frame.payload.changes;
      for (const id of deletes) messages.delete(id);
      for (const doc of [...inserts, ...updates]) messages.set(doc.id, doc);
      render();
      break;
    }
    case "error":
      showError(frame.payload.message);
      break;
  }
}

function render() {
  const newest = [...messages.values()].sort((a, b) =>
    a.created_at < b.created_at || (a.created_at === b.created_at && a.id < b.id) ? 1 : -1);
  $("messages").replaceChildren(...newest.slice(0, LIMIT).map(row));
}

function row(message) {
  const item = document.createElement("li");
  item.dataset.id = message.id;
  const author = Object.assign(document.createElement("span"), { className: "author", textContent: message.author });
  const time = Object.assign(document.createElement("time"), {
    dateTime: message.created_at,
    textContent: new Date(message.created_at).toLocaleTimeString(),
  });
  const content = Object.assign(document.createElement("p"), { textContent: message.content });
  item.append(author, time, content);
  return item;
}

async function call(name, input) {
  const reply = await fetch(`${api}/api/functions/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ input }),
  });
  const body = await reply.json();
  if (!body.success) throw new Error(body.error?.message ?? `HTTP ${reply.status}`);
  return body.output;
}

async function send(event) {
  event.preventDefault();
  const content = $("content").value.trim();
  const author = $("author").value.trim();
  if (!content) return;
  try {
    const sent = await call("sendMessage", author ? { channel, content, author } : { channel, content });
    $("author").value = sent.author;
    $("content").value = "";
    showError("");
  } catch (error) {
    showError(`Not sent: ${error.message}`);
  }
  $("content").focus();
}

async function refreshStats() {
  try {
    const { totalMessages, channels, recentAuthors } = await call("getStats", {});
    const entries = [["messages", totalMessages], ...Object.entries(channels), ["recent", recentAuthors.join(", ") || "–"]];
    $("stats").replaceChildren(...entries.flatMap(([term, value]) => [
      Object.assign(document.createElement("dt"), { textContent: term }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    ]));
  } catch (error) {
    showError(`No statistics: ${error.message}`);
  }
}

function setStatus(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function choose(name) {
  channel = name;
  for (const button of $("channels").children) button.setAttribute("aria-current", String(button.dataset.channel === name));
  messages = new Map();
  render();
  subscribe();
}

$("channels").append(...CHANNELS.map((name) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: `# ${name}` });
  button.dataset.channel = name;
  button.onclick = () => choose(name);
  return button;
}));
$("compose").onsubmit = send;
$("refresh").onclick = refreshStats;
choose(channel);
connect();
refreshStats();
