"""Converts commands, environment variables, working directories and input to the bytes that the C API takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Union

from pysandpool._ffi import ffi

if TYPE_CHECKING:
    from typing_extensions import Buffer

Word = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


class Words(Protocol):
    """A sequence of words. A str, which is a sequence of str as well, is not one for a type checker: the method
    `__contains__` of str does not accept every object."""

    def __contains__(self, value: object, /) -> bool: ...
    def __getitem__(self, index: int, /) -> Word: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Word]: ...


Environ = Mapping[Any, Any]

SHELL = "/bin/sh"

BASE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "LANG": "C",
    # As in PEP 538, only the one category that differs between C and C.UTF-8 is set: with LANG=C.UTF-8, glibc opens a
    # file for each of the twelve categories, which takes a fifth of the run time of /bin/echo.
    "LC_CTYPE": "C.UTF-8",
    "TMPDIR": "/tmp",
}
if sys.platform == "darwin":
    # The agent adds HOME and TMPDIR, which are a different directory in each sandbox.
    BASE_ENV = {"PATH": "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_CTYPE": "UTF-8"}


def encode_command(cmd: Words) -> tuple[bytes, int]:
    """The words of `cmd`, each followed by a NUL, and their number.

    Raises TypeError if `cmd` is not a sequence of str, bytes or PathLike (a single str is none), and ValueError if it
    is empty or a word contains a NUL.
    """
    if isinstance(cmd, (str, bytes, bytearray, memoryview)) or not isinstance(cmd, Sequence):
        name = type(cmd).__name__
        hint = "; shell(script) runs a str" if name == "str" else ""
        raise TypeError(f"cmd must be a sequence of str, bytes or PathLike, like ['ls', '/'], not {name}{hint}")
    if not cmd:
        raise ValueError("cmd = [] is not allowed; expected: at least the name of a command")
    words = [_encoded(word, "a word of cmd") for word in cmd]
    return _ended(words, "cmd", cmd), len(words)


def shell_command(script: Word) -> Words:
    """The command that runs `script` with `/bin/sh`. Raises TypeError for a list of words, as `execute` takes."""
    if not isinstance(script, (str, bytes, os.PathLike)):
        raise TypeError(f"script must be a str, not {type(script).__name__}: execute() takes a list of words")
    return (SHELL, "-c", "--", script)


def command_name(cmd: Words) -> str:
    """The first word of `cmd` as text, for messages and `CommandNotFoundError.filename`."""
    return os.fsdecode(cmd[0])


def encode_cwd(cwd: Word | None) -> bytes | None:
    """`cwd` followed by a NUL; None stays None. Raises TypeError for another type, ValueError for "" or a NUL."""
    if cwd is None:
        return None
    name = _encoded(cwd, "cwd")
    if not name:
        raise ValueError("cwd = '' is not allowed; expected: the name of a directory")
    return _ended([name], "cwd", cwd)


def encode_input(data: str | Buffer) -> Any:
    """A view of the bytes-like `data`, without a copy. Raises TypeError for other objects and for strided views."""
    try:
        return ffi.from_buffer("char[]", data)
    except (TypeError, BufferError, ValueError):
        raise TypeError(f"input must be bytes-like and contiguous, not {type(data).__name__}{_remedy(data)}") from None


def _remedy(data: object) -> str:
    if isinstance(data, str):
        return ": pass text=True, or input=text.encode()"
    if isinstance(data, memoryview):
        return " with gaps: pass input=bytes(view)"
    return ": pass input=file.read()" if hasattr(data, "read") else ""


def _base_env(rootfs: str | None) -> dict[str, str]:
    """`BASE_ENV`; without LC_CTYPE where the locale C.UTF-8 is missing, about which Perl and bash would complain."""
    if sys.platform == "darwin" or _has_c_utf8(rootfs or "/"):
        return dict(BASE_ENV)
    return {key: text for key, text in BASE_ENV.items() if key != "LC_CTYPE"}


def _has_c_utf8(root: str) -> bool:
    """glibc has a directory for the locale. musl knows no other character set than UTF-8."""
    names = ("usr/lib/locale/C.utf8", "usr/lib/locale/C.UTF-8", "lib/ld-musl-x86_64.so.1", "lib/ld-musl-aarch64.so.1")
    return any(os.path.lexists(os.path.join(root, name)) for name in names)


class Environment:
    """The environment variables of a configuration's commands: `BASE_ENV` with the changes of `env_vars`.

    `first_in_path` is a directory that PATH begins with. With `based=False` there is nothing but `env_vars`.
    """

    __slots__ = ("_blob", "_count", "_items")

    def __init__(
        self, env_vars: Environ, first_in_path: str | None = None, rootfs: str | None = None, *, based: bool = True
    ) -> None:
        base = _base_env(rootfs) if based else {}
        if first_in_path is not None:
            base["PATH"] = f"{first_in_path}:{base['PATH']}"
        self._items = _changed({os.fsencode(key): os.fsencode(text) for key, text in base.items()}, env_vars)
        self._blob = _env_blob(self._items)
        self._count = len(self._items)

    def encode(self, env: Environ | None = None) -> tuple[bytes, int]:
        """The strings "K=V", each followed by a NUL, and their number, with the changes of a call's `env`.

        A value None removes the variable. Raises TypeError if `env` is not a mapping of str, bytes or PathLike, and
        ValueError for an empty key, a key with "=", or a NUL.
        """
        if not env:
            if env is None or isinstance(env, Mapping):
                return self._blob, self._count
            raise TypeError(f"env must be a mapping, not {type(env).__name__}")
        items = _changed(self._items, env)
        return _env_blob(items), len(items)

    def in_directory(self, path: str) -> Environment:
        """The same with PWD, unless that is set already."""
        return self if b"PWD" in self._items else Environment({**self._items, b"PWD": os.fsencode(path)}, based=False)

    def path(self, env: Environ | None = None) -> str:
        """PATH with the changes of a call's `env`; "" if there is none."""
        items = _changed(self._items, env) if env else self._items
        return os.fsdecode(items.get(b"PATH", b""))


def _changed(base: dict[bytes, bytes], changes: Environ) -> dict[bytes, bytes]:
    if not isinstance(changes, Mapping):
        raise TypeError(f"env must be a mapping, not {type(changes).__name__}")
    items = dict(base)
    for key, value in changes.items():
        name = _encoded(key, "an env key")
        if not name or b"=" in name or b"\0" in name:
            raise ValueError(
                f"env key {key!r} is not allowed; expected: a key that is not empty and has neither '=' nor NUL"
            )
        if value is None:
            items.pop(name, None)
        else:
            items[name] = _encoded(value, f"env value of {key!r}")
            if b"\0" in items[name]:
                raise ValueError(f"env value of {key!r} is not allowed: it contains a NUL")
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
        raise ValueError(f"{name} = {value!r} is not allowed: it contains a NUL")
    return blob
