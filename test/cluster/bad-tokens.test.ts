import { codes } from "@agentwire/shared";
import { expect } from "chai";
import { badTokens, long, stranger } from "../harness/bad-tokens.js";
import { type Cluster, sharedCluster, startCluster } from "../harness/cluster.js";
import { JwksServer, startJwksServer } from "../harness/jwks.js";
import { type Answer, knock } from "../harness/knock.js";
import { bySecret, ISSUER, keyPair, type Signer, signed } from "../harness/login.js";
import { freePort } from "../harness/ports.js";
import { until } from "../harness/wait.js";

const rsa = keyPair("RS256", "rsa-1");
const ec = keyPair("ES256", "ec-1");
const transports = ["polling", "websocket"] as const;
const welcome = { polling: 200, websocket: 101 };
const nothing = { error: { code: "UNAUTHORIZED", message: codes.UNAUTHORIZED.message, retry: "new_token" } };

/** One handshake over each transport. */
const tried = (cluster: Cluster, token: string) =>
  Promise.all(
    transports.map((transport) => {
      const query = new URLSearchParams({ EIO: "4", transport, token });
      return knock(`${cluster.node(1).url}/socket.io/?${query}`);
    }),
  );
const statuses = (answers: Answer[]) => answers.map(({ status }) => status);
const CAME_IN = transports.map((transport) => welcome[transport]);

const noConnectionIsLeft = (cluster: Cluster) =>
  until(
    "no connection is recorded",
    async () => (await cluster.client().keys("ws:connections:*")).length === 0,
  );

describe("bad tokens", () => {
  const kinds: [what: string, settings: (jwks: JwksServer) => NodeJS.ProcessEnv, signers: Signer[]][] = [
    ["a secret", () => ({}), [bySecret()]],
    ["a key server", ({ url }) => ({ JWT_SECRET: "", JWT_JWKS_URL: url }), [rsa, ec]],
    ["a secret and Supabase", ({ url }) => ({ SUPABASE_URL: new URL(url).origin }), [bySecret(), rsa, ec]],
  ];
  for (const [what, settings, signers] of kinds) {
    describe(`on a node with ${what}`, () => {
      let jwks: JwksServer;
      const own: NodeJS.ProcessEnv = {};
      before("start the key server", async () => {
        jwks = new JwksServer(await freePort(), [rsa.jwk, ec.jwk]);
        await jwks.start();
        Object.assign(own, { JWT_ISSUER: ISSUER }, settings(jwks));
      });
      const cluster = sharedCluster({ nodes: 1, settings: own });
      after("stop the key server", () => jwks.stop());

      for (const signer of signers) {
        it(`[D12] ${signer.header.alg}: 401 with one body over both transports, and no address in one is asked`, async () => {
          const trap = await startJwksServer([stranger.jwk]);
          expect(statuses(await tried(cluster(), signed(signer))), "a good one").to.deep.equal(CAME_IN);

          const bodies = new Set<string>();
          for (const [what, token] of badTokens({ signer, rsa, ec, trap: trap.url })) {
            const answers = await tried(cluster(), token);
            expect(statuses(answers), what).to.deep.equal([401, 401]);
            for (const { body } of answers) bodies.add(body);
          }
          expect([...bodies].map((body) => JSON.parse(body))).to.deep.equal([nothing]);
          expect(trap.requests).to.deep.equal([]);
          expect(jwks.requests.length, "fetches").to.be.below(10);

          expect(statuses(await tried(cluster(), signed(signer))), "afterwards").to.deep.equal(CAME_IN);
          expect(statuses(await tried(cluster(), long(signer, 900))), "900 projects").to.deep.equal(CAME_IN);
          await noConnectionIsLeft(cluster());
        });
      }
    });
  }

  describe("while keys change", () => {
    const settings = (jwks: JwksServer) => ({ JWT_SECRET: "", JWT_JWKS_URL: jwks.url, JWT_ISSUER: ISSUER });

    it("[D12] the key server is down and the key unknown: 503 with Retry-After; who has a known one comes in", async () => {
      const jwks = await startJwksServer([rsa.jwk]);
      const cluster = await startCluster({ nodes: 1, settings: settings(jwks) });
      expect(statuses(await tried(cluster, signed(rsa)))).to.deep.equal(CAME_IN);
      await jwks.stop();
      for (const { status, headers, body } of await tried(cluster, signed(ec))) {
        expect(status).to.equal(503);
        expect(headers["retry-after"]).to.match(/^[1-9]\d*$/);
        expect(JSON.parse(body)).to.have.nested.include({
          "error.code": "UNAVAILABLE",
          "error.retry": "later",
        });
      }
      expect(statuses(await tried(cluster, signed(rsa)))).to.deep.equal(CAME_IN);
      expect(statuses(await tried(cluster, signed(rsa, { exp: 1 })))).to.deep.equal([401, 401]);
      const said = cluster.node(1).log.find(({ msg }) => msg === "keys not fetched");
      expect(said)
        .to.have.property("err")
        .that.matches(/no answer/);
    });

    it("[D12] a new key comes in without a restart, and the one before it with it", async () => {
      const jwks = await startJwksServer([rsa.jwk]);
      const cluster = await startCluster({ nodes: 1, settings: settings(jwks) });
      expect(statuses(await tried(cluster, signed(rsa)))).to.deep.equal(CAME_IN);
      jwks.keys = [rsa.jwk, ec.jwk];
      expect(statuses(await tried(cluster, signed(ec)))).to.deep.equal(CAME_IN);
      expect(statuses(await tried(cluster, signed(rsa)))).to.deep.equal(CAME_IN);
      expect(jwks.requests).to.have.length(2);
    });

    it("[D12] a node that starts before its key server answers 503 until that is there", async () => {
      const jwks = await startJwksServer([rsa.jwk]);
      await jwks.stop();
      const cluster = await startCluster({ nodes: 1, settings: settings(jwks) });
      expect(statuses(await tried(cluster, signed(rsa)))).to.deep.equal([503, 503]);
      await jwks.start();
      await until("its keys are known", async () =>
        statuses(await tried(cluster, signed(rsa))).every((status) => status !== 503),
      );
      expect(statuses(await tried(cluster, signed(rsa)))).to.deep.equal(CAME_IN);
    });
  });
});
