"""Runs each program of tests/native/c: plain, under AddressSanitizer with UBSan, and under ThreadSanitizer.

One compiler for each of them; `make test-all` and `make test-c` use gcc and clang for all.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import full_tier
import pytest
import selection
from c_build import ROOT, SANITIZER_OPTIONS, Build, fixed_addresses, linked, run, unusable
from orphans import reap_all

PROGRAMS = sorted((ROOT / "tests" / "native" / "c").glob("test_*.c"))
IN_CI = os.environ.get("CI") == "true"
TIMEOUT = 240


QUICK = (Build("gcc", "plain"),)
USUAL = (*QUICK, Build("gcc", "asan"), Build("clang", "tsan"))
ALL = (*USUAL, Build("clang", "plain"), Build("clang", "asan"), Build("gcc", "tsan"))
BUILDS = QUICK if selection.QUICK else ALL if selection.EXTENDED else USUAL


def builds_of(program: Path) -> list[Build]:
    """ThreadSanitizer is for what threads share: ring and pool, over the fake launcher and over real sandboxes."""
    shared = program.stem.startswith(("test_ring", "test_pool"))
    return [build for build in BUILDS if build.sanitizer != "tsan" or shared]


@pytest.mark.parametrize(
    ("program", "build"),
    [
        pytest.param(program, build, id=f"{program.stem.removeprefix('test_')}-{build}")
        for program in PROGRAMS
        for build in builds_of(program)
    ],
)
def test_c_program(program: Path, build: Build, tmp_path: Path) -> None:
    reason = unusable(build)
    if reason is not None:
        if IN_CI or build == Build("gcc", "plain"):
            pytest.fail(reason)
        pytest.skip(reason)
    command = [*(fixed_addresses() if build.sanitizer != "plain" else ()), os.fspath(linked(program, build, tmp_path))]
    done = run(command, env={**os.environ, **SANITIZER_OPTIONS}, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
    reap_all()  # some programs leave hundreds of zombies, and other tests look at all processes again and again
    assert done.returncode == 0, f"{program.name} ({build}) ended with {done.returncode}:\n{done.stdout[-8000:]}"
    skipped = [line for line in done.stdout.splitlines() if " ... skipped: " in line]
    assert not skipped or full_tier.denies_namespaces(), f"skipped where this machine can run it: {skipped}"
    if " 0 failed" in done.stdout and "\n0 passed" in done.stdout:
        pytest.skip(skipped[0])


def test_there_are_programs() -> None:
    assert PROGRAMS
