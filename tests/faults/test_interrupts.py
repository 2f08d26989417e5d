"""An exception at any point of acquire, execute or release: nothing is lost, and the pool is in order."""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from eyes import children
from fake import FakeLauncher
from full_tier import refusal
from host_state import HostState
from pools import OpenPool, assert_balanced, use
from scripts import run_script
from waiting import wait_until

import pysandpool
from pysandpool import AcquireTimeoutError, PoolConfig, PooledSandbox, SandboxLostError, SandboxPool, _ffi
from pysandpool._backend import linux

PACKAGE = str(Path(pysandpool.__file__).parent)

pytestmark = pytest.mark.usefixtures("unfrozen")


class Struck(BaseException):
    """What a signal's handler might raise."""


class Strike:
    """Raises at the n-th instruction that Python runs for a call: in the library and in what uses it here.

    Not in `__del__`: what is raised there is printed and dropped by Python, whoever raises it.
    """

    def __init__(self, nth: int) -> None:
        self.left = nth

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith((PACKAGE, __file__)) or code.co_name in ("__del__", "_enter", "__call__"):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                raise Struck
        return self._step

    def __call__(self, function: Callable[[], None]) -> bool:
        """Whether it struck before the call was through."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            function()
        except Struck:
            return True
        finally:
            sys.settrace(before)
        return False


def strike_everywhere(function: Callable[[], None], check: Callable[[], None], step: int = 1) -> int:
    nth = 0
    while Strike(nth)(function):
        gc.collect(0)
        check()
        nth += step
    check()
    return nth


def hold_and_drop(pool: SandboxPool) -> None:
    lease = pool.acquire()
    del lease


def enter_and_leave(pool: SandboxPool) -> None:
    with pool.acquire():
        pass


def acquire_and_release(pool: SandboxPool) -> None:
    pool.acquire().release()


USES = [hold_and_drop, enter_and_leave, acquire_and_release]


def still_out(lease: PooledSandbox) -> bool:
    return not lease.released and lease.pid > 0


@pytest.mark.parametrize("use_pool", USES)
def test_hits(launcher: FakeLauncher, use_pool: Callable[[SandboxPool], None]) -> None:
    pool = launcher.open(warm=3, max_size=4)
    kept = pool.acquire()  # the last lease that this thread got before: not to be taken for a lost one

    def check() -> None:
        stats = pool.stats()
        assert (stats.in_use_count, stats.idle_count, stats.created_count) == (1, 2, 3), stats
        assert still_out(kept)

    assert strike_everywhere(lambda: use_pool(pool), check) > 20


@pytest.mark.parametrize("use_pool", USES)
def test_misses(launcher: FakeLauncher, use_pool: Callable[[SandboxPool], None]) -> None:
    pool = launcher.open(max_size=4)
    kept = [pool.acquire()]

    def check() -> None:
        stats = pool.stats()
        assert stats.in_use_count == len(kept), stats
        assert_balanced(stats)
        assert all(still_out(lease) for lease in kept)
        while pool.idle_len():  # so that the next one is a miss, too
            kept.append(pool.acquire())

    assert strike_everywhere(lambda: use_pool(pool), check) > 100


def test_waits(launcher: FakeLauncher) -> None:
    pool = launcher.open(warm=1, max_size=2, max_in_use=1)
    kept = pool.acquire()

    def wait() -> None:
        with pytest.raises(AcquireTimeoutError):
            pool.acquire(timeout=0)

    def check() -> None:
        stats = pool.stats()
        assert (stats.waiting_count, stats.in_use_count, stats.created_count) == (0, 1, 1), stats
        assert still_out(kept)

    assert strike_everywhere(wait, check) > 50
    kept.release()
    pool.acquire(timeout=0).release()


def test_takeovers(launcher: FakeLauncher) -> None:
    """acquire waits for a sandbox that is being recycled."""
    pool = launcher.open(warm=1, max_size=1)

    def take_over() -> None:
        with pool.acquire() as lease:
            use(lease)  # its place is being recycled when the next one comes

    def check() -> None:
        assert_balanced(pool.stats())
        assert pool.stats().in_use_count == 0, pool.stats()
        wait_until(lambda: pool.idle_len() == 1, "one idle")
        use_again = pool.acquire()
        use(use_again)
        use_again.release()

    assert strike_everywhere(take_over, check) > 300


def fail(lease: PooledSandbox) -> None:
    with pytest.raises(pysandpool.CommandNotFoundError):
        lease.execute(["no-such-command"])


COMMANDS: dict[str, Callable[[PooledSandbox], Any]] = {
    "plain": lambda lease: lease.execute(["/bin/echo", "hello"]),
    "with everything": lambda lease: lease.execute(
        ["cat"], input=b"x" * 100_000, env={"A": "b", "LANG": None}, cwd="/tmp", timeout=10
    ),
    "hands output over": lambda lease: lease.execute(
        ["/bin/sh", "-c", "echo out; echo err >&2; sleep 0.005; echo out"], on_stdout=bytes.split, on_stderr=bytes.split
    ),
    "fails": fail,
    "times out": lambda lease: lease.execute(["/bin/sleep", "60"], timeout=0.001),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_execute(real_pool: OpenPool, command: str) -> None:
    pool = real_pool(warm=2, max_size=2, max_idle_duration=None)
    kept = pool.acquire()

    def run() -> None:
        with pool.acquire() as lease:
            COMMANDS[command](lease)

    def check() -> None:
        stats = pool.stats()
        assert stats.in_use_count == 1, stats
        assert_balanced(stats)

    # Each step is another instruction of the same thousand: a few hundred of them cover every line. A command that is
    # not found takes many more, because a hint is looked for.
    assert strike_everywhere(run, check, step=151 if command == "fails" else 3) > 300
    assert kept.execute(["/bin/echo", "still"]).stdout == b"still\n"
    pool.warm(2)
    wait_until(lambda: pool.stats().recycling_count == 0, "all recycled")


def test_a_lease_is_usable_after_an_interrupted_execute(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:

        def run() -> None:
            lease.execute(["/bin/true"])

        def check() -> None:
            assert lease.execute(["/bin/echo", "on"]).stdout == b"on\n"

        assert strike_everywhere(run, check, step=7) > 200


def test_nothing_is_left_of_what_was_struck() -> None:
    """Over whole pools, so that every fd, process and thread can be counted."""
    before = HostState()

    def live(pool: SandboxPool) -> None:
        with pool, pool.acquire() as lease:
            lease.execute(["/bin/true"])

    def struck(nth: int) -> bool:
        pool = SandboxPool()
        return Strike(nth)(lambda: live(pool))

    nth = 3
    while struck(nth):
        nth += 37
    before.assert_restored()
    assert nth > 500


def test_a_launcher_without_a_pool_leaves_no_zombie() -> None:
    """The host may be the reaper of its orphans: pid 1 of a container."""
    before = HostState()
    with SandboxPool(None, PoolConfig(min_size=0)) as pool:
        launcher = linux.open_zygote(pool.config, None, (b"", 0))
        # Where namespaces are refused, the reaper of that attempt is reaped by the next call.
        assert len(children() - before.children) in ({2, 3} if refusal() else {2})
        _ffi.lib.sp_launcher_unref(launcher)
        assert len(children() - before.children) == 1
    del pool
    before.assert_restored()


SIGNALS = """
import random, signal, sys, time
from waiting import wait_until
from pysandpool import PoolConfig, SandboxPool

