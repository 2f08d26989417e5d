"""From Python's words to the byte blobs of the C API: commands, environments, working directories, input."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Union

from pysandpool._ffi import ffi

Word = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Environ = Mapping[Any, Any]

BASE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "LANG": "C",
    # UTF-8 by the one category that differs between C and C.UTF-8, as PEP 538 does: with LANG=C.UTF-8 glibc opens a
    # file for each of the twelve categories, which is a fifth of the run time of /bin/echo.
    "LC_CTYPE": "C.UTF-8",
    "TMPDIR": "/tmp",
}
if sys.platform == "darwin":
    # The agent adds HOME and TMPDIR, which are another directory in each sandbox.
    BASE_ENV = {"PATH": "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_CTYPE": "UTF-8"}


def encode_command(cmd: Sequence[Word]) -> tuple[bytes, int]:
    """The words of `cmd`, each ended by NUL, and their number.

    Raises TypeError for a str or anything else that is no sequence of str, bytes or PathLike, and ValueError
    for an empty sequence or a NUL inside a word.
    """
    if isinstance(cmd, (str, bytes, bytearray, memoryview)) or not isinstance(cmd, Sequence):
        raise TypeError(f"cmd is a sequence of str, bytes or PathLike, like ['echo', 'hi'], not {type(cmd).__name__}")
    if not cmd:
        raise ValueError("cmd = [] is not allowed: at least the name of the command")
    words = [_encoded(word, "a word of cmd") for word in cmd]
    return _ended(words, "cmd", cmd), len(words)


def command_name(cmd: Sequence[Word]) -> str:
    """The first word as text, for messages and `CommandNotFoundError.filename`."""
    return os.fsdecode(cmd[0])


def encode_cwd(cwd: Word | None) -> bytes | None:
    """`cwd` ended by NUL; None stays None. TypeError for another type, ValueError for an empty one or a NUL inside."""
    if cwd is None:
        return None
    name = _encoded(cwd, "cwd")
    if not name:
        raise ValueError("cwd = '' is not allowed: a directory's name")
    return _ended([name], "cwd", cwd)


def encode_input(data: Any) -> Any:
    """A view of the bytes-like `data`, not a copy. TypeError for anything else, a strided view included."""
    try:
        return ffi.from_buffer("char[]", data)
    except (TypeError, BufferError, ValueError) as error:
        raise TypeError(f"input is bytes-like and contiguous, not {type(data).__name__}: {error}") from None


class Environment:
    """The environment of a configuration's commands: `BASE_ENV`, changed by `env_vars`."""

    __slots__ = ("_blob", "_count", "_items")

    def __init__(self, env_vars: Environ) -> None:
        self._items = _changed({os.fsencode(key): os.fsencode(text) for key, text in BASE_ENV.items()}, env_vars)
        self._blob = _env_blob(self._items)
        self._count = len(self._items)

    def encode(self, env: Environ | None = None) -> tuple[bytes, int]:
        """The strings "K=V", each ended by NUL, and their number, after the changes that a call's `env` makes.

        A value None takes the variable away. Raises TypeError for what is no mapping of str, bytes or
        PathLike, ValueError for an empty key, a key with "=", or a NUL.
        """
        if not env:
            if env is None or isinstance(env, Mapping):
                return self._blob, self._count
            raise TypeError(f"env is a mapping, not {type(env).__name__}")
        items = _changed(self._items, env)
        return _env_blob(items), len(items)


def _changed(base: dict[bytes, bytes], changes: Environ) -> dict[bytes, bytes]:
    if not isinstance(changes, Mapping):
        raise TypeError(f"env is a mapping, not {type(changes).__name__}")
    items = dict(base)
    for key, value in changes.items():
        name = _encoded(key, "an env key")
        if not name or b"=" in name or b"\0" in name:
            raise ValueError(f"env key {key!r} is not allowed: not empty, no '=', no NUL")
        if value is None:
            items.pop(name, None)
        else:
            items[name] = _encoded(value, f"env value of {key!r}")
            if b"\0" in items[name]:
                raise ValueError(f"env value of {key!r} is not allowed: it holds a NUL")
    return items


def _env_blob(items: dict[bytes, bytes]) -> bytes:
    return b"".join(name + b"=" + value + b"\0" for name, value in items.items())


def _encoded(value: Any, what: str) -> bytes:
    try:
        return os.fsencode(value)
    except TypeError as error:
        raise TypeError(f"{what} = {value!r} is not allowed: {error}") from None


def _ended(words: list[bytes], name: str, value: object) -> bytes:
    blob = b"\0".join(words) + b"\0"
    if blob.count(0) != len(words):
        raise ValueError(f"{name} = {value!r} is not allowed: it holds a NUL")
    return blob
