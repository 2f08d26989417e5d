"""Builds `pool_bench.c` against the host core and its fake launcher, and runs it."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path

BENCH = Path(__file__).parent
CSRC = BENCH.parent / "csrc"
OTHER_SYSTEMS = ("_darwin.c", "_macos.c")
FLAGS = ("-O2", "-std=c11", "-D_GNU_SOURCE", "-pthread")


def _host_sources() -> list[Path]:
    sources = [path for folder in ("common", "host") for path in sorted((CSRC / folder).rglob("*.c"))]
    return [path for path in sources if not path.name.endswith(OTHER_SYSTEMS)]


@functools.cache
def _built() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """The program and the directory it lives in, which goes when the interpreter does."""
    folder: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory(prefix="pool_bench-")
    program = Path(folder.name) / "pool_bench"
    cc = os.environ.get("CC", "cc")
    command = [
        cc,
        *FLAGS,
        f"-I{CSRC}",
        str(BENCH / "pool_bench.c"),
        *map(str, _host_sources()),
        "-o",
        str(program),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"cannot build pool_bench.c: {done.stderr.strip()[:2000]}")
    return program, folder


def time_core(idle: int, batches: int, batch: int) -> list[float]:
    """Seconds per acquire + release, one figure per batch."""
    program, _ = _built()
    command = [str(program), str(idle), str(batches), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pool_bench {idle} exits with {done.returncode}: {done.stderr.strip()}")
    return [float(line) / 1e9 for line in done.stdout.split()]
