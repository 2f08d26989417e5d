"""`lease.session()`: several pieces of code in one interpreter."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from code_pools import code_pool
from eyes import alive
from waiting import wait_until

from pysandpool import (
    CodeResult,
    CodeSession,
    PooledSandbox,
    PoolStateError,
    SandboxError,
    SandboxLostError,
    SandboxPool,
    SandboxReleasedError,
    SessionEndedError,
)


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with code_pool() as pool:
        yield pool


@pytest.fixture
def session(lease: PooledSandbox) -> Iterator[CodeSession]:
    with lease.session() as session:
        yield session


def test_cells_share_their_state(session: CodeSession) -> None:
    first = session.run("import sys\nx = [helper(1)]\nprint('out')\nprint('err', file=sys.stderr)")
    assert (first.stdout, first.stderr, first.text, first.ok) == ("out\n", "err\n", None, True)
    assert (first.exit_code, first.signal) == (None, None)
    assert session.run("x.append(3)\nx").text == "[2, 3]"
    assert session.run("_").text == "[2, 3]"


def test_cells_may_await_and_share_their_event_loop(session: CodeSession) -> None:
    assert session.run("import asyncio\nfrom asyncio import sleep").ok
    started = session.run("task = asyncio.create_task(sleep(0, 'done'))\nawait sleep(0)")
    assert started.ok, started.error
    assert session.run("await task").text == "'done'"
    assert session.run("await asyncio.sleep(60)", timeout=0.2).timed_out


def test_an_exception_does_not_end_it(session: CodeSession) -> None:
    session.run("def f():\n    return 1 / 0")
    failed = session.run("f()")
    assert failed.error is not None
    assert 'File "<cell 2>", line 1' in failed.error.traceback
    assert 'File "<cell 1>", line 2' in failed.error.traceback
    assert not failed.ok
    assert session.run("1").text == "1"


@pytest.mark.parametrize(
    ("code", "exit_code", "number"),
    [
        ("raise SystemExit(4)", 4, None),
        ("import os\nos._exit(5)", 5, None),
        ("import os\nos.kill(os.getpid(), 9)", None, 9),
        ("import os\nos.kill(os.getpid(), 11)", None, 11),
    ],
)
def test_a_cell_that_ends_its_process_ends_the_session_and_not_the_lease(
    lease: PooledSandbox, code: str, exit_code: int | None, number: int | None
) -> None:
    session = lease.session()
    found = session.run("print('last words', end='')\n" + code)
    assert (found.exit_code, found.signal, found.stdout) == (exit_code, number, "last words")
    assert not found.timed_out
    with pytest.raises(SessionEndedError, match="another one") as error:
        session.run("1")
    assert (error.value.exit_code, error.value.signal) == (exit_code, number)
    assert session.ended
    session.close()
    assert lease.run_code("1").text == "1"
    with lease.session() as other:
        assert other.run("2").text == "2"


def test_a_timeout_ends_the_session_and_keeps_the_output(lease: PooledSandbox) -> None:
    session = lease.session()
    found = session.run("print('so far', end='')\nwhile True: pass", timeout=0.2)
    assert (found.timed_out, found.signal, found.stdout, found.claimed.complete) == (True, 9, "so far", False)
    with pytest.raises(SessionEndedError, match="timeout"):
        session.run("1")
    assert lease.run_code("1").text == "1"


def test_a_session_that_died_between_two_cells(lease: PooledSandbox) -> None:
    session = lease.session()
    session.run("import os, threading, time\nthreading.Timer(0.2, lambda: os._exit(3)).start()")
    time.sleep(1)
    with pytest.raises(SessionEndedError, match="has ended") as error:
        session.run("1")
    assert error.value.exit_code == 3


def test_each_cell_has_its_input(session: CodeSession) -> None:
    assert session.run("input(), input()", input="a\nb\n").text == "('a', 'b')"
    assert session.run("input()", input=b"c\n").text == "'c'"
    assert session.run("import sys\nsys.stdin.read()").text == "''"
    big = "x" * 5_000_000
    assert session.run("len(sys.stdin.read())", input=big).text == "5000000"
    assert session.run("1", input="").text == "1"


@pytest.mark.namespaces("a private /tmp")
def test_env_and_cwd_hold_for_all_cells(lease: PooledSandbox) -> None:
    lease.mkdir("/tmp/here")
    with lease.session(env={"NAME": "value"}, cwd="/tmp/here") as session:
        for _ in range(2):
            assert session.run("import os\nos.environ['NAME'], os.getcwd()").text == "('value', '/tmp/here')"
    with pytest.raises(SandboxError, match="cwd"):
        lease.session(cwd="/nowhere")
    assert lease.run_code("1").text == "1"


def test_output_comes_while_the_cell_runs(session: CodeSession) -> None:
    came: list[tuple[str, float]] = []
    began = time.monotonic()

    def take(text: str) -> None:
        came.append((text, time.monotonic() - began))

    found = session.run("import time\nprint('ä')\ntime.sleep(0.5)\nprint('b', end='')\n7", on_stdout=take)
    assert "".join(text for text, _ in came) == found.stdout == "ä\nb"
    assert came[-1][1] - came[0][1] > 0.3
    assert found.text == "7"


@pytest.mark.parametrize("name", ["on_stdout", "on_stderr"])
def test_a_function_that_raises_ends_the_session(lease: PooledSandbox, name: str) -> None:
    def fail(text: str) -> None:
        raise LookupError(text)

    session = lease.session()
    with pytest.raises(LookupError, match="x"):
        session.run(f"import sys\nprint('x', file=sys.{name[3:]})\nwhile True: pass", **{name: fail})  # type: ignore[arg-type]
    with pytest.raises(SessionEndedError, match="interrupted"):
        session.run("1")
    assert lease.run_code("1").text == "1"


def test_a_function_cannot_use_its_session(session: CodeSession) -> None:
    with pytest.raises(SandboxError, match="cannot use the session"):
        session.run("print(1)", on_stdout=lambda text: session.run("2"))
    assert session.ended


def test_a_function_may_use_the_lease(lease: PooledSandbox, session: CodeSession) -> None:
    found: list[str] = []
    session.run("print(1)", on_stdout=lambda text: found.append(lease.execute(["/bin/echo", "2"], text=True).stdout))
    assert set(found) == {"2\n"}


def test_output_and_results_of_a_cell_are_bounded(session: CodeSession) -> None:
    found = session.run("print('x' * 500_000)\n'y' * 5000", max_output_bytes=1000)
    assert (found.stdout, found.stdout_truncated, found.text_truncated) == ("x" * 1000, True, True)
    assert not found.claimed.complete
    assert session.run("'y' * 2_000_000").text == repr("y" * 2_000_000)


def test_output_that_nobody_waits_for_belongs_to_the_next_cell(session: CodeSession) -> None:
    session.run("import threading, time\nthreading.Timer(0.1, lambda: print('late')).start()")
    assert session.run("time.sleep(0.5)").stdout == "late\n"


@pytest.mark.parametrize(
    ("code", "options", "error"),
    [
        (b"1", {}, TypeError),
        ("\0", {}, ValueError),
        ("\ud800", {}, ValueError),
        ("#" * (4 << 20) + "#", {}, ValueError),
        ("1", {"input": 3}, TypeError),
        ("1", {"timeout": "x"}, TypeError),
        ("1", {"timeout": -1}, ValueError),
        ("1", {"on_stdout": 3}, TypeError),
        ("1", {"max_output_bytes": -1}, ValueError),
        ("1", {"no_such_option": 1}, TypeError),
    ],
)
def test_a_wrong_argument_leaves_the_session_as_it_was(
    session: CodeSession, code: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    session.run("x = 1")
    with pytest.raises(error):
        session.run(code, **options)
    assert session.run("x").text == "1"


def test_a_large_cell(session: CodeSession) -> None:
    assert session.run("x = '" + "y" * 4_000_000 + "'\nlen(x)").text == "4000000"


def test_close_lets_the_interpreter_end(lease: PooledSandbox) -> None:
    session = lease.session()
    session.run("import atexit\natexit.register(lambda: open('ended', 'w').write('well'))")
    session.close()
    assert lease.read_file("ended") == b"well"
    session.close()
    with pytest.raises(SessionEndedError, match="closed"):
        session.run("1")
    with pytest.raises(SessionEndedError):
        session.__enter__()


def test_close_does_not_wait_for_ever(lease: PooledSandbox) -> None:
    session = lease.session()
    session.run("import atexit, time\natexit.register(lambda: (print('x' * 200_000), time.sleep(60)))")
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 10
    assert lease.run_code("1").text == "1"


def test_kill_from_another_thread(lease: PooledSandbox) -> None:
    session = lease.session()
    threading.Timer(0.3, session.kill).start()
    with pytest.raises(SessionEndedError, match="killed"):
        session.run("while True: pass", timeout=60)
    session.close()
    assert lease.run_code("1").text == "1"


def test_threads_take_turns(session: CodeSession) -> None:
    found: list[CodeResult] = []

    def work() -> None:
        found.append(session.run("n = globals().get('n', 0)\nimport time\ntime.sleep(0.02)\nn += 1\nn"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(one.text or 0) for one in found) == list(range(1, 9))


def test_a_release_ends_the_cell(pool: SandboxPool) -> None:
    lease = pool.acquire()
    session = lease.session()
    threading.Timer(0.3, lease.release).start()
    with pytest.raises(SandboxReleasedError):
        session.run("while True: pass", timeout=60)
    with pytest.raises(SandboxReleasedError):
        session.run("1")
    with pytest.raises(SandboxReleasedError):
        lease.session()


def test_a_closed_pool() -> None:
    with code_pool() as pool:
        lease = pool.acquire()
        session = lease.session()
    with pytest.raises(PoolStateError):
        session.run("1")
    with pytest.raises(PoolStateError):
        lease.session()


def test_sessions_commands_and_code_side_by_side(lease: PooledSandbox) -> None:
    sessions = [lease.session() for _ in range(4)]
    for n, one in enumerate(sessions):
        one.run(f"x = {n}")
    assert lease.execute(["/bin/echo", "beside"], text=True).stdout == "beside\n"
    assert lease.run_code("'x' in globals()").text == "False"
    assert [one.run("x").text for one in sessions] == ["0", "1", "2", "3"]
    for one in sessions:
        one.close()
    assert lease.execute(["/bin/echo", "after"], text=True).stdout == "after\n"


def test_too_many_sessions(lease: PooledSandbox) -> None:
    sessions: list[CodeSession] = []
    with pytest.raises(SandboxError):
        sessions.extend(lease.session() for _ in range(70))
    assert len(sessions) > 30
    sessions.pop().close()
    assert lease.session().run("1").text == "1"


def test_memory_of_a_cell_is_limited() -> None:
    with code_pool(config={"memory_limit_mb": 100}) as pool, pool.acquire() as lease:
        by_cgroup, init = lease.isolation.memory == "full", lease.pid
        session = lease.session()
        found = session.run("x = bytearray(400 << 20)\nimport time\ntime.sleep(5)")
        assert found.oom_killed
        assert session.ended
        if by_cgroup:  # it ends the sandbox as a whole, one process after another
            wait_until(lambda: not alive(init), "init is dead")
            with pytest.raises(SandboxLostError):
                lease.run_code("1")
        else:
            with pytest.raises(SessionEndedError, match="memory limit"):
                session.run("1")
            assert lease.run_code("1").text == "1"


def test_nothing_is_left_open(pool: SandboxPool, lease: PooledSandbox) -> None:
    with lease.session() as session:
        session.run("1")
    gc.collect()
    assert pool.settle(30)
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with lease.session() as session:
            session.run("1", input="x")
        forgotten = lease.session()
        forgotten.run("1")
        del forgotten
        killed = lease.session()
        killed.kill()
        killed.close()
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before


def test_ctrl_c_ends_the_session_and_leaves_the_lease_in_order(lease: PooledSandbox) -> None:
    session = lease.session()
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        session.run("while True: pass", timeout=60)
    timer.join()
    with pytest.raises(SessionEndedError):
        session.run("1")
    assert lease.run_code("1").text == "1"


def test_it_can_be_neither_copied_nor_pickled(session: CodeSession) -> None:
    with pytest.raises(TypeError, match="branch"):
        session.__reduce__()
    assert repr(session) == f"<CodeSession pid={session.pid} running>"
