"""The C code on aarch64: cross-compiled with warnings as errors, and run under qemu-user as far as that goes.

qemu-user makes no namespaces and no processes that share memory, so no sandbox comes of it: records, sockets, ring,
jobs, readers and the seccomp policy of both processors run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from c_build import ROOT, Build, linked
from other_libc import run, zig, zygote

from pysandpool import SandboxCreateError, SandboxPool
from pysandpool._backend import linux

OLD_GLIBC = "aarch64-linux-gnu.2.17"
QEMU = "qemu-aarch64-static"
BUILD = Build("aarch64-linux-gnu-gcc", "plain", static=True)
PROGRAMS = (
    *("attend", "fd", "figures", "helpers", "histogram", "lines", "live", "loop", "packet", "packet_nobufs"),
    *("packet_stream", "ring", "seccomp", "session", "wire"),
)

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux"),
    pytest.mark.timeout(1800),  # in a fresh clone, zig compiles a C library first
]
FLAGS = ("-std=c11", "-O1", "-D_GNU_SOURCE", "-Icsrc", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden")
needs_qemu = pytest.mark.skipif(shutil.which(QEMU) is None, reason="apt-get install qemu-user-static")
needs_gcc = pytest.mark.skipif(shutil.which(BUILD.compiler) is None, reason="apt-get install gcc-aarch64-linux-gnu")


@pytest.mark.slow
@pytest.mark.parametrize("folders", [("common", "host"), ("common", "init", "zygote")], ids="-".join)
def test_the_c_code_compiles_for_aarch64(folders: tuple[str, ...], tmp_path: Path) -> None:
    from build_ffi import sources

    run([*zig(OLD_GLIBC), *FLAGS, "-fPIC", "-shared", *sources(*folders), "-o", os.fspath(tmp_path / "compiled.so")])


@pytest.fixture(scope="module")
def program() -> Path:
    return zygote("aarch64", zig("aarch64-linux-musl"))


@pytest.mark.extended
def test_the_program_is_built_for_aarch64(program: Path) -> None:
    header = program.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert header[18] == 183  # EM_AARCH64


@needs_qemu
@pytest.mark.extended
def test_the_program_starts_and_reports_what_is_refused(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read its configuration then, and its reason comes over the socket."""
    wrapper = tmp_path / "sandpool-zygote"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which(QEMU)} "{program}"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(linux, "PROGRAMS", tmp_path)
    with pytest.raises(SandboxCreateError) as caught:
        SandboxPool()
    assert (caught.value.stage, os.strerror(caught.value.errno)) == ("user_namespace", "Invalid argument")


@needs_qemu
@pytest.mark.extended
@needs_gcc
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_c_program_under_qemu(name: str, tmp_path: Path) -> None:
    target = linked(ROOT / "tests" / "native" / "c" / f"test_{name}.c", BUILD, tmp_path)
    done = subprocess.run([QEMU, target], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
