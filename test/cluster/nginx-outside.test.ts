import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { sharedCluster } from "../harness/cluster.js";
import { knock } from "../harness/knock.js";
import { needs } from "../harness/needs.js";
import { startNginx } from "../harness/nginx.js";
import { exchange, requestText } from "../harness/raw-http.js";
import { openRecorder } from "../harness/recorder.js";
import { SecretSearch } from "../harness/secrets.js";
import { SERVICE_KEY, token } from "../harness/token.js";

const PUBLISH = "/api/v1/internal/ws/publish";
const INSIDE = [PUBLISH, "/api/v1/internal/", "/api/v1/connections", "/metrics", "/admin", "/admin/"];
const CHANGE = JSON.stringify({
  event_type: "AGENT_STATUS_CHANGED",
  agent_id: "from-outside",
  project_id: "p1",
  payload: { new_status: "working" },
});

const encoded = (path: string) => path.replace(/[a-z]/g, (letter) => `%${letter.charCodeAt(0).toString(16)}`);
/** What some reader, before or behind, might take for the path. */
const spellings = (path: string): string[] => [
  path,
  `${path}/`,
  `${path}?a=b`,
  `${path}#`,
  `${path}%00`,
  `${path}%20`,
  `${path};a=b`,
  path.toUpperCase(),
  encoded(path),
  path.replaceAll("/", "//"),
  path.replaceAll("/", "/./"),
  path.replaceAll("/", "%2f"),
  path.replaceAll("/", "\\"),
  `${path.replaceAll("/", "\\")}#`,
  `${path.replaceAll("/", "\\")}?#`,
  `/x/..${path}`,
  `/socket.io/..${path}`,
  `/socket.io/%2e%2e${path}`,
  `/socket.io/..%2f..${path}`,
  `/socket.io/..;${path}`,
  `/socket.io${path}`,
  `/assets/..${path}`,
  `/assets/x/../..${path}`,
  `http://127.0.0.1:8080${path}`,
  `http://node${path}#`,
];

