"""Docker's own daemon, LXC, systemd-nspawn and firejail, over the files of this machine as containers of oci.py are.

Each runs in namespaces of its own, and writes into a file system that ends with them. Where there is a namespace of
pids among them, nothing outlives the command: no daemon, and no process of one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from oci import PYTHON, ROOT, read_report, way
from selection import EXTENDED

_FILES = """
set -e
mounts=$1 passed=$2
shift 2
mount --make-rprivate /
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount -t tmpfs -o mode=755 tmpfs "$mounts"
mount -t tmpfs -o mode=755 tmpfs /run
cd "$mounts"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir="$mounts/upper",workdir="$mounts/work" overlay root
rm -f root/.dockerenv root/run/.containerenv
for one in $passed; do chmod go+x "root$one"; done
"""
# The image has the directories of this machine's root alone; what is in them is mounted.
_DOCKER = """
mount -t proc proc /proc
export DOCKER_HOST="unix://$mounts/socket"
dockerd --iptables=false --ip-forward=false --ip-masq=false --bridge=none --storage-driver=vfs \\
    --pidfile "$mounts/pid" --data-root "$mounts/data" --exec-root "$mounts/exec" \\
    --host "$DOCKER_HOST" > "$mounts/log" 2>&1 &
until [ -S "$mounts/socket" ]; do kill -0 $! || { cat "$mounts/log" >&2; exit 1; }; sleep 0.1; done
mkdir -p tree/etc
mkdir -m 1777 tree/tmp
shown=
for one in /*; do
    case $one in /etc|/tmp|/proc|/sys|/dev|/run|/mnt) continue ;; esac
    if [ -L "$one" ]; then cp -P "$one" tree; elif [ -d "$one" ]; then
        mkdir "tree$one"
        shown="$shown --volume $mounts/root$one:$one:ro"
    fi
done
tar -C tree -c . | docker import - files > /dev/null
exec docker run --rm --network none --workdir @ROOT@ --env PYTHONPATH --env PYTHONDONTWRITEBYTECODE --env HOME \\
    $shown @OPTIONS@ files "$@"
"""
# There is no AppArmor here, and nesting.conf names a profile of it.
_LXC = """
mount -t proc proc /proc
for one in /etc/subuid /etc/subgid; do
    echo root:100000:65536 > "$mounts/$(basename $one)"
    mount --bind "$mounts/$(basename $one)" $one
done
mkdir -p lxc/here
cat > lxc/here/config << END
lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = dir:$mounts/root
lxc.uts.name = here
lxc.net.0.type = empty
@OPTIONS@
lxc.apparmor.profile = unconfined
END
exec lxc-execute --lxcpath "$mounts/lxc" --name here -- "$@"
"""
UNPRIVILEGED = """lxc.include = /usr/share/lxc/config/userns.conf
lxc.idmap = u 0 100000 65536
lxc.idmap = g 0 100000 65536"""
_NSPAWN = """
mount -t proc proc /proc
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --as-pid2 --directory "$mounts/root" \\
    @OPTIONS@ -- "$@"
"""
# In a namespace of pids of its own it would take itself for another firejail's guest.
_FIREJAIL = """
cd root
echo "guest:x:12345:12345::/tmp:/bin/sh" >> etc/passwd
for one in proc sys dev; do mount --rbind /$one $one; done
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
pivot_root . mnt
umount -l mnt
cd /
exec setpriv --reuid 12345 --regid 12345 --clear-groups firejail --quiet @OPTIONS@ "$@"
"""


@dataclass(frozen=True)
class Engine:
    """What runs a command in a container."""

    program: str
    package: str
    script: str
    own_pids: bool = True
    between: str = " "
    """What separates two options."""

    def missing(self) -> str:
        """Why it cannot be run here; "" if it can. `make test-all` installs it."""
        if os.geteuid() != 0:
            return "only root can make a container from the files of this machine"
        if EXTENDED and shutil.which(self.program) is None and shutil.which("apt-get") is not None:
            install = f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {self.package}"
            subprocess.run(["sh", "-c", install], stdout=subprocess.DEVNULL, check=False, timeout=300)
        if shutil.which(self.program) is None:
            return f"{self.program} is not installed: apt-get install {self.package}"
        return _refusal(self)

    def run(self, command: Sequence[str], options: str = "", timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Runs `command` in a new container with these options, which the shell reads."""
        script = _FILES + self.script.replace("@ROOT@", shlex.quote(str(ROOT))).replace("@OPTIONS@", options)
        own = ["--mount", "--net", "--ipc", "--uts", "--cgroup", "--pid", "--fork", "--kill-child"]
        words = ["unshare", *(own if self.own_pids else own[:1]), "sh", "-c", script, "sh"]
        environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
            "HOME": "/tmp",
            "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with tempfile.TemporaryDirectory(prefix="sandpool-engine-") as mounts:
            Path(mounts).chmod(0o755)
            given = ["env", *(f"{name}={value}" for name, value in environment.items()), *command]
            words += [mounts, " ".join(way()), *given]
            return subprocess.run(
                words, env=environment, capture_output=True, text=True, check=False, timeout=timeout, cwd="/"
            )

    def run_doctor(self, options: str = "") -> dict[str, Any]:
        """What `pysandpool doctor --json` finds in a new container."""
        return read_report(self.run([PYTHON, "-m", "pysandpool", "doctor", "--json"], options))


@cache
def _refusal(engine: Engine) -> str:
    done = engine.run(["/bin/echo", "started"])
    said = (done.stdout + done.stderr).strip()
    return "" if done.stdout == "started\n" else f"{engine.program} starts no container here: {said[-300:]}"


DOCKER = Engine("dockerd", "docker.io docker-cli", _DOCKER)
LXC = Engine("lxc-execute", "lxc", _LXC, between="\n")
NSPAWN = Engine("systemd-nspawn", "systemd-container", _NSPAWN)
FIREJAIL = Engine("firejail", "firejail", _FIREJAIL, own_pids=False)


def options_of(engine: Engine, commands: Sequence[str], profile: Path) -> str:
    """The options that a hint names; `profile`: where the seccomp profile lies that it names."""
    if engine is LXC:
        return "\n".join(one for one in commands if one.startswith("lxc."))
    begin = "docker run " if engine is DOCKER else f"{engine.program} "
    words = [word for one in commands if one.startswith(begin) for word in shlex.split(one.removeprefix(begin))]
    found = [f"seccomp={profile}" if word == "seccomp=pysandpool.json" else word for word in words if word != "IMAGE"]
    return shlex.join(found)
