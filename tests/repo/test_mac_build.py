"""Compiles all that macOS uses, for both of its processors, with the clang that `zig` brings: warnings are errors.

What this shows is that the code compiles and links against the headers of macOS. Nothing of it is run here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mac"
TARGETS = ("aarch64-macos.11.0", "x86_64-macos.11.0")
STRICT = ("-std=c11", "-O1", "-Icsrc", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden")

sys.path.insert(0, os.fspath(ROOT))


def zig(target: str, *words: str) -> None:
    pytest.importorskip("ziglang", reason="pip install ziglang")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *words]
    caches = {name: os.fspath(BUILD / "cache") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **caches}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]


@pytest.fixture(scope="module")
def extension() -> list[str]:
    """The C that cffi makes of the declarations, for both modules."""
    import build_ffi

    BUILD.mkdir(parents=True, exist_ok=True)
    made = []
    for ffi, name in ((build_ffi.core(), "_core"), (build_ffi.core_hot(), "_core_hot")):
        target = BUILD / f"{name}.c"
        ffi.emit_c_code(os.fspath(target))
        made.append(os.fspath(target))
    return made


@pytest.fixture(scope="module")
def python_headers() -> Path:
    """Debian's pyconfig.h chooses by processor and knows Linux only: the one that it chooses stands in for it."""
    include = Path(sysconfig.get_paths()["include"])
    chosen = include.parent / str(sysconfig.get_config_var("MULTIARCH")) / include.name / "pyconfig.h"
    if not chosen.exists():
        return include
    folder = BUILD / "python"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in include.iterdir():
        (folder / path.name).symlink_to(chosen if path.name == chosen.name else path)
    return folder


@pytest.mark.parametrize("target", TARGETS)
def test_the_agent_links(target: str) -> None:
    from build_ffi import agent_sources

    zig(target, *STRICT, *agent_sources("darwin"), "-o", os.fspath(BUILD / f"agent-{target}"))


@pytest.mark.parametrize("target", TARGETS)
def test_the_modules_link(target: str, extension: list[str], python_headers: Path) -> None:
    from build_ffi import sources

    python = ["-DPy_LIMITED_API=0x03090000", f"-I{python_headers}", "-Wno-unused-parameter"]
    for source in extension:
        output = os.fspath(BUILD / f"{Path(source).stem}-{target}.so")
        shared = [
            "-shared",
            "-Wl,-undefined,dynamic_lookup",
            *python,
            source,
            *sources("common", "host", system="darwin"),
        ]
        zig(target, *STRICT, *shared, "-o", output)
