import { generateKeyPairSync } from "node:crypto";
import { expect } from "chai";
import fc from "fast-check";
import { KeyServer } from "../../server/src/door/key-server.js";
import { createTokenVerifier, tokenOf } from "../../server/src/door/token.js";
import { badTokens, long, stranger } from "../harness/bad-tokens.js";
import { startJwksServer } from "../harness/jwks.js";
import { annasClaims, byKey, bySecret, craft, ISSUER, inAnHour, keyPair, signed } from "../harness/login.js";
import { JWT_SECRET } from "../harness/token.js";

const rsa = keyPair("RS256", "rsa-1");
const ec = keyPair("ES256", "ec-1");
const bySigner = { HS256: bySecret(), RS256: rsa, ES256: ec };
const rules = { audience: "authenticated", issuer: ISSUER };

async function startKeys() {
  const server = await startJwksServer([rsa.jwk, ec.jwk]);
  return { server, keys: new KeyServer(server.url, () => {}) };
}

describe("tokens", () => {
  for (const [name, signer] of Object.entries(bySigner)) {
    describe(`signed with ${name}`, () => {
      for (const [who, secret] of [
        ["that algorithm's key alone", name === "HS256" ? JWT_SECRET : undefined],
        ["a secret and a key server", JWT_SECRET],
      ] as const) {
        it(`[D12] no bad one comes in with ${who}, and no address in one is asked`, async () => {
          const { server, keys } = await startKeys();
          const trap = await startJwksServer([stranger.jwk]);
          const needsKeys = name !== "HS256" || who.includes("server");
          const verify = createTokenVerifier({ ...rules, secret, keys: needsKeys ? keys : undefined });
          expect(await verify(signed(signer)), "a good one").to.be.an("object");

          const bad = badTokens({ signer, rsa, ec, trap: trap.url });
          expect(bad.length).to.be.above(100);
          for (const [what, token] of bad) expect(await verify(token), what).to.equal("UNAUTHORIZED");

          expect(trap.requests).to.deep.equal([]);
          expect(server.requests.length, "fetches").to.be.at.most(2);
          expect(await verify(signed(signer)), "a good one, afterwards").to.be.an("object");
        });
      }

      it("[D12] a good one is its user's, with claims and time", async () => {
        const { keys } = await startKeys();
        const verify = createTokenVerifier({ ...rules, secret: JWT_SECRET, keys });
        const exp = inAnHour();
        const user = await verify(signed(signer, { exp }));
        expect(user).to.deep.include({ id: "anna", expiresAt: exp * 1000 });
        expect(user).to.have.nested.property("claims.app_metadata.project_ids").deep.equal(["p1"]);
      });

      const goodClaims: [string, object, object?][] = [
        ["no role", { role: undefined }],
        ["another role", { role: "editor" }],
        ["nbf that is over", { nbf: inAnHour() - 7200 }],
        ["exp with a fraction", { exp: inAnHour() + 0.5 }],
        ["exp in nine years", { exp: inAnHour() + 9 * 365 * 86_400 }],
        ["a sub of 256 characters", { sub: "a".repeat(256) }],
        ["a sub from elsewhere", { sub: "Zoë 🦊" }],
        ["more in the payload", { iat: 0, jti: "x", session_id: "y", amr: [{ method: "password" }] }],
        ["no typ", {}, { typ: undefined }],
        ["more in the header", {}, { jku: "https://example.com", x: 1 }],
      ];
      it("[D12] what is nobody's business is not looked at", async () => {
        const { keys } = await startKeys();
        const verify = createTokenVerifier({ ...rules, secret: JWT_SECRET, keys });
        for (const [what, claims, header] of goodClaims) {
          expect(await verify(signed(signer, claims, header)), what).to.be.an("object");
        }
      });

      it("[D12] one that names 900 projects comes in", async () => {
        const { keys } = await startKeys();
        const verify = createTokenVerifier({ ...rules, secret: JWT_SECRET, keys });
        expect(await verify(long(signer, 900))).to.be.an("object");
      });
    });
  }

  it("[D12] an algorithm whose key is not configured is refused", async () => {
    const { keys } = await startKeys();
    const secretAlone = createTokenVerifier({ ...rules, secret: JWT_SECRET });
    const keysAlone = createTokenVerifier({ ...rules, keys });
    const nothing = createTokenVerifier(rules);
    for (const signer of [rsa, ec]) expect(await secretAlone(signed(signer))).to.equal("UNAUTHORIZED");
    expect(await keysAlone(signed(bySecret()))).to.equal("UNAUTHORIZED");
    for (const signer of Object.values(bySigner)) {
      expect(await nothing(signed(signer))).to.equal("UNAUTHORIZED");
    }
  });

  it("[D12] without an issuer iss is not looked at", async () => {
    const verify = createTokenVerifier({ audience: "authenticated", secret: JWT_SECRET });
    for (const iss of [undefined, "anything", 7]) {
      expect(await verify(signed(bySecret(), { iss }))).to.be.an("object");
    }
  });

  it("[D12] a key server that is down: 503 for an unknown key, known ones and the secret go on", async () => {
    const { server, keys } = await startKeys();
    const verify = createTokenVerifier({ ...rules, secret: JWT_SECRET, keys });
    await verify(signed(rsa));
    await server.stop();
    expect(await verify(signed(stranger))).to.equal("UNAVAILABLE");
    for (const signer of Object.values(bySigner)) expect(await verify(signed(signer))).to.be.an("object");
    for (const [what, token] of [
      ["a known key of another kind", signed(rsa, {}, { alg: "ES256" })],
      ["no kid", signed(rsa, {}, { kid: undefined })],
      ["another algorithm", signed(rsa, {}, { alg: "RS512", kid: "unknown" })],
      ["a known key, expired", signed(rsa, { exp: 1 })],
    ] as const) {
      expect(await verify(token), what).to.equal("UNAUTHORIZED");
    }
  });

  it("[D12] one letter changed anywhere: refused", async () => {
    const verify = createTokenVerifier({ ...rules, secret: JWT_SECRET });
    const good = signed(bySecret());
    const letter = fc.constantFrom(..."ABCDwxyz0189-_.=+/ ");
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), letter, async (at, other) => {
        fc.pre(good[at] !== other);
        expect(await verify(good.slice(0, at) + other + good.slice(at + 1))).to.equal("UNAUTHORIZED");
      }),
      { numRuns: 2000 },
    );
  });

  it("[D12] whatever header and payload are, the answer is a refusal or a user, never an exception", async () => {
    const { keys } = await startKeys();
    const verify = createTokenVerifier({ ...rules, secret: JWT_SECRET, keys });
    const header = fc.record({
      alg: fc.oneof(fc.constantFrom("HS256", "RS256", "ES256", "none"), fc.jsonValue()),
      kid: fc.oneof(fc.constantFrom("rsa-1", "ec-1"), fc.jsonValue()),
      typ: fc.constantFrom("JWT", undefined),
    });
    const claim = fc.constantFrom("sub", "exp", "nbf", "aud", "role", "iss", "iat", "__proto__", "toString");
    const payload = fc
      .dictionary(claim, fc.jsonValue())
      .map((odd) => JSON.stringify({ ...annasClaims(), ...odd }));
    const write = fc.constantFrom(bySecret().sign, rsa.sign, ec.sign, () => Buffer.alloc(0));
    const any = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.tuple(header, fc.oneof(payload, fc.json()), write).map((parts) => craft(...parts)),
      fc.tuple(fc.json(), payload, write).map((parts) => craft(...parts)),
    );
    await fc.assert(
      fc.asyncProperty(any, async (token) => {
        const found = await verify(token);
        if (typeof found === "object") expect(found.id).to.match(/^[^\p{Cc}]{1,256}$/u);
        else expect(found).to.equal("UNAUTHORIZED");
      }),
      { numRuns: 2000 },
    );
  });

  it("[D12] where keys of two kinds share an id, the algorithm decides", async () => {
    const kid = "shared";
    const server = await startJwksServer([rsa, ec].map(({ jwk }) => ({ ...jwk, kid })));
    const verify = createTokenVerifier({ ...rules, keys: new KeyServer(server.url, () => {}) });
    for (const signer of [rsa, ec]) expect(await verify(signed(signer, {}, { kid }))).to.be.an("object");
  });

  it("[D12] RSA keys that are too short to be safe are none", async () => {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 1024 });
    const header = { alg: "RS256", kid: "short" };
    const server = await startJwksServer([{ ...publicKey.export({ format: "jwk" }), ...header }, rsa.jwk]);
    const verify = createTokenVerifier({ ...rules, keys: new KeyServer(server.url, () => {}) });
    expect(await verify(signed(rsa))).to.be.an("object");
    expect(await verify(signed(byKey(privateKey, header)))).to.equal("UNAUTHORIZED");
  });

  it("[D12] the one token of a request: in the query, in the header, or in both alike", () => {
    const query = (text: string) => new URLSearchParams(text);
    expect(tokenOf(query("token=a"), undefined)).to.equal("a");
    expect(tokenOf(query(""), "Bearer a")).to.equal("a");
    expect(tokenOf(query("token=a"), "bearer a")).to.equal("a");
    for (const [text, authorization] of [
      ["", undefined],
      ["token=", undefined],
      ["token=a&token=b", undefined],
      ["token=a&token=", undefined],
      ["token=a", "Bearer b"],
      ["token=a", "Basic a"],
      ["token=a", ""],
      ["", "Bearer a b"],
      ["", "Bearer"],
    ] as const) {
      expect(tokenOf(query(text), authorization), `${text} ${authorization}`).to.equal(undefined);
    }
  });
});
