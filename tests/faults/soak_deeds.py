"""What the soak does, and what befalls it meanwhile."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from eyes_linux import children_of, zygotes_of_host
from soak_check import BreachError
from soak_code import code, renew
from soak_leases import COMMANDS, files, in_a_loop, processes, workspace
from soak_run import CONFIGS, EXPECTED, Soak

from pysandpool import (
    PooledSandbox,
    PoolStateError,
    Sandbox,
    SandboxLostError,
    SandboxPool,
    SandboxReleasedError,
)


def strike(lease: PooledSandbox) -> None:
    with suppress(ProcessLookupError, SandboxReleasedError, PoolStateError, SandboxLostError):
        os.kill(lease.pid, signal.SIGKILL)


def lose_zygote(noise: random.Random) -> None:
    # Not what fork() has made, nor a zygote's short first process.
    zygotes = [pid for pid in zygotes_of_host(os.getpid()) if children_of(pid)]
    with suppress(ProcessLookupError, IndexError):
        os.kill(noise.choice(zygotes), signal.SIGKILL)


def lose_idle(lease: PooledSandbox) -> None:
    """It dies after its release, in the ring or under whoever has it by then."""
    pid = lease.pid
    lease.release()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def lose_busy(noise: random.Random, lease: PooledSandbox) -> None:
    timer = threading.Timer(noise.uniform(0, 0.003), strike, [lease])
    timer.start()
    try:
        lease.execute(["/bin/sleep", "60"], timeout=5)
    finally:
        timer.join()


class Mix:
    """One random deed after the other."""

    def __init__(self, soak: Soak) -> None:
        self.soak = soak
        self.deeds: list[tuple[int, Callable[[random.Random, SandboxPool], None]]] = [
            (60, self.use),
            (5, processes),
            (10, files),
            (8, workspace),
            (30, code),
            (1, renew),
            (2, in_a_loop),
            (20, self.touch),
            (5, self.warm),
            (2, self.resize),
            (1, self.drain),
            (5, self.hold),
            (2, self.drop),
            (2, self.two_on_one),
            (1, self.release_under_way),
            (1, self.lose_idle),
            (1, self.lose_used),
            (1, self.lose_busy),
            (1, self.reopen),
            (1, self.lose_zygote),
            (1, self.single),
            (1, self.fork),
        ]

    def __call__(self, noise: random.Random) -> bool:
        weights, deeds = zip(*self.deeds)
        (deed,) = noise.choices(deeds, weights)
        pool = noise.choice(self.soak.pools)
        self.soak.note(deed.__name__)
        try:
            deed(noise, pool)
        except EXPECTED as error:
            self.soak.note(type(error).__name__)
        except PoolStateError:
            if not pool.closed:
                raise
        return True

    def use(self, noise: random.Random, pool: SandboxPool) -> None:
        with pool.acquire(timeout=5) as lease:
            for _ in range(noise.choice([1, 1, 1, 3])):
                command, timeout = noise.choice(COMMANDS)
                lease.execute(command, timeout=timeout, input=noise.choice([None, b"x" * 200_000]))

    def touch(self, noise: random.Random, pool: SandboxPool) -> None:
        for _ in range(50):
            pool.acquire(timeout=5).release()

    def warm(self, noise: random.Random, pool: SandboxPool) -> None:
        pool.warm(noise.randrange(6))

    def resize(self, noise: random.Random, pool: SandboxPool) -> None:
        pool.resize(noise.randrange(3), noise.randint(2, 8))

    def drain(self, noise: random.Random, pool: SandboxPool) -> None:
        pool.drain(timeout=noise.choice([0, 0.01, 0.1]))

    def hold(self, noise: random.Random, pool: SandboxPool) -> None:
        leases = [pool.acquire(timeout=0.01) for _ in range(noise.randrange(1, 4))]
        leases[0].execute(["/bin/true"])
        noise.shuffle(leases)

    def drop(self, noise: random.Random, pool: SandboxPool) -> None:
        cycle: list[object] = [pool.acquire(timeout=5)]
        cycle.append(cycle)  # until the collector finds it: check() runs it

    def two_on_one(self, noise: random.Random, pool: SandboxPool) -> None:
        with pool.acquire(timeout=5) as lease:
            other = threading.Thread(target=quietly, args=(lambda: lease.execute(["/bin/true"]),))
            other.start()
            try:
                lease.execute(["/bin/true"])
            finally:
                other.join()

    def release_under_way(self, noise: random.Random, pool: SandboxPool) -> None:
        lease = pool.acquire(timeout=5)
        other = threading.Thread(target=quietly, args=(lambda: lease.execute(["/bin/sleep", "60"]),))
        other.start()
        time.sleep(noise.uniform(0, 0.003))
        lease.release()
        other.join()

    def lose_idle(self, noise: random.Random, pool: SandboxPool) -> None:
        lose_idle(pool.acquire(timeout=5))

    def lose_used(self, noise: random.Random, pool: SandboxPool) -> None:
        with pool.acquire(timeout=5) as lease:
            if noise.random() < 0.5:
                lease.execute(["/bin/true"])
            strike(lease)
            lease.execute(["/bin/true"])

    def lose_busy(self, noise: random.Random, pool: SandboxPool) -> None:
        with pool.acquire(timeout=5) as lease:
            lose_busy(noise, lease)

    def reopen(self, noise: random.Random, pool: SandboxPool) -> None:
        """Others may be inside calls on it."""
        with self.soak.swap:
            if pool in self.soak.pools:
                pool.close()
                self.soak.pools[self.soak.pools.index(pool)] = self.soak.open_surely(noise)

    def lose_zygote(self, noise: random.Random, pool: SandboxPool) -> None:
        if noise.random() < 0.2:
            lose_zygote(noise)

    def single(self, noise: random.Random, pool: SandboxPool) -> None:
        with Sandbox(CONFIGS[0]) as sandbox:
            sandbox.execute(["/bin/true"])

    def fork(self, noise: random.Random, pool: SandboxPool) -> None:
        child = os.fork()
        if child == 0:
            with suppress(PoolStateError):
                pool.acquire()
                os._exit(1)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            raise BreachError("a forked child got a lease")


def quietly(call: Callable[[], object]) -> None:
    with suppress(*EXPECTED, PoolStateError, SandboxReleasedError):
        call()


class Cycles:
    """Ten acquire/release and one execute, a fault in one of a hundred; every acquire is counted."""

    def __init__(self, soak: Soak, executes: int) -> None:
        self.soak = soak
        self.left = executes
        self.got = 0
        self._lock = threading.Lock()

    def lease(self, pool: SandboxPool) -> PooledSandbox:
        """An acquire that fails counts as a miss, too."""
        with self._lock:
            self.got += 1
        return pool.acquire()

    def __call__(self, noise: random.Random) -> bool:
        with self._lock:
            self.left -= 1
            if self.left < 0:
                return False
        (pool,) = self.soak.pools
        try:
            for _ in range(10):
                self.lease(pool).release()
            with self.lease(pool) as lease:
                if noise.random() < 0.01:
                    self.fault(noise, lease)
                else:
                    self.run(lease)
        except EXPECTED as error:
            self.soak.note(type(error).__name__)
        return True

    def run(self, lease: PooledSandbox) -> None:
        if lease.execute(["/bin/echo", "hello"]).stdout != b"hello\n":
            raise BreachError("a command that was not killed did not print")

    def fault(self, noise: random.Random, lease: PooledSandbox) -> None:
        way = noise.choice(["killed unused", "killed busy", "killed idle", "timeout", "not found", "suicide", "zygote"])
        self.soak.note(way)
        if way == "killed unused":
            strike(lease)
            self.run(lease)
        elif way == "killed busy":
            lose_busy(noise, lease)
        elif way == "killed idle":
            lose_idle(lease)
        elif way == "timeout":
            lease.execute(["/bin/sh", "-c", "sleep 60 & sleep 60"], timeout=0.005)
        elif way == "not found":
            lease.execute(["no-such-command"])
        elif way == "suicide":
            lease.execute(["/bin/sh", "-c", "(setsid sleep 60 &); kill -9 $$"])
        elif noise.random() < 0.2:
            lose_zygote(noise)
