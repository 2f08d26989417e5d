"""Finds the directory of cgroup v2 in which launchers can create cgroups, and removes what dead hosts left there.

A launcher names its directory `pysandpool-<pid>-<start time>-<number>`, after its host process. From the name, a later
host knows whether that process is still alive. See Documentation/admin-guide/cgroup-v2.rst of the kernel, and
CGROUP_DELEGATION of systemd.
"""

from __future__ import annotations

import itertools
import os
import re
from contextlib import suppress
from pathlib import Path

CONTROLLERS = ("memory", "pids", "cpu")

_NAME = re.compile(r"pysandpool-(\d+)-(\d+)-\d+")
_OCTAL = re.compile(r"\\([0-7]{3})")
_numbers = itertools.count()


def find_parent(wanted: set[str], own: Path | None = None, mount: Path | None = None) -> str | None:
    """The nearest directory, from this process's cgroup upwards, that may have child cgroups with `wanted` controllers.

    It is the nearest, because a process may only be moved within the subtree that was delegated to its user. Root can
    write everywhere, and so it accepts only a directory that is marked as delegated, or its own cgroup if that is the
    root of the mount. None if there is no such directory.
    """
    if own is None or mount is None:
        found = _own_cgroup()
        if found is None:
            return None
        own, mount = found
    for directory in (own, *own.parents):
        if _usable(directory, wanted) and _ours(directory, own, mount):
            return str(directory)
        if directory == mount:
            break
    return None


def new_directory(parent: str) -> str:
    """A unique path below `parent` for the directory of a launcher."""
    pid = os.getpid()
    return f"{parent.rstrip('/')}/pysandpool-{pid}-{_start_time(pid)}-{next(_numbers)}"


def sweep(parent: str) -> None:
    """Removes the directories of dead hosts in `parent`, if no process is left in them."""
    try:
        names = os.listdir(parent)
    except OSError:
        return
    for name in names:
        match = _NAME.fullmatch(name)
        directory = Path(parent, name)
        if match and _start_time(int(match[1])) != match[2] and not _populated(directory):
            _remove(directory)


def _remove(directory: Path) -> None:
    # A directory that is in use, or belongs to another user, stays.
    with suppress(OSError):
        for child in [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]:
            os.rmdir(child)
        os.rmdir(directory)


def _populated(directory: Path) -> bool:
    return "populated 0" not in _read(directory / "cgroup.events")


def _start_time(pid: int) -> str:
    """Clock ticks since boot; "" if there is no such process. A pid together with it is never used again."""
    return (_read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split() or [""] * 20)[19]


def _own_cgroup() -> tuple[Path, Path] | None:
    """The directory of this process's cgroup, and the mount point that it is below."""
    path = next((line[3:] for line in _read(Path("/proc/self/cgroup")).splitlines() if line.startswith("0::/")), None)
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        if path is not None and after.startswith("cgroup2 "):
            root, mount = (_OCTAL.sub(lambda m: chr(int(m[1], 8)), word) for word in before.split()[3:5])
            inside = os.path.relpath(path, root)
            if not inside.startswith(".."):
                return Path(mount, inside), Path(mount)
    return None


def _usable(directory: Path, wanted: set[str]) -> bool:
    if not all(_writable(path) for path in (directory, directory / "cgroup.procs")):
        return False
    if not wanted <= set(_read(directory / "cgroup.controllers").split()):
        return False
    if wanted <= set(_read(directory / "cgroup.subtree_control").split()):
        return True
    # Controllers can be enabled only in a cgroup without processes. The real root, which has no type, is exempt.
    is_root = not (directory / "cgroup.type").exists()
    return _writable(directory / "cgroup.subtree_control") and (is_root or not _read(directory / "cgroup.procs"))


def _ours(directory: Path, own: Path, mount: Path) -> bool:
    return os.geteuid() != 0 or directory == own == mount or _delegated(directory)


def _delegated(directory: Path) -> bool:
    for name in ("trusted.delegate", "user.delegate"):
        with suppress(OSError, AttributeError):
            if os.getxattr(directory, name) == b"1":
                return True
    return False


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
