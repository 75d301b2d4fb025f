import { expect } from "chai";
import pg from "pg";
import { openPostgresPolicy } from "../../server/src/access/postgres.js";
import { needs } from "../harness/needs.js";
import { sharedPostgres } from "../harness/postgres.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

/** What no lookup may take longer than: two seconds are promised, and this machine has other work. */
const MOST_MS = 3000;
const SLEEPS = "select id from projects, pg_sleep(0.3)";

const user = (id: string, more: object = {}) => ({ id, claims: { sub: id, ...more }, expiresAt: 0 });

describe("the Postgres policy", () => {
  needs("POSTGRES");
  const database = sharedPostgres();

  const open = ({ projectsQuery = "select id from projects", poolSize = 2 } = {}) => {
    const lost: Error[] = [];
    const options = { url: database().url, projectsQuery, poolSize };
    const policy = openPostgresPolicy({ ...options, onError: (error) => lost.push(error) });
    let closing: Promise<void> | undefined;
    const close = () => {
      closing ??= policy.close();
      return closing;
    };
    onTeardown(close);
    const of = async (id: string, more?: object) => [...(await policy.projectsOf(user(id, more)))].sort();
    return { close, lost, of };
  };

  /** Connections of the node. */
  const connections = (condition = "true") =>
    database().query<{ pid: number; query: string }>(
      `select pid, query from pg_stat_activity where usename = 'node' and ${condition}`,
    );
  const sleeping = () =>
    until("a lookup is under way", async () => (await connections("wait_event = 'PgSleep'"))[0]);

  /** Its error, in good time. */
  const failing = async (lookup: Promise<unknown>): Promise<Error & { code?: string }> => {
    const began = performance.now();
    const error = await lookup.then(
      (value) => Promise.reject(new Error(`it answered ${JSON.stringify(value)}`)),
      (error) => error,
    );
    expect(performance.now() - began).to.be.below(MOST_MS);
    return error;
  };

  beforeEach(() => database().members({ anna: ["p-anna", "p-both"], ben: ["p-ben", "p-both"] }));

  describe("rights", () => {
    it("[D11] each sees what the policies let it, and a change of them counts at once", async () => {
      const { of } = open();
      expect(await of("anna")).to.deep.equal(["p-anna", "p-both"]);
      expect(await of("ben")).to.deep.equal(["p-ben", "p-both"]);
      expect(await of("carl")).to.deep.equal([]);
      await database().query("delete from members where user_id = 'anna' and project_id = 'p-both'");
      expect(await of("anna")).to.deep.equal(["p-anna"]);
      onTeardown(async () => void (await database().query("drop policy staff on projects")));
      await database().query(
        `create policy staff on projects for select to authenticated
           using (current_setting('request.jwt.claims', true)::json -> 'app_metadata' ->> 'staff' = 'true')`,
      );
      expect(await of("carl")).to.deep.equal([]);
      expect(await of("carl", { app_metadata: { staff: true } })).to.deep.equal([
        "p-anna",
        "p-ben",
        "p-both",
      ]);
    });

    it("[D11] the query runs as authenticated, with the claims, read only and bounded in time", async () => {
      const { of } = open({
        projectsQuery: `select unnest(array[
          current_user, session_user, current_setting('request.jwt.claim.sub'),
          current_setting('request.jwt.claims')::json -> 'app_metadata' ->> 'tenant',
          current_setting('transaction_read_only'), current_setting('statement_timeout')])`,
      });
      const claims = { app_metadata: { tenant: "t-1" } };
      expect(await of("anna", claims)).to.deep.equal(["1s", "anna", "authenticated", "node", "on", "t-1"]);
    });

    it("[D11] nothing is left on a connection for the one who has it next", async () => {
      const clients = new Set<pg.PoolClient>();
      const { of } = open({ poolSize: 1 });
      const { connect } = pg.Pool.prototype;
      onTeardown(() => void Object.assign(pg.Pool.prototype, { connect }));
      pg.Pool.prototype.connect = async function (this: pg.Pool) {
        const client = await (connect as () => Promise<pg.PoolClient>).call(this);
        clients.add(client);
        return client;
      } as typeof connect;
      await of("anna", { app_metadata: { tenant: "t-1" } });
      const [client] = clients;
      const left = await client?.query(
        `select current_user as role, current_setting('request.jwt.claims', true) as claims,
           current_setting('request.jwt.claim.sub', true) as sub, current_setting('statement_timeout') as timeout,
           current_setting('transaction_read_only') as read_only`,
      );
      expect(left?.rows).to.deep.equal([
        { role: "node", claims: "", sub: "", timeout: "0", read_only: "off" },
      ]);
      expect(await of("ben")).to.deep.equal(["p-ben", "p-both"]);
      expect(clients.size).to.equal(1);
    });

    it("[D11] what a token says is data, whatever it looks like", async () => {
      const { of } = open();
      for (const nasty of ["'; drop table projects; --", "anna' or 'a'='a", "$1", "\\", "a\u2028b", "{}"]) {
        expect(await of(nasty, { [nasty]: nasty, role: "postgres" })).to.deep.equal([]);
      }
      expect(await of("anna", { text: "x'\"\\".repeat(5000) })).to.deep.equal(["p-anna", "p-both"]);
    });

    it("[D11] a query that would write, or leave its transaction, is refused", async () => {
      await database().query(
        "grant insert on projects to authenticated; alter table members disable row level security",
      );
      onTeardown(async () => {
        await database().query(
          "revoke insert on projects from authenticated; alter table members enable row level security",
        );
      });
      const writes = "with made as (insert into projects values ('p-new') returning id) select id from made";
      expect(await failing(open({ projectsQuery: writes }).of("anna"))).to.have.property("code", "25006");
      for (const more of ["commit; select id from projects", "reset role; select id from projects"]) {
        expect(await failing(open({ projectsQuery: more }).of("anna"))).to.have.property("code", "42601");
      }
    });

    it("[D11] ids of any type, in the first column; what is no id gives no right", async () => {
      const uuid = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
      const given: [string, string[]][] = [
        ["select 7", ["7"]],
        ["select 9007199254740993::bigint", ["9007199254740993"]],
        [`select '${uuid}'::uuid`, [uuid]],
        ["select 'p-1', 'p-2'", ["p-1"]],
        ["select id from (values ('ok'), (null), (''), ('a b'), ('a:b'), ('ä'), ('p*')) v (id)", ["ok"]],
        ["select repeat('x', 128) union select repeat('y', 129)", ["x".repeat(128)]],
        ["select array['p-1']", []],
        ["select", []],
        ["select id from projects where false", []],
      ];
      for (const [projectsQuery, expected] of given) {
        expect(await open({ projectsQuery }).of("anna"), projectsQuery).to.deep.equal(expected);
      }
    });

    it("[D11] ten thousand projects", async () => {
      const ids = Array.from({ length: 10_000 }, (_, n) => `p-${n}`);
      await database().members({ anna: ids });
      expect(await open().of("anna")).to.have.members(ids);
    });
  });

  describe("connections", () => {
    it("[D12] as many as the pool's size, and no more, however many ask", async () => {
      const { of } = open({ projectsQuery: "select id from projects, pg_sleep(0.02)", poolSize: 3 });
      let most = 0;
      let over = false;
      const all = Promise.all(Array.from({ length: 60 }, (_, n) => of("anna", { n }))).finally(() => {
        over = true;
      });
      while (!over) most = Math.max(most, (await connections()).length);
      expect(await all).to.deep.equal(Array(60).fill(["p-anna", "p-both"]));
      expect(most).to.equal(3);
    });

    it("[D12] a query that fails is undone, and its connection serves the next", async () => {
      const { of } = open({
        projectsQuery: "select pg_backend_pid() / (auth.uid() <> 'bad')::int",
        poolSize: 1,
      });
      const pid = await of("anna");
      for (let n = 0; n < 3; n++) expect(await failing(of("bad"))).to.have.property("code", "22012");
      expect(await of("anna")).to.deep.equal(pid);
    });

    it("[D12] one that dies while it is used fails its lookup only", async () => {
      const { of } = open({ projectsQuery: SLEEPS, poolSize: 1 });
      const lookup = failing(of("anna"));
      const { pid } = await sleeping();
      await database().query("select pg_terminate_backend($1)", [pid]);
      expect(await lookup).to.have.property("code", "57P01");
      expect(await of("anna")).to.deep.equal(["p-anna", "p-both"]);
    });

    it("[D12] one that dies while nobody uses it is told of, and the next lookup has another", async () => {
      const { of, lost } = open();
      await of("anna");
      for (const { pid } of await connections())
        await database().query("select pg_terminate_backend($1)", [pid]);
      await until("the loss is told", () => lost.length > 0);
      expect(await of("anna")).to.deep.equal(["p-anna", "p-both"]);
    });

    it("[D12] none is left when it is closed, and no right is given any more", async () => {
      const { close, of } = open();
      await Promise.all([of("anna"), of("ben")]);
      await close();
      await until("no connection is left", async () => (await connections()).length === 0);
      await failing(of("anna"));
    });

    it("[D18] an address that cannot be used is an error at once", () => {
      const url = "postgresql://database/app?sslrootcert=/nowhere.pem";
      const options = { url, projectsQuery: "select id from projects", poolSize: 1, onError: () => {} };
      expect(() => openPostgresPolicy(options)).to.throw("/nowhere.pem");
    });
  });

  describe("many at once", () => {
    const INSTANT = "select extract(epoch from clock_timestamp())::text from pg_sleep(0.05)";

    it("[D11] who waits with the same claims shares an answer, and nothing is kept for later", async () => {
      const { of } = open({ projectsQuery: INSTANT, poolSize: 1 });
      const first = of("ben");
      const together = await Promise.all(Array.from({ length: 50 }, () => of("anna")));
      expect(new Set(together.flat()).size).to.equal(1);
      expect(await first).not.to.deep.equal(together[0]);
      expect(await of("anna")).not.to.deep.equal(together[0]);
      const others = await Promise.all([of("anna"), of("anna", { aal: "aal2" }), of("ben")]);
      expect(new Set(others.flat()).size).to.equal(3);
    });

    it("[D11] a lookup never shares the answer of one that began before it", async () => {
      const { of } = open({ projectsQuery: SLEEPS });
      const before = of("anna");
      await sleeping();
      await database().query("delete from members where user_id = 'anna'");
      expect(await of("anna")).to.deep.equal([]);
      expect(await before).to.deep.equal(["p-anna", "p-both"]);
    });

    it("[D12] two hundred may wait; when more come, they are refused at once", async () => {
      const { of } = open({ poolSize: 5 });
      const all = Array.from({ length: 200 }, (_, n) => of("anna", { n }));
      const began = performance.now();
      const error = await failing(of("anna", { n: 200 }));
      expect(error.message).to.include("wait");
      expect(performance.now() - began).to.be.below(200);
      for (const projects of await Promise.all(all)) expect(projects).to.deep.equal(["p-anna", "p-both"]);
    });
  });

  describe("trouble", () => {
    afterEach(() => database().resume());

    it("[D12] a slow query ends with an error after a second, and the connection is kept", async () => {
      const { of } = open({
        projectsQuery: "select pg_backend_pid() from pg_sleep((auth.uid() = 'slow')::int * 9)",
      });
      const pid = await of("anna");
      expect(await failing(of("slow"))).to.have.property("code", "57014");
      expect(await of("anna")).to.deep.equal(pid);
    });

    it("[D12] whoever finds every connection taken has an error within two seconds", async () => {
      const { of } = open({ projectsQuery: "select id from projects, pg_sleep(9)", poolSize: 1 });
      const errors = await Promise.all(Array.from({ length: 20 }, (_, n) => failing(of("anna", { n }))));
      expect(errors.filter(({ code }) => code === "57014")).not.to.have.length(0);
    });

    it("[D12] a database that hangs: an error within two seconds, and it heals by itself", async () => {
      const { of } = open();
      await Promise.all([of("anna"), of("ben")]); // Both connections are there, and idle.
      database().pause();
      const fresh = open();
      const errors = [of("anna"), of("ben"), of("carl"), of("dora"), fresh.of("anna")].map(failing);
      expect((await Promise.all(errors)).map(({ message }) => message)).to.satisfy((all: string[]) =>
        all.every((message) => /did not answer|timeout/.test(message)),
      );
      expect((await failing(of("anna"))).message).to.match(/timeout/);
      database().resume();
      expect(await of("anna")).to.deep.equal(["p-anna", "p-both"]);
      expect(await fresh.of("ben")).to.deep.equal(["p-ben", "p-both"]);
    });

    for (const how of ["stop", "kill"] as const) {
      it(`[D12] a database that is gone (${how}): an error, and it heals by itself`, async () => {
        const { of } = open();
        await of("anna");
        await database()[how]();
        expect(await failing(of("anna"))).to.have.property("code", "ECONNREFUSED");
        await database().restart();
        expect(await of("anna")).to.deep.equal(["p-anna", "p-both"]);
      });
    }
  });
});
