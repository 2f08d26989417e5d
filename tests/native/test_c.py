"""Runs each program of tests/native/c, built with each compiler, plain and under the sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from c_build import ROOT, SANITIZER_OPTIONS, Build, fixed_addresses, linked, run, unusable

PROGRAMS = sorted((ROOT / "tests" / "native" / "c").glob("test_*.c"))
IN_CI = os.environ.get("CI") == "true"
TIMEOUT = 240


def builds_of(program: Path) -> list[Build]:
    """ThreadSanitizer is for what threads share: ring and pool, over the fake launcher and over real sandboxes."""
    shared = program.stem.startswith(("test_ring", "test_pool"))
    return [
        Build(compiler, sanitizer)
        for compiler in ("gcc", "clang")
        for sanitizer in ("plain", "asan", "tsan")
        if sanitizer != "tsan" or shared
    ]


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
    assert done.returncode == 0, f"{program.name} ({build}) ended with {done.returncode}:\n{done.stdout[-8000:]}"


def test_there_are_programs() -> None:
    assert PROGRAMS
