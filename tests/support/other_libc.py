"""Builds the static program of zygote and init for other C libraries and processors, and lets tests start it.

`zig cc` brings musl 1.2.5, older glibcs and other processors; `musl-gcc` is Debian's musl 1.2.3. A test run that has
this module as a plugin (`-p other_libc`) starts the program of the directory that SANDPOOL_TEST_PROGRAMS names.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "other-libc"
VARIABLE = "SANDPOOL_TEST_PROGRAMS"

sys.path.insert(0, os.fspath(ROOT))


def kernel_headers() -> Path:
    """A directory with the kernel's headers alone: beside them lie those of another libc."""
    into = BUILD / "kernel-headers"
    into.mkdir(parents=True, exist_ok=True)
    found = {"linux": "linux", "asm-generic": "asm-generic", "asm": f"{sysconfig.get_config_var('MULTIARCH')}/asm"}
    for name, where in found.items():
        source = Path("/usr/include", where)
        if not (into / name).is_symlink():
            (into / name).symlink_to(source if source.exists() else Path("/usr/include", name))
    return into


def python_headers() -> list[str]:
    """Debian's pyconfig.h chooses by processor from a second directory."""
    folders = [sysconfig.get_paths()["include"], f"/usr/include/{sysconfig.get_config_var('MULTIARCH')}"]
    return [word for folder in folders if "python" in folder for word in ("-isystem", folder)]


def musl_gcc() -> list[str]:
    if shutil.which("musl-gcc") is None:
        pytest.skip("musl-gcc is not here: apt-get install musl-tools")
    return ["musl-gcc", "-isystem", os.fspath(kernel_headers())]


def zig(target: str) -> list[str]:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("zig is not here: pip install ziglang")
    # CMSG_NXTHDR of musl compares a signed number with an unsigned one, which gcc forgives the system's headers.
    return [sys.executable, "-m", "ziglang", "cc", "-target", target, "-Wno-error=sign-compare"]


def musl_of_zig() -> str:
    """The version of musl that zig compiles, as its sources say it."""
    found = importlib.util.find_spec("ziglang")
    assert found is not None
    assert found.origin is not None
    text = Path(found.origin).with_name("lib").joinpath("libc/musl/src/internal/version.h").read_text(encoding="utf-8")
    return text.split('"')[1]


def run(command: list[str]) -> None:
    caches = {name: os.fspath(BUILD / "zig-cache") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    environment = {**os.environ, **caches}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]


def zygote(name: str, compiler: list[str]) -> Path:
    """The program, with the flags of setup.py and warnings as errors, in a directory of its own."""
    from build_ffi import sources

    target = BUILD / name / "sandpool-zygote"
    target.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is whole: programs of another process may be starting it.
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-Icsrc", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
    run([*compiler, *flags, "-static", *sources("zygote", "init", "common"), "-s", "-o", os.fspath(fresh)])
    fresh.replace(target)
    return target


def pytest_configure() -> None:
    folder = os.environ.get(VARIABLE)
    if folder is not None:
        from pysandpool._backend import linux

        vars(linux)["PROGRAMS"] = Path(folder)
