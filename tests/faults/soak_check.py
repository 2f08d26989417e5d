"""What must be true of a host that uses pools, whenever nothing is on its way: the invariants of the soak."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from eyes_linux import children_of, stat_fields, zygotes_of_host
from kill import cgroups, descriptors

from pysandpool import SandboxPool, _ffi

STATES = ("empty", "starting", "idle", "leased", "recycling")
FDS_OF_A_POOL = 5  # the zygote's socket and pidfd, its reaper's pidfd, the janitor's epoll and its kick
FDS_OF_AN_INTERPRETER = {"fork": 3, "exec": 0}  # a stem's module, and both ends of the pipe that is its stderr
MOUNTS_OF_A_POOL = 1  # the list of mounts, where a configuration has paths of the host
THREADS_OF_A_POOL = 1
FDS_FOR_A_ZYGOTE = 3  # of these, for one that was renewed and whose idle sandboxes are not yet replaced
FDS_OF_A_ZYGOTE = 7 + 32  # 0-2, socket, /proc, itself, the mounts of the host; the stash of network namespaces at most
FDS_OF_A_ZYGOTES_SANDBOX = 1  # its network namespace, to be used again
FDS_OF_A_SANDBOX = 2
ID_MAPS_OF_A_POOL = 2  # user namespaces whose id maps a host that is root keeps for workspaces, once it has used them
MIB = 1 << 20
ALLOCATED_MORE = 4 * MIB  # the records of other sandboxes and pools than at first


def census(pool: SandboxPool) -> dict[str, int]:
    """The slots that were ever used, by state, and `free`: those in the free list."""
    states, free = _ffi.ffi.new("uint32_t[5]"), _ffi.ffi.new("uint32_t *")
    _ffi.lib.sp_pool_census(pool._core.ptr, states, free)
    return dict(zip(STATES, states), free=free[0])


def resident() -> int:
    gc.collect()
    with suppress(AttributeError):  # musl has none
        ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc: its eighth and fifth are the bytes given out, of the arenas and mapped."""

    _fields_ = tuple((f"field_{number}", ctypes.c_size_t) for number in range(10))


def allocated() -> int:
    """What malloc has given out: no fragments, no caches; 0 where the C library does not report it."""
    with suppress(AttributeError):  # glibc 2.33
        mallinfo2 = ctypes.CDLL(None).mallinfo2
        mallinfo2.restype = MallInfo
        found = mallinfo2()
        return int(found.field_7 + found.field_4)
    return 0


