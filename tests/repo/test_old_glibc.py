"""The compiled modules need no glibc that is newer than 2.17, so that a wheel that an old system built runs everywhere.

zig has the headers and the names of each glibc: what this machine's own glibc would add is not there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from other_libc import BUILD, python_headers, run, zig

NEWEST = (2, 17)
OLD_GLIBC = f"{os.uname().machine}-linux-gnu.{NEWEST[0]}.{NEWEST[1]}"
UNDEFINED = re.compile(r" (GLOBAL|WEAK) +DEFAULT +UND (\w+)(?:@(\w+?)_([\d.]+))?")
TABLE = """
     1: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND pthread_create@GLIBC_2.34 (2)
     2: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND getpid@GLIBC_2.2.5 (3)
     3: 0000000000000000     0 NOTYPE  WEAK   DEFAULT  UND __gmon_start__
     4: 0000000000000000     0 NOTYPE  GLOBAL DEFAULT  UND PyErr_Clear
    59: 0000000000002f10   100 FUNC    GLOBAL DEFAULT   12 PyInit__core
"""
FLAGS = ("-std=c11", "-O1", "-D_GNU_SOURCE", "-Icsrc", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden")
MODULE = ("-fPIC", "-shared", "-DPy_LIMITED_API=0x03090000", "-Wno-unused-parameter")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux: glibc"),
    pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not here: apt-get install binutils"),
    pytest.mark.slow,
]


def newest_glibc(symbols: str) -> tuple[tuple[int, ...], str]:
    """The newest version that a symbol of readelf's table needs, and the symbol; names of Python have none."""
    needed = [match.groups() for match in UNDEFINED.finditer(symbols)]
    assert needed, symbols
    unknown = [name for kind, name, library, _ in needed if library is None and kind == "GLOBAL"]
    assert not [name for name in unknown if not name.startswith(("Py", "_Py"))]
    return max(
        (tuple(map(int, version.split("."))), name) for _, name, library, version in needed if library == "GLIBC"
    )


def symbols_of(file: Path) -> str:
    return subprocess.run(["readelf", "-W", "--dyn-syms", file], capture_output=True, text=True, check=True).stdout


def test_the_modules_need_no_newer_glibc() -> None:
    """The other module has the same C files."""
    compiler = zig(OLD_GLIBC)
    import build_ffi

    BUILD.mkdir(parents=True, exist_ok=True)
    source, target = BUILD / "_core.c", BUILD / "_core-old-glibc.so"
    build_ffi.core().emit_c_code(os.fspath(source))
    files = [os.fspath(source), *build_ffi.sources("common", "host")]
    run([*compiler, *FLAGS, *python_headers(), *MODULE, *files, "-o", os.fspath(target)])
    version, symbol = newest_glibc(symbols_of(target))
    assert version <= NEWEST, f"{symbol} is of glibc {version}"


def test_the_module_of_interpreters_needs_no_newer_glibc() -> None:
    """It is loaded by interpreters inside of sandboxes."""
    compiler = zig(OLD_GLIBC)
    from build_ffi import sources

    target = BUILD / "stem-old-glibc.so"
    files = [path for path in sources("stem", "zygote", "init", "common") if path != "csrc/zygote/main.c"]
    run([*compiler, *FLAGS, *python_headers(), *MODULE, *files, "-o", os.fspath(target)])
    version, symbol = newest_glibc(symbols_of(target))
    assert version <= NEWEST, f"{symbol} is of glibc {version}"


def test_the_program_compiles_with_an_old_glibc() -> None:
    """Whoever builds from source on an old system links it statically; zig has no static glibc."""
    compiler = zig(OLD_GLIBC)
    from build_ffi import sources

    target = BUILD / "program-old-glibc"
    run([*compiler, *FLAGS, *sources("zygote", "init", "common"), "-o", os.fspath(target)])
    version, symbol = newest_glibc(symbols_of(target))
    assert version <= NEWEST, f"{symbol} is of glibc {version}"


def test_a_newer_symbol_is_seen() -> None:
    assert newest_glibc(TABLE) == ((2, 34), "pthread_create")
    with pytest.raises(AssertionError):
        newest_glibc(TABLE.replace("PyErr_Clear", "pidfd_open"))
