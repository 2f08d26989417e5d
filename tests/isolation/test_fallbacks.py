"""What takes the place of a system call that is missing or refused isolates as well.

Seccomp filters refuse the calls, for one process and its children: see simulate.py. What a kernel that really lacks
them does is shown in tests/vm, and the parts alone in tests/native/c: test_mount_flags.c, test_pivot.c and
test_descriptors.c.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from older_kernels import OVERLAYS_OF_USERS
from scripts import run_script

HERE = Path(__file__).resolve()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(HERE.is_relative_to("/var/tmp"), reason="the scripts cover /var/tmp, where this clone is"),
]

MODES = ["ro", "rw", *(["cow"] if OVERLAYS_OF_USERS else [])]
REFUSED = {
    "nothing": "",
    "Linux 5.10": "mount_setattr=ENOSYS",
    "Docker's profile for CAP_SYS_ADMIN": "pivot_root=EPERM",
    "an old profile": "close_range=EPERM,mount_setattr=EPERM,pivot_root=EPERM",
    "all of them unknown": "close_range=ENOSYS,mount_setattr=ENOSYS,pivot_root=ENOSYS",
}

# A directory with mounts in it, and another one in /usr, in mounts of this process's own.
SCRIPT = """
import json, os, sys
import simulate
from refusing import refuse
from pysandpool import Sandbox, SandboxConfig, SandboxPool, Workspace

refused, ordinary, modes = json.loads(sys.argv[1])
if ordinary:
    simulate.become_ordinary()
simulate.own_mounts()

shown, work, below_usr = "/var/tmp/shown", "/var/tmp/work", "/usr/lib/python3"
simulate.mount_tmpfs("/var/tmp")
for folder in shown, work:
    simulate.mount_tmpfs(folder)
    simulate.mount_tmpfs(folder + "/plain")
    simulate.mount_tmpfs(folder + "/plain/in side", simulate.MS_NOEXEC | simulate.MS_NOATIME)
simulate.mount_tmpfs(below_usr)
places = [shown, shown + "/plain", shown + "/plain/in side", below_usr]
if refused:
    refuse(refused)

LOOK = '''
import os, sys
NAMES = {1: "ro", 2: "nosuid", 4: "nodev", 8: "noexec", 1024: "noatime"}
for path in sys.argv[1:]:
    flags = os.statvfs(path).f_flag
    try:
        open(path + "/new", "w").close()
        wrote = "written"
    except OSError as error:
        wrote = error.strerror
    print(path, wrote, *(name for bit, name in NAMES.items() if flags & bit), sep="|")
'''

def look(sandbox, paths):
    return sandbox.execute(["/usr/bin/python3", "-S", "-c", LOOK, *paths]).check().stdout.decode().splitlines()

found = {}
try:
    with SandboxPool(SandboxConfig(fs_readonly=[shown])) as pool:
        with pool.acquire() as sandbox:
            found["shown"] = look(sandbox, places)
            found["closed"] = sandbox.execute(["/bin/sh", "-c",
                "cd ../../../..; pwd; ls / /proc/1/root /proc/self/root /proc/self/cwd/../..; cat /proc/self/mountinfo"
            ]).stdout.decode()
            found["report"] = [sandbox.isolation.mounts, sandbox.isolation.namespaces]
        for mode in modes:
            lower = work + "/plain/in side" if mode == "cow" else work  # an overlay has no mounts in it
            with pool.acquire(workspace=Workspace(lower, mode)) as sandbox:
                inside = ["/workspace", "/workspace/plain", "/workspace/plain/in side"]
                found[mode] = look(sandbox, inside[: 1 if mode == "cow" else 3])
    found["host"] = sorted(os.listdir("/var/tmp/work/plain")), sorted(os.listdir("/var/tmp/shown/plain"))
finally:
    print(json.dumps(found))
"""


@functools.cache
def attempt(refused: str, ordinary: bool) -> dict[str, Any]:
    done = run_script(SCRIPT, json.dumps([refused, ordinary, MODES]))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


USERS = [False, True] if os.geteuid() == 0 else [True]


@pytest.mark.parametrize("ordinary", USERS, ids=lambda ordinary: "user" if ordinary else "root")
@pytest.mark.parametrize("name", REFUSED)
def test_every_mount_keeps_its_flags_and_gets_those_of_the_view(name: str, ordinary: bool) -> None:
    found = attempt(REFUSED[name], ordinary)
    assert found["report"] == ["full", "full"]
    denied = "Read-only file system|ro|nosuid|nodev"
    assert [line.partition("|")[2] for line in found["shown"]] == [denied, denied, f"{denied}|noexec|noatime", denied]
    assert [line.partition("|")[2] for line in found["ro"]] == [denied, denied, f"{denied}|noexec|noatime"]
    assert [line.partition("|")[2] for line in found["rw"]] == [
        "written|nosuid|nodev",
        "written|nosuid|nodev",
        "written|nosuid|nodev|noexec|noatime",
    ]
    if "cow" in MODES:
        assert [line.partition("|")[2] for line in found["cow"]] == ["written|nosuid|nodev"]
    assert found["host"] == [["in side", "new"], ["in side"]], "what was written is in the writable workspace alone"


@pytest.mark.parametrize("ordinary", USERS, ids=lambda ordinary: "user" if ordinary else "root")
@pytest.mark.parametrize("name", REFUSED)
def test_nothing_but_the_view_is_there(name: str, ordinary: bool) -> None:
    assert view(attempt(REFUSED[name], ordinary)["closed"]) == view(attempt("", ordinary)["closed"])


def view(text: str) -> list[str]:
    """The names that were listed, and of each mount its place, its root and its flags, but not its numbers."""
    words = [line.split(" ") for line in text.splitlines()]
    mounts = [f"{w[3]} at {w[4]}: {w[5].replace(',idmapped', '')}" for w in words if "-" in w]
    assert len(mounts) > 20, "there are mounts to be compared"
    return mounts + [line for line in text.splitlines() if " - " not in line]
