import { existsSync } from "node:fs";
import { Failure } from "./failure.mjs";

/**
 * Packages start their services when they are installed, and at each boot from then on. We want the programs only:
 * policy-rc.d forbids the first, `systemctl disable` ends the second. PostgreSQL would make a database to serve as well.
 */
const SCRIPT = `
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d
ours=
trap '[ -z "$ours" ] || rm -f $ours; rmdir -p --ignore-fail-on-non-empty "$clusters" 2>/dev/null || true' EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$policy" ]; then
  ours="$policy"
  printf '#!/bin/sh\\nexit 101\\n' > "$policy" && chmod 755 "$policy" || exit 1
fi
case " $* " in *' postgresql '*)
  ours="$ours $clusters/agentwire.conf"
  mkdir -p "$clusters" && echo 'create_main_cluster = false' > "$clusters/agentwire.conf" || exit 1
esac
export DEBIAN_FRONTEND=noninteractive
wait='-o DPkg::Lock::Timeout=120'
apt-get $wait update -q || echo 'apt-get update failed in part; going on with what is known'
apt-get $wait install -qy --no-install-recommends "$@" || exit 1
if [ -d /run/systemd/system ]; then
  for package in "$@"; do
    if systemctl is-enabled --quiet "$package" 2>/dev/null; then systemctl disable --quiet "$package"; fi
  done
fi
`;

/**
 * Installs Debian packages, as root or with a sudo that asks for no password.
 * @param {import("./processes.mjs").Processes} processes
 * @param {string[]} packages
 * @param {string} why
 * @throws Failure that says why it is not possible here
 */
export async function aptInstall(processes, packages, why) {
  const names = packages.join(" ");
  if (!existsSync("/etc/debian_version") || !(await processes.run("apt-get", ["--version"])).ok) {
    throw new Failure(`${names} cannot be installed here: this is not Debian or Ubuntu`);
  }
  const isRoot = process.getuid?.() === 0;
  if (!isRoot && !(await processes.run("sudo", ["-n", "true"])).ok) {
    throw new Failure(`${names} cannot be installed here: neither root nor a sudo without password`);
  }
  console.log(`Installing ${names} with apt-get: ${why}. No service is left running.`);
  const shell = ["sh", "-c", SCRIPT, "sh", ...packages];
  const [file = "", ...args] = isRoot ? shell : ["sudo", "-n", ...shell];
  const { ok, output } = await processes.run(file, args);
  if (!ok) throw new Failure(`${output}\n\napt-get could not install ${names}: its output is above`);
}
