"""A soak under way: its pools, the threads that work on them, and the pauses in which all is looked at."""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import soak_code
from soak_check import BreachError, Checker, Footprint, census
from soak_watch import Beats, tell_processes

from pysandpool import (
    AcquireTimeoutError,
    CommandNotFoundError,
    PoolConfig,
    PoolStateError,
    Sandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxLostError,
    SandboxPool,
    SeccompProfile,
    _ffi,
)
from pysandpool._pool.sandbox import _zygotes

THREADS = 4
STUCK_SECONDS = 40.0

CONFIGS = [
    SandboxConfig(),
    SandboxConfig(memory_limit_mb=48, max_processes=16, scratch_size_mb=4),
    SandboxConfig(seccomp_profile=SeccompProfile.NETWORK, memory_limit_mb=None, max_output_bytes=1000),
    SandboxConfig(allow_unix_sockets=True, allow_fork=True, timeout_secs=1.0),
    SandboxConfig(network="loopback"),
    *soak_code.CONFIGS,
]
POOL_CONFIGS = [
    PoolConfig(min_size=2, max_size=4),
    PoolConfig(min_size=0, max_size=2, max_idle_duration=0.5),
    PoolConfig(min_size=1, max_size=8, max_in_use=3, health_check_interval=5),
    PoolConfig(min_size=1, max_size=1, max_idle_duration=None),
]
# What a caller may see when sandboxes and zygotes are killed and pools are closed under it.
EXPECTED = (AcquireTimeoutError, CommandNotFoundError, SandboxCreateError, SandboxLostError)


class Pause:
    """Workers hold it while they are at work; whoever checks waits until nobody does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wanted = False
        self._working = 0

    @contextmanager
    def work(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._wanted)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        with self._changed:
            self._wanted = True
            if not self._changed.wait_for(lambda: self._working == 0, STUCK_SECONDS):
                raise BreachError(f"a call has not returned for {STUCK_SECONDS} s")
        try:
            yield
        finally:
            with self._changed:
                self._wanted = False
                self._changed.notify_all()


class Soak:
    """The pools that are open, and what was done to them."""

    def __init__(self, seed: int, n_pools: int, beats: Beats | None = None) -> None:
        self.seed = seed
        self.beats = beats or Beats()
        self.events: deque[str] = deque(maxlen=60)
        self.counts: Counter[str] = Counter()
        self.pause = Pause()
        self.over = threading.Event()
        self.failed: BaseException | None = None
        self.pools: list[SandboxPool] = []
        self.swap = threading.Lock()
        self.threads: list[threading.Thread] = []
        self.wake()  # the zygote of single sandboxes stays
        while Footprint.now().sandboxes:  # the last one is still dying
            time.sleep(0.001)
        for slot in _zygotes._slots.values():  # its pidfd is kept until that is known
            while slot.core is not None and _ffi.lib.sp_settle(slot.core.ptr, 50_000_000) != _ffi.lib.SP_OK:
                pass
        self.checker = Checker()
        noise = random.Random(seed)
        self.pools += [self.open(noise) for _ in range(n_pools)]

    def wake(self) -> None:
        """A zygote that was killed comes back when it is needed; for the count of them it is needed now."""
        wakes = [partial(pool.acquire, STUCK_SECONDS) for pool in self.pools]
        for make in (lambda: Sandbox(CONFIGS[0]).destroy(), *wakes):
            for _ in range(100):
                with suppress(SandboxCreateError):
                    make()
                    break
                time.sleep(0.01)

    def open_surely(self, noise: random.Random) -> SandboxPool:
        while True:
            with suppress(SandboxCreateError):  # its zygote may be killed while it starts
                return self.open(noise)

    def open(self, noise: random.Random) -> SandboxPool:
        return SandboxPool(noise.choice(CONFIGS), noise.choice(POOL_CONFIGS))

    def note(self, what: str) -> None:
        self.counts[what] += 1
        self.events.append(f"{time.monotonic():.3f} {threading.current_thread().name} {what}")
        self.beats.begun(self.events[-1])

    def start(self, work: Callable[[random.Random], bool]) -> list[threading.Thread]:
        """`work` is called again and again in each thread, until it returns False or the soak is over."""

        def run(number: int) -> None:
            noise = random.Random(self.seed * 1000 + number)
            try:
                more = True
                while more and not self.over.is_set():
                    with self.pause.work():
                        more = work(noise)
                    self.beats.ended()
            except BaseException as error:  # noqa: BLE001  # check() raises it
                self.failed = error
                self.over.set()

        self.threads = [
            threading.Thread(target=run, args=(i,), name=f"worker-{i}", daemon=True) for i in range(THREADS)
        ]
        for thread in self.threads:
            thread.start()
        return self.threads

    def flows(self) -> None:
        """Of its own: a variable of check() would keep the last pool, which may be replaced by then."""
        for pool in self.pools:
            with suppress(PoolStateError):  # being replaced
                self.checker.flows(pool)

    def check(self, memory: int | None = None) -> None:
        """`memory`: how many bytes more than at the first such call there may be."""
        self.flows()
        with self.pause.quiet():
            if self.failed is not None:
                raise self.failed
            deadline = time.monotonic() + STUCK_SECONDS
            gc.collect()  # what drop() has left: with max_in_use of them out, wake() would wait for ever
            self.wake()
            while wrong := self.checker.rest(self.pools, sum(thread.is_alive() for thread in self.threads)):
                if time.monotonic() > deadline:
                    raise BreachError("; ".join(wrong))
                time.sleep(0.005)
            self.checker.memory(memory)
        self.beats.ended()

    def breach(self, error: BaseException) -> None:
        traceback.print_exception(type(error), error, error.__traceback__)
        faulthandler.dump_traceback()
        for pool in self.pools:
            print(f"{pool!r}: {census(pool)}, {pool.stats() if not pool.closed else 'closed'}")
        for fd in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                print(f"  descriptor {fd}: {os.readlink(f'/proc/self/fd/{fd}')}")
        tell_processes(os.getpid())
        print(f"BREACH with seed {self.seed}: {type(error).__name__}: {error}\nthe last events:")
        print("\n".join(self.events), flush=True)
