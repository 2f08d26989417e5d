"""Finds the files in writable directories that give rights to whoever runs them: set-id bits and file capabilities.

The kernel removes these from a file that is written, except when it is written through a shared mapping. A tenant who
may write such a file could therefore replace its content by another program, which would run on the host with the
rights of the owner. So each of these files is covered by a read-only mount of itself. A tenant can read and run it,
which nosuid makes harmless, but cannot write, rename or unlink it. The tree itself is not changed.

The walk is iterative, and keeps only the directories still to be visited, because a tenant may have made the tree deep.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pysandpool._backend.hint_texts import MANY_DIRECTORIES, MANY_SET_ID, SET_ID
from pysandpool._backend.hints import hint_for
from pysandpool._backend.machine import pseudo_devices
from pysandpool._config.paths import MAX_BIND_BYTES, MAX_BINDS, is_system
from pysandpool._errors import SandboxCreateError

_LONGEST_PATH = 4095
_MOST_PENDING_BYTES = 256 * 1024 * 1024
_ENTRY_BYTES = 100  # that Python needs for a path, besides its characters
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_CAPABILITY = _GONE | {errno.ENODATA if sys.platform.startswith("linux") else errno.ENOENT, errno.ENOTSUP}


class Cover(NamedTuple):
    """A path to be covered, and the inode by which the zygote recognises it."""

    path: bytes
    device: int
    inode: int


def find_covers(writable: Iterable[str], readonly: Iterable[str]) -> list[Cover]:
    """What has to be covered in the binds of `writable`.

    A directory that cannot be searched is covered as a whole, because the tenant may be its owner, could open it, and
    might find such a file there. These are directories that this process may not read, that return an error, or whose
    paths are too long for a mount. A file that vanishes meanwhile is no error.

    Raises `SandboxCreateError`, which names the file and the fix, if a file cannot be covered, or if there are more
    covers than a sandbox can have besides its binds.
    """
    roots = [os.fsencode(path) for path in writable]
    shown = {*roots, *map(os.fsencode, readonly)}
    size = sum(map(len, shown))
    pseudo = pseudo_devices() if roots else frozenset()
    covers: list[Cover] = []
    for root in roots:
        if is_system(os.path.realpath(os.fsdecode(root))):
            continue  # a symbolic link leads there; the zygote refuses it
        for cover in _walk(root, shown, pseudo):
            size += len(cover.path)
            if len(shown) + len(covers) == MAX_BINDS or size > MAX_BIND_BYTES:
                raise _refusal(errno.E2BIG, cover.path, MANY_SET_ID)
            covers.append(cover)
    return covers


def _walk(root: bytes, shown: set[bytes], pseudo: frozenset[int]) -> Iterator[Cover]:
    pending = [root]
    pending_bytes = len(root) + _ENTRY_BYTES
    if _is_gaining_file(root):
        raise _refusal(errno.EPERM, root, SET_ID)
    while pending:
        directory = pending.pop()
        pending_bytes -= len(directory) + _ENTRY_BYTES
        looked = _look(directory, shown, pseudo)
        if looked is None:
            if directory == root:
                raise _refusal(errno.EACCES, root, hint_for("bind", errno.EACCES))
            yield from _cover_directory(directory)
            continue
        covers, below = looked
        yield from covers
        pending += below
        pending_bytes += sum(len(path) + _ENTRY_BYTES for path in below)
        if pending_bytes > _MOST_PENDING_BYTES:
            raise _refusal(errno.E2BIG, directory, MANY_DIRECTORIES)


def _look(directory: bytes, shown: set[bytes], pseudo: frozenset[int]) -> tuple[list[Cover], list[bytes]] | None:
    """The covers in one directory, and its subdirectories; None if it cannot be searched."""
    covers: list[Cover] = []
    below: list[bytes] = []
    try:
        if os.stat(directory).st_dev in pseudo:
            return covers, below
        with os.scandir(directory) as entries:
            for entry in entries:
                if len(entry.path) > _LONGEST_PATH:
                    return None
                if entry.path in shown:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    covers += _cover_file(entry.path)
    except OSError as error:
        return (covers, below) if error.errno in _GONE else None
    return covers, below


def _cover_file(path: bytes) -> list[Cover]:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return []
    return [Cover(path, status.st_dev, status.st_ino)] if _gains(path, status) else []


def _cover_directory(path: bytes) -> list[Cover]:
    try:
        status = os.lstat(path)
    except OSError:
        return []  # it is gone, or a tenant cannot reach it either
    if not stat.S_ISDIR(status.st_mode):
        return []
    # A tenant that neither owns it nor may search it cannot enter it. Tenants of a root host are other users.
    reachable = os.geteuid() in (0, status.st_uid) or os.access(path, os.X_OK, effective_ids=True)
    return [Cover(path, status.st_dev, status.st_ino)] if reachable else []


def _is_gaining_file(path: bytes) -> bool:
    """Whether the bind itself is such a file, or a symbolic link to one."""
    try:
        path = os.path.realpath(path)
        return _gains(path, os.lstat(path))
    except OSError:
        return False


def _gains(path: bytes, status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    # Set-gid without group-execute has no effect now, but an ACL entry or a chmod by the owner would give it one.
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return True
    try:
        os.getxattr(path, b"security.capability", follow_symlinks=False)
    except OSError as error:
        # Any other error means that the attribute exists, such as EOVERFLOW for that of another user namespace's root.
        return error.errno not in _NO_CAPABILITY
    return True


def _refusal(err: int, path: bytes, hint: str = "") -> SandboxCreateError:
    return SandboxCreateError("bind", err, hint, os.fsdecode(path))
