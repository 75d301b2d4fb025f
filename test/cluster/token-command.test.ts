import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import jwt from "jsonwebtoken";
import { sharedCluster } from "../harness/cluster.js";
import { knock } from "../harness/knock.js";
import { JWT_SECRET } from "../harness/token.js";

const ENTRY = fileURLToPath(new URL("../../emitter/bin/agentwire.js", import.meta.url));
const ISSUER = "https://login.example.com";
const nodes = { JWT_SECRET, JWT_AUDIENCE: "developers", JWT_ISSUER: ISSUER };

/** The real command line, in an environment of its own. */
function agentwire(args: string[], env: NodeJS.ProcessEnv = nodes) {
  return new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [ENTRY, ...args], { env }, (error, stdout, stderr) => {
      resolve({ code: error ? error.code : 0, stdout, stderr });
    });
  });
}
const token = (...more: string[]) => ["token", "--user", "anna", "--projects", "p1,p2", ...more];

describe("agentwire token", () => {
  const cluster = sharedCluster({ nodes: 1, settings: nodes });
  const welcomes = async (text: string) => {
    const query = new URLSearchParams({ EIO: "4", transport: "polling", token: text, project_ids: "p1,p2" });
    return (await knock(`${cluster().node(1).url}/socket.io/?${query}`)).status;
  };

  it("[D12] prints a token alone, and a node with the same settings lets it in", async () => {
    const { code, stdout, stderr } = await agentwire(token());
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: "" });
    expect(stdout).to.match(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const minted = stdout.trim();
    expect(await welcomes(minted)).to.equal(200);
    expect(jwt.decode(minted, { complete: true })?.header).to.deep.equal({ alg: "HS256", typ: "JWT" });
    const { iat, exp, ...claims } = jwt.decode(minted) as jwt.JwtPayload;
    expect(claims).to.deep.equal({
      sub: "anna",
      role: "authenticated",
      aud: "developers",
      iss: ISSUER,
      app_metadata: { project_ids: ["p1", "p2"] },
    });
    expect((exp ?? 0) - (iat ?? 0)).to.equal(3600);
  });

  for (const [text, seconds] of [
    ["30s", 30],
    ["15m", 900],
    ["2h", 7200],
    ["365d", 365 * 86_400],
  ] as const) {
    it(`[D12] --expires ${text}: good for ${seconds} seconds`, async () => {
      const { stdout } = await agentwire(token("--expires", text));
      const { iat, exp } = jwt.decode(stdout.trim()) as jwt.JwtPayload;
      expect((exp ?? 0) - (iat ?? 0)).to.equal(seconds);
      expect(await welcomes(stdout.trim())).to.equal(200);
    });
  }

  it("[D12] with JWT_SECRET alone: the audience that nodes have by themselves, and no issuer", async () => {
    const { stdout } = await agentwire(token(), { JWT_SECRET, JWT_AUDIENCE: "", JWT_ISSUER: "" });
    const claims = jwt.verify(stdout.trim(), JWT_SECRET) as jwt.JwtPayload;
    expect(claims.aud).to.equal("authenticated");
    expect(claims).not.to.have.property("iss");
  });

  const refused: [what: string, args: string[], message: RegExp, env?: NodeJS.ProcessEnv][] = [
    ["no JWT_SECRET", token(), /JWT_SECRET is not set/, {}],
    ["an empty JWT_SECRET", token(), /JWT_SECRET is not set/, { JWT_SECRET: "" }],
    ["no user", ["token", "--projects", "p1"], /--user is missing/],
    ["an empty user", ["token", "--user", "", "--projects", "p1"], /--user is missing/],
    ["no projects", ["token", "--user", "anna"], /--projects is missing/],
    ["a bad user", ["token", "--user", "a b", "--projects", "p1"], /--user: "a b" must be 1 to 128/],
    ["a user of two lines", ["token", "--user", "a\nb", "--projects", "p1"], /--user: "a b" must be/],
    ["a user that is too long", ["token", "--user", "a".repeat(129), "--projects", "p1"], /--user/],
    ["a bad project", ["token", "--user", "anna", "--projects", "p1,p/2"], /--projects: "p\/2" must be/],
    ["an empty project", ["token", "--user", "anna", "--projects", "p1,"], /--projects: "" must be/],
    ["spaces between", ["token", "--user", "anna", "--projects", "p1, p2"], /--projects: " p2" must be/],
    ...["1", "0s", "1w", "1.5h", "-1h", "h", "", "1h30m", "1 h", "1H", "366d", "99999999d", "1e3s"].map(
      (text): [string, string[], RegExp] => [
        `--expires ${JSON.stringify(text)}`,
        token(`--expires=${text}`),
        /--expires must be a time such as 30s, 15m, 1h or 7d, at most 365d/,
      ],
    ),
    ["--expires without a time", token("--expires"), /--expires/],
    ["an unknown option", token("--role", "admin"), /'--role'/],
    ["an option of another command", token("--agent", "me"), /--agent is no option of token/],
    ["an argument too many", token("p3"), /unexpected "p3"/],
    ["a command to run", token("--", "true"), /unexpected "--"/],
    [
      "an option of this command for run",
      ["run", "--user", "anna", "--", "true"],
      /--user is no option of run/,
    ],
    ["an unknown command", ["tokens"], /unknown command "tokens"/],
  ];
  for (const [what, args, message, env] of refused) {
    it(`[D13] ${what}: one line, exit code 2, no token`, async () => {
      const { code, stdout, stderr } = await agentwire(args, env);
      expect({ code, stdout }).to.deep.equal({ code: 2, stdout: "" });
      expect(stderr)
        .to.match(/^agentwire: [^\n]+\n$/)
        .and.match(message);
    });
  }
});
