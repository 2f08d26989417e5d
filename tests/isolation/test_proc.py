"""What /proc and /sys show a tenant of the host; it can change nothing there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pysandpool import PooledSandbox, Sandbox, SandboxConfig

# Of what container runtimes mask or make read-only: any uid may read these, so they are covered.
COVERED = [
    *["keys", "kallsyms", "interrupts", "cmdline", "bootconfig", "sys/kernel/random/boot_id"],
    *["diskstats", "partitions", "mdstat", "pressure", "bus", "fs", "irq", "acpi", "scsi", "asound"],
]
# These are the host root's by their mode, and no sandbox has its uid.
OF_ROOT = [
    *["kcore", "kmsg", "kpagecount", "kpageflags", "kpagecgroup", "pagetypeinfo", "sched_debug", "slabinfo"],
    *["timer_list", "timer_stats", "vmallocinfo", "latency_stats", "sysrq-trigger", "mtrr", "allocinfo"],
]
LOOK = """
import json, os, sys
def look(path):
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries)
    except NotADirectoryError:
        pass
    except OSError as error:
        return None
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(16).decode("latin-1")
    except OSError:
        return None
def may_write(path):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
names = json.loads(sys.argv[1])
print(json.dumps([[look(name) for name in names], [may_write(name) for name in names]]))
"""
KNOBS = """
import json, os
found = []
for top in ("/proc/sys", "/proc/irq", "/proc/fs", "/sys"):
    for where, _, names in os.walk(top):
        for name in names:
            try:
                os.close(os.open(os.path.join(where, name), os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                continue
            found.append(os.path.join(where, name))
print(json.dumps(found))
"""


def outside(*args: str, user: int | None = None) -> Any:
    who: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    done = subprocess.run(["/usr/bin/python3", "-c", *args], capture_output=True, text=True, check=True, **who)
    return json.loads(done.stdout)


def inside(sandbox: PooledSandbox | Sandbox, *args: str) -> Any:
    return json.loads(sandbox.execute(["/usr/bin/python3", "-c", *args]).check().stdout)


@pytest.mark.parametrize("scope", ["/proc", "/proc/self/root/proc", "/proc/thread-self/root/proc"])
def test_what_any_uid_could_read_is_covered(sandbox: PooledSandbox, scope: str) -> None:
    names = json.dumps([f"{scope}/{name}" for name in COVERED])
    ordinary = 65534 if os.geteuid() == 0 else None
    there, _ = outside(LOOK, names, user=ordinary)
    assert len([one for one in there if one]) >= 5, "the control reads them"
    covered, _ = inside(sandbox, LOOK, names)
    assert [one for one in covered if one] == []


def test_what_is_the_host_roots_stays_closed(sandbox: PooledSandbox) -> None:
    names = json.dumps([f"/proc/{name}" for name in OF_ROOT])
    if os.geteuid() == 0:
        there, writable = outside(LOOK, names)
        assert any(there), "the control reads some of them"
        assert any(writable), "the control could write some of them"
    seen, writable = inside(sandbox, LOOK, names)
    assert seen == [None] * len(OF_ROOT)
    assert writable == [False] * len(OF_ROOT)


def test_no_knob_can_be_turned(sandbox: PooledSandbox) -> None:
    if os.geteuid() == 0:
        assert len(outside(KNOBS)) > 100, "the control could"
    # Anybody may open this one; writing it needs a capability over its own pid namespace.
    assert inside(sandbox, KNOBS) == ["/proc/sys/kernel/ns_last_pid"]
    assert sandbox.execute(["/bin/sh", "-c", "echo 100 > /proc/sys/kernel/ns_last_pid"]).exit_code != 0


def test_a_cover_cannot_be_written_or_taken_off(sandbox: PooledSandbox) -> None:
    def fails(*command: str) -> bool:
        return sandbox.execute(command).exit_code != 0

    assert fails("/bin/touch", "/proc/bus/x")
    assert fails("/bin/rmdir", "/proc/irq")
    assert fails("/usr/bin/umount", "/proc/keys")
    assert fails("/usr/bin/unshare", "-Urm", "/usr/bin/umount", "/proc/keys")
    assert fails("/bin/mount", "-t", "proc", "proc", "/tmp")


def test_what_runtimes_size_themselves_by_is_there(sandbox: PooledSandbox) -> None:
    names = ["cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version", "filesystems", "sys/kernel/osrelease"]
    seen, _ = inside(sandbox, LOOK, json.dumps([f"/proc/{name}" for name in names]))
    assert all(seen)


def test_programs_that_look_at_disks_find_none(sandbox: PooledSandbox) -> None:
    """They are not refused: psutil, for one, does not expect that."""
    result = sandbox.execute(["/bin/cat", "/proc/diskstats", "/proc/partitions"]).check()
    assert (result.stdout, result.stderr) == (b"", b"")


FILES = """
import json, os
def readable(path):
    try:
        with open(path, "rb", buffering=0) as file:
            return bool(file.read(16))
    except OSError:
        return False
def files_below(path):
    return any(readable(os.path.join(where, name)) for where, _, names in os.walk(path) for name in names)
names = [name for name in os.listdir("/proc") if not name.isdigit() and not os.path.islink("/proc/" + name)]
print(json.dumps([name for name in names if readable("/proc/" + name) or files_below("/proc/" + name)]))
"""


def test_every_readable_file_is_documented(sandbox: PooledSandbox) -> None:
    """Whatever of /proc is of no process, and has something to say, is the host's, and named in SECURITY.md."""
    page = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    section = page.split("## What a tenant can learn of the host")[1].split("\n## ")[0]
    documented = set(re.findall(r"`/proc/([\w.-]+)", section))
    found = set(inside(sandbox, FILES))
    assert {"meminfo", "stat", "sys"} <= found, "the control finds something"
    assert found - documented == set()
    assert not documented & set(COVERED)


def test_masks_are_there_beside_every_configuration() -> None:
    with Sandbox(SandboxConfig(allow_unix_sockets=True, fs_readonly=["/opt"])) as sandbox:
        assert inside(sandbox, LOOK, '["/proc/keys", "/proc/bus"]')[0] == [None, []]
