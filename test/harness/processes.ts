import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Owner {
  uid: number;
  gid: number;
}

/** Where the tests run as root, somebody else for a server that must not; otherwise nobody else is needed. */
export function unprivileged(preferred: string): Owner | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const users = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"));
  const user = [preferred, "nobody"].map((name) => users.find(([its]) => its === name)).find(Boolean);
  if (!user) throw new Error(`there is neither a user ${preferred} nor a user nobody`);
  return { uid: Number(user[2]), gid: Number(user[3]) };
}

/** A new temporary folder that this user can reach. */
export function folderOf(prefix: string, owner: Owner | undefined): string {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  if (owner) {
    chownSync(folder, owner.uid, owner.gid);
    // The temporary folder of `npm test` is for its own user only.
    const { mode } = statSync(tmpdir());
    if (!(mode & 0o001)) chmodSync(tmpdir(), mode | 0o001);
  }
  return folder;
}

const PROC = existsSync("/proc/self/stat");

/** Whatever process group they are in. */
export function childrenOf(parent: number): number[] {
  if (PROC) {
    const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    return all.map(Number).filter((pid) => statOf(pid)[1] === String(parent));
  }
  const listed = execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" });
  const pairs = listed.split("\n").map((line) => line.trim().split(/\s+/).map(Number));
  return pairs.filter(([, its]) => its === parent).map(([pid = 0]) => pid);
}

/** A dead process that nobody reaped is not alive. */
export function isAlive(pid: number): boolean {
  if (!PROC) return kill(pid, 0);
  const [state] = statOf(pid);
  return state !== undefined && state !== "Z";
}

/** CPU time that a process has used, in seconds; nothing where the system does not tell. */
export function cpuSecondsOf(pid: number): number | undefined {
  const [user, system] = statOf(pid).slice(11, 13).map(Number);
  // In ticks of USER_HZ, which is 100 on every Linux.
  return user === undefined || system === undefined ? undefined : (user + system) / 100;
}

/** @returns whether there is such a process */
export function kill(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

/** On Linux: state, parent, and what follows; nothing when it has ended. */
function statOf(pid: number): string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return [];
  }
}
