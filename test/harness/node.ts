import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { keepSecretsOf, seenByOutsiders } from "./secrets.js";
import { until } from "./wait.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MAIN = "server/dist/main.js";

export type LogLine = Record<string, unknown> & { msg?: string };

/** One node of the cluster: a real process. */
export class NodeProcess {
  #child: ChildProcess | undefined;
  /** What it logged, over all its lives. */
  readonly log: LogLine[] = [];
  stderr = "";

  constructor(
    readonly id: string,
    readonly port: number,
    private readonly settings: NodeJS.ProcessEnv,
    /** Where `server/dist/main.js` is; the repository when absent. */
    private readonly folder = ROOT,
  ) {
    keepSecretsOf(settings);
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The operators' door, once it listens. */
  get adminUrl(): string {
    const line = this.log.findLast(({ msg }) => msg === "listening");
    return `http://127.0.0.1:${line?.admin_port}`;
  }

  get alive(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get exitCode(): number | null {
    return this.#child?.exitCode ?? null;
  }

  /** Starts the process; {@link ready} tells when viewers are welcome. */
  start(): void {
    const env = {
      PATH: process.env.PATH,
      HOST: "127.0.0.1",
      PORT: String(this.port),
      ADMIN_PORT: "0",
      INSTANCE_ID: this.id,
    };
    this.#child = spawn(process.execPath, [join(this.folder, MAIN)], {
      env: { ...env, ...this.settings },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { stdout, stderr } = this.#child;
    if (!stdout || !stderr) throw new Error("a node has no output");
    createInterface(stdout).on("line", (line) => {
      seenByOutsiders(line, `the log of ${this.id}`);
      this.log.push(JSON.parse(line));
    });
    stderr.on("data", (data) => {
      this.stderr += data;
      seenByOutsiders(String(data), `stderr of ${this.id}`);
    });
  }

  async ready(): Promise<void> {
    await until(`${this.id} listens`, () => {
      if (!this.alive) throw new Error(`${this.id} ended: ${this.stderr}`);
      return this.log.some(({ msg }) => msg === "listening");
    });
    await until(`${this.id} is ready`, async () => (await this.readyz()) === 200);
  }

  /** The status of `/readyz`; 0 while the node does not listen. */
  async readyz(): Promise<number> {
    return fetch(`${this.url}/readyz`).then(
      (answer) => answer.status,
      () => 0,
    );
  }

  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  /** `kill -9`: no last word of any kind. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  /** As a deploy does it. */
  stop(): Promise<void> {
    return this.#end("SIGTERM");
  }

  async restart(): Promise<void> {
    await this.kill();
    this.log.length = 0;
    this.start();
    await this.ready();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (!this.#child || !this.alive) return;
    const exited = once(this.#child, "exit");
    this.#child.kill(signal);
    this.#child.kill("SIGCONT");
    await exited;
  }
}
