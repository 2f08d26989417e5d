"""Containers of Podman, rootful and rootless, over the files of this machine as those of oci.py are.

Podman's own marks, seccomp profile and masked paths are what the tests want to meet. All it writes, its storage
included, is in a mount namespace of its own, and so are a cgroup file system of version 2, which crun insists on, and
the user of the rootless one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from oci import PYTHON, ROOT, read_report, way
from selection import EXTENDED

PACKAGES = ("podman", "crun", "uidmap", "conmon")
_USER = "12345"
_START = """
set -e
mounts=$1 passed=$2
shift 2
mount --make-rshared /
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount -t tmpfs -o mode=755 tmpfs "$mounts"
cd "$mounts"
mkdir upper work root home tmp
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
rm -f root/.dockerenv
touch root/run/.containerenv
for one in $passed; do chmod o+x "root$one"; done
echo "USER:200000:65536" > ids
{ cat /etc/passwd; echo "guest:x:USER:USER::$mounts/home:/bin/sh"; } > passwd
mount --bind passwd /etc/passwd
mount --bind ids /etc/subuid
mount --bind ids /etc/subgid
chown USER:USER root home tmp
chmod 700 tmp
cd /
exec "$@"
""".replace("USER", _USER)


def missing() -> str:
    """Why Podman cannot run containers here; "" if it can. `make test-all` installs it."""
    if os.geteuid() != 0:
        return "only root can make a container from the files of this machine"
    if EXTENDED and not _is_there() and shutil.which("apt-get") is not None:
        install = f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {' '.join(PACKAGES)}"
        subprocess.run(["sh", "-c", install], stdout=subprocess.DEVNULL, check=False, timeout=300)
    if not _is_there():
        return f"Podman is not installed: apt-get install {' '.join(PACKAGES)}"
    return _refusal()


def _is_there() -> bool:
    return all(shutil.which(name) is not None for name in ("podman", "crun", "newuidmap"))


@cache
def _refusal() -> str:
    done = run(["/bin/true"])
    return "" if done.returncode == 0 else f"Podman starts no container here: {done.stderr.strip()[-300:]}"


def run_doctor(options: Sequence[str] = (), *, rootless: bool = False) -> dict[str, Any]:
    """What `pysandpool doctor --json` finds in a new container."""
    return read_report(run([PYTHON, "-m", "pysandpool", "doctor", "--json"], options, rootless=rootless))


def options_of(commands: Sequence[str], profile: Path) -> list[str]:
    """The options of the `podman run` commands of a hint; `profile`: where the seccomp profile lies that they name."""
    words = [word for one in commands if one.startswith("podman run ") for word in shlex.split(one)[2:-1]]
    return [f"seccomp={profile}" if word == "seccomp=pysandpool.json" else word for word in words]


def run(
    command: Sequence[str], options: Sequence[str] = (), *, rootless: bool = False, timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """Runs `command` in a new container that `podman run` makes with these options."""
    with tempfile.TemporaryDirectory(prefix="sandpool-podman-") as mounts:
        Path(mounts).chmod(0o755)
        words = ["unshare", "--mount", "sh", "-c", _START, "sh", mounts, " ".join(way())]
        if rootless:
            words += ["setpriv", "--reuid", _USER, "--regid", _USER, "--clear-groups"]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        words += ["env", "-i", f"PATH={path}", f"HOME={mounts}/home", "USER=guest", f"XDG_RUNTIME_DIR={mounts}/tmp"]
        words += ["podman", "--root", f"{mounts}/home/storage", "--runroot", f"{mounts}/home/run"]
        words += ["--tmpdir", f"{mounts}/tmp/libpod", "--storage-driver", "vfs", "--runtime", "crun"]
        words += ["--cgroup-manager", "cgroupfs", "run", "--rm", "--cgroups", "disabled", "--network", "none"]
        # The default limits are higher than root's own where it has no CAP_SYS_RESOURCE.
        words += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--log-driver", "none"]
        words += ["--workdir", str(ROOT), "--env", f"PYTHONPATH={ROOT}:{Path(__file__).parent}"]
        words += ["--env", "PYTHONDONTWRITEBYTECODE=1", "--env", "HOME=/tmp", *options]
        words += ["--rootfs", f"{mounts}/root", *command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)
