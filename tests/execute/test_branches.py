"""`session.branch()`: copies of a running interpreter in the same sandbox."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from code_pools import code_pool
from eyes import children
from waiting import wait_until

from pysandpool import (
    CodeSession,
    PooledSandbox,
    SandboxError,
    SandboxLostError,
    SandboxPool,
    SandboxReleasedError,
    SessionEndedError,
)
from pysandpool._code import birth


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with code_pool(after_fork="forks = globals().get('forks', 0) + 1") as pool:
        yield pool


@pytest.fixture
def session(lease: PooledSandbox) -> Iterator[CodeSession]:
    with lease.session() as session:
        session.run("x = 1\nvalues = []")
        yield session


def test_each_copy_awaits_on_an_event_loop_of_its_own(session: CodeSession) -> None:
    session.run("import asyncio\nawait asyncio.sleep(0)")
    work = "await asyncio.to_thread(lambda: x)"  # its end wakes the loop from another thread
    for one in (session, *session.branch(2), session):
        assert one.run(work, timeout=20).text == "1"


def processes_in(lease: PooledSandbox) -> int:
    return len(children(lease.pid))


def test_copies_go_on_from_the_same_state_each_for_itself(session: CodeSession) -> None:
    copies = session.branch(3)
    for n, copy in enumerate(copies):
        assert copy.run(f"x += 1\nvalues.append({n})\nprint('copy', {n})\nx, values").stdout == f"copy {n}\n"
    assert [copy.run("x, values").text for copy in copies] == ["(2, [0])", "(2, [1])", "(2, [2])"]
    assert session.run("x, values").text == "(1, [])"
    assert len({session.pid, *(copy.pid for copy in copies)}) == 4
    for copy in copies:
        copy.close()


def test_a_copy_of_a_copy(session: CodeSession) -> None:
    (one,) = session.branch()
    one.run("x = 'one'")
    (two,) = one.branch()
    session.close()
    one.close()
    assert two.run("x").text == "'one'"
    assert two.run("forks").text == "3"
    two.close()


def test_what_must_differ_is_renewed(session: CodeSession) -> None:
    session.run("import random, uuid\nrandom.seed(1)")
    copies = session.branch(2)
    found = {one.run("random.random(), uuid.uuid4()").text for one in (session, *copies)}
    assert len(found) == 3
    assert [one.run("forks").text for one in (session, *copies)] == ["1", "2", "2"]


def test_a_copy_is_a_child_of_init(lease: PooledSandbox, session: CodeSession) -> None:
    """So init reports its end, whatever has become of the session."""
    (copy,) = session.branch()
    assert copy.pid in children(lease.pid)


@pytest.mark.parametrize(
    ("code", "exit_code", "number"),
    [
        ("raise SystemExit(4)", 4, None),
        ("import os\nos._exit(5)", 5, None),
        ("import os\nos.kill(os.getpid(), 9)", None, 9),
    ],
)
def test_the_end_of_a_copy_is_its_own_and_is_known_to_init(
    session: CodeSession, code: str, exit_code: int | None, number: int | None
) -> None:
    first, second = session.branch(2)
    found = first.run(code)
    assert (found.exit_code, found.signal) == (exit_code, number)
    with pytest.raises(SessionEndedError):
        first.run("1")
    assert second.run("x").text == session.run("x").text == "1"
    second.close()


def test_copies_are_killed_one_by_one(lease: PooledSandbox, session: CodeSession) -> None:
    copies = session.branch(3)
    late = copies[0].run("while True: pass", timeout=0.2)
    assert late.timed_out
    copies[1].kill()
    with pytest.raises(SessionEndedError):
        copies[1].run("1")
    assert copies[2].run("x").text == "1"
    deadline = time.monotonic() + 5
    while processes_in(lease) > 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_in(lease) == 2
    for copy in copies:
        copy.close()


def test_files_are_shared(session: CodeSession) -> None:
    (copy,) = session.branch()
    copy.run("open('file', 'w').write('of the copy')")
    assert session.run("open('file').read()").text == "'of the copy'"
    copy.close()


def test_input_and_output_of_each(session: CodeSession) -> None:
    session.run("print('before', end='')", input="not for the copy")
    (copy,) = session.branch()
    assert copy.run("import sys\nsys.stdin.read()").text == "''"
    assert copy.run("input()", input="mine\n").text == "'mine'"
    pieces: list[str] = []
    copy.run("print('piece')\nprint('err', file=sys.stderr)", on_stdout=pieces.append)
    assert "".join(pieces) == "piece\n"
    assert session.run("print('session')").stdout == "session\n"
    copy.close()


def test_commands_run_beside_copies(lease: PooledSandbox, session: CodeSession) -> None:
    copies = session.branch(2)
    assert lease.execute(["/bin/echo", "command"], text=True).stdout == "command\n"
    assert lease.run_code("'code'").text == "'code'"
    assert [copy.run("x").text for copy in copies] == ["1", "1"]


def test_the_lease_ends_all_of_them(pool: SandboxPool) -> None:
    lease = pool.acquire()
    session = lease.session()
    copies = session.branch(2)
    lease.release()
    for one in (session, *copies):
        with pytest.raises(SandboxReleasedError):
            one.run("1")
        with pytest.raises(SandboxReleasedError):
            one.branch()


@pytest.mark.parametrize("n", [0, -1, 65])
def test_a_number_outside_of_its_range(session: CodeSession, n: int) -> None:
    with pytest.raises(ValueError, match="an int, 1"):
        session.branch(n)
    with pytest.raises(TypeError):
        session.branch(1.5)  # type: ignore[arg-type]
    assert session.run("x").text == "1"


def test_too_many_copies_leave_none_and_the_session_goes_on(
    session: CodeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pysandpool._code.branch._SECONDS", 120)  # of a busy or emulated machine
    copies = session.branch(40)
    with pytest.raises(SandboxError):
        session.branch(40)
    assert session.run("x").text == "1"
    assert [copy.run("x").text for copy in copies] == ["1"] * 40
    for copy in copies:
        copy.kill()
        copy.close()
    made: list[CodeSession] = []

    def has_room() -> bool:
        with contextlib.suppress(SandboxError):
            made.extend(session.branch())
        return made != []

    wait_until(has_room, "the killed copies have ended", 60)
    assert made[0].run("x").text == "1"


def test_without_a_right_to_fork_the_error_says_so() -> None:
    with code_pool(config={"allow_fork": False}) as pool, pool.acquire() as lease, lease.session() as session:
        session.run("x = 1")
        with pytest.raises(SandboxError, match="could not be copied"):
            session.branch()
        assert session.run("x").text == "1"


def test_a_failing_after_fork_ends_the_copy(pool: SandboxPool) -> None:
    """It must not run on with what its siblings have."""
    with code_pool(after_fork="import os\nif os.path.exists('fail'): 1 / 0") as other:
        with other.acquire() as lease, lease.session() as session:
            (good,) = session.branch()
            assert good.run("1").text == "1"
            session.run("open('fail', 'w')")
            try:
                (bad,) = session.branch()
                found = bad.run("'ran'")
            except (SessionEndedError, SandboxError):
                return
            assert found.text is None
            assert found.exit_code == 1


def test_threads_of_the_code_do_not_disturb(session: CodeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysandpool._code.branch._SECONDS", 120)
    session.run(
        "import threading, time\nstop = False\n"
        "def churn():\n    while not stop:\n        [bytearray(1000) for _ in range(100)]\n"
        "threads = [threading.Thread(target=churn, daemon=True) for _ in range(3)]\nfor t in threads: t.start()"
    )
    for _ in range(10):
        (copy,) = session.branch()
        assert copy.run("threading.active_count(), x").text == "(1, 1)"
        copy.close()
    session.run("stop = True")


def test_threads_of_the_host_take_turns(session: CodeSession) -> None:
    found: list[str | None] = []

    def work() -> None:
        for copy in session.branch(2):
            found.append(copy.run("x").text)
            copy.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["1"] * 8


def test_nothing_is_left_open(pool: SandboxPool, lease: PooledSandbox, session: CodeSession) -> None:
    gc.collect()
    assert pool.settle(30)
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        copies = session.branch(2)
        copies[0].run("1")
        copies[0].close()
        copies[1].kill()
        copies[1].close()
    forgotten = session.branch(2)
    del forgotten, copies
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
    deadline = time.monotonic() + 5
    while processes_in(lease) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_in(lease) == 1


# ---- a session that attacks ----

# The code finds the object that serves its session, and changes how it answers.
FIND = """
import gc, os, socket, sys
server = next(o for o in gc.get_objects() if type(o).__name__ == 'Session' and hasattr(o, '_branch'))
"""


@pytest.mark.parametrize(
    "answer",
    [
        "pass",  # nothing, and all descriptors stay open
        "[os.close(one) for one in descriptors]",
        "os.write(server._told._fd, b'nonsense\\n'); [os.close(one) for one in descriptors]",
        "os.write(server._told._fd, b'x' * 100000)",
        'os.write(server._told._fd, b\'{"t":"done","dropped":false,"errno":99999}\\n\')',
        "os.write(descriptors[3], b'A')",  # the session itself claims to be the copy
        "os._exit(3)",
        "os.kill(os.getpid(), 9)",
    ],
)
def test_a_session_that_does_not_answer_as_it_should(
    lease: PooledSandbox, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("pysandpool._code.branch._SECONDS", 1.5)
    session = lease.session()
    session.run(f"{FIND}\ndef attack(descriptors):\n    {answer}\nserver._branch = attack")
    began = time.monotonic()
    with pytest.raises(SandboxError):
        session.branch(2)
    assert time.monotonic() - began < 20
    assert lease.run_code("1").text == "1"
    with lease.session() as other:
        (copy,) = other.branch()
        assert copy.run("2").text == "2"


def test_a_session_cannot_pass_a_process_off_as_its_copy_that_is_not_init_s_child(
    lease: PooledSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child of the session itself is none of init's: init could not tell how it ends."""
    monkeypatch.setattr("pysandpool._code.branch._SECONDS", 1.5)
    session = lease.session()
    session.run(
        f"{FIND}\nimport time\ndef attack(descriptors):\n    if os.fork() == 0:\n"
        "        os.write(descriptors[3], b'A')\n        time.sleep(60)\n        os._exit(0)\nserver._branch = attack"
    )
    with pytest.raises(SandboxError):
        session.branch()
    assert lease.run_code("1").text == "1"


