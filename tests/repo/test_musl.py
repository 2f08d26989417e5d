"""The static program runs when it is linked with musl, as in the musllinux wheels; all C code compiles against it.

musl 1.2.5 refuses flags of clone() that 1.2.3 took, so both are run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from eyes import zygote_of
from other_libc import ROOT, VARIABLE, musl_gcc, musl_of_zig, python_headers, zig, zygote
from scripts import SUPPORT

from pysandpool import PoolConfig, SandboxConfig, SandboxPool, Workspace
from pysandpool._backend import linux

SOURCES = sorted(path for path in (ROOT / "csrc").glob("*/*.c") if not path.stem.endswith("_darwin"))
EXTENDED = ("contract", "execute", "isolation")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux: musl"),
    pytest.mark.timeout(1800),  # in a fresh clone, zig compiles a C library first
]


def test_the_c_code_compiles_against_musl() -> None:
    command = [
        *musl_gcc(),
        *python_headers(),
        "-std=c11",
        "-D_GNU_SOURCE",
        "-Icsrc",
        "-fsyntax-only",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    failed = []
    for source in SOURCES:
        done = subprocess.run([*command, source], cwd=ROOT, capture_output=True, text=True, check=False)
        failed += [done.stderr] if done.returncode != 0 else []
    assert SOURCES
    assert not failed, "\n".join(failed)


def test_zig_brings_a_musl_with_the_strict_clone() -> None:
    zig("x86_64-linux-musl")
    assert tuple(map(int, musl_of_zig().split("."))) >= (1, 2, 5)


@pytest.fixture(scope="module", params=["musl-gcc", "zig"])
def program(request: pytest.FixtureRequest) -> Path:
    return zygote(
        f"musl-{request.param}", musl_gcc() if request.param == "musl-gcc" else zig(f"{os.uname().machine}-linux-musl")
    )


def test_a_pool_over_a_zygote_of_musl(program: Path, host_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "PROGRAMS", program.parent)
    (host_dir / "file").write_text("of the host\n")
    with SandboxPool(SandboxConfig(), PoolConfig(min_size=1, max_size=2)) as pool:
        for _ in range(3):  # the first sandbox, and fresh ones
            with pool.acquire(workspace=Workspace(host_dir)) as lease:
                assert Path(f"/proc/{zygote_of(lease)}/exe").read_bytes() == program.read_bytes()
                result = lease.execute(["/bin/sh", "-c", "cat file; cat >copy; echo lost >&2; exit 3"], input=b"text\n")
                assert (result.stdout, result.stderr, result.exit_code) == (b"of the host\n", b"lost\n", 3)
                assert lease.execute(["/bin/sh", "-c", "kill -9 $$"]).signal == 9
                assert lease.execute(["/bin/sleep", "60"], timeout=0.05).timed_out
                assert (host_dir / "copy").read_text() == "text\n"
            with pool.acquire() as lease:
                with lease.popen(["/bin/cat"], stdin=-1, stdout=-1) as process:
                    assert process.communicate(b"over a pipe")[0] == b"over a pipe"
                lease.write_file("/tmp/file", b"data")
                assert lease.read_file("/tmp/file") == b"data"
                assert lease.execute(["/bin/cat", "/tmp/file"], check=True).stdout == b"data"
                assert lease.isolation.namespaces == lease.isolation.seccomp == lease.isolation.mounts == "full"


@pytest.mark.extended
@pytest.mark.parametrize("folder", EXTENDED)
def test_the_suite_over_a_zygote_of_musl(program: Path, folder: str) -> None:
    environment = {**os.environ, VARIABLE: os.fspath(program.parent), "PYTHONPATH": os.fspath(SUPPORT)}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", "SANDPOOL_TESTS"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "other_libc", f"tests/{folder}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
