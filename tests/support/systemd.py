"""A unit of systemd, run by systemd itself: as pid 1 of namespaces of its own, over the files of this machine.

It is told that it is in a container, so that it changes no setting of the kernel, and starts the one unit only.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from oci import PYTHON, ROOT, read_report, way

PROGRAM = "/lib/systemd/systemd"
UNIT = "worker.service"
_USER = "nobody"
_TEXT = """
[Unit]
DefaultDependencies=no
SuccessAction=exit-force
FailureAction=exit-force

[Service]
Type=oneshot
User={user}
Environment=PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
ExecStart={command}
StandardOutput=file:/out/stdout
StandardError=file:/out/stderr
{settings}
"""
# A cgroup of its own, of which systemd sees nothing above; then the file systems; then /proc and the root, inside.
_START = """
set -e
mounts=$1 passed=$2
mkdir "$mounts/cgroup" "$mounts/all"
mount -t cgroup2 cgroup2 "$mounts/cgroup"
own="$mounts/cgroup/$(basename "$mounts")"
mkdir "$own"
echo $$ > "$own/cgroup.procs"
exec unshare --cgroup sh -ec '
    cd "$1/all"
    mount -t tmpfs -o mode=755 tmpfs .
    cd "$1/all"
    mkdir upper work root
    mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
    cd root
    rm -f .dockerenv run/.containerenv
    for one in $2; do chmod o+x ".$one"; done
    cp "$1/unit" "etc/systemd/system/$3"
    mkdir out
    mount --bind "$1/out" out
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    for one in run tmp dev; do mount -t tmpfs -o mode=1777 tmpfs $one; done
    mkdir dev/shm dev/pts
    chmod 755 dev run
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    for one in null zero full random urandom tty; do : > dev/$one; mount --bind /dev/$one dev/$one; done
    ln -s /proc/self/fd dev/fd
    exec env -i container=test PATH="$PATH" unshare --pid --mount --fork --kill-child sh -ec "
        mount -t proc proc proc
        pivot_root . .
        umount -l /
        exec $4 --unit=$3 --log-target=console --log-level=warning --show-status=no
    "
' sh "$mounts" "$passed" "$3" "$4"
"""


def missing() -> str:
    """Why systemd cannot be run here; "" if it can."""
    if os.geteuid() != 0:
        return "only root can start systemd as the first process of namespaces"
    if not Path(PROGRAM).exists():
        return f"{PROGRAM} is not there: apt-get install systemd"
    return _refusal()


@cache
def _refusal() -> str:
    done = run(["/bin/echo", "started"])
    return "" if done.stdout == "started\n" else f"systemd starts no unit here: {done.stderr.strip()[-300:]}"


def run(command: Sequence[str], settings: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Runs `command`, of words without spaces, as the user nobody in a unit with these settings of [Service]."""
    with tempfile.TemporaryDirectory(prefix="sandpool-systemd-") as mounts:
        folder = Path(mounts)
        folder.chmod(0o755)
        (folder / "out").mkdir()
        path = f"{ROOT}:{Path(__file__).parent}"
        text = _TEXT.format(user=_USER, path=path, command=" ".join(command), settings="\n".join(settings))
        (folder / "unit").write_text(text, encoding="utf-8")
        words = ["unshare", "--mount", "--uts", "--ipc", "--net", "sh", "-c", _START, "sh"]
        try:
            done = subprocess.run(
                [*words, mounts, " ".join(way()), UNIT, PROGRAM],
                capture_output=True,
                text=True,
                check=False,
                timeout=100,
            )
        finally:
            _remove_cgroups(folder.name)
        streams = [folder / "out" / name for name in ("stdout", "stderr")]
        out, err = (file.read_text(encoding="utf-8") if file.exists() else "" for file in streams)
        return subprocess.CompletedProcess(done.args, done.returncode, out, err + done.stderr + done.stdout)


def run_doctor(settings: Sequence[str] = ()) -> dict[str, Any]:
    """What `pysandpool doctor --json` finds in such a unit."""
    return read_report(run([PYTHON, "-m", "pysandpool", "doctor", "--json"], settings))


def _remove_cgroups(name: str) -> None:
    """The cgroups that systemd has made, which are empty now."""
    script = f'd=$(mktemp -d) && mount -t cgroup2 cgroup2 "$d" && find "$d/{name}" -depth -type d -exec rmdir {{}} +'
    subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, check=False)
