"""Pools over the launcher of macOS, with a stand-in for `sandbox-exec`: the same agent, and no confinement at all."""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from fake import warmed

from pysandpool import SandboxConfig, SandboxPool, _ffi
from pysandpool._backend.macos import open_agents

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "SANDPOOL_TEST_AGENT"
STAND_IN = os.fspath(ROOT / "tests" / "mac" / "sandbox-exec")

sys.path.insert(0, os.fspath(ROOT))


def folder_of_this_process(prefix: str) -> Path:
    """Removed when the process ends that made it, not by its forked children."""
    folder, made_by = Path(tempfile.mkdtemp(prefix=prefix)), os.getpid()
    atexit.register(lambda: os.getpid() == made_by and shutil.rmtree(folder, ignore_errors=True))
    return folder


@functools.cache
def program() -> str:
    """The agent, compiled for this machine; once for a test and the hosts that it starts."""
    if PROGRAM in os.environ:
        return os.environ[PROGRAM]
    from build_ffi import agent_sources

    target = folder_of_this_process("sandpool-agent-") / "sandpool-agent"
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-Icsrc", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*compiler.split(), *flags, *agent_sources(), "-o", os.fspath(target)], cwd=ROOT, check=True)
    target.parent.chmod(0o755)
    os.environ[PROGRAM] = os.fspath(target)
    return os.environ[PROGRAM]


def stand_in(folder: Path, body: str) -> str:
    """A `sandbox-exec` of the test's own."""
    path = folder / "sandbox-exec"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return os.fspath(path)


@functools.cache
def landlock_abi() -> int:
    """The Landlock ABI of this kernel; -1: none."""
    return int(ctypes.CDLL(None).syscall(444, None, 0, 1))


@functools.cache
def confine() -> str:
    """What stands for `sandbox-exec` and confines; see its first comment."""
    target = folder_of_this_process("sandpool-confine-") / "confine"
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*compiler.split(), *flags, "tests/mac/confine.c", "-o", os.fspath(target)], cwd=ROOT, check=True)
    target.parent.chmod(0o755)
    return os.fspath(target)


class AgentLauncher:
    """Spawns agents for one pool, and ends with it."""

    def __init__(
        self, config: SandboxConfig | None = None, stand_in: str = STAND_IN, *, confines: bool = False
    ) -> None:
        self._launcher = open_agents(config or SandboxConfig(), stand_in, program(), confines=confines)

    def open(self, *, warm: int = 0, **fields: Any) -> SandboxPool:
        """A pool of this launcher; see `warmed`."""
        return warmed(lambda config: SandboxPool(None, config, _launcher=self._launcher), warm, fields)

    def close(self) -> None:
        if self._launcher is not None:
            _ffi.lib.sp_launcher_unref(self._launcher)
            self._launcher = None
