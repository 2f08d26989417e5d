"""Code that expects of its interpreter what programs find in one: signals, exits, standard streams, source files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from code_pools import code_pool

from pysandpool import CodeSession, PooledSandbox, SandboxCreateError, SandboxError, SandboxPool


@pytest.fixture(scope="module", params=["fork", "exec"])
def pool(request: pytest.FixtureRequest) -> Iterator[SandboxPool]:
    with code_pool(start=request.param) as pool:
        yield pool


@pytest.fixture(scope="module")
def copies() -> Iterator[SandboxPool]:
    with code_pool() as pool:
        yield pool


@pytest.fixture
def session(copies: SandboxPool) -> Iterator[CodeSession]:
    with copies.acquire() as lease, lease.session() as session:
        yield session


INTERRUPT = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)"


def test_sigint_raises_keyboard_interrupt(lease: PooledSandbox) -> None:
    found = lease.run_code(INTERRUPT)
    assert found.error is not None
    assert (found.error.name, found.exit_code, found.signal) == ("KeyboardInterrupt", 1, None)


def test_sigint_raises_keyboard_interrupt_in_a_cell_and_in_a_branch(session: CodeSession) -> None:
    for one in (session, *session.branch()):
        found = one.run(INTERRUPT)
        assert found.error is not None
        assert found.error.name == "KeyboardInterrupt"
        assert one.run("1").text == "1"


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_a_handler_of_the_setup_is_kept(start: str) -> None:
    setup = (
        "import signal\nfor n in (signal.SIGINT, signal.SIGUSR1):\n    signal.signal(n, lambda *args: print(args[0]))"
    )
    raised = "import os\nos.kill(os.getpid(), signal.SIGINT)\nos.kill(os.getpid(), signal.SIGUSR1)"
    with code_pool(setup=setup, start=start) as pool:
        assert pool.run_code(raised).stdout == "2\n10\n"


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_what_the_setup_logs_to_reaches_the_streams_of_the_code(start: str) -> None:
    setup = (
        "import faulthandler, logging, sys\nout = sys.stdout\nlogging.basicConfig(level=logging.INFO)\n"
        "faulthandler.enable()\nlogging.info('of the setup')"
    )
    with code_pool(setup=setup, start=start) as pool:
        found = pool.run_code("logging.info('told')\nprint('printed', file=out)\nout.flush()\nout.isatty()")
        assert (found.stdout, found.stderr, found.text) == ("printed\n", "INFO:root:told\n", "False")
        assert "Segmentation fault" in pool.run_code("faulthandler._sigsegv()").stderr


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("raise SystemExit(2 ** 70)", 255),
        ("raise SystemExit(-1)", 255),
        ("class Own(SystemExit):\n    code = property(lambda self: 1 / 0)\nraise Own(4)", 1),
        ("class Exits:\n    def __repr__(self): raise SystemExit(4)\nExits()", 4),
        ("class Exits:\n    def _repr_html_(self): raise SystemExit(4)\nExits()", 4),
    ],
)
def test_exits(lease: PooledSandbox, code: str, exit_code: int) -> None:
    found = lease.run_code(code)
    assert (found.exit_code, found.error, found.stderr, found.claimed.complete) == (exit_code, None, "", True)


def test_an_exit_while_a_value_is_shown_ends_the_session(session: CodeSession) -> None:
    found = session.run("class Exits:\n    def __repr__(self): raise SystemExit(4)\nExits()")
    assert (found.exit_code, found.error) == (4, None)
    assert session.ended


@pytest.mark.parametrize("code", ["10 ** 5000", "class Bad:\n    def __repr__(self): return 5\nBad()"])
def test_the_traceback_of_what_cannot_be_shown_has_no_foreign_lines(lease: PooledSandbox, code: str) -> None:
    error = lease.run_code(code).error
    assert error is not None
    assert "sandpool" not in error.traceback
    assert error.traceback.endswith(f"{error.name}: {error.value}\n")


def test_a_byte_order_mark_is_no_part_of_the_code(lease: PooledSandbox) -> None:
    assert lease.run_code("\ufeff'first'").text == "'first'"


def test_the_standard_streams_have_their_modes(lease: PooledSandbox) -> None:
    found = lease.run_code("import sys\nsys.stdin.mode, sys.stdout.mode, sys.stderr.mode")
    assert found.text == "('r', 'w', 'w')"


def test_a_session_goes_on_without_its_standard_streams(session: CodeSession) -> None:
    session.run("import os, sys\nfor fd in range(3):\n    os.close(fd)")
    assert session.run("input()", input="one\n").text == "'one'"
    assert session.run("sys.stdin.read()").text == "''"
    (copy,) = session.branch()
    found = copy.run(
        "import subprocess\nprint('out')\nsubprocess.call(['sh', '-c', 'cat; echo err >&2'])", input="in\n"
    )
    assert (found.stdout, found.stderr, found.text) == ("out\nin\n", "err\n", "0")


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_an_after_fork_that_fails_in_a_used_lease_is_told_in_place_of_the_code(start: str) -> None:
    after_fork = "import os\nif os.path.exists('used'):\n    raise OSError('not again')"
    with code_pool(after_fork=after_fork, start=start) as pool, pool.acquire() as lease:
        assert lease.run_code("open('used', 'w').close()").ok
        for _ in range(2):
            found = lease.run_code("print('it runs')")
            assert (found.stdout, found.exit_code, found.claimed.complete) == ("", 1, True)
            assert found.error is not None
            assert (found.error.name, found.error.value) == ("OSError", "not again")
            assert "    raise OSError('not again')\n" in found.error.traceback
        if start == "fork":
            with pytest.raises(SandboxError, match="not again"):
                lease.session()
        assert lease.execute(["rm", "used"]).ok
        assert lease.run_code("print('it runs')").stdout == "it runs\n"


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_the_setup_has_no_input_and_its_output_is_not_that_of_the_code(start: str) -> None:
    setup = "import os, sys\nfound = sys.stdin.read(), os.read(0, 1)\nos.system('echo of the setup')\nprint('setup')"
    with code_pool(setup=setup, start=start) as pool, pool.acquire() as lease:
        for _ in range(2):
            ran = lease.run_code("print(input())\nfound", input="of the code\n")
            assert (ran.stdout, ran.text) == ("of the code\n", "('', b'')")


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_a_setup_that_fails_after_much_output_is_explained(start: str) -> None:
    with pytest.raises(SandboxCreateError, match="ZeroDivisionError") as caught:
        code_pool(setup="print('x' * 200_000)\n1 / 0", start=start)
    assert caught.value.stage == "preload"
    assert caught.value.traceback.endswith("ZeroDivisionError: division by zero")
