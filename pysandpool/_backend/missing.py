"""Why a command or a working directory is missing in a sandbox: a hint, found on the host after the error.

The hint is for whoever configures the sandbox. What a tenant can have written decides nothing but words: no link of its
is followed, only the beginning of a regular file is read, and the host is not searched for a path that stands in it.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from pysandpool._backend.shown import End, View, open_shown
from pysandpool._config.paths import is_below
from pysandpool._config.sandbox import SandboxConfig

_HEAD_BYTES = 4096
_MAX_HEADERS = 64
_MAX_NAMES = 20_000
_MAX_SCRIPTS = 4
# To the kernel, the "\r" in a line end of Windows is a part of the name.
_SHEBANG = re.compile(rb"#![ \t]*([^ \t\n\0]+)")
_SHELL_WORDS = {"alias", "cd", "eval", "exec", "exit", "export", "set", "source", "ulimit", "umask", "unset"}
_PT_INTERP = 3


class Missing(NamedTuple):
    """A command that could not be started."""

    stage: str
    """"exec" or "cwd" """
    errno: int
    name: str
    """the command, or the working directory"""
    path: str
    """the PATH of the command"""
    cwd: str


def hint_for_missing(config: SandboxConfig, *what: Any) -> str:
    """What would make available what the fields of `Missing` describe; "" if the host has no answer."""
    if not sys.platform.startswith("linux"):
        return ""
    with suppress(OSError, ValueError, struct.error):
        hint = _hint(View(config), Missing(*what))
        # A tenant can have named the command, and files: control characters must not reach a log or a terminal.
        return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in hint)
    return ""


def _hint(view: View, missing: Missing) -> str:
    if missing.stage == "cwd":
        return _directory(view, missing)
    if not missing.name:
        return "the first word of cmd is empty"
    path = os.path.join(missing.cwd, missing.name)
    words = missing.name.split()
    if len(words) > 1 and view.follow(path).kind not in ("found", "hidden"):
        return f"cmd is a list of words, and no shell splits them: pass {words!r}"
    return _file(view, path, missing.errno) if "/" in missing.name else _searched(view, missing)


def _directory(view: View, missing: Missing) -> str:
    end = view.follow(os.path.join("/tmp", missing.name))
    if end.kind == "found":
        return f"{end.path} is not a directory" if missing.errno == errno.ENOTDIR else ""
    hint = _where(end)
    return f"{hint}, or fs_readwrite to let commands write there" if "fs_readonly" in hint else hint


def _file(view: View, path: str, err: int, depth: int = 0) -> str:
    end = view.follow(path)
    if end.kind != "found":
        where = _where(end)
        return where if where or end.kind != "absent" else _similar(view, *map(str, os.path.split(path)))
    mode = (os.lstat if end.below else os.stat)(end.host).st_mode
    if stat.S_ISDIR(mode):
        return f"{end.path} is a directory"
    if err == errno.EACCES and not mode & 0o111:
        return f"{end.path} is not executable: chmod +x it, or run its interpreter with it as an argument"
    if err == errno.ENOEXEC:
        return f"{end.path} is neither a program of this machine nor a script that begins with #!"
    return _interpreter(view, end, err, depth) if err == errno.ENOENT else ""


def _where(end: End) -> str:
    if end.kind == "hidden" and end.link:
        return f"{end.link} is a link to {end.target}, which is not shown inside: {_field_for(end.path)}"
    if end.kind == "hidden":
        return f"{end.path} exists on the host but is not shown inside: {_field_for(end.path)}"
    if end.kind == "absent" and end.link:
        return f"{end.link} is a link to {end.target}, which does not exist"
    # Below /tmp, for one, which is another directory inside.
    if end.kind == "unknown" and not end.is_tenants and _is_own_python(end.path) and os.path.lexists(end.path):
        return f"{end.path} exists on the host but is not shown inside: {_field_for(end.path)}"
    return ""


def _is_own_python(path: str) -> bool:
    return any(prefix != "/usr" and is_below(path, prefix) for prefix in (sys.prefix, sys.base_prefix))


def _field_for(path: str) -> str:
    """The field that would show `path` with what it needs."""
    if _is_own_python(path):
        return "fs_python=True"
    prefix = os.path.dirname(os.path.dirname(path))
    # The directory of the installation, but not one like ~/.cargo, which may hold secrets as well.
    is_installation = os.path.basename(os.path.dirname(path)) in ("bin", "sbin") and prefix not in ("/", "/opt")
    is_private = prefix == os.path.expanduser("~") or os.path.basename(prefix).startswith(".")
    if is_installation and (not is_private or os.path.exists(os.path.join(prefix, "pyvenv.cfg"))):
        path = prefix
    return f"fs_readonly=[{path!r}]"


# ---- a name that is searched in PATH ----


def _searched(view: View, missing: Missing) -> str:
    directories = [one for one in missing.path.split(":") if one.startswith("/")]
    for directory in directories:
        path = os.path.join(directory, missing.name)
        end = view.follow(path)
        if end.kind in ("found", "hidden") or end.link:
            return _file(view, path, missing.errno)
    for directory in filter(os.path.isabs, os.get_exec_path()):
        elsewhere = os.path.join(directory, missing.name)
        if not os.access(elsewhere, os.X_OK):
            continue
        end = view.follow(elsewhere)
        if end.kind == "hidden":
            other = _other_version(set(_programs(view, directories)), missing.name)
            also = f"; there is {other} inside" if other else ""
            return f"{_where(end)}, and {os.path.dirname(elsewhere)!r} in the PATH of env_vars{also}"
        if end.kind == "found":
            return f"{elsewhere} is shown, but its directory is not in the PATH of the command: name the whole path"
    return _similar(view, missing.path, missing.name)


def _similar(view: View, path: str, name: str) -> str:
    if name in _SHELL_WORDS:
        return f"{name} is a word of the shell, so run a shell: ['sh', '-c', '{name} ...']"
    names = set(_programs(view, path.split(":"))) - {name}
    near = _other_version(names, name) or next(iter(difflib.get_close_matches(name, names, 1, 0.8)), "")
    return f"there is no {name} inside, but there is {near}" if near else ""


def _other_version(names: set[str], name: str) -> str:
    """The shortest of the names that differ from `name` by a number at the end only, or ""."""
    stem = name.rstrip("0123456789.-")
    versions = (one for one in names if one != name and one.rstrip("0123456789.-") == stem)
    return min(versions, key=lambda one: (len(one), one), default="")


def _programs(view: View, directories: list[str]) -> Iterator[str]:
    for directory in directories:
        end = view.follow(directory)
        if end.kind != "found" or end.is_tenants:
            continue
        with suppress(OSError):  # no iterator, which an exception of a signal handler would leave open
            yield from os.listdir(end.host)[:_MAX_NAMES]


# ---- what a program needs to start ----


def _interpreter(view: View, program: End, err: int, depth: int) -> str:
    name = interpreter_of(program)
    if not name or depth == _MAX_SCRIPTS:
        return ""
    what = f"the interpreter of {program.path}"
    if not name.startswith("/"):
        return f"{what} is {name}, which is no absolute path"
    if program.is_tenants:
        return f"{what} is {name}, which does not start inside"
    end = view.follow(name)
    if end.kind == "found":
        return _file(view, name, err, depth + 1)
    if end.kind == "absent" and not end.link:
        line = " (the script has line ends of Windows)" if name.endswith("\r") else ""
        return f"{what} is missing: {name}{line}"
    return f"{what} is {name}: {_where(end)}" if _where(end) else f"{what} is {name}, which is not shown inside"


def interpreter_of(program: End) -> str:
    """The interpreter that a script or a dynamically linked program names; "" if there is none."""
    file = open_shown(program)
    try:
        head = os.pread(file, _HEAD_BYTES, 0)
        script = _SHEBANG.match(head)
        name = script[1] if script else _loader(file, head)
    finally:
        os.close(file)
    return os.fsdecode(name)


def _loader(file: int, head: bytes) -> bytes:
    """elf(5), little-endian: the path in the segment PT_INTERP."""
    if head[:4] != b"\x7fELF" or head[5:6] != b"\1":
        return b""
    is_64 = head[4] == 2
    (start,) = struct.unpack_from("<Q" if is_64 else "<I", head, 32 if is_64 else 28)
    size, count = struct.unpack_from("<HH", head, 54 if is_64 else 42)
    for number in range(min(count, _MAX_HEADERS)):
        header = os.pread(file, 56, start + number * size)
        kind, *_ = struct.unpack_from("<I", header)
        offset, length = struct.unpack_from("<8xQ16xQ" if is_64 else "<4xI8xI", header)
        if kind == _PT_INTERP:
            return os.pread(file, min(length, _HEAD_BYTES), offset).rstrip(b"\0")
    return b""
