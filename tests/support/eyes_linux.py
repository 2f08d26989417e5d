"""What tests see of the host's own state on Linux: by /proc."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

from pysandpool import PooledSandbox

PR_SET_CHILD_SUBREAPER = 36


def see_orphans() -> None:
    """Where its reaper is killed, a zygote comes to this process, so that one that is left behind is found."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def open_fds() -> dict[int, str]:
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            fds[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return fds


def thread_count() -> int:
    return len(os.listdir("/proc/self/task"))


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"


def identity(pid: int) -> tuple[int, int]:
    """(pid, start time): a process's name that is not used again."""
    fields = stat_fields(pid)
    assert fields is not None, f"no process {pid}"
    return pid, int(fields[19])


def status_field(pid: int | str, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise AssertionError(f"no {name} in /proc/{pid}/status")


def children(pid: int | None = None) -> set[int]:
    """Direct children of a process, zombies too; below a sandbox's init, its commands without the standby."""
    parent = os.getpid() if pid is None else pid
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(int(name))
            if fields is not None and int(fields[1]) == parent and (pid is None or not is_standby(int(name))):
                found.add(int(name))
    return found


def all_children(pid: int) -> set[int]:
    """Also those that run our own program, such as the inits of a zygote."""
    found = set()
    for name in os.listdir("/proc"):
        fields = stat_fields(int(name)) if name.isdigit() else None
        if fields is not None and int(fields[1]) == pid:
            found.add(int(name))
    return found


def children_of(pid: int) -> list[int]:
    """Without a look at every process there is."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += [int(word) for word in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return found


def command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def zygotes_below(reaper: int) -> list[int]:
    """In the Landlock tier the warden is between them."""
    zygotes = []
    for child in children_of(reaper):
        zygotes += children_of(child) if command_name(child) == "sandpool-warden" else [child]
    return zygotes


def zygotes_of_host(pid: int) -> list[int]:
    """Children of the host's reapers; of the host itself, when it adopts orphans and a reaper was killed."""
    zygotes = []
    for child in children_of(pid):
        name = command_name(child)
        if name == "sandpool-zygote":
            zygotes.append(child)
        elif name == "sandpool-reaper":
            zygotes += zygotes_below(child)
    return zygotes


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    todo = [pid]
    while todo:
        new = [child for child in children_of(todo.pop()) if child not in found]
        found.update(new)
        todo += new
    return found


def is_standby(pid: int) -> bool:
    """Whether this is still our program, waiting to become a sandbox's next command."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sandpool-init\n"
    except OSError:
        return False


def zygote_of(lease: PooledSandbox) -> int:
    """An OSError when it is gone: then the parent is 0, whose kill is one of the own group, or who adopts orphans."""
    parent = int(status_field(lease.pid, "PPid"))
    if "sandpool" not in Path(f"/proc/{parent}/comm").read_text():
        raise ProcessLookupError(f"the zygote of {lease} is gone")
    return parent


def reap_orphans() -> None:
    """The zombies of hosts that were children of this process and are gone."""
    for pid in children():
        fields = stat_fields(pid)
        if fields is not None and fields[0] == "Z" and "sandpool" in Path(f"/proc/{pid}/comm").read_text():
            with suppress(ChildProcessError):  # a reaper, which only the library waits for
                os.waitpid(pid, 0)
