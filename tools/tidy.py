#!/usr/bin/env python3
"""Runs clang-tidy over C files, several at a time: `tools/tidy.py CLANG_TIDY FILE ...`.

A file that was found good is not read again, as long as it, the headers of the project that it includes, the
configuration and the program stay as they are: build/tidy has an empty file for each such state.

The path-sensitive analyser takes 95 % of the time, and most of that for the C tests, which contain the sources of csrc
once more. It reads csrc only, and with SANDPOOL_TIDY=all the rest as well.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from object_cache import content, dependencies, digest

ROOT = Path(__file__).resolve().parents[1]
GOOD = ROOT / "build" / "tidy"
FLAGS = ["-std=c11", "-Icsrc"]
LINUX = [*FLAGS, "-D_GNU_SOURCE", "-Itests/native/c", "-Itests/native/fuzz"]
STEM = [*LINUX, "-DPy_LIMITED_API=0x03090000", "-isystem", sysconfig.get_paths()["include"]]


def macos() -> list[str]:
    """What is for macOS is read with the headers that zig brings; tests/repo/test_mac_build.py compiles it."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise SystemExit("ziglang is missing: pip install ziglang")
    library = Path(found.origin).parent / "lib"
    headers = [f"-isystem{library / name}" for name in ("include", "libc/include/any-darwin-any")]
    return [*FLAGS, "-target", "aarch64-apple-macos11", "-nostdinc", *headers]


@functools.cache
def version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout


def checks(path: str) -> list[str]:
    """Those of .clang-tidy, for tests and benchmarks without the analyser."""
    whole = path.startswith("csrc/") or os.environ.get("SANDPOOL_TIDY") == "all"
    return [] if whole else ["--checks=-clang-analyzer-*"]


def state_of(program: str, path: str, flags: list[str]) -> Path:
    """Named after the content of all that decides about the verdict but the system's headers."""
    # -MG: a header that only the other system has is named, too.
    rule = subprocess.run(["cc", *LINUX, "-MM", "-MG", path], cwd=ROOT, capture_output=True, text=True, check=True)
    read = [f"{name}={content(name)}" for name in (*dependencies(rule.stdout), ".clang-tidy")]
    return GOOD / digest(version(program), *flags, *read)


def complaints(program: str, path: str) -> str:
    """What clang-tidy says against this file; its warnings are errors."""
    flags = macos() if path.endswith("_darwin.c") else STEM if path.startswith("csrc/stem/") else LINUX
    state = state_of(program, path, [*checks(path), *flags])
    if state.exists():
        return ""
    command = [program, "--quiet", *checks(path), path, "--", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        state.touch()
        return ""
    return done.stdout + done.stderr


def main(program: str, *paths: str) -> int:
    os.chdir(ROOT)
    GOOD.mkdir(parents=True, exist_ok=True)
    longest_first = sorted(paths, key=lambda path: -os.path.getsize(path))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found = list(threads.map(lambda path: complaints(program, path), longest_first))
    print("".join(found), end="")
    return 1 if any(found) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
