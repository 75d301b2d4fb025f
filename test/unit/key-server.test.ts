import { generateKeyPairSync } from "node:crypto";
import type { ServerResponse } from "node:http";
import { expect } from "chai";
import { jwksUrlOf, KeyServer } from "../../server/src/door/key-server.js";
import { type JwksServer, startJwksServer } from "../harness/jwks.js";
import { keyPair } from "../harness/login.js";
import { until } from "../harness/wait.js";

const MINUTE = 60_000;
const [first, second] = [keyPair("ES256", "first"), keyPair("RS256", "second")];

/** A key server, and the keys that were fetched from it, by a clock that the test sets. */
async function start({ keys = [first.jwk] as object[], up = true } = {}) {
  const server = await startJwksServer(keys);
  if (!up) await server.stop();
  const clock = { now: 1_000_000 };
  const errors: string[] = [];
  const known = new KeyServer(
    server.url,
    (error) => errors.push(String(error)),
    () => clock.now,
  );
  const ids = async (kid: string) => {
    const found = await known.find(kid);
    return found === "UNAVAILABLE" ? found : found.map(({ kid, algorithm }) => `${kid} ${algorithm}`);
  };
  const fetches = () => server.requests.length;
  return { server, clock, errors, known, ids, fetches };
}

/** Answers nothing, until it is told to. */
function held(server: JwksServer) {
  const waiting: ServerResponse[] = [];
  server.answer = (res) => waiting.push(res);
  return {
    waiting,
    release(keys: object[]) {
      server.answer = undefined;
      for (const res of waiting.splice(0)) res.end(JSON.stringify({ keys }));
    },
  };
}

