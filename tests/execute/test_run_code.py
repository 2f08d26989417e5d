"""`run_code`: one piece of code in a fresh copy of the interpreter."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from code_pools import code_pool

from pysandpool import (
    CodeFailedError,
    CodeResult,
    Interpreter,
    PooledSandbox,
    PoolStateError,
    Sandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxError,
    SandboxPool,
    SandboxReleasedError,
)


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with code_pool() as pool:
        yield pool


def test_value_output_error_and_exit_code(lease: PooledSandbox) -> None:
    found = lease.run_code("import sys\nprint('out')\nprint('err', file=sys.stderr)\nhelper(21)")
    assert (found.text, found.stdout, found.stderr, found.exit_code, found.ok) == ("42", "out\n", "err\n", 0, True)
    assert found.check() is found
    failed = lease.run_code("def f():\n    return 1 / 0\nf()")
    assert (failed.exit_code, failed.signal, failed.ok, failed.text) == (1, None, False, None)
    assert failed.error is not None
    assert (failed.error.name, failed.error.value) == ("ZeroDivisionError", "division by zero")
    assert "    return 1 / 0" in failed.error.traceback
    with pytest.raises(CodeFailedError, match="exited with 1: ZeroDivisionError: division by zero") as caught:
        failed.check()
    assert caught.value.result is failed


def test_each_call_is_a_fresh_interpreter(lease: PooledSandbox) -> None:
    lease.run_code("import decimal\nx = 1\nopen('file', 'w').write('kept')")
    found = lease.run_code("import sys\nopen('file').read(), 'x' in globals(), 'decimal' in sys.modules")
    assert found.text == "('kept', False, False)"


def test_a_pool_runs_code_in_a_sandbox_of_its_own(pool: SandboxPool) -> None:
    pool.run_code("open('left', 'w')").check()
    assert pool.run_code("import os\nos.path.exists('left')").text == "False"
    with pytest.raises(TypeError, match="unexpected"):
        pool.run_code("1", no_such_option=1)  # type: ignore[call-arg]


def test_commands_run_beside_code(lease: PooledSandbox) -> None:
    assert lease.execute(["/bin/echo", "before"], text=True).stdout == "before\n"
    assert lease.run_code("1").text == "1"
    with lease.popen(["/bin/sleep", "60"]) as process:
        assert lease.run_code("import os\nos.getpid() > 1").text == "True"
        assert lease.execute(["/bin/echo", "beside"], text=True).stdout == "beside\n"
        process.kill()
    assert lease.run_code("3").text == "3"


@pytest.mark.parametrize(
    ("code", "exit_code", "signal_number"),
    [
        ("raise SystemExit(9)", 9, None),
        ("import os\nos._exit(5)", 5, None),
        ("import os\nos.kill(os.getpid(), 11)", None, 11),
    ],
)
def test_the_end_is_known_to_init(lease: PooledSandbox, code: str, exit_code: int, signal_number: int) -> None:
    found = lease.run_code(code)
    assert (found.exit_code, found.signal, found.timed_out, found.oom_killed) == (
        exit_code,
        signal_number,
        False,
        False,
    )
    assert found.claimed.complete == (exit_code == 9)


@pytest.mark.namespaces("a private /tmp")
def test_input_env_and_cwd(lease: PooledSandbox) -> None:
    lease.mkdir("/tmp/here")
    code = "import os\nos.read(0, 100), os.environ['NAME'], os.getcwd(), 'OPENBLAS_NUM_THREADS' in os.environ"
    found = lease.run_code(code, input="text", env={"NAME": "value"}, cwd="/tmp/here")
    assert found.text == "(b'text', 'value', '/tmp/here', False)"
    assert lease.run_code("input()", input=b"bytes\n").text == "'bytes'"
    assert lease.run_code("import sys\nsys.stdin.read()").text == "''"
    with pytest.raises(SandboxError, match="cwd"):
        lease.run_code("1", cwd="/nowhere")
    assert lease.run_code("1").text == "1"


def test_a_timeout_keeps_the_output_and_the_lease(lease: PooledSandbox) -> None:
    began = time.monotonic()
    found = lease.run_code("print('so far', end='')\nwhile True: pass", timeout=0.3)
    assert time.monotonic() - began < 10
    assert (found.timed_out, found.signal, found.exit_code, found.stdout) == (True, signal.SIGKILL, None, "so far")
    assert not found.claimed.complete
    assert not found.ok
    assert lease.run_code("1").text == "1"


@pytest.mark.namespaces("a /proc of its own")
def test_what_the_code_leaves_running_is_killed(lease: PooledSandbox) -> None:
    code = "import os, time\nif os.fork() == 0:\n    time.sleep(600)\n    os._exit(0)\nprint('parent')"
    assert lease.run_code(code).stdout == "parent\n"
    assert lease.execute(["/bin/sh", "-c", "ls /proc | grep -c '^[0-9]'"], text=True).stdout.strip() in ("3", "4", "5")


def test_output_comes_while_the_code_runs(lease: PooledSandbox) -> None:
    pieces: list[tuple[str, float]] = []
    began = time.monotonic()

    def take(text: str) -> None:
        pieces.append((text, time.monotonic() - began))

    found = lease.run_code("import time\nprint('ä')\ntime.sleep(0.5)\nprint('b')\n7", on_stdout=take)
    assert "".join(text for text, _ in pieces) == "ä\nb\n" == found.stdout
    assert pieces[-1][1] - pieces[0][1] > 0.3
    assert found.text == "7"


@pytest.mark.parametrize("name", ["on_stdout", "on_stderr"])
def test_a_function_that_raises_ends_the_code(lease: PooledSandbox, name: str) -> None:
    def fail(text: str) -> None:
        raise LookupError(text)

    code = "import sys\nprint('x', file=sys.stdout, flush=True)\nprint('x', file=sys.stderr)\nwhile True: pass"
    with pytest.raises(LookupError, match="x"):
        lease.run_code(code, **{name: fail})  # type: ignore[arg-type]
    assert lease.run_code("1").text == "1"


def test_a_function_cannot_run_code_in_the_same_lease(lease: PooledSandbox) -> None:
    with pytest.raises(SandboxError, match="same sandbox"):
        lease.run_code("print(1)", on_stdout=lambda text: lease.run_code("2"))


def test_output_and_results_are_bounded(lease: PooledSandbox) -> None:
    found = lease.run_code("print('x' * 5000)\n'y' * 5000", max_output_bytes=1000)
    assert (len(found.stdout), found.stdout_truncated, found.claimed.complete) == (1000, True, False)
    assert (found.text or "", found.text_truncated) == ("'" + "y" * (len(found.text or "") - 1), True)
    assert lease.run_code("print('x' * 5000)\n'y' * 5000", max_output_bytes=float("inf")).text == repr("y" * 5000)


def test_a_large_result_needs_no_room_in_the_pipe(lease: PooledSandbox) -> None:
    found = lease.run_code("'x' * 1_000_000", timeout=20)
    assert found.text == repr("x" * 1_000_000)
    assert found.ok


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (b"1", TypeError, "str, not bytes"),
        (None, TypeError, "str"),
        ("x = '\0'", ValueError, "NUL"),
        ("x = '\ud800'", ValueError, "UTF-8"),
        ("#" * (4 << 20) + "#", ValueError, "at most 4194304"),
    ],
)
def test_what_is_no_code(lease: PooledSandbox, code: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lease.run_code(code)
    assert lease.run_code("1").text == "1"


def test_a_large_piece_of_code(lease: PooledSandbox) -> None:
    code = "x = '" + "y" * 3_000_000 + "'\nlen(x)"
    assert lease.run_code(code).text == "3000000"


def test_an_argument_that_does_not_fit(lease: PooledSandbox) -> None:
    for options in ({"input": 3}, {"timeout": "1"}, {"env": "x"}, {"on_stdout": 3}, {"max_output_bytes": 1.5}):
        with pytest.raises(TypeError):
            lease.run_code("1", **options)


def test_a_sandbox_without_an_interpreter_says_what_to_do() -> None:
    with Sandbox() as sandbox:
        for call in (sandbox.run_code, sandbox._lease.run_code):
            with pytest.raises(SandboxError, match="interpreter=Interpreter"):
                call("1")
        with pytest.raises(SandboxError, match="interpreter=Interpreter"):
            sandbox.session()


def test_a_single_sandbox_runs_code(pool: SandboxPool) -> None:
    with Sandbox(pool.config) as sandbox:
        assert sandbox.run_code("helper(1)").text == "2"
        with sandbox.session() as session:
            assert session.run("1 + 1").text == "2"


def test_a_lease_that_has_ended(pool: SandboxPool) -> None:
    lease = pool.acquire()
    lease.release()
    with pytest.raises(SandboxReleasedError):
        lease.run_code("1")
    with code_pool() as other:
        lease = other.acquire()
    with pytest.raises(PoolStateError):
        lease.run_code("1")


def test_a_release_ends_the_code(pool: SandboxPool) -> None:
    lease = pool.acquire()
    threading.Timer(0.3, lease.release).start()
    with pytest.raises(SandboxReleasedError):
        lease.run_code("while True: pass")


def test_two_threads_take_turns(lease: PooledSandbox) -> None:
    found: list[CodeResult] = []
    code = "import os, time\nos.mkdir('alone')\ntime.sleep(0.1)\nos.rmdir('alone')"
    threads = [threading.Thread(target=lambda: found.append(lease.run_code(code))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.error for one in found] == [None] * 4


def test_memory_that_the_code_takes_is_limited() -> None:
    with code_pool(config={"memory_limit_mb": 100}) as pool:
        found = pool.run_code("x = bytearray(300 << 20)\nimport time\ntime.sleep(5)")
        assert found.oom_killed
        assert pool.run_code("len(bytearray(20 << 20))").text == str(20 << 20)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preload": ["no_such_module"]}, "ModuleNotFoundError: No module named 'no_such_module'"),
        ({"setup": "def f():\n    return 1 / 0\nf()"}, "    return 1 / 0"),
        (
            {"after_fork": "def f(n):\n    raise OSError('x' * 300)\nf(1)"},
            "    raise OSError('x' * 300)\nOSError: " + "x" * 300,
        ),
        ({"warmup": "import os\nif os.getpid() != 1: 1 / 0"}, 'File "<warmup>", line 2, in <module>'),
        ({"start": "exec", "setup": "def f():\n    return 1 / 0\nf()"}, "    return 1 / 0"),
        ({"start": "exec", "after_fork": "print('so far')\n1 / 0"}, "so far\nTraceback (most recent call last):\n"),
    ],
)
def test_a_failed_preload_raises_its_traceback(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SandboxCreateError) as found:
        SandboxPool(SandboxConfig(interpreter=Interpreter(**fields)))
    assert found.value.stage == "preload"
    assert words in found.value.traceback
    assert words in str(found.value)
    assert "Traceback" in found.value.traceback


@pytest.mark.parametrize(
    "fields", [{"python": "/bin/true"}, {"python": "/bin/sh"}, {"setup": "import os\nos._exit(3)"}], ids=str
)
def test_an_interpreter_that_ends_is_explained(fields: dict[str, Any]) -> None:
    with pytest.raises(SandboxCreateError, match="before it was ready") as found:
        SandboxPool(SandboxConfig(interpreter=Interpreter(**fields)))
    assert found.value.stage == "preload"
    assert "must be a CPython" in found.value.hint


def test_a_preload_that_leaves_a_thread_is_refused_by_its_name() -> None:
    setup = (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), name='sleepy', daemon=True).start()"
    )
    with pytest.raises(SandboxCreateError, match="sleepy"):
        SandboxPool(SandboxConfig(interpreter=Interpreter(setup=setup)))


def test_a_slow_preload_is_refused_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(SandboxCreateError, match="preload_timeout") as found:
        SandboxPool(SandboxConfig(interpreter=Interpreter(setup="while True: pass", preload_timeout=0.5)))
    assert found.value.stage == "preload"
    assert time.monotonic() - began < 30


def test_an_interpreter_that_is_not_shown() -> None:
    with pytest.raises(SandboxCreateError, match="fs_readonly") as found:
        SandboxPool(SandboxConfig(interpreter=Interpreter(python="/nowhere/python")))
    assert found.value.stage == "preload"


def test_a_failed_start_leaves_no_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(SandboxCreateError):
        SandboxPool(SandboxConfig(interpreter=Interpreter(preload=["no_such_module"])))
    assert set(os.listdir("/proc/self/fd")) == before
