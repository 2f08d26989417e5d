"""Kills a host, a zygote, or a stem, at random moments under load, and looks what is left.

    python tests/faults/kill.py {host,zygote,stem} [N] [SEED] [SECONDS]

After SECONDS (0.1) all has to be gone. Prints N, what was left, and how long it took until nothing was. Exit status 1
when something was left or hung.

Everything that a host has started ends up as a child of this process, its subreaper: it is quiet when there is no child
any more. A zygote is pid 1 of its namespace, so the kernel lets it go only after all its sandboxes are gone.
"""

from __future__ import annotations

import gc
import math
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1] / "support"))

from eyes_linux import descendants, see_orphans, stat_fields, zygotes_of_host
from kill_load import begin_work

from pysandpool import Interpreter, PoolConfig, SandboxConfig, SandboxCreateError, SandboxLostError, SandboxPool
from pysandpool._backend.cgroup import find_parent

HANG_SECONDS = 20.0


# --- what there is ---------------------------------------------------------------------------------------


def start_time(pid: int) -> str:
    """ "" when it is gone, or dead and waits to be reaped by somebody else."""
    fields = stat_fields(pid)
    return fields[19] if fields is not None and fields[0] not in "ZX" else ""


def named(pids: set[int]) -> dict[int, str]:
    return {pid: start for pid in pids if (start := start_time(pid))}


def files() -> set[str]:
    """What lies where a host could leave something."""
    places = {"/tmp", "/var/tmp", "/dev/shm", "/run", tempfile.gettempdir()}
    return {f"{place}/{name}" for place in places if os.path.isdir(place) for name in os.listdir(place)}


def mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def cgroups(pid: int) -> list[str]:
    parent = find_parent({"memory", "pids"})
    return [] if parent is None else [name for name in os.listdir(parent) if name.startswith(f"pysandpool-{pid}-")]


