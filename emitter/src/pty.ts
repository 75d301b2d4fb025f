import type { Command } from "./child.js";

/**
 * The same command with a terminal of its own, which `script` of util-linux gives it. `script` runs it in `$SHELL`,
 * whatever that understands, so it is told to use sh, and the command gets back the `SHELL` that was there. A signal
 * must go to the command itself: a `script` that is stopped by one exits with 0.
 */
export function withPty(file: string, args: string[], env: NodeJS.ProcessEnv): Command {
  const shell = env.SHELL === undefined ? "unset SHELL" : `export SHELL=${quoted(env.SHELL)}`;
  const command = `echo $$ >&3; exec 3>&-; ${shell}; exec ${[file, ...args].map(quoted).join(" ")}`;
  return {
    file: "script",
    what: "script (of util-linux), which --pty needs",
    args: ["-qefc", command, "/dev/null"],
    tellsPid: true,
    env: { ...env, SHELL: "/bin/sh" },
  };
}

/** For sh: exactly this text. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