class Struck(BaseException):
    pass

def handler(*_):
    raise Struck

signal.signal(signal.SIGALRM, handler)
sys.unraisablehook = lambda _: None  # in __del__ Python drops it
noise = random.Random(int(sys.argv[1]))
turns, commands = int(sys.argv[2]), sys.argv[3] == "execute"
struck = 0
with SandboxPool(None, PoolConfig(min_size=0, max_size=3, max_idle_duration=None)) as pool:
    pool.warm(3)
    kept = pool.acquire()
    for turn in range(turns):
        try:
            signal.setitimer(signal.ITIMER_REAL, noise.uniform(1e-6, 2e-3 if commands else 1e-4))
            try:
                while signal.getitimer(signal.ITIMER_REAL)[0]:
                    with pool.acquire() as lease:
                        if commands:
                            lease.execute(["/bin/true"])
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Struck:
            struck += 1
        lease = None
        stats = pool.stats()
        assert stats.in_use_count == 1, (turn, stats)
        assert stats.created_count - stats.evict_count == stats.idle_count + stats.in_use_count, stats
    assert kept.execute(["/bin/echo", "still"]).stdout == b"still\\n"
    kept.release()
    wait_until(lambda: pool.stats().recycling_count == 0, "all recycled")
assert struck > turns / 2, struck
print("in order")
"""


@pytest.mark.parametrize(("what", "turns"), [("acquire", 1000), ("execute", 300)])
def test_real_signals(what: str, turns: int) -> None:
    done = run_script(SIGNALS, "7", str(turns), what, timeout=120)
    assert (done.stdout, done.stderr) == ("in order\n", "")


FLOODS = {
    "stdout": (["yes"], None),
    "stderr": (["sh", "-c", "exec yes >&2"], None),
    "both": (["sh", "-c", "yes & exec yes >&2"], None),
    "input": (["sh", "-c", "exec cat > /dev/null"], 1 << 30),
    "input and output": (["cat"], 1 << 30),
    "nothing": (["sleep", "1000"], None),
}

INTERRUPTED = """
import json, math, os, signal, sys, threading, time
from pysandpool import PoolConfig, SandboxConfig, SandboxPool

