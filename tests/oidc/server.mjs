// A real OpenID provider (oauth2-mock-server), and a way for tests to make it say other things.
//
// Prints `oidc <issuer> control <address>`. `PUT <address>/` sets, as JSON:
//   claims     put into ID tokens and into what it says about somebody; null removes one
//   raw        in place of the signature: "none", or "hs256" (by the public key, as if it were a shared secret)
//   canned     {path: JSON} that the control address answers itself, as a provider without OpenID does
// `GET <address>/count` tells how many codes were turned in.
import { createHmac } from "node:crypto";
import http from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(new URL("../../.cache/oidc/", import.meta.url));
const { OAuth2Server } = await import(pathToFileURL(require.resolve("oauth2-mock-server")));

let settings = {};
let count = 0;
const server = new OAuth2Server();
await server.issuer.keys.generate("RS256");
await server.start(0, "127.0.0.1");
server.issuer.url = server.issuer.url.replace("localhost", "127.0.0.1");

const put = (object) => {
  for (const [name, value] of Object.entries(settings.claims ?? {})) {
    if (value === null) delete object[name];
    else object[name] = value;
  }
};
server.service.on("beforeTokenSigning", (token) => put(token.payload));
server.service.on("beforeUserinfo", (reply) => put(reply.body));
server.service.on("beforeResponse", (reply) => {
  count += 1;
  if (!settings.raw || !reply.body.id_token) return;
  const encode = (text) => Buffer.from(text).toString("base64url");
  const claims = reply.body.id_token.split(".")[1];
  if (settings.raw === "none") {
    reply.body.id_token = `${encode('{"alg":"none"}')}.${claims}.`;
  } else {
    const [key] = server.issuer.keys.toJSON();
    const signed = `${encode('{"alg":"HS256"}')}.${claims}`;
    const secret = Buffer.from(key.n, "base64url");
    reply.body.id_token = `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  }
});

const control = http.createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    const answer = (value) => response.setHeader("content-type", "application/json").end(JSON.stringify(value));
    if (request.method === "PUT") {
      settings = JSON.parse(body);
      answer(null);
    } else if (request.url === "/count") {
      answer(count);
    } else {
      answer(settings.canned?.[request.url] ?? null);
    }
  });
});
control.listen(0, "127.0.0.1", () => {
  console.log(`oidc ${server.issuer.url} control http://127.0.0.1:${control.address().port} ready`);
});
