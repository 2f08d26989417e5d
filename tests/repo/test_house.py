"""Who may include and import whom, read from the include and import lines; and what import refuses."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r"^\s*#\s*include\s*([<\"])([^>\"]+)[>\"]", re.MULTILINE)
PACKAGE = "pysandpool"
COMPILED = ("_core", "_core_hot")
COMPILED_NAMES = tuple(f"{PACKAGE}.{name}" for name in COMPILED)

_UNDER_ALL = ("sandpool.h", "common/*", "host/sys/*")
_UNDER_LAUNCHERS = (*_UNDER_ALL, "host/sandbox/*")

# Patterns of files under csrc -> patterns of what they may include of ours. The first row that fits a file counts.
MAY_INCLUDE = {
    "sandpool.h": ("common/stage.h", "sandpool.cdef"),
    "common/*": ("common/*",),
    "host/sys/*": _UNDER_ALL,
    "host/seccomp/*": ("sandpool.h", "common/*", "host/seccomp/*"),
    "host/sandbox/*": (*_UNDER_LAUNCHERS, "host/linux/cgroup.h"),
    "host/linux/*": (*_UNDER_LAUNCHERS, "host/seccomp/*", "host/linux/*"),
    "host/agent/*": (*_UNDER_LAUNCHERS, "host/agent/*"),
    "host/fake/*": _UNDER_LAUNCHERS,
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
}
# Modules of the package -> what they may import of it. A module without a row may import any but the compiled ones.
MAY_IMPORT = {
    "_errors": (),
    "_stats": (),
    "_fields": (),
    "_paths": ("_fields",),
    "_environ": ("_fields",),
    "_syscalls": (),
    "_seccomp": ("_fields", "_syscalls"),
    "_config": ("_errors", "_fields", "_paths", "_environ", "_seccomp"),
}


def includes(path: Path) -> Iterator[tuple[str, str]]:
    """The delimiter and the name of each include line."""
    for match in INCLUDE.finditer(path.read_text(encoding="utf-8")):
        yield match[1], match[2]


def c_breaches(csrc: Path) -> Iterator[str]:
    for path in sorted(csrc.rglob("*.[ch]")):
        name = path.relative_to(csrc).as_posix()
        allowed = next((may for pattern, may in MAY_INCLUDE.items() if fnmatch(name, pattern)), ())
        for delimiter, target in includes(path):
            if Path(target).name == "Python.h":
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


def imports(path: Path) -> Iterator[str]:
    """The modules of the package, by their bare names, that a module imports, wherever the statement stands."""
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"), path.name)):
        if isinstance(node, ast.Import):
            yield from _of_package(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = f"{PACKAGE}.{base}".rstrip(".")
            yield from _of_package([base, *(f"{base}.{alias.name}" for alias in node.names)])
        elif isinstance(node, ast.Constant) and node.value in COMPILED_NAMES:
            # importlib.import_module("pysandpool._core")
            yield node.value.partition(".")[2]


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only the type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            continue
        yield node
        yield from _executed(node)


def _of_package(names: Iterator[str] | list[str]) -> Iterator[str]:
    for name in names:
        parts = name.split(".")
        if parts[0] == PACKAGE and len(parts) > 1:
            yield parts[1]


def python_breaches(package: Path) -> Iterator[str]:
    modules = {path.stem for path in package.glob("*.py")} | set(COMPILED)
    for path in sorted(package.glob("*.py")):
        for target in sorted(set(imports(path)) & modules):
            compiled = target in COMPILED and path.stem != "_ffi"
            if compiled or target not in MAY_IMPORT.get(path.stem, modules):
                yield f"{path.stem} imports {target}"


# A condition of the preprocessor: in the files of one system, for what a test may set, and around a header.
CONDITION = re.compile(r"^[ \t]*#[ \t]*(?:if|ifdef|ifndef|elif)\b[ \t]*(.*)$", re.MULTILINE)
OF_ONE_SYSTEM = ("*_linux.c", "*_darwin.c", "host/linux/*.c", "host/seccomp/*.c")
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


def test_python_dependencies() -> None:
    assert list(python_breaches(ROOT / PACKAGE)) == []


def test_the_reader_sees_the_tree() -> None:
    assert ('"', "common/wire.h") in set(includes(ROOT / "csrc" / "common" / "wire.c"))
    assert "_core_hot" in set(imports(ROOT / PACKAGE / "_ffi.py"))


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
}
SOUND_PYTHON = {
    "__init__.py": "from pysandpool._pool import x\n",
    "_errors.py": "import os\nif TYPE_CHECKING:\n    from pysandpool._pool import x\n",
    "_config.py": "from pysandpool._errors import x\n",
    "_stats.py": "from dataclasses import dataclass\n",
    "_ffi.py": "from pysandpool import _core\nfrom pysandpool._core_hot import lib\n",
    "_pool.py": "from . import _ffi, _config\n",
}


def planted(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


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
    ],
)
def test_a_planted_include_is_seen(tmp_path: Path, name: str, line: str, breach: str) -> None:
    csrc = planted(tmp_path, SOUND_C)
    assert list(c_breaches(csrc)) == []
    planted(csrc, {name: f"{SOUND_C[name]}{line}\n"})
    assert list(c_breaches(csrc)) == [breach]


@pytest.mark.parametrize(
    ("name", "line", "breach"),
    [
        ("_errors.py", "from pysandpool._config import x", "_errors imports _config"),
        ("_stats.py", "def f():\n    from . import _errors", "_stats imports _errors"),
        ("_config.py", "import pysandpool._pool", "_config imports _pool"),
        ("_errors.py", "if x:\n    from . import _pool", "_errors imports _pool"),
        ("_pool.py", "from pysandpool._core import lib", "_pool imports _core"),
        ("_pool.py", "from ._core_hot import lib", "_pool imports _core_hot"),
        ("__init__.py", "import importlib\nimportlib.import_module('pysandpool._core')", "__init__ imports _core"),
    ],
)
def test_a_planted_import_is_seen(tmp_path: Path, name: str, line: str, breach: str) -> None:
    package = planted(tmp_path, SOUND_PYTHON)
    assert list(python_breaches(package)) == []
    planted(package, {name: f"{SOUND_PYTHON[name]}{line}\n"})
    assert list(python_breaches(package)) == [breach]


def test_abi_mismatch_names_both_numbers() -> None:
    from pysandpool._ffi import check_abi

    check_abi(41, 41, "pysandpool._core")
    with pytest.raises(ImportError, match=r"pysandpool\._core\b") as refused:
        check_abi(7, 41, "pysandpool._core")
    assert re.search(r"\b7\b", str(refused.value))
    assert re.search(r"\b41\b", str(refused.value))


# A package without its __init__, in which one compiled module answers sp_abi() with another number.
IMPORT_WITH_WRONG_ABI = """
import importlib, importlib.util, sys, types
name = sys.argv[1]
package = types.ModuleType("pysandpool")
package.__path__ = importlib.util.find_spec("pysandpool").submodule_search_locations
sys.modules["pysandpool"] = package
real = importlib.import_module("pysandpool." + name)

