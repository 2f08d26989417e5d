"""`logging` under "pysandpool": what is logged, when, by whom; and that it disturbs nobody."""

from __future__ import annotations

import _thread
import errno
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from eyes import thread_count, zygote_of
from fake import FakeLauncher
from log_records import Records
from pools import OpenPool, use, wait_idle
from scripts import run_script
from waiting import Call, wait_until

from pysandpool import SandboxCreateError, SandboxLostError, SandboxPool
from pysandpool._pool.log import log

Readers = Callable[[], list[threading.Thread]]


@pytest.fixture
def readers() -> Readers:
    """The log's threads, without that of pools which other tests keep open."""
    before = set(threading.enumerate())
    log.forget()

    def those_of_this_test() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "pysandpool-log" and thread not in before]

    return those_of_this_test


def test_death(real_pool: OpenPool, records: Records) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        pid = lease.pid
    os.kill(pid, signal.SIGKILL)

    def deaths() -> list[Any]:
        return [record for record in records.of("evicted", pool) if record.reason == "death"]

    wait_until(deaths, "it is logged")
    record = deaths()[0]
    assert (record.levelno, record.pid, record.count) == (logging.WARNING, pid, 1)
    assert record.getMessage() == f"pool {record.pool} evicted a sandbox with pid {pid}: death"
    assert f"pool={record.pool} " in repr(pool)


def test_lost(real_pool: OpenPool, records: Records) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        use(lease)
        pid = lease.pid
        running = Call(lease.execute, ["/bin/sleep", "60"])
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(SandboxLostError):
            running.result()
    record = records.wait("lost")
    assert (record.levelno, record.pid) == (logging.WARNING, pid)


def test_evictions_of_every_day(launcher: FakeLauncher, records: Records) -> None:
    with launcher.open(warm=1, max_size=1) as pool:
        for lease in [pool.acquire() for _ in range(2)]:
            lease.release()
        records.wait("evicted", 1)
    with FakeLauncher() as other, other.open(warm=1, max_size=1, max_idle_duration=0.05):
        records.wait("evicted", 2)
    assert {(record.reason, record.levelno) for record in records.found} == {
        ("capacity", logging.DEBUG),
        ("age", logging.DEBUG),
    }


def test_health_check(launcher: FakeLauncher, records: Records) -> None:
    with launcher.open(warm=0, max_size=1, health_check_interval=1) as pool:
        launcher.health(1)
        with pool.acquire() as lease:
            use(lease)
        record = records.wait("evicted")
    assert (record.levelno, record.reason) == (logging.WARNING, "health_check")
    assert record.getMessage().endswith("health check")


def test_failed_creation_has_its_address(launcher: FakeLauncher, records: Records) -> None:
    with launcher.open(warm=0, max_size=1) as pool:
        launcher.fail(stage="scratch", err=errno.ENOSPC)
        with pytest.raises(SandboxCreateError) as raised:
            pool.acquire()
        record = records.wait("create_failed")
    assert (record.levelno, record.reason, record.errno) == (logging.WARNING, "scratch", errno.ENOSPC)
    assert str(raised.value) in record.getMessage()


def test_a_starved_machine_is_not_flooded(launcher: FakeLauncher, records: Records) -> None:
    with launcher.open(warm=0, max_size=1) as pool:
        launcher.fail(500, stage="clone", err=errno.EAGAIN)
        for _ in range(500):
            with pytest.raises(SandboxCreateError):
                pool.acquire()
        records.wait("create_failed", 500)
    lines = records.of("create_failed")
    assert len(lines) < 50, "one line for all of a second"
    assert sum(line.count for line in lines) == 500 == sum(line.count for line in records.found)
    assert f"({lines[-1].count} times)" in lines[-1].getMessage() or lines[-1].count == 1


def test_leases_still_out_at_close(open_pool: OpenPool, records: Records) -> None:
    pool = open_pool(warm=1)
    leases = [pool.acquire() for _ in range(3)]
    pool.close()
    assert records.wait("leases_killed").count == len(leases)
    assert records.of("leases_killed")[0].levelno == logging.WARNING


