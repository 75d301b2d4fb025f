import { expect } from "chai";
import { sharedCluster } from "../harness/cluster.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";

describe("requests of a session", () => {
  const cluster = sharedCluster({ nodes: 2 });
  const address = (query: Record<string, string>, on = 1) =>
    `${cluster().node(on).url}/socket.io/?${new URLSearchParams({ EIO: "4", transport: "polling", ...query })}`;
  const refusalOf = async (answer: Response) => {
    const { error } = (await answer.json()) as { error: { code: string } };
    return [answer.status, error.code];
  };

  /** A polling connection by hand. */
  async function open(user: string) {
    const own = token(user, ["p1"]);
    const answer = await fetch(address({ token: own }));
    const { sid } = JSON.parse((await answer.text()).slice(1)) as { sid: string };
    onTeardown(async () => {
      await fetch(address({ token: own, sid }), { method: "POST", body: "1" });
    });
    return { own, sid };
  }

  it("[D12] belong to who opened it: another user, no token, a bad one, another node are refused", async () => {
    const { own, sid } = await open("anna");
    const post = (query: Record<string, string>, on = 1) =>
      fetch(address({ sid, ...query }, on), { method: "POST", body: "40/ws/agents," });
    expect(await refusalOf(await post({ token: token("ben", ["p1"]) }))).to.deep.equal([403, "FORBIDDEN"]);
    expect(await refusalOf(await post({}))).to.deep.equal([401, "UNAUTHORIZED"]);
    expect(await refusalOf(await post({ token: `${own}x` }))).to.deep.equal([401, "UNAUTHORIZED"]);
    expect(await refusalOf(await post({ token: own }, 2))).to.deep.equal([400, "BAD_REQUEST"]);
    expect(await refusalOf(await fetch(address({ sid: "nobody", token: own })))).to.deep.equal([
      400,
      "BAD_REQUEST",
    ]);
    expect(await refusalOf(await fetch(address({ sid: "__proto__", token: own })))).to.deep.equal([
      400,
      "BAD_REQUEST",
    ]);
    const foreign = await fetch(address({ sid, token: own }), {
      headers: { Origin: "https://elsewhere.example.com" },
    });
    expect(await refusalOf(foreign)).to.deep.equal([403, "ORIGIN_FORBIDDEN"]);
    expect((await post({ token: own })).status).to.equal(200);
  });

  it("[D12] its id says which node it is on, and nobody can guess it", async () => {
    const sids = (await Promise.all(Array.from({ length: 5 }, () => open("anna")))).map(({ sid }) => sid);
    for (const sid of sids) expect(sid).to.match(/^[A-Za-z0-9_-]{20}\.node-1$/);
    expect(new Set(sids).size).to.equal(5);
    // Not in its first characters either, where a counter would stand.
    expect(new Set(sids.map((sid) => sid.slice(0, 6))).size).to.equal(5);
  });

  it("[D12] a new token of the same user goes on with it", async () => {
    const { sid } = await open("anna");
    const other = token("anna", ["p1"], { expiresIn: "2h" });
    const answer = await fetch(address({ sid, token: other }), { method: "POST", body: "40/ws/agents," });
    expect(answer.status).to.equal(200);
  });

  it("[D12] what Engine.IO would refuse takes no place", async () => {
    const { client, keys } = cluster();
    const redis = client();
    const before = await redis.zcard(keys.leases);
    const own = token("carl", ["p1"]);
    const post = { method: "POST", body: "40" };
    for (const [query, init] of [
      [{ EIO: "3" }, {}],
      [{ EIO: "5" }, {}],
      [{ transport: "websocket" }, {}],
      [{ transport: "webtransport" }, {}],
      [{ transport: "nope" }, {}],
      [{}, post],
    ] as [Record<string, string>, RequestInit][]) {
      const answer = await fetch(address({ token: own, ...query }), init);
      expect(await refusalOf(answer), JSON.stringify(query)).to.deep.equal([400, "BAD_REQUEST"]);
    }
    expect(await redis.zcard(keys.leases)).to.equal(before);
    expect(await redis.exists(keys.userConnections("carl"))).to.equal(0);
  });
});