class Lib:
    def sp_abi(self):
        return 9999
    def __getattr__(self, attribute):
        return getattr(real.lib, attribute)

fake = types.ModuleType(real.__name__)
fake.ffi, fake.lib = real.ffi, Lib()
sys.modules[real.__name__] = fake
setattr(package, name, fake)
expected = real.lib.sp_abi()
try:
    importlib.import_module("pysandpool._ffi")
except ImportError as error:
    assert "9999" in str(error) and str(expected) in str(error), error
    assert name in str(error), error
    print("refused")
"""


@pytest.mark.parametrize("name", COMPILED)
def test_import_refuses_another_abi(name: str, tmp_path: Path) -> None:
    script = tmp_path / "wrong_abi.py"
    script.write_text(IMPORT_WITH_WRONG_ABI, encoding="utf-8")
    done = subprocess.run([sys.executable, script, name], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("refused", 0), done.stderr


def test_which_module_keeps_the_gil() -> None:
    """Releasing it is a call of PyEval_SaveThread: the hot module does not even refer to it."""
    from pysandpool import _core, _core_hot

    gives_up = {
        module.__name__: b"PyEval_SaveThread" in Path(str(module.__file__)).read_bytes()
        for module in (_core, _core_hot)
    }
    assert gives_up == {"pysandpool._core": True, "pysandpool._core_hot": False}
