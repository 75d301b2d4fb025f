import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";

const FILE = fileURLToPath(new URL("../../docker-compose.yml", import.meta.url));

export interface Service {
  image: string;
  build?: string;
  command?: string[];
  environment?: Record<string, string>;
  depends_on?: string[] | Record<string, unknown>;
  healthcheck?: { test?: string[]; disable?: boolean };
  init?: boolean;
  networks?: { default: { ipv4_address: string } };
  ports?: string[];
  stop_grace_period?: string;
  volumes?: string[];
}

export interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  networks: { default: { ipam: { config: { subnet: string; gateway: string; ip_range: string }[] } } };
}

/** `$$`, `${NAME:?message}` and `${NAME:-default}`, as compose replaces them; there is no other form in the file. */
function interpolate(text: string, env: NodeJS.ProcessEnv): string {
  return text.replace(/\$(\$|\{(\w+):([?-])([^}]*)\}|.)/g, (form, dollar, name, operator, rest) => {
    if (dollar === "$") return "$";
    if (!name) throw new Error(`docker-compose.yml has ${form}`);
    if (env[name]) return env[name];
    if (operator === "?") throw new Error(`${name}: ${rest}`);
    return rest;
  });
}

function interpolated(value: unknown, env: NodeJS.ProcessEnv): unknown {
  if (typeof value === "string") return interpolate(value, env);
  if (Array.isArray(value)) return value.map((one) => interpolated(one, env));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, interpolated(one, env)]));
}

/** What `docker compose` makes of the repository's file where the shell has these variables. */
export function readCompose(env: NodeJS.ProcessEnv): Compose {
  return interpolated(parse(readFileSync(FILE, "utf8"), { merge: true }), env) as Compose;
}

/** The services that are nodes, in order. */
export function nodesOf({ services }: Compose): [name: string, Service][] {
  return Object.entries(services).filter(([name]) => /^node-\d+$/.test(name));
}

/** `s/from/to/` of the sed that runs before nginx. */
export function replacementsOf({ services }: Compose): [from: RegExp, to: string][] {
  const script = services.nginx?.command?.at(-1) ?? "";
  return [...script.matchAll(/-e 's\/(.+?)\/(.+?)\/'/g)].map(([, from = "", to = ""]) => [
    new RegExp(from),
    to,
  ]);
}
