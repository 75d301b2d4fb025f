import { existsSync, readFileSync } from "node:fs";
import { BlockList } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { readConfig, settings } from "../../server/src/config.js";
import { nodesOf, readCompose, replacementsOf, type Service } from "../harness/compose.js";
import { commandOf, copiesOf, matching, readDockerfile, valuesOf } from "../harness/image.js";
import { ROOT } from "./docs-table.js";

const SECRETS = { JWT_SECRET: "a-secret", INTERNAL_SERVICE_KEY: "a-key" };
const compose = readCompose(SECRETS);
const { services } = compose;
const nodes = nodesOf(compose);
const [build = [], image = []] = readDockerfile();
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const config = (service: Service) => readConfig(service.environment ?? {});
const seconds = (text = "") => Number(/^(\d+)s$/.exec(text)?.[1]);
const ipOf = (service?: Service) => service?.networks?.default.ipv4_address ?? "";

describe("docker-compose.yml", () => {
  it("[contract] it asks for the secrets, and has none of its own", () => {
    for (const name of Object.keys(SECRETS))
      expect(() => readCompose({ ...SECRETS, [name]: "" })).to.throw(new RegExp(`^${name}: .+`));
  });

  it("[contract] the settings of the nodes are settings, and accepted; their names are their services'", () => {
    expect(nodes.map(([name]) => name)).to.deep.equal(["node-1", "node-2", "node-3"]);
    for (const [name, node] of nodes) {
      expect(Object.keys(settings)).to.include.members(Object.keys(node.environment ?? {}));
      expect(config(node)).to.deep.include({
        INSTANCE_ID: name,
        JWT_SECRET: SECRETS.JWT_SECRET,
        INTERNAL_SERVICE_KEY: [SECRETS.INTERNAL_SERVICE_KEY],
        TRUSTED_PROXIES: [ipOf(services.nginx)],
        HOST: "0.0.0.0",
      });
      expect(new URL(config(node).REDIS_URL).hostname).to.satisfy((host: string) => host in services);
    }
    const given = {
      CORS_ORIGINS: "https://app.example.com",
      WS_CONNECTIONS_PER_IP_PER_MINUTE: "200",
      LOG_LEVEL: "warn",
    };
    const { environment } = readCompose({ ...SECRETS, ...given }).services["node-1"] as Service;
    expect(environment).to.include(given);
  });

  it("[contract] a node has longer to end than it drains", () => {
    for (const [, node] of nodes)
      expect(seconds(node.stop_grace_period)).to.be.above(config(node).WS_DRAIN_TIMEOUT + 5);
  });

  it("[contract] ports and addresses agree with nginx.conf, and only nginx is reachable from outside", () => {
    const published = Object.entries(services).filter(([, { ports }]) => ports);
    expect(published.map(([name, { ports }]) => [name, ports])).to.deep.equal([["nginx", ["8080:80"]]]);
    const conf = read("nginx.conf");
    expect(conf).to.match(/^ +listen 80;$/m);

    const replacements = replacementsOf(compose);
    expect(replacements.map(([, to]) => to)).to.deep.equal(
      nodes.map(([, node]) => `${ipOf(node)}:${config(node).PORT}`),
    );
    const replaced = conf
      .split("\n")
      .map((line) => replacements.reduce((text, [from, to]) => text.replace(from, to), line))
      .join("\n");
    for (const [, to] of replacements) expect(conf).not.to.include(to);
    expect(replaced).not.to.match(/\b127\.0\.0\.1\b/);
    for (const [name, node] of nodes) {
      expect(replaced).to.include(`upstream ${name} { server ${ipOf(node)}:8080;`);
      expect(replaced).to.match(new RegExp(`^ +~.*\\.${name}\\$ +${name};$`, "m"));
    }
  });

  it("[contract] every fixed address is one of the network's, and nobody else can get it", () => {
    const [{ subnet, gateway, ip_range }, ...more] = compose.networks.default.ipam.config as [
      { subnet: string; gateway: string; ip_range: string },
    ];
    expect(more).to.deep.equal([]);
    const listOf = (network: string) => {
      const [address = "", bits] = network.split("/");
      const list = new BlockList();
      list.addSubnet(address, Number(bits));
      return list;
    };
    const fixed = [...Object.values(services).map(ipOf).filter(Boolean), gateway];
    expect(fixed).to.have.length(5);
    expect(new Set(fixed).size).to.equal(fixed.length);
    for (const address of fixed) {
      expect(listOf(subnet).check(address), address).to.equal(true);
      expect(listOf(ip_range).check(address), address).to.equal(false);
    }
  });

  it("[contract] every service and volume that it names is there, and every file that it mounts", () => {
    for (const [name, { depends_on = [], volumes = [] }] of Object.entries(services)) {
      for (const other of Array.isArray(depends_on) ? depends_on : Object.keys(depends_on))
        expect(services, name).to.have.property(other);
      for (const volume of volumes) {
        const [source = ""] = volume.split(":");
        if (source.startsWith("./")) expect(existsSync(join(ROOT, source)), volume).to.equal(true);
        else expect(compose.volumes, name).to.have.property(source);
      }
    }
  });

  it("[contract] what runs from the image is built from it, and what is no node does not answer as one", () => {
    const own = Object.entries(services).filter(([, { image }]) => image === "agentwire");
    expect(own.map(([name]) => name)).to.deep.equal([...nodes.map(([name]) => name), "worker"]);
    for (const [name, { build, healthcheck, init }] of own) {
      expect(build, name).to.equal(".");
      if (name === "worker")
        expect({ healthcheck, init }).to.deep.equal({ healthcheck: { disable: true }, init: true });
      else expect(healthcheck?.test?.join(" "), name).to.match(/^CMD node -e .*:8080\/readyz/);
    }
  });
});

