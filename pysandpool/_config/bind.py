"""`Bind`: a path of the host, shown at any place inside."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Union

from pysandpool._config.fields import Refuse, flag
from pysandpool._config.paths import SYSTEM, host_path, is_below, is_system
from pysandpool._errors import InvalidSandboxConfigError, refuse_sandbox_field

StrPath = Union[str, "os.PathLike[str]"]

# What every sandbox has there itself: nothing else can be put above it.
_OCCUPIED = ("/", "/dev", "/proc", "/tmp", "/sys", "/etc", "/usr")


@dataclass(frozen=True, init=False)
class Bind:
    """A path of the host that a sandbox sees at another place.

    `Bind(path)` is the same as a path of `fs_readonly`, `Bind(path, readonly=False)` as one of `fs_readwrite`.

    Raises:
        InvalidSandboxConfigError: a field has a value outside its range.
    """

    src: str
    """The absolute path on the host: a directory or a file."""
    dst: str
    """The absolute path inside. Directories that are missing above it are created, except in another path of the host
    and in a `rootfs`. None: the same path as `src`."""
    readonly: bool
    """False: commands can write to it. Directories of the system cannot be shown in this way."""

    def __init__(self, src: StrPath, dst: StrPath | None = None, readonly: bool = True) -> None:
        object.__setattr__(self, "src", host_path(refuse_sandbox_field, "Bind.src", src))
        object.__setattr__(self, "dst", self.src if dst is None else host_path(refuse_sandbox_field, "Bind.dst", dst))
        object.__setattr__(self, "readonly", flag(refuse_sandbox_field, "Bind.readonly", readonly))
        if not self.readonly and is_system(self.src):
            allowed = f"with readonly=False a path other than {', '.join(SYSTEM)}, what is below them, / and /tmp"
            raise InvalidSandboxConfigError("Bind.src", self.src, allowed)
        if self.dst != self.src and self.dst in _OCCUPIED:
            raise InvalidSandboxConfigError("Bind.dst", self.dst, f"any path inside but {', '.join(_OCCUPIED)}")


def binds(refuse: Refuse, name: str, value: Any) -> tuple[Bind, ...]:
    """A tuple of `Bind`, in the order in which they were given."""
    allowed = 'a sequence of Bind, like [Bind("/srv/data", "/data")]'
    if isinstance(value, Bind) or not isinstance(value, Iterable):
        raise refuse(name, value, allowed, True)
    found = tuple(value)
    for one in found:
        if not isinstance(one, Bind):
            raise refuse(name, one, allowed, True)
    return found


def scratch_dirs(refuse: Refuse, name: str, value: Any) -> tuple[str, ...]:
    """Absolute paths inside without duplicates, none of which lies in another one or in /tmp."""
    allowed = 'a sequence of absolute paths, like ["/var/tmp"]'
    if isinstance(value, (str, bytes, os.PathLike)) or not isinstance(value, Iterable):
        raise refuse(name, value, allowed, True)
    found = tuple(dict.fromkeys(host_path(refuse, name, one) for one in value))
    for path in found:
        if path in _OCCUPIED or any(is_below(path, own) for own in ("/tmp", "/dev", "/usr", "/sys")):
            raise refuse(
                name,
                path,
                f"a path that is not below /tmp, /dev, /usr or /sys, and none of {', '.join(_OCCUPIED)}",
                False,
            )
        if any(path != other and is_below(path, other) for other in found):
            raise refuse(name, path, "a directory that is in no other scratch directory", False)
    if len(found) > MAX_SCRATCH_DIRS:
        raise refuse(name, len(found), f"at most {MAX_SCRATCH_DIRS} directories", False)
    return found


MAX_SCRATCH_DIRS = 64


def working_directory(refuse: Refuse, name: str, value: Any) -> str | None:
    """An absolute path inside, or None."""
    try:
        path = None if value is None else os.fspath(value)
    except TypeError:
        raise refuse(name, value, "an absolute path inside, or None", True) from None
    if path is not None and (not isinstance(path, str) or not path.startswith("/") or "\0" in path):
        raise refuse(name, value, "an absolute path inside without NUL, or None", not isinstance(path, str))
    return path


def check_places(refuse: Refuse, shown: tuple[str, ...], binds: tuple[Bind, ...], scratch: tuple[str, ...]) -> None:
    """Refuses two things at one place inside. `shown`: the paths of `fs_readonly` and `fs_readwrite`."""
    taken = set(shown)
    for bind in binds:
        if bind.dst in taken:
            raise refuse("binds", bind, f"one path of the host for each place inside, and {bind.dst} has two", False)
        taken.add(bind.dst)
    for path in scratch:
        below = next((one for one in sorted(taken) if is_below(one, path)), None)
        if below is not None:
            raise refuse(
                "scratch_dirs", path, f"a directory that does not contain {below}, which another field shows", False
            )
        for bind in binds:
            if not bind.readonly and is_below(path, bind.dst):
                raise refuse("scratch_dirs", path, f"a directory that is not in the writable {bind.dst}", False)
