"""A host process with a given amount of memory resident, which takes samples when asked.

`ResidentHost` runs in the benchmark, `main` in the child that it starts. The child's memory is
private, touched page by page and not in huge pages, so that a fork of it would have all page tables to copy.
"""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from compute import computing
from lease import acquire_batch, acquire_singles, job, open_pool, wait_until_steady
from measure import Contender, expect, interleave
from peers import ECHO, ECHO_OUT
from rows_execute import one_off

from pysandpool import SandboxConfig, SandboxPool

MIB = 1024 * 1024
BATCH = 1000


class ResidentHost:
    """The child; only one of them works at a time."""

    def __init__(self, resident_mib: int) -> None:
        command = [sys.executable, str(Path(__file__)), str(resident_mib)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.resident_mib = int(self._answer())

    def sample(self, kind: str, count: int) -> list[float]:
        """Seconds per sample of one of `KINDS`."""
        stdin = self._child.stdin
        assert stdin is not None
        stdin.write(f"{kind} {count}\n")
        stdin.flush()
        times: list[float] = json.loads(self._answer())
        return times

    def _answer(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        expect(line != "", "the resident host died")
        return line

    def close(self) -> None:
        """Ends the child, and raises if it failed."""
        self._child.communicate()
        expect(self._child.returncode == 0, "the resident host failed")


def _resident_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE // MIB


def _hold(mib: int) -> mmap.mmap:
    memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, mib * MIB, mmap.PAGESIZE):
        memory[offset] = 1
    return memory


def _acquire(pool: SandboxPool, count: int) -> list[float]:
    return [acquire_batch(pool, BATCH) for _ in range(count)]


def _busy(pool: SandboxPool, count: int) -> list[float]:
    with computing(3):
        return acquire_singles(pool, count)


def _times(contender: Contender, pool: SandboxPool, count: int) -> list[float]:
    return interleave([contender], count, between=lambda: wait_until_steady(pool), warmup=1)[contender.name]


KINDS: dict[str, Callable[[SandboxPool, int], list[float]]] = {
    "acquire": _acquire,
    "busy": _busy,
    "echo": lambda pool, count: _times(job(pool, ECHO, ECHO_OUT), pool, count),
    "cold": lambda pool, count: _times(one_off(SandboxConfig()), pool, count),
}


def main() -> None:
    memory = _hold(max(1, int(sys.argv[1]) - _resident_mib()))
    with open_pool(4) as pool:
        print(_resident_mib(), flush=True)
        for line in sys.stdin:
            kind, count = line.split()
            print(json.dumps(KINDS[kind](pool, int(count))), flush=True)
    memory.close()


if __name__ == "__main__":
    main()