def test_what_fails_because_of_close_is_no_trouble(launcher: FakeLauncher, records: Records, readers: Readers) -> None:
    with launcher.open(warm=1, max_size=4) as pool:
        with launcher.held():
            waiting = Call(pool.warm, 4)
            wait_until(lambda: pool.stats().starting_count == 3, "it creates")
            pool.close()
        with pytest.raises(Exception, match="closed"):
            waiting.result()
    wait_until(lambda: not readers(), "the end of the log")
    assert records.found == []


def switches(thread: threading.Thread) -> int:
    with open(f"/proc/self/task/{thread.native_id}/status") as status:
        return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)


def asleep(thread: threading.Thread) -> bool:
    with open(f"/proc/self/task/{thread.native_id}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def test_nothing_is_done_when_nothing_happens(launcher: FakeLauncher, records: Records, readers: Readers) -> None:
    with launcher.open(warm=2, max_size=4) as pool:
        (reader,) = readers()
        wait_until(lambda: asleep(reader), "it sleeps")
        before = switches(reader)
        for _ in range(2_000):
            pool.acquire().release()
        for _ in range(20):
            with pool.acquire() as lease:
                use(lease)
            wait_idle(pool, 2)
        assert switches(reader) == before
    assert records.found == []


def test_the_thread_comes_and_goes_with_the_pools(launcher: FakeLauncher, readers: Readers) -> None:
    before = thread_count()
    for _ in range(3):
        with FakeLauncher() as other, launcher.open(warm=0), other.open(warm=0):
            (reader,) = readers()
            assert reader.daemon
        wait_until(lambda: not readers(), "no thread any more")
        launcher = FakeLauncher()
        launcher.close()
        launcher = FakeLauncher()
    wait_until(lambda: thread_count() <= before, "no thread is left")
    launcher.close()


def test_a_failed_constructor_leaves_no_thread(launcher: FakeLauncher, readers: Readers) -> None:
    launcher.fail()
    with pytest.raises(SandboxCreateError):
        launcher.open(min_size=1)
    wait_until(lambda: not readers(), "no thread any more")


def test_a_handler_that_raises_ends_nothing(
    launcher: FakeLauncher, records: Records, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: logging.LogRecord) -> None:
        raise SystemExit("from the handler")

    records.then = fail
    with launcher.open(warm=0, max_size=1) as pool:
        for stage in ("clone", "scratch"):
            launcher.fail(stage=stage)
            with pytest.raises(SandboxCreateError):
                pool.acquire()
        records.wait("create_failed", 2)
    assert "from the handler" in capfd.readouterr().err


@pytest.mark.parametrize("closes", [False, True])
def test_a_handler_may_use_the_pool(launcher: FakeLauncher, records: Records, closes: bool) -> None:
    with launcher.open(warm=0, max_size=2, max_in_use=2) as pool:
        seen: list[str] = []

        def use_the_pool(record: logging.LogRecord) -> None:
            seen.append(repr(pool))
            if not pool.closed:
                with pool.acquire() as lease:
                    use(lease)
                assert pool.stats().in_use_count == 0
                pool.warm(2)
            if closes:
                pool.close()
            seen.append(record.getMessage())

        records.then = use_the_pool
        launcher.fail()
        with pytest.raises(SandboxCreateError):
            pool.acquire()
        wait_until(lambda: len(seen) == 2, "the handler came to its end")


def test_a_handler_may_hang(launcher: FakeLauncher, records: Records) -> None:
    """The queue is bounded, and nobody waits for it."""
    enough = threading.Event()
    records.then = lambda _: enough.wait(20) and None  # type: ignore[func-returns-value]
    with launcher.open(warm=0, max_size=1) as pool:
        for number in range(200):
            launcher.fail(err=number + 1)
            with pytest.raises(SandboxCreateError):
                pool.acquire()
        enough.set()
        records.wait("dropped")
        records.wait("create_failed", 200 - records.of("dropped")[0].count)
    lines = records.of("create_failed")
    assert sum(line.count for line in lines) + records.of("dropped")[0].count == 200


def test_without_threads_calls_drain(
    launcher: FakeLauncher, records: Records, monkeypatch: pytest.MonkeyPatch, readers: Readers
) -> None:
    """As under gevent: a greenlet that sleeps in C would stop all others."""
    monkeypatch.setattr(_thread, "start_new_thread", lambda *_: pytest.fail("a thread was started"))
    with launcher.open(warm=0, max_size=1) as pool:
        assert not readers()
        launcher.fail()
        with pytest.raises(SandboxCreateError):
            pool.acquire()
        assert records.found == []
        pool.stats()
        assert len(records.of("create_failed")) == 1
        lease = pool.acquire()
    assert lease.released or len(records.of("leases_killed")) == 1
    log.drain()
    assert len(records.found) == 2


AT_EXIT = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(event)s", stream=sys.stdout)
from pysandpool import PoolConfig, SandboxPool
pool = SandboxPool(None, PoolConfig(min_size=1))
lease = pool.acquire()
"""


def test_what_happens_at_exit_is_logged() -> None:
    done = run_script(AT_EXIT)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("WARNING leases_killed", "", 0)


def test_a_handler_that_hangs_does_not_stop_the_exit() -> None:
    done = run_script(
        AT_EXIT + "import time\nlogging.getLogger('pysandpool').addFilter(lambda record: time.sleep(1000))", timeout=20
    )
    assert (done.stderr, done.returncode) == ("", 0)


AFTER_FORK = """
import logging, os, sys, threading, time
logging.basicConfig(level=logging.WARNING, format="%(process)d %(event)s", stream=sys.stdout)
from fake import FakeLauncher
from pysandpool import SandboxCreateError

def trouble():
    with FakeLauncher() as launcher, launcher.open(warm=0) as pool:
        launcher.fail()
        try:
            pool.acquire()
        except SandboxCreateError:
            pass
        # That of a pool that was closed may take a moment to end.
        readers = [thread for thread in threading.enumerate() if thread.name == "pysandpool-log"]
    for reader in readers:
        reader.join(50)
    print("over", not readers or any(reader.is_alive() for reader in readers), flush=True)

with FakeLauncher() as launcher, launcher.open(warm=1):
    child = os.fork()
    if child == 0:
        trouble()
        os._exit(0)
    _, status = os.waitpid(child, 0)
print("child", status)
trouble()
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_its_own() -> None:
    done = run_script(AFTER_FORK)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1] for line in lines] == ["create_failed", "False", "0", "create_failed", "False"], done
    assert lines[0][0] != lines[3][0]


