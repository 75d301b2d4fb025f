import { mkdirSync, writeFileSync } from "node:fs";
import { Session } from "node:inspector";
import { basename, join } from "node:path";

// Loaded into each node by `--profile <folder>`: what `node --cpu-prof` does, which NODE_OPTIONS does not take.
const folder = process.env.BENCH_PROFILE;
const session = new Session();
session.connect();
session.post("Profiler.enable");
session.post("Profiler.setSamplingInterval", { interval: 200 });
session.post("Profiler.start");

process.once("exit", () => {
  session.post("Profiler.stop", (error, stopped) => {
    if (error) throw error;
    mkdirSync(folder, { recursive: true });
    const name = `${basename(process.argv[1], ".js")}-${process.pid}.cpuprofile`;
    writeFileSync(join(folder, name), JSON.stringify(stopped.profile));
  });
});
