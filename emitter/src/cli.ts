import { readFileSync } from "node:fs";
import { AgentwireError } from "@agentwire/shared";
import { parseArguments, UsageError, usage } from "./arguments.js";
import { run } from "./run.js";
import { mintToken } from "./token.js";

const EXIT_USAGE = 2;

async function main(argv: string[]): Promise<number> {
  const asked = parseArguments(argv, process.env);
  switch (asked.command) {
    case "help":
      process.stdout.write(usage);
      return 0;
    case "version":
      process.stdout.write(`${version()}\n`);
      return 0;
    case "run":
      return run(asked);
    case "token":
      process.stdout.write(`${mintToken(asked)}\n`);
      return 0;
  }
}

function version(): string {
  const manifest: { version: string } = JSON.parse(
    readFileSync(new URL("../package.json", import.meta.url), "utf8"),
  );
  return manifest.version;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof UsageError || error instanceof AgentwireError)) throw error;
  // One line, whatever was typed.
  const message = error.message.replace(/\p{Cc}+/gu, " ");
  process.stderr.write(`agentwire: ${message} (see agentwire --help)\n`);
  process.exitCode = EXIT_USAGE;
}