command, size, way = json.loads(sys.argv[1])
data = None if size is None else bytes(size)
with SandboxPool(SandboxConfig(max_output_bytes=1000), PoolConfig(min_size=1)) as pool:
    with pool.acquire() as lease:
        for _ in range(3):
            if way == "timer":
                signal.signal(signal.SIGALRM, signal.default_int_handler)
                signal.setitimer(signal.ITIMER_REAL, 0.2)
            else:
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            began = time.monotonic()
            try:
                lease.execute(command, input=data, timeout=math.inf)
            except KeyboardInterrupt:
                # Kinder than the 100 ms that it takes at most: this machine may be busy. Else it would never end.
                assert time.monotonic() - began < 30, time.monotonic() - began
            else:
                raise AssertionError("it returned")
            assert lease.execute(["echo", "on"]).stdout == b"on\\n"
        assert pool.stats().in_use_count == 1
print("in order")
"""


@pytest.mark.parametrize("way", ["timer", "kill"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_signal_is_not_kept_waiting_by_streams_that_never_rest(flood: str, way: str) -> None:
    done = run_script(INTERRUPTED, json.dumps([*FLOODS[flood], way]), timeout=120)
    assert (done.stdout, done.stderr) == ("in order\n", "")


def test_a_signal_is_heard_while_a_dead_sandbox_is_replaced(launcher: FakeLauncher) -> None:
    """It died before its first command; another one is being made, and that may take 10 s."""

    def strike(*_: object) -> None:
        raise Struck

    pool = launcher.open(warm=1, max_size=2)
    lease = pool.acquire()
    assert launcher.kill(lease.pid)
    before = signal.signal(signal.SIGALRM, strike)
    try:
        with launcher.held():
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            began = time.monotonic()
            with pytest.raises(Struck):
                lease.execute(["/bin/true"])
            assert time.monotonic() - began < 9
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(SandboxLostError):
        lease.execute(["/bin/true"])
    lease.release()
    with pool.acquire() as lease:
        use(lease)
    wait_until(lambda: pool.stats().recycling_count == 0, "recycled")
    assert_balanced(pool.stats())
