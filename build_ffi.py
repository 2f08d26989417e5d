"""Two cffi modules from one declaration list and one source list.

`core_hot` is `pysandpool._core_hot`: the functions that never sleep, called with the GIL kept.
`core` is `pysandpool._core`: all of them, called with the GIL released.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

from cffi import FFI

CSRC = Path("csrc")
SYSTEM = "linux" if sys.platform.startswith("linux") else sys.platform
SYSTEMS = ("linux", "darwin")
# Folders of csrc whose every file is one system's; elsewhere the names of the files say it.
FOLDERS_OF_SYSTEMS = {"host/linux": "linux", "host/seccomp": "linux"}
MARK = re.compile(r"/\*\s*@(\w+)")
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

# cffi's generated wrappers have a PyObject *noarg that they do not read.
PREAMBLE = """
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "sandpool.h"
"""

# cffi wraps every call in Py_BEGIN_ALLOW_THREADS ... Py_END_ALLOW_THREADS, and its ffi.set_source() text stands after
# Python.h and before the wrappers. Here the two macros become a plain block, so that the calls of this module keep
# the GIL: giving it up costs nothing, but getting it back costs up to a switch interval of 5 ms when another thread
# computes. That is right only for functions that never wait, which is what the section `hot` of the cdef promises.
KEEP_THE_GIL = """
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
"""


def sections(text: str) -> dict[str, str]:
    """The parts of the cdef by the name of the mark that opens them."""
    marks = list(MARK.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return {mark[1]: text[mark.start() : end] for mark, end in zip(marks, ends)}


def sources(*folders: str, system: str = SYSTEM) -> list[str]:
    """The C files in and below these folders of csrc, without those of other systems, in a fixed order."""
    return [
        path.as_posix() for folder in folders for path in sorted((CSRC / folder).rglob("*.c")) if _is_of(system, path)
    ]


def _is_of(system: str, path: Path) -> bool:
    """Whether a system compiles this file: *_linux.c and *_darwin.c name theirs, and so do some folders."""
    folder = path.parent.relative_to(CSRC).as_posix()
    suffixes = tuple(f"_{name}.c" for name in SYSTEMS if name != system)
    return FOLDERS_OF_SYSTEMS.get(folder, system) == system and not path.name.endswith(suffixes)


def agent_sources(system: str = SYSTEM) -> list[str]:
    """Those of the agent: what init has for every system is its, too."""
    shared = [(CSRC / "init" / name).as_posix() for name in ("command.c", "request.c")]
    return [*sources("agent", "common", system=system), *shared]


def headers() -> list[str]:
    """What a rebuild has to be triggered by, beside the sources."""
    return [path.as_posix() for pattern in ("*.h", "*.cdef") for path in sorted(CSRC.rglob(pattern))]


def compile_flags() -> list[str]:
    """Flags of all C code that runs in the host's process."""
    strict = ["-Werror"] if os.environ.get("SANDPOOL_WERROR") == "1" else []
    return ["-std=c11", "-O2", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra", *strict]


def _module(name: str, cdef: str, preamble: str) -> FFI:
    limited: dict[str, Any] = {} if FREE_THREADED else {"py_limited_api": True}
    macros: list[tuple[str, str | None]] = [("_GNU_SOURCE", "1")]
    if not FREE_THREADED:
        macros.append(("Py_LIMITED_API", "0x03090000"))
    ffi = FFI()
    ffi.cdef(cdef)
    ffi.set_source(
        name,
        preamble,
        sources=sources("common", "host"),
        depends=headers(),
        include_dirs=[CSRC.as_posix()],
        define_macros=macros,
        extra_compile_args=compile_flags(),
        extra_link_args=["-pthread"],
        **limited,
    )
    return ffi


def _cdef(*names: str) -> str:
    parts = sections((CSRC / "sandpool.cdef").read_text(encoding="utf-8"))
    return "\n".join(parts[name] for name in names)


def core() -> FFI:
    return _module("pysandpool._core", _cdef("types", "hot", "wait"), PREAMBLE)


def core_hot() -> FFI:
    return _module("pysandpool._core_hot", _cdef("types", "hot"), PREAMBLE + KEEP_THE_GIL)