describe("Dockerfile", () => {
  it("[contract] everything that it copies is in the repository, and gets through .dockerignore", () => {
    const ignore = read(".dockerignore")
      .split("\n")
      .filter((line) => line && !line.startsWith("#"));
    expect(ignore[0]).to.equal("*");
    const admitted = ignore.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
    for (const path of admitted) expect(existsSync(join(ROOT, path)), path).to.equal(true);
    const isAdmitted = (path: string) => admitted.some((one) => path === one || path.startsWith(`${one}/`));
    const given = copiesOf(build).flatMap(({ sources }) => sources);
    for (const path of given) {
      expect(matching(path), path).not.to.deep.equal([]);
      expect(isAdmitted(path), path).to.equal(true);
    }
    // The second stage takes from the first: what was given to it, or made by it.
    for (const { from, sources } of copiesOf(image)) {
      expect(from).to.equal("build");
      for (const source of sources) {
        const path = source.replace(/^\/app\//, "");
        expect(matching(path), path).not.to.deep.equal([]);
        const isGiven = given.some((one) => path === one || path.startsWith(`${one}/`));
        expect(isGiven || path === "node_modules", path).to.equal(true);
      }
    }
  });

  it("[contract] it builds what npm start builds, and every package has its package.json before npm ci", () => {
    const { workspaces } = JSON.parse(read("package.json")) as { workspaces: string[] };
    const [install, made] = valuesOf("RUN", build);
    expect(install).to.match(/^npm ci\b/);
    expect(
      /tsc -b ((?:\w+ )+)/
        .exec(made as string)?.[1]
        ?.trim()
        .split(" "),
    ).to.have.members(workspaces);
    const before = build.slice(
      0,
      build.findIndex(({ name }) => name === "RUN"),
    );
    expect(copiesOf(before).flatMap(({ sources }) => sources)).to.deep.equal([
      "package.json",
      "package-lock.json",
      ...workspaces.map((name) => `${name}/package.json`),
    ]);
  });

  it("[contract] a node is the first process, not root, hears SIGTERM, and listens where EXPOSE says", () => {
    const one = (name: string) => {
      const [value = "", ...more] = valuesOf(name, image);
      expect(more, name).to.deep.equal([]);
      return value;
    };
    expect(commandOf(one("CMD"))).to.deep.equal(["node", "server/dist/main.js"]);
    expect(one("CMD")).to.match(/^\[/);
    expect(one("USER")).to.equal("node");
    expect(one("STOPSIGNAL")).to.equal("SIGTERM");
    expect(one("EXPOSE")).to.equal(String(readConfig(SECRETS).PORT));
    expect(commandOf(one("HEALTHCHECK"))[0]).to.equal("node");
    for (const stage of [build, image])
      expect(valuesOf("FROM", stage)[0]).to.match(/^node:20-slim( AS build)?$/);
    expect(JSON.parse(read("package.json")).engines.node).to.match(/^>=20\./);
  });
});
