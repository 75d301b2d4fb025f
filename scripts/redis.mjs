import { once } from "node:events";
import { mkdirSync, openSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "./failure.mjs";
import { freePort } from "./ports.mjs";
import { provideRedisServer } from "./programs.mjs";

const READY_MS = 15_000;

const WAYS = `Agentwire needs a Redis. Any of these will do:
  REDIS_URL=redis://host:6379 npm start        one that runs already
  apt-get install redis-server                 Debian, Ubuntu
  brew install redis                           macOS
  docker run --rm -p 6379:6379 redis:7         then REDIS_URL=redis://127.0.0.1:6379 npm start`;

/**
 * @typedef {object} RedisInUse
 * @property {string} url
 * @property {string} about one line for the person who started it
 * @property {Promise<void>} [ended] settles when our own server ends by itself
 * @property {() => Promise<void>} stop does nothing to a Redis that is not ours
 */

/**
 * The Redis of `REDIS_URL`, or a private one in `folder` that ends with us.
 * @param {import("./processes.mjs").Processes} processes
 * @param {string} folder
 * @returns {Promise<RedisInUse>}
 */
export async function openRedis(processes, folder) {
  const url = process.env.REDIS_URL;
  if (url) {
    await checkAnswers(url);
    return { url, about: "Redis: the one of REDIS_URL", stop: async () => {} };
  }
  let program;
  try {
    program = await provideRedisServer(processes);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    throw new Failure(`${error.message}.\n\n${WAYS}`);
  }
  return startPrivate(processes, program, folder);
}

/**
 * @param {import("./processes.mjs").Processes} processes
 * @param {string} program
 * @param {string} folder
 * @returns {Promise<RedisInUse>}
 */
async function startPrivate(processes, program, folder) {
  const dir = join(folder, "redis");
  const log = join(dir, "redis.log");
  const port = await freePort();
  mkdirSync(dir, { recursive: true });
  const settings = {
    port,
    bind: "127.0.0.1",
    dir,
    save: "",
    appendonly: "no",
    "maxmemory-policy": "noeviction",
  };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const output = openSync(log, "a");
  const server = processes.start(program, args, { stdio: ["ignore", output, output] });
  const ended = once(server, "exit").then(
    () => {},
    () => {},
  );

  let over = false;
  ended.then(() => {
    over = true;
  });
  for (const until = Date.now() + READY_MS; !(await answersPing(port)); await sleep(20)) {
    if (!over && Date.now() < until) continue;
    await processes.stop(server);
    throw new Failure(`${readFileSync(log, "utf8")}\n\n${program} did not start: its output is above.`);
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    about: `Redis: a private ${program} on 127.0.0.1:${port}, gone when this ends`,
    ended,
    stop: () => processes.stop(server),
  };
}

/** @param {string} url */
async function checkAnswers(url) {
  if (!/^rediss?:\/\//.test(url) || !URL.canParse(url)) {
    throw new Failure("REDIS_URL must look like redis://host:6379.");
  }
  const { hostname, port } = new URL(url);
  const socket = connect({
    host: hostname.replace(/^\[|\]$/g, ""),
    port: Number(port || 6379),
    timeout: 5000,
  });
  socket.once("timeout", () => socket.destroy(new Error("no answer within 5 s")));
  try {
    await once(socket, "connect");
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    throw new Failure(`The Redis of REDIS_URL cannot be reached at ${hostname}:${port || 6379}: ${message}.`);
  } finally {
    socket.destroy();
  }
}

/**
 * @param {number} port
 * @returns {Promise<boolean>}
 */
function answersPing(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("PING\r\n"));
    socket.setTimeout(1000, () => socket.destroy());
    socket.once("data", (data) => {
      resolve(data.toString().startsWith("+PONG"));
      socket.destroy();
    });
    socket.once("error", () => resolve(false));
    socket.once("close", () => resolve(false));
  });
}
