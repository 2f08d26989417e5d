"""The processor time of one job, by process, and of the same without a sandbox.

The first table is of a request to the service of `load.py`, the second of a job of the row `jobs`. All processes of a
contender are in a cgroup of their own (v2, made by root), so that other work of the machine is not counted. What the
kernel's own threads do is not counted either. It needs the extra `test`, and `wrk` (apt-get install wrk).

    python bench/account.py --seconds 4 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from statistics import median

from load import EXEC, OURS, RUN, load, service
from measure import expect

NOTHING = "nothing"
JOBS = 250
THREADS = 4
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
AFTER = 0.3  # the sandboxes that were released last are gone by then
WORKER = Path(__file__).with_name("account_worker.py")


@dataclass(frozen=True)
class Used:
    """Microseconds of processor time. `other` is of what has no name of its own: init, its clone and its end."""

    total: float
    system: float
    host: float
    zygote: float
    command: float

    @property
    def other(self) -> float:
        return self.total - self.host - self.zygote - self.command

    def since(self, before: Used, jobs: int) -> Used:
        """Per job."""
        return Used(*((getattr(self, f.name) - getattr(before, f.name)) / jobs for f in fields(self)))


@dataclass(frozen=True)
class Contender:
    """Its processes are in `group`; `host` is the one that asks for the jobs."""

    name: str
    group: Path
    host: int
    run: Callable[[], int]
    """Does some jobs, and returns their number."""
    commands: Callable[[], float]
    """The seconds of processor time of all commands in sandboxes."""

    def used(self) -> Used:
        """Since the start."""
        stat = dict(line.split() for line in (self.group / "cpu.stat").read_text().splitlines())
        itself, children = _times(self.host)
        zygotes = sum(_times(pid)[0] for pid in _pids(self.group) if _comm(pid) == "sandpool-zygote")
        command = children + self.commands() * 1e6
        return Used(float(stat["usage_usec"]), float(stat["system_usec"]), itself, zygotes, command)


def _pids(group: Path) -> list[int]:
    return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]


def _comm(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _times(pid: int) -> tuple[float, float]:
    """Of a process, and of the children that it has waited for."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, child_user, child_system = (int(text) * TICK_US for text in after_name[11:15])
    return user + system, child_user + child_system


@contextmanager
def own_cgroup(name: str) -> Iterator[Path]:
    """A new cgroup below the root of the v2 hierarchy."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    root = next(Path(at) for _, at, kind, *_ in mounts if kind == "cgroup2")
    group = root / f"account-{os.getpid()}-{name}"
    group.mkdir()
    try:
        yield group
    finally:
        while _pids(group):
            time.sleep(0.05)
        group.rmdir()


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        found: bytes = answer.read()
    return found


def requests(stack: ExitStack, seconds: int, connections: int) -> list[Contender]:
    """The endpoints of one service."""
    group = stack.enter_context(own_cgroup("service"))
    address, pid = stack.enter_context(service("asyncio", group))

    def endpoint(name: str) -> Contender:
        def run() -> int:
            return load(f"{address}/{name}", connections, seconds)[2]

        return Contender(name, group, pid, run, lambda: float(_get(f"{address}/used")))

    return [endpoint(name) for name in (NOTHING, OURS, EXEC, RUN)]


def jobs(stack: ExitStack) -> list[Contender]:
    """A process of its own for each contender, with threads that each do their part."""

    def worker(name: str) -> Contender:
        group = stack.enter_context(own_cgroup(name))
        enter = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', os.fspath(group / "cgroup.procs")]
        command = [*enter, sys.executable, os.fspath(WORKER), name, str(THREADS), str(JOBS)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.enter_context(process)
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answer = process.stdin, process.stdout
        stack.callback(ask.close)
        seconds = [float(answer.readline())]

        def run() -> int:
            print("go", file=ask, flush=True)
            seconds.append(float(answer.readline()))
            return THREADS * JOBS

        return Contender(name, group, process.pid, run, lambda: seconds[-1])

    return [worker(name) for name in (OURS, RUN)]


def measure(contenders: Sequence[Contender], rounds: int) -> None:
    """In turns; the first turn of each is not counted. Prints medians."""
    found: dict[str, list[Used]] = {c.name: [] for c in contenders}
    counts = dict.fromkeys(found, 0)
    for index in range(rounds + 1):
        for c in contenders:
            before = c.used()
            count = c.run()
            expect(count > 0, f"no job of {c.name} has ended")
            time.sleep(AFTER)
            if index > 0:
                found[c.name].append(c.used().since(before, count))
                counts[c.name] += count
    print("| µs a job | all | in the kernel | host | zygote | command | init and the rest | N |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, samples in found.items():
        parts = ("total", "system", "host", "zygote", "command", "other")
        cells = " | ".join(f"{median(getattr(used, part) for used in samples):,.0f}" for part in parts)
        print(f"| {name} | {cells} | {rounds} x {counts[name] // rounds:,} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement with wrk")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    load_before = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{date.today()}, Linux {platform.release()}, CPython {platform.python_version()}, load before {load_before}")
    with ExitStack() as stack:
        measure(requests(stack, options.seconds, options.connections), options.rounds)
    with ExitStack() as stack:
        measure(jobs(stack), options.rounds)


if __name__ == "__main__":
    main()