def test_silence_is_the_default() -> None:
    """A library says nothing on stderr by itself."""
    done = run_script("from pysandpool import SandboxPool\npool = SandboxPool()\nlease = pool.acquire()")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_signals_do_not_come_to_the_thread(open_pool: OpenPool, readers: Readers) -> None:
    pool = open_pool(warm=0)
    (reader,) = readers()
    assert isinstance(pool, SandboxPool)

    def blocked() -> int:
        with open(f"/proc/self/task/{reader.native_id}/status") as status:
            return next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM):
        wait_until(lambda number=number: blocked() >> (number - 1) & 1, f"{number} is blocked")  # type: ignore[misc]


def test_zygote_restart(real_pool: OpenPool, records: Records) -> None:
    pool = real_pool(min_size=2)
    with pool.acquire() as lease:
        zygote = zygote_of(lease)
    os.kill(zygote, signal.SIGKILL)
    record = records.wait("zygote_restarted")
    assert (record.levelno, record.count) == (logging.WARNING, 1)
    assert record.pid not in (None, zygote)
    assert f"started another with pid {record.pid}" in record.getMessage()
    assert f"zygote={record.pid}>" in repr(pool)
    records.wait("evicted")
    assert {line.reason for line in records.of("evicted")} == {"zygote_lost"}
    evictions = pool.stats().evictions
    assert evictions.zygote_lost == evictions.total > 0
