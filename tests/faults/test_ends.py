"""Every way in which pools, leases and hosts end, in any order and under load: nothing hangs and nothing stays."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from eyes import alive
from host_state import HostState
from scripts import run_script
from waiting import Call, wait_until

from pysandpool import PoolConfig, PoolStateError, Sandbox, SandboxPool, SandboxReleasedError

ENDED = (PoolStateError, SandboxReleasedError)


def until_closed(work: Callable[[SandboxPool], Any], pool: SandboxPool) -> None:
    with suppress(*ENDED):
        while True:
            work(pool)


def execute(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        lease.execute(["/bin/true"])


def hold(pool: SandboxPool) -> None:
    leases = [pool.acquire() for _ in range(3)]
    leases[0].execute(["/bin/sh", "-c", "sleep 60 &"])


WORK: dict[str, Callable[[SandboxPool], Any]] = {
    "acquire": lambda pool: pool.acquire().release(),
    "create": lambda pool: [pool.acquire() for _ in range(6)],
    "execute": execute,
    "hold": hold,
    "warm": lambda pool: pool.warm(4),
    "stats": lambda pool: (pool.stats(), pool.idle_len(), repr(pool), time.sleep(0.0002)),  # not all of the lock's time
}


@pytest.mark.parametrize("work", WORK)
def test_close_during(work: str) -> None:
    """At another moment each time, by two threads at once; no call hangs, and none sees anything but the end."""
    before = HostState()
    for turn in range(4):
        pool = SandboxPool(None, PoolConfig(min_size=1, max_size=4))
        calls = [Call(until_closed, WORK[work], pool) for _ in range(3)]
        time.sleep(turn * 0.008)
        closes = [Call(pool.close) for _ in range(2)]
        for call in closes + calls:
            call.result()
        assert pool.closed
    del pool, calls, closes, call
    before.assert_restored()


def test_close_during_everything() -> None:
    before = HostState()
    for turn in range(4):
        pool = SandboxPool(None, PoolConfig(min_size=2, max_size=3, max_in_use=4))
        calls = [Call(until_closed, work, pool) for name, work in WORK.items() if name not in ("create", "hold")]
        time.sleep(0.01 * turn)
        pool.close(timeout=0 if turn % 2 else 5)
        for call in calls:
            call.result()
    del pool, calls, call
    before.assert_restored()


def test_garbage_in_any_order() -> None:
    before = HostState()
    for order in list(itertools.permutations(["pool", "used", "unused", "result", "cycle"]))[::5]:
        drop_in(order)
    before.assert_restored()


def drop_in(order: tuple[str, ...]) -> None:
    names: dict[str, Any] = {"pool": SandboxPool(None, PoolConfig(min_size=0, max_size=2))}
    names["used"], names["unused"] = names["pool"].acquire(), names["pool"].acquire()
    names["result"] = names["used"].execute(["/bin/echo", "kept"])
    names["cycle"] = [names["pool"], names["pool"].acquire()]
    names["cycle"].append(names["cycle"])
    result = names["result"]
    for name in order:
        del names[name]
        if name == "pool":
            gc.collect()
    assert result.stdout == b"kept\n", "a result owns its bytes"


def test_all_in_one_cycle() -> None:
    before = HostState()

    class Service:
        pass

    for _ in range(3):
        service: Any = Service()
        service.pool = SandboxPool(None, PoolConfig(min_size=1))
        service.lease = service.pool.acquire()
        service.lease.execute(["/bin/true"])
        service.sandbox = Sandbox()
        service.itself = service
    del service
    gc.collect()
    # The zygote of single sandboxes stays for the next one, with its pool's janitor and the thread that logs.
    Sandbox().destroy()
    before.children |= HostState().children
    before.fds.update(HostState().fds)
    before.threads += 2
    before.assert_restored()


def test_a_lease_dropped_by_a_thread_that_ends() -> None:
    with SandboxPool(None, PoolConfig(min_size=0, max_size=2)) as pool:
        local = threading.local()

        def work() -> None:
            local.lease = pool.acquire()
            local.lease.execute(["/bin/true"])

        for _ in range(5):
            Call(work).result()
        wait_until(lambda: pool.stats().in_use_count == 0, "given back with the thread's locals")


# --- the interpreter's end -------------------------------------------------------------------------------

EXIT = """
import os, sys, threading, time
from eyes import children, zygote_of
from waiting import wait_until
from pysandpool import *

pool = SandboxPool(None, PoolConfig(min_size=2, max_size=4))
idle, busy = pool.acquire(), pool.acquire()
busy.execute(["/bin/true"])
single = Sandbox()
print(zygote_of(idle), idle.pid, busy.pid, zygote_of(single._lease), single.pid, flush=True)

def again(work):
    def run():
        try:
            while True:
                work()
        except (PoolStateError, SandboxError):
            pass
    for _ in range(2):
        threading.Thread(target=run, daemon=True).start()

def use():
    with pool.acquire() as lease:
        lease.execute(["/bin/echo", "x"], input=b"x" * 100000)

leases = []
"""

EXITS = {
    "daemon threads execute": ("again(use); time.sleep(0.05)", 0),
    "daemon threads create": ("again(lambda: leases.append(pool.acquire())); time.sleep(0.02)", 0),
    "daemon threads warm": ("again(lambda: pool.warm(4)); time.sleep(0.02)", 0),
    "daemon threads acquire and release": ("again(lambda: pool.acquire().release()); time.sleep(0.02)", 0),
    "daemon threads open pools": ("again(lambda: SandboxPool()); time.sleep(0.03)", 0),
    "all of these": ("again(use); again(lambda: pool.warm(4)); again(pool.stats); time.sleep(0.05)", 0),
    "sys.exit in a thread": (
        "t = threading.Thread(target=lambda: (pool.acquire(), sys.exit(3))); t.start(); t.join()",
        0,
    ),
    "an uncaught error": ("again(use); sys.excepthook = lambda *_: None; raise RuntimeError", 1),
    "os._exit": ("again(use); time.sleep(0.02); os._exit(5)", 5),
    "os.abort": ("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); again(use); os.abort()", -6),
    "exec": ("again(use); time.sleep(0.02); os.execv('/bin/sh', ['sh', '-c', 'exit 6'])", 6),
    "SIGTERM": ("again(use); time.sleep(0.02); os.kill(os.getpid(), 15); time.sleep(9)", -15),
    "an atexit handler that uses it": (
        "import atexit\natexit.register(lambda: pool.acquire().execute(['/bin/true']))",
        0,
    ),
    "the module's names are gone first": (
        "import atexit, pysandpool._pool.core as m\natexit._run_exitfuncs()\nvars(m).update(dict.fromkeys(vars(m)))",
        0,
    ),
    "a handler of an earlier import": ("import atexit\natexit._run_exitfuncs()\nsys.exit(0)", 0),
}


@pytest.mark.parametrize("way", EXITS)
def test_the_interpreters_end(way: str) -> None:
    text, code = EXITS[way]
    done = run_script(EXIT + text, timeout=40)
    assert (done.returncode, done.stderr) == (code, "")
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 5
    wait_until(lambda: not any(alive(pid) for pid in pids), "zygotes and sandboxes are gone")