def namespaces(pids: list[int]) -> int:
    """How many network namespaces they are in; 0 where this user may not look."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
    return len(found)


def inside(zygote: int) -> tuple[int, int]:
    """How many descriptors and mounts a zygote has; (0, 0) where this user may not look."""
    with suppress(OSError):
        return len(os.listdir(f"/proc/{zygote}/fd")), len(Path(f"/proc/{zygote}/mountinfo").read_text().splitlines())
    return 0, 0


def is_id_map(link: str) -> bool:
    return link.startswith("user:")


def is_list_of_mounts(link: str) -> bool:
    return link.endswith("/mountinfo")


@dataclass(frozen=True)
class Footprint:
    """Of this process and what it has started."""

    fds: int
    threads: int
    children: int
    sandboxes: int
    zombies: int
    mounts: int
    namespaces: int
    cgroups: int

    @classmethod
    def now(cls) -> Footprint:
        children = children_of(os.getpid())  # the reapers, one for each zygote, and whatever else there is
        zygotes = zygotes_of_host(os.getpid())
        inits = [pid for zygote in zygotes for pid in children_of(zygote)]
        return cls(
            fds=sum(not (is_id_map(link) or is_list_of_mounts(link)) for link in descriptors()),
            threads=len(os.listdir("/proc/self/task")),
            children=len(children),
            sandboxes=len(inits),
            zombies=sum((stat_fields(pid) or "-")[0] == "Z" for pid in zygotes + inits),
            mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
            namespaces=namespaces(inits),
            cgroups=len(cgroups(os.getpid())),
        )


class BreachError(AssertionError):
    """Something is not where it must be."""


class Checker:
    """Compares with what was there before the first pool."""

    def __init__(self) -> None:
        self.before = Footprint.now()
        self.rss = self.mark = self.given = 0
        self.mounts: dict[int, int] = {}

    def flows(self, pool: SandboxPool) -> None:
        """True in every moment, whatever runs."""
        s, c = pool.stats(), census(pool)
        if s.created_count - s.evict_count != s.idle_count + s.in_use_count:
            raise BreachError(f"created - evicted is not idle + in use: {s}")
        if s.evictions.total != s.evict_count:
            raise BreachError(f"the reasons of the evictions do not add up: {s}")
        if c["free"] != c["empty"]:
            raise BreachError(f"slots are neither free nor in use: {c}")

    def rest(self, pools: list[SandboxPool], workers: int) -> list[str]:
        """What is not (yet) as it must be when nobody works, no lease is out, and `workers` threads wait."""
        wrong = []
        live = 0
        for pool in pools:
            s, c = pool.stats(), census(pool)
            live += s.idle_count
            seen = {"in_use": s.in_use_count, "recycling": s.recycling_count, "starting": s.starting_count}
            if any(seen.values()):
                wrong.append(f"counts {seen}")
            if (c["leased"], c["idle"], c["recycling"], c["starting"]) != (0, s.idle_count, 0, 0):
                wrong.append(f"slots {c}, idle {s.idle_count}")
            if sum(c[state] for state in STATES) != s.idle_count + c["free"]:
                wrong.append(f"slots {c} are not idle + free, idle {s.idle_count}")
            if s.idle_count > pool.pool_config.max_size or s.waiting_count:
                wrong.append(f"idle {s.idle_count}, waiting {s.waiting_count}")
        now, was = Footprint.now(), self.before
        interpreters = [pool.config.interpreter for pool in pools if pool.config.interpreter is not None]
        of_interpreters = sum(FDS_OF_AN_INTERPRETER[interpreter.start] for interpreter in interpreters)
        renewed = max(0, min(now.children - was.children - len(pools), live))
        expected = Footprint(
            fds=was.fds
            + FDS_FOR_A_ZYGOTE * renewed
            + FDS_OF_A_POOL * len(pools)
            + of_interpreters
            + FDS_OF_A_SANDBOX * live,
            threads=was.threads + THREADS_OF_A_POOL * len(pools) + workers,
            children=was.children + len(pools) + renewed,
            sandboxes=was.sandboxes + live,
            zombies=was.zombies,
            mounts=was.mounts,
            namespaces=now.namespaces,
            cgroups=was.cgroups + (len(pools) if was.cgroups else 0),
        )
        if now != expected:
            wrong.append(f"{now}, expected {expected}")
        maps = sum(is_id_map(link) for link in descriptors())
        if maps > ID_MAPS_OF_A_POOL * len(pools):
            wrong.append(f"{maps} id maps of workspaces for {len(pools)} pools")
        lists = sum(is_list_of_mounts(link) for link in descriptors())
        if lists > MOUNTS_OF_A_POOL * (len(pools) + 1):  # one more of the single sandboxes
            wrong.append(f"{lists} lists of mounts for {len(pools)} pools")
        if now.namespaces > live + len(pools):
            wrong.append(f"{now.namespaces} network namespaces for {live} sandboxes")
        return wrong + self.zygotes(live)

    def zygotes(self, live: int) -> list[str]:
        """What they keep beyond their sandboxes' lives: nothing."""
        wrong = []
        mounts = {}
        for zygote in zygotes_of_host(os.getpid()):
            fds, mounts[zygote] = inside(zygote)
            if fds > FDS_OF_A_ZYGOTE + FDS_OF_A_ZYGOTES_SANDBOX * live:
                wrong.append(f"zygote {zygote} has {fds} descriptors, {live} sandboxes live")
            if mounts[zygote] > self.mounts.get(zygote, mounts[zygote]):
                wrong.append(f"zygote {zygote} has {mounts[zygote]} mounts, {self.mounts[zygote]} before")
        self.mounts = mounts
        return wrong

    def memory(self, allowed: int | None) -> None:
        """While nobody works: captured output is much. The first call with a bound sets the mark."""
        self.rss, given = resident(), allocated()
        if allowed is None:
            return
        self.mark, self.given = self.mark or self.rss, self.given or given
        if self.rss - self.mark > allowed or given - self.given > ALLOCATED_MORE:
            more = f"{(self.rss - self.mark) / MIB:.1f} MiB resident, {(given - self.given) / MIB:.1f} MiB allocated"
            raise BreachError(f"{more} more than at first")