describe("what nginx lets through from outside", () => {
  needs("NGINX");
  needs("REDIS");
  const cluster = sharedCluster({ nodes: 1 });

  it("[D27] of internal and admin paths nothing reaches a node, however they are spelled", async () => {
    const recorder = await openRecorder();
    const nginx = await startNginx([recorder.port]);
    recorder.asked.length = 0;
    for (const path of INSIDE) {
      for (const spelled of spellings(path)) {
        for (const method of ["GET", "POST", "OPTIONS"]) {
          const body = method === "POST" ? CHANGE : "";
          const headers = {
            // As if it came from inside.
            "X-Forwarded-For": "127.0.0.1",
            "X-Real-IP": "10.0.0.1",
            "X-Internal-Service-Key": SERVICE_KEY,
            "Content-Type": "application/json",
            "Content-Length": String(Buffer.byteLength(body)),
          };
          const { statuses } = await exchange(nginx.url, requestText(`${method} ${spelled}`, headers, body));
          expect(statuses, `${method} ${spelled}`).to.have.length(1);
          expect(statuses[0], `${method} ${spelled}`).to.be.oneOf([404, 400]);
        }
      }
      const plain = await exchange(nginx.url, requestText(`GET ${path}`));
      expect(plain.statuses, path).to.deep.equal([404]);
    }
    expect(recorder.asked.map(({ req }) => req.url)).to.deep.equal([]);
  });

  it("[D27] a node is asked for what is public only, and in one spelling", async () => {
    const recorder = await openRecorder();
    const nginx = await startNginx([recorder.port]);
    for (const [asked, wanted] of [
      ["/", "/"],
      ["//", "/"],
      ["/healthz", "/healthz"],
      ["/./readyz", "/readyz"],
      ["//socket.io/?EIO=4&a=%2f..%2f", "/socket.io/?EIO=4&a=%2f..%2f"],
      ["/x/../socket.io/", "/socket.io/"],
      ["/%73ocket.io/?x", "/socket.io/?x"],
      ["/assets/client/index.js", "/assets/client/index.js"],
      ["/assets/x/..//client/a%20b%23%3F.js?v=1", "/assets/client/a%20b%23%3F.js?v=1"],
    ]) {
      recorder.asked.length = 0;
      await exchange(nginx.url, requestText(`GET ${asked}`));
      expect(new Set(recorder.asked.map(({ req }) => req.url)), asked).to.deep.equal(new Set([wanted]));
    }
  });

  it("[D27] behind it everything that a viewer needs is there, and nothing is published", async () => {
    const { redis, node, keys } = cluster();
    const nginx = await startNginx([node(1).port]);
    for (const path of [
      "/",
      "/healthz",
      "/readyz",
      "/assets/dashboard/dashboard.js",
      "/assets/client/index.js",
    ]) {
      expect((await fetch(nginx.url + path)).status, path).to.equal(200);
    }
    const before = await redis.client().get(keys.head);
    for (const path of spellings(PUBLISH)) {
      const headers = {
        "X-Internal-Service-Key": SERVICE_KEY,
        "Content-Type": "application/json",
        "Content-Length": String(CHANGE.length),
      };
      const { statuses } = await exchange(nginx.url, requestText(`POST ${path}`, headers, CHANGE));
      expect(statuses[0], path).to.be.oneOf([404, 400]);
      // The nodes themselves are asked by services.
      if (path !== PUBLISH) continue;
      const direct = await exchange(node(1).url, requestText(`POST ${path}`, headers, CHANGE));
      expect(direct.statuses).to.deep.equal([202]);
    }
    const after = await redis.client().xrange(keys.events, before ? `(${before}` : "-", "+");
    expect(after.filter(([, fields]) => fields.join().includes("from-outside"))).to.have.length(1);
  });

  it("[D26] no token stands in what nginx writes, whatever goes wrong", async () => {
    const recorder = await openRecorder();
    const nginx = await startNginx([cluster().node(1).port, recorder.port]);
    const own = token("anna", ["p1"]);
    const query = `EIO=4&token=${own}`;
    const bearer = { Authorization: `Bearer ${own}` };
    for (const transport of ["polling", "websocket"]) {
      await knock(`${nginx.url}/socket.io/?transport=${transport}&${query}`);
      await knock(`${nginx.url}/socket.io/?transport=${transport}&${query}x`, bearer);
      await knock(`${nginx.url}/socket.io/?transport=${transport}&${query}&sid=x.node-1`);
      await knock(`${nginx.url}/socket.io/?transport=${transport}&EIO=4`, bearer);
    }
    // Paths that a wrong client made of it.
    for (const path of [`/socket.io/&${query}`, `/socket.io/%3F${query}`, `/${own}`, `/assets/${own}`])
      await exchange(nginx.url, requestText(`GET ${path}`, { Referer: `http://x/?${query}` }));
    // Not HTTP, a node that is gone, a header that is too large, a body that cannot be kept.
    await exchange(nginx.url, requestText(`GET /socket.io/?${query} x`));
    await exchange(nginx.url, requestText(`GET /socket.io/?${query}`, { "X-Large": "x".repeat(200_000) }));
    const gone = await startNginx([1]);
    await exchange(gone.url, requestText(`GET /socket.io/?${query}`));
    await rm(join(nginx.folder, "client_body"), { recursive: true });
    const large = requestText(
      `POST /socket.io/?transport=polling&${query}`,
      { "Content-Length": "100000" },
      "x".repeat(100_000),
    );
    expect((await exchange(nginx.url, large)).statuses).to.deep.equal([500]);

    const search = new SecretSearch();
    search.addToken(own);
    for (const one of [nginx, gone]) search.see("nginx", await one.written());
    expect(search.find()).to.deep.equal([]);
    const written = await nginx.written();
    expect(written)
      .to.match(/GET \/socket\.io\/ 401 /)
      .and.match(/POST \/socket\.io\/ 500 /);
    expect(readFileSync(join(nginx.folder, "error.log"), "utf8")).not.to.include("socket.io");
  });
});