describe("the keys of a key server", () => {
  it("[D12] are fetched at once, before anybody asks, and then not again for each who comes", async () => {
    const { fetches, ids } = await start();
    await until("they are fetched", () => fetches() === 1);
    for (let n = 0; n < 100; n++) expect(await ids("first")).to.deep.equal(["first ES256"]);
    expect(fetches()).to.equal(1);
  });

  it("[D12] are those of the address alone, whatever id is asked for", async () => {
    const { server, ids, clock } = await start();
    for (const kid of ["../x", "http://127.0.0.1:1/x", "__proto__", "constructor", ""]) {
      expect(await ids(kid)).to.deep.equal([]);
      clock.now += MINUTE;
    }
    expect(new Set(server.requests)).to.deep.equal(new Set(["/auth/v1/.well-known/jwks.json"]));
  });

  it("[D12] are known while the key server is down, for as long as it takes", async () => {
    const { server, ids, clock } = await start();
    await ids("first");
    await server.stop();
    for (const minutes of [0, 5, 11, 25, 600]) {
      clock.now += minutes * MINUTE;
      expect(await ids("first")).to.deep.equal(["first ES256"]);
    }
  });

  it("[D12] a new one is found at once; then an unknown one is looked for every 30 s at most", async () => {
    const { server, ids, clock, fetches } = await start();
    await ids("first");
    server.keys = [first.jwk, second.jwk];
    expect(await ids("second")).to.deep.equal(["second RS256"]);
    expect(fetches()).to.equal(2);

    const third = keyPair("ES256", "third");
    server.keys.push(third.jwk);
    for (const ms of [0, 1, 29_998]) {
      clock.now += ms;
      expect(await ids("third"), `after ${ms} ms more`).to.deep.equal([]);
    }
    expect(fetches()).to.equal(2);
    clock.now += 1;
    expect(await ids("third")).to.deep.equal(["third ES256"]);
    expect(fetches()).to.equal(3);
  });

  it("[D12] a flood of unknown ids is one fetch", async () => {
    const { server, ids, fetches } = await start();
    await ids("first");
    const { waiting, release } = held(server);
    const flood = Array.from({ length: 200 }, (_, n) => ids(n % 2 ? `made-up-${n}` : "second"));
    await until("it is asked", () => waiting.length > 0);
    expect(await ids("first"), "meanwhile").to.deep.equal(["first ES256"]);
    release([first.jwk, second.jwk]);
    const found = await Promise.all(flood);
    expect(found.filter((ids) => ids.length > 0)).to.have.length(100);
    for (let n = 0; n < 200; n++) expect(await ids(`more-${n}`)).to.deep.equal([]);
    expect(fetches()).to.equal(2);
  });

  it("[D12] one that is not known while it is down may exist: UNAVAILABLE, for 30 s also when it is back", async () => {
    const { server, ids, clock, fetches, errors } = await start();
    await ids("first");
    await server.stop();
    for (let n = 0; n < 10; n++) expect(await ids("second")).to.equal("UNAVAILABLE");
    expect(errors).to.have.length(1);
    expect(errors[0]).to.match(/^Error: no answer: [A-Z_]+$/);
    server.keys = [second.jwk];
    await server.start();
    clock.now += 29_999;
    expect(await ids("second")).to.equal("UNAVAILABLE");
    expect(fetches()).to.equal(1);
    clock.now += 1;
    expect(await ids("second")).to.deep.equal(["second RS256"]);
    expect(await ids("third"), "it has answered").to.deep.equal([]);
  });

  it("[D12] while there never were any, it is asked every second", async () => {
    const { server, ids, clock, errors } = await start({ up: false });
    expect(await ids("first")).to.equal("UNAVAILABLE");
    expect(await ids("first")).to.equal("UNAVAILABLE");
    expect(errors).to.have.length(1);
    clock.now += 1000;
    expect(await ids("first")).to.equal("UNAVAILABLE");
    expect(errors).to.have.length(2);
    await server.start();
    clock.now += 999;
    expect(await ids("first")).to.equal("UNAVAILABLE");
    clock.now += 1;
    expect(await ids("first")).to.deep.equal(["first ES256"]);
  });

  it("[D12] older than 10 minutes: fetched behind the back of who comes, and what is gone is gone", async () => {
    const { server, ids, clock, fetches } = await start();
    await ids("first");
    clock.now += 10 * MINUTE;
    await ids("first");
    expect(fetches()).to.equal(1);
    const { waiting, release } = held(server);
    clock.now += 1;
    for (let n = 0; n < 10; n++) expect(await ids("first")).to.deep.equal(["first ES256"]);
    await until("it is asked", () => waiting.length > 0);
    release([second.jwk]);
    await until("it is withdrawn", async () => (await ids("first")).length === 0);
    expect(await ids("second")).to.deep.equal(["second RS256"]);
    expect(fetches()).to.equal(2);
  });

  it("[D12] a fetch behind the back that fails is tried again after 30 s, and until then they stay", async () => {
    const { server, ids, clock, fetches, errors } = await start();
    await ids("first");
    server.answer = (res) => res.writeHead(500).end("sorry");
    clock.now += 11 * MINUTE;
    await ids("first");
    await until("it failed", () => errors.length === 1);
    for (let n = 0; n < 10; n++) expect(await ids("first")).to.deep.equal(["first ES256"]);
    expect(fetches()).to.equal(2);
    server.answer = undefined;
    server.keys = [];
    clock.now += 30_000;
    await ids("first");
    await until("it is withdrawn", async () => (await ids("first")).length === 0);
    expect(fetches()).to.equal(3);
  });

  it("[D12] after a quiet hour a key that was withdrawn is not accepted even once", async () => {
    const { server, ids, clock } = await start();
    await ids("first");
    server.keys = [second.jwk];
    clock.now += 60 * MINUTE;
    expect(await ids("first")).to.deep.equal([]);
  });

  it("[D12] an empty set withdraws all", async () => {
    const { server, ids, clock, errors } = await start();
    await ids("first");
    server.keys = [];
    clock.now += 60 * MINUTE;
    expect(await ids("first")).to.deep.equal([]);
    expect(errors).to.deep.equal([]);
  });

  const large = "x".repeat(300_000);
  const answers: [what: string, answer: (res: ServerResponse) => void, error: RegExp][] = [
    ["500", (res) => res.writeHead(500).end(JSON.stringify({ keys: [second.jwk] })), /the answer is 500/],
    ["404", (res) => res.writeHead(404).end(), /the answer is 404/],
    ["no content", (res) => res.writeHead(204).end(), /the answer is 204/],
    ["nothing", (res) => res.end(), /JSON/],
    ["a page", (res) => res.end("<html>login</html>"), /JSON/],
    ["other JSON", (res) => res.end('{"keys":{"first":1}}'), /no key set/],
    ["null", (res) => res.end("null"), /no key set/],
    ["keys that are none", (res) => res.end('{"keys":[null]}'), /no key set/],
    ["too much", (res) => res.end(JSON.stringify({ keys: [second.jwk], large })), /longer than 262144 bytes/],
    ["a cut answer", (res) => res.write('{"keys":[', () => res.destroy()), /terminated/],
    ["no HTTP", (res) => res.socket?.end("hello\r\n\r\n"), /no answer: HPE/],
    ["a closed connection", (res) => res.destroy(), /no answer: UND_ERR_SOCKET/],
    ["nothing, ever", () => {}, /timeout/],
    ["a letter now and then", (res) => drip(res), /timeout/],
  ];
  for (const [what, answer, error] of answers) {
    it(`[D12] it answers with ${what}: no answer, within 2 s, and what was known stays`, async () => {
      const { server, ids, clock, errors } = await start();
      await ids("first");
      server.answer = answer;
      clock.now += 60 * MINUTE;
      expect(await ids("second")).to.equal("UNAVAILABLE");
      expect(errors).to.have.length(1);
      expect(errors[0]).to.match(error);
      expect(await ids("first")).to.deep.equal(["first ES256"]);
    });
  }

  it("[D12] it redirects: nobody follows", async () => {
    const elsewhere = await startJwksServer([second.jwk]);
    const { server, ids, clock, errors } = await start();
    await ids("first");
    for (const status of [301, 302, 303, 307, 308]) {
      server.answer = (res) => res.writeHead(status, { Location: elsewhere.url }).end();
      clock.now += MINUTE;
      expect(await ids("second")).to.equal("UNAVAILABLE");
      expect(errors.at(-1)).to.equal(`Error: the answer is ${status}`);
    }
    expect(elsewhere.requests).to.deep.equal([]);
  });

  it("[D12] only what RS256 and ES256 can use is taken, and one bad key spoils no other", async () => {
    const short = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" });
    const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey.export({ format: "jwk" });
    const ed25519 = generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" });
    const bad = {
      short,
      p384,
      ed25519,
      secret: { kty: "oct", k: "c2VjcmV0", alg: "HS256" },
      private: first.privateKey.export({ format: "jwk" }),
      encrypts: { ...second.jwk, use: "enc" },
      another: { ...second.jwk, alg: "RS512" },
      broken: { ...second.jwk, n: "!" },
      nothing: {},
      odd: { kty: ["RSA"], use: 7 },
    };
    const all = Object.entries(bad).map(([kid, jwk]) => ({ ...jwk, kid }));
    const { kid: _, ...nameless } = second.jwk;
    const { alg: __, use: ___, ...bare } = second.jwk;
    const { ids } = await start({ keys: [...all, nameless, { ...nameless, kid: 7 }, bare, first.jwk] });
    for (const kid of Object.keys(bad)) expect(await ids(kid), kid).to.deep.equal([]);
    expect(await ids("first")).to.deep.equal(["first ES256"]);
    expect(await ids("second")).to.deep.equal(["second RS256"]);
  });

  it("[D12] two of different kinds may share an id", async () => {
    const { ids } = await start({ keys: [first.jwk, { ...second.jwk, kid: "first" }] });
    expect(await ids("first")).to.deep.equal(["first ES256", "first RS256"]);
  });

  it("[D18] their address is JWT_JWKS_URL, or made from SUPABASE_URL", () => {
    const made = "https://x.supabase.co/auth/v1/.well-known/jwks.json";
    const JWT_JWKS_URL = "https://login.example.com/keys";
    expect(jwksUrlOf({})).to.equal(undefined);
    for (const SUPABASE_URL of ["https://x.supabase.co", "https://x.supabase.co//"]) {
      expect(jwksUrlOf({ SUPABASE_URL })).to.equal(made);
      expect(jwksUrlOf({ SUPABASE_URL, JWT_JWKS_URL })).to.equal(JWT_JWKS_URL);
    }
    expect(jwksUrlOf({ JWT_JWKS_URL })).to.equal(JWT_JWKS_URL);
  });
});

/** Each letter alone comes in good time. */
function drip(res: ServerResponse): void {
  const timer = setInterval(() => res.write(" "), 100);
  res.on("close", () => clearInterval(timer));
}
