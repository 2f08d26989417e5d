"""Files in writable places that give more rights to whoever runs them: set-id bits, file capabilities.

The kernel takes these from a file that is written, but not when it is written through a shared mapping. So a tenant
who may write such a file could put a program of its own in its place, and it would run on the host as the file's
owner. Each of these files is therefore covered by a read-only mount of itself: a tenant can read and run it, where
nosuid makes it harmless, but can neither write, rename nor unlink it. The tree itself stays as it is.

The walk is iterative and keeps only the directories still to be visited, because a tenant may have shaped the tree.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pysandpool._backend.hints import MANY_DIRECTORIES, MANY_SET_ID, SET_ID, hint_for
from pysandpool._backend.machine import pseudo_devices
from pysandpool._config.paths import MAX_BIND_BYTES, MAX_BINDS, is_system
from pysandpool._errors import SandboxCreateError

_LONGEST_PATH = 4095
_MOST_PENDING_BYTES = 256 * 1024 * 1024
_ENTRY_BYTES = 100  # that Python needs for a path, beside its letters
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_CAPABILITY = _GONE | {errno.ENODATA if sys.platform.startswith("linux") else errno.ENOENT, errno.ENOTSUP}


class Cover(NamedTuple):
    """What is to be covered, and how the zygote recognises it."""

    path: bytes
    device: int
    inode: int


def find_covers(writable: Iterable[str], readonly: Iterable[str]) -> list[Cover]:
    """What has to be covered in the binds of `writable`, at most as much as there is room for beside all binds.

    Covered as a whole are directories that cannot be looked through, because the tenant could open them (it may be
    their owner) and find such a file there: those that this process may not read, those that answer with an error,
    and those with paths that are too long for a mount. What vanishes meanwhile is no error.

    Raises `SandboxCreateError`, which names the file and the remedy, when something cannot be covered.
    """
    roots = [os.fsencode(path) for path in writable]
    shown = {*roots, *map(os.fsencode, readonly)}
    size = sum(map(len, shown))
    pseudo = pseudo_devices() if roots else frozenset()
    covers: list[Cover] = []
    for root in roots:
        if is_system(os.path.realpath(os.fsdecode(root))):
            continue  # by a link: the zygote refuses it
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
    """The covers in one directory, and the directories in it; None when it cannot be looked through."""
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
        return []  # gone; or a tenant has no way to it either
    if not stat.S_ISDIR(status.st_mode):
        return []
    # Who is neither its owner nor may search it has no way in, and cannot open one. Root's tenants are other users.
    reachable = os.geteuid() in (0, status.st_uid) or os.access(path, os.X_OK, effective_ids=True)
    return [Cover(path, status.st_dev, status.st_ino)] if reachable else []


def _is_gaining_file(path: bytes) -> bool:
    """A bind itself, which may be named by a link."""
    try:
        path = os.path.realpath(path)
        return _gains(path, os.lstat(path))
    except OSError:
        return False


def _gains(path: bytes, status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    # Set-gid without group-execute gains nothing today; but an ACL entry or a chmod of the owner's would wake it.
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return True
    try:
        os.getxattr(path, b"security.capability", follow_symlinks=False)
    except OSError as error:
        # Any other answer (EOVERFLOW: that of another user namespace's root) is of an attribute that is there.
        return error.errno not in _NO_CAPABILITY
    return True


def _refusal(err: int, path: bytes, hint: str = "") -> SandboxCreateError:
    return SandboxCreateError("bind", err, hint, os.fsdecode(path))
