"""Which host paths a configuration may name. Decided by their letters; what they lead to is looked at on creation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pysandpool._fields import Refuse

_PATH_MAX = 4096
# What is mounted there is the sandbox's own; a bind over it would take that away.
_OWN_MOUNTS = ("/", "/dev", "/proc", "/tmp")
# Nothing of it, nor below it, may be given away for writing. The zygote looks again, at what the path leads to.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev", "/sys", "/boot")


def readable_paths(refuse: Refuse, name: str, value: Any) -> tuple[str, ...]:
    """Absolute host paths, normalised by their letters ("." , ".." and "//"; links are not read), without repeats."""
    if isinstance(value, (str, bytes, os.PathLike)) or not isinstance(value, Iterable):
        raise refuse(name, value, "a sequence of absolute paths", True)
    return tuple(dict.fromkeys(_path(refuse, name, one) for one in value))


def writable_paths(refuse: Refuse, name: str, value: Any) -> tuple[str, ...]:
    """The same, none of them a system directory or below one."""
    paths = readable_paths(refuse, name, value)
    for path in paths:
        if any(is_below(path, system) for system in _SYSTEM):
            raise refuse(name, path, f"no path of the system, which is {', '.join(_SYSTEM)}, / and /tmp itself", False)
    return paths


def optional_path(refuse: Refuse, name: str, value: Any) -> str | None:
    """One absolute path, normalised like the others; or None."""
    return None if value is None else _path(refuse, name, value)


def check_rootfs(refuse: Refuse, rootfs: str | None, writable: tuple[str, ...]) -> None:
    """A tenant that could write the tree would choose the programs of the next one."""
    for path in writable:
        if rootfs is not None and (is_below(path, rootfs) or is_below(rootfs, path)):
            raise refuse("fs_readwrite", path, f"no path in the rootfs {rootfs} or above it", False)


def is_below(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or lies in it."""
    return path == directory or path.startswith(directory + "/")


def _path(refuse: Refuse, name: str, value: Any) -> str:
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise refuse(name, value, "absolute paths as str or PathLike", True)
    if not path.startswith("/") or "\0" in path or _encoded_length(path) >= _PATH_MAX:
        raise refuse(name, value, f"absolute paths without NUL, shorter than {_PATH_MAX} bytes", False)
    path = "/" + os.path.normpath(path).lstrip("/")
    if path in _OWN_MOUNTS or path.startswith("/proc/"):
        raise refuse(name, value, f"any path but {', '.join(_OWN_MOUNTS)} and what is below /proc", False)
    return path


def _encoded_length(path: str) -> int:
    try:
        return len(os.fsencode(path))
    except UnicodeEncodeError:
        return _PATH_MAX