def descriptors() -> list[str]:
    """What the descriptors of this process refer to."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that was open for the listing
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


@dataclass
class Tally:
    """The figures of a run."""

    allowed: float
    kills: int = 0
    seconds: list[float] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    def report(self, what: str, seed: int) -> bool:
        ms = sorted(s * 1e3 for s in self.seconds)
        at = lambda q: ms[min(len(ms) - 1, math.ceil(q * len(ms)) - 1)] if ms else math.nan  # noqa: E731
        print(f"{what} killed {self.kills} times, seed {seed}: left behind: {dict(self.left) or 0}")
        print(f"time to quiet: p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, slowest {at(1):.1f} ms")
        print(f"seen: {dict(sorted(self.seen.items()))}", flush=True)
        return not self.left


# --- the host is killed ----------------------------------------------------------------------------------


def host(seed: int) -> None:
    """What is killed: it never ends by itself."""
    noise = random.Random(seed)
    over = threading.Event()
    interpreter = noise.choice([None, None, Interpreter(setup="kept = 1")])
    pool = SandboxPool(SandboxConfig(interpreter=interpreter), PoolConfig(min_size=noise.randrange(4), max_size=6))
    begin_work(pool, 2, seed, Counter(), over)
    while True:
        with (
            SandboxPool(SandboxConfig(memory_limit_mb=None), PoolConfig(min_size=1)) as other,
            other.acquire() as lease,
        ):
            lease.execute(["/bin/true"])


def reap_all(deadline: float) -> bool:
    """Whether this process has no child any more before the deadline."""
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.0002)
        except ChildProcessError:
            return True
    return False


def kill_host(seed: int, tally: Tally) -> None:
    noise = random.Random(seed)
    mounted, lying = mounts(), files()
    pid = os.fork()
    if pid == 0:
        try:
            host(seed)
        finally:
            os._exit(1)
    # The first 40 ms are the start; later it is all load.
    time.sleep(noise.choice([noise.uniform(0, 0.04), noise.uniform(0.02, 0.25)]))
    lived = named(descendants(os.getpid()))
    start = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    quiet = reap_all(start + HANG_SECONDS)
    tally.kills += 1
    tally.seconds.append(time.monotonic() - start)
    tally.seen["processes"] += len(lived)
    tally.left["hangs"] += not quiet
    tally.left["late"] += tally.seconds[-1] > tally.allowed
    tally.left["processes"] += sum(start_time(pid) == began for pid, began in lived.items())
    tally.left["mounts"] += len(set(mounts()) - set(mounted))
    # Others use these directories, too; what a host makes is named after it.
    tally.left["files"] += sum(str(pid) in name for name in files() - lying)
    # Their directories are swept by the next host in that place; nothing may run in them.
    tally.seen["cgroup directories"] += len(cgroups(pid))
    tally.left = +tally.left
    for survivor in descendants(os.getpid()):
        os.kill(survivor, signal.SIGKILL)


def kill_hosts(n: int, seed: int, tally: Tally) -> None:
    for turn in range(n):
        kill_host(seed * 1_000_003 + turn, tally)
        if (turn + 1) % 100 == 0:
            print(f"{turn + 1} / {n}, left {dict(tally.left)}", flush=True)


# --- the zygote is killed --------------------------------------------------------------------------------


def works(pool: SandboxPool, tally: Tally) -> bool:
    """Whether a command runs again, after clear errors at the most."""
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        try:
            with pool.acquire(timeout=5) as lease:
                if lease.execute(["/bin/echo", "again"], timeout=10).stdout == b"again\n":
                    return True
        except (SandboxLostError, SandboxCreateError) as error:
            tally.seen[f"{type(error).__name__} before it worked"] += 1
            time.sleep(0.001)
    return False


def kill_zygote(pool: SandboxPool, noise: random.Random, tally: Tally) -> None:
    time.sleep(noise.uniform(0, 0.06))
    zygotes = zygotes_of_host(os.getpid())
    lived = named(descendants(os.getpid()))
    start = time.monotonic()
    for zygote in zygotes:
        with suppress(ProcessLookupError):
            os.kill(zygote, signal.SIGKILL)
    while any(start_time(pid) == began for pid, began in lived.items()):
        if time.monotonic() - start > HANG_SECONDS:
            tally.left["processes"] += 1
            break
        time.sleep(0.0005)
    tally.kills += 1
    tally.seconds.append(time.monotonic() - start)
    tally.left["late"] += tally.seconds[-1] > tally.allowed
    tally.seen["processes"] += len(lived)
    if not works(pool, tally):
        tally.left["pools that do not work"] += 1
    tally.left = +tally.left


def kill_zygotes(n: int, seed: int, tally: Tally, interpreter: Interpreter | None = None) -> None:
    noise, over = random.Random(seed), threading.Event()
    fds = len(os.listdir("/proc/self/fd"))
    config = SandboxConfig(interpreter=interpreter)
    with SandboxPool(config, PoolConfig(min_size=2, max_size=6)) as pool:
        threads = begin_work(pool, 3, seed, tally.seen, over)
        for turn in range(n):
            kill_zygote(pool, noise, tally)
            if (turn + 1) % 100 == 0:
                print(f"{turn + 1} / {n}, left {dict(tally.left)}", flush=True)
        over.set()
        for thread in threads:
            thread.join(HANG_SECONDS)
        tally.left["hangs"] += sum(thread.is_alive() for thread in threads)
        stats = pool.stats()
        tally.left["counters"] += stats.created_count - stats.evict_count != stats.idle_count + stats.in_use_count
        tally.left["leases"] += stats.in_use_count
    tally.left["wrong errors"] += tally.seen.pop("wrong errors", 0)
    tally.left["processes"] += len(named(descendants(os.getpid())))
    del pool
    gc.collect()  # exceptions that were caught may keep processes
    tally.left["fds"] += len(os.listdir("/proc/self/fd")) - fds
    if tally.left["fds"]:
        print(descriptors())
    tally.left = +tally.left


def main(what: str = "host", n: str = "1000", seed: str = "1", seconds: str = "0.1") -> int:
    see_orphans()
    tally = Tally(float(seconds))
    kinds = {"host": kill_hosts, "zygote": kill_zygotes, "stem": partial(kill_zygotes, interpreter=Interpreter())}
    kinds[what](int(n), int(seed), tally)
    return 0 if tally.report(what, int(seed)) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