def test_a_session_cannot_name_the_same_process_twice(lease: PooledSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysandpool._code.branch._SECONDS", 1.5)
    session, victim = lease.session(), lease.session()
    pid = int(victim.run("import os\nos.getpid()").text or 0)
    assert pid > 1
    # What the other session holds can be taken by a process of the same sandbox, and so the byte can come from it.
    victim.run("import socket, threading, os\nserver_path = '/tmp/socket'")
    session.run(f"{FIND}\ndef attack(descriptors):\n    os.write(descriptors[3], b'A')\nserver._branch = attack")
    with pytest.raises(SandboxError):
        session.branch()
    assert victim.run("1").text == "1"


def test_a_copy_cannot_forge_how_it_ends(session: CodeSession) -> None:
    """Only init holds the socket over which the end is reported: a copy finds nothing but its channel."""
    (copy,) = session.branch()
    found = copy.run(
        "import os, stat\nsockets = []\nfor fd in range(os.sysconf('SC_OPEN_MAX')):\n    try:\n"
        "        sockets += [fd] if stat.S_ISSOCK(os.fstat(fd).st_mode) else []\n"
        "    except OSError:\n        pass\nlen(sockets)"
    )
    assert found.text == "1"
    assert copy.run("os._exit(6)").exit_code == 6


def test_a_sandbox_that_dies_while_copies_are_made(lease: PooledSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is the first to be missed, but it is not only the copy that has ended."""
    hear = birth.Birth._hear

    def hear_late(self: birth.Birth, poll: select.epoll) -> None:
        if not session.ended and os.path.exists(f"/proc/{session.pid}"):
            os.kill(lease.pid, signal.SIGKILL)
            wait_until(lambda: not os.path.exists(f"/proc/{session.pid}"), "all have ended")
        hear(self, poll)

    session = lease.session()
    session.run("x = 1")
    monkeypatch.setattr(birth.Birth, "_hear", hear_late)
    with pytest.raises((SandboxLostError, SessionEndedError)):
        session.branch()
    assert session.ended
    with pytest.raises(SandboxLostError):
        lease.run_code("1")


def test_an_init_that_ends_long_after_the_copy_is_waited_for(lease: PooledSandbox) -> None:
    """Under load, whoever ends a sandbox may need long for its next process. Then init answers nothing more."""
    session = lease.session()
    attack = "[os.close(one) for one in descriptors]"
    session.run(f"{FIND}\ndef attack(descriptors):\n    {attack}\nserver._branch = attack")
    os.kill(lease.pid, signal.SIGSTOP)
    end = threading.Timer(1, os.kill, (lease.pid, signal.SIGKILL))
    end.start()
    with pytest.raises((SandboxLostError, SessionEndedError)):
        session.branch()
    end.join()
    assert session.ended


def test_a_cell_of_a_branch_does_not_hide_the_lines_of_its_origin(pool: SandboxPool) -> None:
    with pool.acquire() as lease, lease.session() as session:
        session.run("def f(n):\n    return 1 / n  # of the origin\n")
        [branch] = session.branch()
        branch.run("'some'\n'other lines'")
        [inner] = branch.branch()
        for one in (branch, inner, session):
            error = one.run("f(0)").error
            assert error is not None
            assert 'File "<cell 1>", line 2, in f\n    return 1 / n  # of the origin\n' in error.traceback
