import { mkdirSync, writeFileSync } from "node:fs";
import { Session } from "node:inspector";
import { basename, join } from "node:path";

// Loaded into each node by `--profile <folder>`. The first SIGUSR2 begins the measured time, the second ends it.
const folder = process.env.BENCH_PROFILE;
const session = new Session();
session.connect();
session.post("Profiler.enable");
session.post("Profiler.setSamplingInterval", { interval: 200 });

process.once("SIGUSR2", () => {
  session.post("Profiler.start");
  process.once("SIGUSR2", () => {
    session.post("Profiler.stop", (error, stopped) => {
      if (error) throw error;
      mkdirSync(folder, { recursive: true });
      const name = `${basename(process.argv[1]).split(".")[0]}-${process.pid}.cpuprofile`;
      writeFileSync(join(folder, name), JSON.stringify(stopped.profile));
    });
  });
});
