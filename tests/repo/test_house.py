"""Which files of csrc may include which, read from the include lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from planted import planted

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r"^\s*#\s*include\s*([<\"])([^>\"]+)[>\"]", re.MULTILINE)

_UNDER_ALL = ("sandpool.h", "common/*", "host/sys/*")
_UNDER_LAUNCHERS = (*_UNDER_ALL, "host/sandbox/*")

# Patterns of files under csrc -> patterns of what they may include of ours. The first row that fits a file counts.
MAY_INCLUDE = {
    "sandpool.h": ("common/stage.h", "sandpool.cdef"),
    "common/*": ("common/*",),
    "host/sys/*": _UNDER_ALL,
    "host/seccomp/*": ("sandpool.h", "common/*", "host/seccomp/*"),
    "host/sandbox/*": _UNDER_LAUNCHERS,
    "host/linux/*": (*_UNDER_LAUNCHERS, "host/seccomp/*", "host/linux/*"),
    "host/agent/*": (*_UNDER_LAUNCHERS, "host/agent/*"),
    "host/fake/*": (*_UNDER_LAUNCHERS, "host/fake/*"),
    "host/pool/ring.*": ("host/pool/ring.h",),
    "host/pool/ledger.*": ("host/pool/ledger.h",),
    "host/pool/histogram.*": ("sandpool.h",),
    "host/pool/*": (*_UNDER_LAUNCHERS, "host/pool/*"),
    "host/execute/*": (*_UNDER_LAUNCHERS, "host/pool/*", "host/execute/*"),
    "init/command.*": ("common/*", "init/command.h"),
    "init/request.*": ("common/*", "init/command.h", "init/request.h"),
    "init/*": ("common/*", "init/*"),
    "agent/*": ("common/*", "agent/*", "init/command.h", "init/request.h"),
    "zygote/*": ("common/*", "init/*", "zygote/*"),
    "stem/*": ("common/*", "init/*", "zygote/*", "stem/*"),
}
OF_PYTHON = "stem/*"  # the only files that may include Python.h


def includes(path: Path) -> Iterator[tuple[str, str]]:
    """The delimiter and the name of each include line."""
    for match in INCLUDE.finditer(path.read_text(encoding="utf-8")):
        yield match[1], match[2]


def c_breaches(csrc: Path) -> Iterator[str]:
    for path in sorted(csrc.rglob("*.[ch]")):
        name = path.relative_to(csrc).as_posix()
        allowed = next((may for pattern, may in MAY_INCLUDE.items() if fnmatch(name, pattern)), ())
        for delimiter, target in includes(path):
            if Path(target).name == "Python.h" and not fnmatch(name, OF_PYTHON):
                yield f"{name} includes Python.h"
            elif delimiter == "<":
                if name.startswith("common/") and (csrc / target).exists():
                    yield f"{name} includes {target}"
            elif not any(fnmatch(_resolved(csrc, path, target), pattern) for pattern in allowed):
                yield f"{name} includes {target}"


def _resolved(csrc: Path, path: Path, target: str) -> str:
    """The included file as csrc names it, whichever way the line spells it."""
    beside = (path.parent / target).resolve()
    if not (csrc / target).exists() and csrc.resolve() in beside.parents:
        return beside.relative_to(csrc.resolve()).as_posix()
    return Path(target).as_posix()


# A condition of the preprocessor: in the files of one system, for what a test may set, and around a header.
CONDITION = re.compile(r"^[ \t]*#[ \t]*(?:if|ifdef|ifndef|elif)\b[ \t]*(.*)$", re.MULTILINE)
OF_ONE_SYSTEM = ("*_linux.c", "common/kernel_linux.h", "*_darwin.c", "host/linux/*.c", "host/seccomp/*.c")
TEST_KNOBS = {"host/pool/ring.h": "SP_RING_WINDOW"}


def conditions(csrc: Path) -> Iterator[str]:
    """What is chosen by the preprocessor and not by file."""
    for path in sorted(csrc.rglob("*.[ch]")):
        name = path.relative_to(csrc).as_posix()
        guard = "SANDPOOL_" + re.sub(r"[/.]", "_", name.removeprefix("sandpool.h") or "H").upper()
        for match in CONDITION.finditer(path.read_text(encoding="utf-8")):
            by_file = any(fnmatch(name, pattern) for pattern in OF_ONE_SYSTEM)
            if not by_file and match[1].strip() not in (guard, TEST_KNOBS.get(name)):
                yield f"{name}: {match[0].strip()}"


def test_the_system_is_chosen_by_file() -> None:
    assert list(conditions(ROOT / "csrc")) == []


@pytest.mark.parametrize("line", ["#ifdef __APPLE__", " # if defined(__linux__)", "#ifndef MSG_NOSIGNAL", "#elif X"])
def test_a_planted_condition_is_seen(tmp_path: Path, line: str) -> None:
    guarded = "#ifndef SANDPOOL_COMMON_FD_H\n#define SANDPOOL_COMMON_FD_H\n#endif\n"
    csrc = planted(tmp_path, {"common/fd.h": guarded, "common/fd_darwin.c": f"{line}\n", "host/linux/x.c": line})
    assert list(conditions(csrc)) == []
    planted(csrc, {"common/fd.h": f"{guarded}{line}\n"})
    assert list(conditions(csrc)) == [f"common/fd.h: {line.strip()}"]


def test_c_dependencies() -> None:
    assert list(c_breaches(ROOT / "csrc")) == []


def test_the_reader_sees_the_tree() -> None:
    assert ('"', "common/wire.h") in set(includes(ROOT / "csrc" / "common" / "wire.c"))


SOUND_C = {
    "sandpool.h": '#include <stdint.h>\n#include "common/stage.h"\n#include "sandpool.cdef"\n',
    "sandpool.cdef": "",
    "common/stage.h": "",
    "common/wire.c": '#include <errno.h>\n#include "common/stage.h"\n',
    "host/pool/ring.h": "#include <stdatomic.h>\n",
    "host/pool/ring.c": '#include "host/pool/ring.h"\n',
    "host/sandbox/launch.h": "",
    "host/pool/state.h": "",
    "host/execute/capture.h": "",
    "host/pool/pool.c": '#include "sandpool.h"\n#include "host/pool/ring.h"\n#include "host/sandbox/launch.h"\n',
    "init/init.h": "",
    "init/serve.c": '#include "init.h"\n#include "common/stage.h"\n',
    "zygote/spawn.h": "",
    "zygote/main.c": '#include "zygote/spawn.h"\n#include "init/init.h"\n#include <sched.h>\n',
    "stem/process.h": "",
    "stem/module.c": '#include <Python.h>\n#include "stem/process.h"\n#include "init/init.h"\n',
}


@pytest.mark.parametrize(
    ("name", "line", "breach"),
    [
        ("common/wire.c", '#include "host/pool/ring.h"', "common/wire.c includes host/pool/ring.h"),
        ("common/wire.c", '#include "../host/pool/ring.h"', "common/wire.c includes ../host/pool/ring.h"),
        ("common/wire.c", "#include <host/pool/ring.h>", "common/wire.c includes host/pool/ring.h"),
        ("common/wire.c", '#include "sandpool.h"', "common/wire.c includes sandpool.h"),
        ("host/pool/ring.h", '#include "common/stage.h"', "host/pool/ring.h includes common/stage.h"),
        ("host/pool/pool.c", '#include "host/execute/capture.h"', "host/pool/pool.c includes host/execute/capture.h"),
        ("host/pool/pool.c", '  #  include "../execute/capture.h"', "host/pool/pool.c includes ../execute/capture.h"),
        ("host/sandbox/launch.h", '#include "host/pool/state.h"', "host/sandbox/launch.h includes host/pool/state.h"),
        ("host/sandbox/launch.h", '#include "init/init.h"', "host/sandbox/launch.h includes init/init.h"),
        ("init/serve.c", '#include "zygote/spawn.h"', "init/serve.c includes zygote/spawn.h"),
        ("init/serve.c", '#include "host/sandbox/launch.h"', "init/serve.c includes host/sandbox/launch.h"),
        ("zygote/main.c", '#include "host/sandbox/launch.h"', "zygote/main.c includes host/sandbox/launch.h"),
        ("zygote/main.c", '#include "sandpool.h"', "zygote/main.c includes sandpool.h"),
        ("host/pool/pool.c", "#include <Python.h>", "host/pool/pool.c includes Python.h"),
        ("zygote/main.c", "#include <Python.h>", "zygote/main.c includes Python.h"),
        ("zygote/main.c", '#include "stem/process.h"', "zygote/main.c includes stem/process.h"),
        ("stem/module.c", '#include "host/sandbox/launch.h"', "stem/module.c includes host/sandbox/launch.h"),
    ],
)
def test_a_planted_include_is_seen(tmp_path: Path, name: str, line: str, breach: str) -> None:
    csrc = planted(tmp_path, SOUND_C)
    assert list(c_breaches(csrc)) == []
    planted(csrc, {name: f"{SOUND_C[name]}{line}\n"})
    assert list(c_breaches(csrc)) == [breach]
