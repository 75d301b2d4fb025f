import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { onTeardown } from "./teardown.js";

const CLIENT = `
import json, sys, socketio
client = socketio.Client(reconnection=True, reconnection_delay=0.1, reconnection_delay_max=1)
def say(what, **more):
    print(json.dumps({"what": what, **more}), flush=True)
@client.on("connect", namespace="/ws/agents")
def connected(): say("connect", transport=client.transport())
@client.on("disconnect", namespace="/ws/agents")
def disconnected(*_): say("disconnect")
@client.on("AGENT_STATUS_CHANGED", namespace="/ws/agents")
def changed(envelope): say("change", sequence_id=envelope["sequence_id"])
client.connect(sys.argv[1], namespaces=["/ws/agents"], transports=sys.argv[2].split(","))
client.wait()
`;

export type PythonLine = { what: string; transport?: string; sequence_id?: string };

/** python-socketio, as it comes: its own pongs, its own reconnection. What happens to it stands in `lines`. */
export function startPython(url: string, query: Record<string, string>, transports: string[]) {
  const python = process.env.AGENTWIRE_PYTHON ?? "/usr/bin/python3";
  const address = `${url}?${new URLSearchParams(query)}`;
  const child = spawn(python, ["-c", CLIENT, address, transports.join(",")], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: PythonLine[] = [];
  let stderr = "";
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(JSON.parse(line)));
  child.stderr.on("data", (text) => {
    stderr += text;
  });
  onTeardown(() => {
    child.kill("SIGKILL");
  });
  return {
    lines,
    count: (what: string) => lines.filter((line) => line.what === what).length,
    get changes(): string[] {
      return lines.flatMap(({ sequence_id }) => sequence_id ?? []);
    },
    /** What it complained of. */
    get stderr(): string {
      return stderr;
    },
  };
}
