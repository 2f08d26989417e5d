"""One operation of init on one name in a sandbox: the request, the answer, and its errors.

A file call is a generator that yields its steps and is sent their results: the answer to a request, or what a work
returns. So the same code serves callers that wait and callers on an event loop.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar, Union

from pysandpool._execute.encode import Word

_T = TypeVar("_T")

# The numbers of csrc/common/wire.h.
OPEN, STAT, READLINK, MKDIR, UNLINK, RMDIR, RENAME, SYMLINK = range(1, 9)
READ, WRITE, CREATE, EXCLUSIVE, TRUNCATE, APPEND, NOFOLLOW, DIRECTORY, ANY = (1 << bit for bit in range(9))


class Request(NamedTuple):
    """One operation. `shown` is the name for the errors, if it is not `path`."""

    op: int
    path: bytes
    flags: int = 0
    mode: int = 0
    second: bytes | None = None
    shown: bytes | str | None = None


class Answer:
    """The result of an operation. `fd` is an open file or directory of an OPEN; whoever gets the answer closes it."""

    __slots__ = (
        "accessed_ns",
        "changed_ns",
        "device",
        "fd",
        "gid",
        "inode",
        "mode",
        "modified_ns",
        "nlink",
        "size",
        "text",
        "uid",
    )

    def __init__(self, result: Any, fd: int = -1, text: bytes = b"") -> None:
        self.mode: int = result.mode
        self.nlink: int = result.nlink
        self.uid: int = result.uid
        self.gid: int = result.gid
        self.size: int = result.size
        self.inode: int = result.inode
        self.device: int = result.device
        self.accessed_ns: int = result.accessed_ns
        self.modified_ns: int = result.modified_ns
        self.changed_ns: int = result.changed_ns
        self.fd = fd
        self.text = text

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    def stat_result(self) -> os.stat_result:
        """As `os.stat` returns it."""
        times = (self.accessed_ns, self.modified_ns, self.changed_ns)
        fields = (self.mode, self.inode, self.device, self.nlink, self.uid, self.gid, self.size)
        floats = {f"st_{name}": ns / 1e9 for name, ns in zip(("atime", "mtime", "ctime"), times)}
        exact = {f"st_{name}_ns": ns for name, ns in zip(("atime", "mtime", "ctime"), times)}
        return os.stat_result((*fields, *(ns // 10**9 for ns in times)), {**floats, **exact})


class Work(NamedTuple):
    """A step of this process: it copies about `size` bytes, so that an event loop may prefer another thread."""

    size: int
    function: Callable[[], Any]


Steps = Generator[Union[Request, Work], Any, _T]


def encoded(path: Word) -> bytes:
    """`path` as bytes. Raises what `open` raises for an empty path or a NUL."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError("embedded null byte")
    if not name:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    return name


def error_of(err: int, mode: int, request: Request) -> OSError:
    """The exception for an operation that failed with `err`; `mode` is of what was found there, or 0."""
    words = os.strerror(err)
    if err == errno.ENXIO or (err == errno.EINVAL and mode and not stat.S_ISREG(mode)):
        # ENXIO is what the kernel says of a socket, of a FIFO without a reader, and of a device without a driver.
        err, words = errno.EINVAL, "Neither a regular file nor a directory"
    elif err == errno.EACCES and mode and request.op == OPEN:
        words = "Not opened for the host: a file of /proc, /sys or the like"
    shown = os.fsdecode(request.path) if request.shown is None else request.shown
    if request.op == RENAME and request.second is not None and request.shown is None:
        return OSError(err, words, shown, None, os.fsdecode(request.second))
    return OSError(err, words, shown)
