"""What must be true of a host that uses pools, whenever nothing is on its way: the invariants of the soak."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kill import children_of

from pysandpool import SandboxPool, _ffi

STATES = ("empty", "starting", "idle", "leased", "recycling")
FDS_OF_A_POOL = 4  # the zygote's socket and pidfd, the janitor's epoll and eventfd
FDS_OF_A_SANDBOX = 2
MIB = 1 << 20


def census(pool: SandboxPool) -> dict[str, int]:
    """The slots that were ever used, by state, and `free`: those in the free list."""
    states, free = _ffi.ffi.new("uint32_t[5]"), _ffi.ffi.new("uint32_t *")
    _ffi.lib.sp_pool_census(pool._core.ptr, states, free)
    return dict(zip(STATES, states), free=free[0])


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def resident() -> int:
    gc.collect()
    with suppress(AttributeError):  # musl has none
        ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def namespaces(pids: list[int]) -> int:
    """How many network namespaces they are in; 0 where this user may not look."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
    return len(found)


@dataclass(frozen=True)
class Footprint:
    """Of this process and what it has started."""

    fds: int
    threads: int
    zygotes: int
    sandboxes: int
    zombies: int
    mounts: int
    namespaces: int

    @classmethod
    def now(cls) -> Footprint:
        zygotes = children_of(os.getpid())
        inits = [pid for zygote in zygotes for pid in children_of(zygote)]
        return cls(
            fds=len(os.listdir("/proc/self/fd")),
            threads=len(os.listdir("/proc/self/task")),
            zygotes=len(zygotes),
            sandboxes=len(inits),
            zombies=sum(state_of(pid) == "Z" for pid in zygotes + inits),
            mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
            namespaces=namespaces(inits),
        )


class BreachError(AssertionError):
    """Something is not where it must be."""


class Checker:
    """Compares with what was there before the first pool."""

    def __init__(self) -> None:
        self.before = Footprint.now()
        self.rss = 0

    def flows(self, pool: SandboxPool) -> None:
        """True in every moment, whatever runs."""
        s, c = pool.stats(), census(pool)
        if s.created_count - s.evict_count != s.idle_count + s.in_use_count:
            raise BreachError(f"created - evicted is not idle + in use: {s}")
        if s.evictions.total != s.evict_count:
            raise BreachError(f"the reasons of the evictions do not add up: {s}")
        if c["free"] != c["empty"]:
            raise BreachError(f"slots are neither free nor in use: {c}")

    def rest(self, pools: list[SandboxPool], leases: list[int]) -> list[str]:
        """What is not (yet) as it must be when nobody works: `leases` are out of each pool."""
        wrong = []
        live = 0
        for pool, out in zip(pools, leases):
            s, c = pool.stats(), census(pool)
            live += s.idle_count + s.in_use_count
            seen = {"in_use": s.in_use_count, "recycling": s.recycling_count, "starting": s.starting_count}
            if seen != {"in_use": out, "recycling": 0, "starting": 0}:
                wrong.append(f"counts {seen}, {out} out")
            if (c["leased"], c["idle"], c["recycling"], c["starting"]) != (out, s.idle_count, 0, 0):
                wrong.append(f"slots {c}, idle {s.idle_count}, {out} out")
            if s.idle_count > pool.pool_config.max_size or s.waiting_count:
                wrong.append(f"idle {s.idle_count}, waiting {s.waiting_count}")
        now, was = Footprint.now(), self.before
        expected = Footprint(
            fds=was.fds + FDS_OF_A_POOL * len(pools) + FDS_OF_A_SANDBOX * live,
            threads=now.threads,
            zygotes=was.zygotes + len(pools),
            sandboxes=was.sandboxes + live,
            zombies=was.zombies,
            mounts=was.mounts,
            namespaces=now.namespaces,
        )
        if now != expected:
            wrong.append(f"{now}, expected {expected}")
        if now.namespaces > live + len(pools):
            wrong.append(f"{now.namespaces} network namespaces for {live} sandboxes")
        return wrong

    def memory(self, allowed: int) -> None:
        """The first call sets the mark."""
        now = resident()
        if self.rss == 0:
            self.rss = now
        if now - self.rss > allowed:
            raise BreachError(f"{(now - self.rss) / MIB:.1f} MiB more than at first")
