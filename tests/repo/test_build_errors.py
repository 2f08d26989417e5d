"""A build without what it needs names the missing part and the command that installs it, as the only error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A compiler that cannot compile a file with one word in it, or link with an option that begins with another.
COMPILER = """#!/bin/sh
for word; do
    case $word in
    *.c) ! grep -q '{text}' "$word" || exit 1 ;;
    {option}*) exit 1 ;;
    esac
done
exec gcc "$@"
"""
NOTHING = "NOTHING HAS THIS"
DEV = f"apt-get install python3.{sys.version_info[1]}-dev"

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux: a static program"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not here: apt-get install gcc"),
    pytest.mark.slow,
]


def check(compiler: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("setuptools", reason="the build's own tool")
    environment = {**os.environ, "CC": compiler, "PATH": os.environ["PATH"] if path is None else path}
    command = [sys.executable, "setup.py", "-q", "check_toolchain"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_nothing_is_missing() -> None:
    done = check("gcc")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "option", "missing", "install"),
    [
        ("pthread.h", NOTHING, "the C library's headers", "apt-get install gcc libc6-dev"),
        ("Python.h", NOTHING, f"the headers of Python 3.{sys.version_info[1]} (Python.h)", DEV),
        ("SECCOMP_RET", NOTHING, "the kernel's headers", "apt-get install linux-libc-dev"),
        (NOTHING, "-static", "a static C library (libc.a)", "apt-get install libc6-dev"),
    ],
    ids=["libc", "python", "kernel", "static"],
)
def test_a_part_is_missing(tmp_path: Path, text: str, option: str, missing: str, install: str) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER.format(text=text, option=f"'{option}'"), encoding="utf-8")
    compiler.chmod(0o755)
    done = check(os.fspath(compiler))
    assert done.returncode != 0
    assert done.stderr.startswith("pysandpool cannot be built, missing: ")
    assert missing in done.stderr
    assert shutil.which("apt-get") is None or install in done.stderr
    assert "Traceback" not in done.stderr


def test_there_is_no_compiler_and_no_known_package_manager(tmp_path: Path) -> None:
    done = check("no-such-compiler", os.fspath(tmp_path))
    assert done.returncode != 0
    assert done.stderr.splitlines() == [
        "pysandpool cannot be built, missing: a C compiler ('no-such-compiler' is not there; $CC names another).",
        "Install it with: apt-get install gcc libc6-dev | dnf install gcc glibc-devel | apk add gcc musl-dev",
    ]
