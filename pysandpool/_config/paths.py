"""Which host paths a configuration may name.

Only the text of a path is checked here. The zygote checks what the path leads to, when a sandbox is created.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from pysandpool._config.fields import Refuse

MAX_BINDS = 4096
"""The largest number of binds of one sandbox: the configured paths, and the covers of `_backend.setid`."""
MAX_BIND_BYTES = 4 * 1024 * 1024
"""The largest size of all their paths together."""
_PATH_MAX = 4096
# The sandbox has mounts of its own there, which a bind would hide.
_OWN_MOUNTS = ("/", "/dev", "/proc", "/tmp")
# Neither these nor anything below them may be writable. The zygote repeats the check for the target of the path.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev", "/sys", "/boot")


def readable_paths(refuse: Refuse, name: str, value: Any) -> tuple[str, ...]:
    """Absolute host paths without duplicates; ".", ".." and "//" are resolved in the text, symbolic links are not."""
    if isinstance(value, (str, bytes, os.PathLike)):
        raise refuse(name, value, f"a sequence of absolute paths, like [{os.fspath(value)!r}], not a single one", True)
    if isinstance(value, Mapping):
        # Other libraries take {host path: {"bind": inside, "mode": mode}}; iterated, it would be a list of host paths.
        why = "not a mapping: a path is visible inside at the same place"
        raise refuse(name, value, f"a sequence of absolute paths, like {[*map(str, value)]!r}, {why}", True)
    if not isinstance(value, Iterable):
        raise refuse(name, value, "a sequence of absolute paths", True)
    return tuple(dict.fromkeys(host_path(refuse, name, one) for one in value))


def writable_paths(refuse: Refuse, name: str, value: Any) -> tuple[str, ...]:
    """The same. A system directory, or a path below one, is refused."""
    paths = readable_paths(refuse, name, value)
    for path in paths:
        if is_system(path):
            allowed = f"a path other than {', '.join(SYSTEM)}, what is below them, / and /tmp itself"
            raise refuse(name, path, allowed, False)
    return paths


def optional_path(refuse: Refuse, name: str, value: Any) -> str | None:
    """One absolute path, normalised in the same way, or None."""
    return None if value is None else host_path(refuse, name, value)


def rootfs_path(refuse: Refuse, name: str, value: Any) -> str | None:
    """The same for a directory tree. The name of an image is refused with the command that makes one of it."""
    if isinstance(value, str) and value and not value.startswith("/"):
        how = "`docker export $(docker create IMAGE) | tar -x -C DIRECTORY` makes a directory of an image"
        raise refuse(name, value, f"the absolute path of a directory, not an image: {how}", False)
    return optional_path(refuse, name, value)


def check_rootfs(refuse: Refuse, rootfs: str | None, writable: tuple[str, ...]) -> None:
    """Refuses writable paths in the rootfs or above it: a tenant could change the programs of the next one."""
    for path in writable:
        if rootfs is not None and (is_below(path, rootfs) or is_below(rootfs, path)):
            raise refuse(
                "fs_readwrite", path, f"a path that is not in the rootfs {rootfs} and does not contain it", False
            )


class Places(Protocol):
    """A `Bind`: a path of the host at another place."""

    @property
    def src(self) -> str: ...
    @property
    def dst(self) -> str: ...


def check_binds(
    refuse: Refuse, readonly: tuple[str, ...], writable: tuple[str, ...], binds: Sequence[Places] = ()
) -> None:
    """Refuses a path that is in both fields, and more paths than one sandbox can have."""
    both = set(readonly) & set(writable)
    if both:
        raise refuse("fs_readwrite", min(both), "a path in only one of fs_readonly and fs_readwrite", False)
    count = len(readonly) + len(writable) + len(binds)
    if count > MAX_BINDS:
        raise refuse(_longer(readonly, writable), count, f"at most {MAX_BINDS:,} paths in both fields together", False)
    moved = (path for bind in binds for path in (bind.src, bind.dst))
    size = sum(len(os.fsencode(path)) for path in (*readonly, *writable, *moved))
    if size > MAX_BIND_BYTES:
        raise refuse(_longer(readonly, writable), size, f"at most {MAX_BIND_BYTES:,} bytes in both together", False)


def _longer(readonly: tuple[str, ...], writable: tuple[str, ...]) -> str:
    return "fs_readonly" if len(readonly) >= len(writable) else "fs_readwrite"


def is_system(path: str) -> bool:
    """Whether this path must not be writable for a sandbox."""
    return path in _OWN_MOUNTS or any(is_below(path, system) for system in SYSTEM)


def is_below(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or a path below it."""
    return path == directory or path.startswith(directory + "/")


def host_path(refuse: Refuse, name: str, value: Any) -> str:
    """An absolute path; ".", ".." and "//" are resolved in the text, symbolic links are not."""
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise refuse(name, value, "an absolute path as str or PathLike", True)
    if not path.startswith("/") or "\0" in path or _encoded_length(path) >= _PATH_MAX:
        raise refuse(name, value, f"an absolute path without NUL, shorter than {_PATH_MAX} bytes", False)
    path = "/" + os.path.normpath(path).lstrip("/")
    if path in _OWN_MOUNTS or path.startswith("/proc/"):
        raise refuse(name, value, f"any path but {', '.join(_OWN_MOUNTS)} and what is below /proc", False)
    return path


def _encoded_length(path: str) -> int:
    try:
        return len(os.fsencode(path))
    except UnicodeEncodeError:
        return _PATH_MAX
