import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A pipe as a shell makes it: what a child writes into `fd` comes out of `from`. Close `fd` once the child has it. */
export interface Pipe {
  from: Socket;
  fd: number;
  closeFd(): void;
}

/**
 * Node gives its children sockets, and programs notice: a shell cannot open /dev/stdout, and no SIGPIPE ends who writes
 * to nobody.
 *
 * @throws what making it throws, such as a temporary folder that cannot be written to
 */
export function openPipe(): Pipe {
  const folder = mkdtempSync(join(tmpdir(), "agentwire-"));
  try {
    const path = join(folder, "pipe");
    execFileSync("mkfifo", ["-m", "600", path]);
    // Without O_NONBLOCK it would wait for the other end.
    const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const fd = openSync(path, constants.O_WRONLY);
    return {
      from: new Socket({ fd: read, readable: true, writable: false }),
      fd,
      closeFd: () => closeSync(fd),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
