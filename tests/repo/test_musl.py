"""The C code compiles against musl, as the musllinux wheels need it; with warnings as errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for path in (ROOT / "csrc").glob("*/*.c") if not path.stem.endswith("_darwin"))


def kernel_headers(into: Path) -> Path:
    """A directory with the kernel's headers alone: beside them lie those of another libc."""
    found = {"linux": "linux", "asm-generic": "asm-generic", "asm": f"{sysconfig.get_config_var('MULTIARCH')}/asm"}
    for name, where in found.items():
        source = Path("/usr/include", where)
        (into / name).symlink_to(source if source.exists() else Path("/usr/include", name))
    return into


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="musl-gcc is not here: apt-get install musl-tools")
def test_the_c_code_compiles_against_musl(tmp_path: Path) -> None:
    headers = kernel_headers(tmp_path)
    command = ["musl-gcc", "-std=c11", "-D_GNU_SOURCE", "-Icsrc", "-isystem", os.fspath(headers), "-fsyntax-only"]
    command += ["-Wall", "-Wextra", "-Werror"]
    failed = []
    for source in SOURCES:
        done = subprocess.run([*command, source], cwd=ROOT, capture_output=True, text=True, check=False)
        failed += [done.stderr] if done.returncode != 0 else []
    assert SOURCES
    assert not failed, "\n".join(failed)
