"""Zygotes that become an interpreter: what the C module does, with runtimes of a few lines."""

from __future__ import annotations

import errno
import subprocess
import sys
import time

import pytest
from bare_stem import MODULE, RUN, BareStem, run_here

from pysandpool import SandboxConfig, SandboxCreateError

BROKEN = [
    ("raise ValueError('not today')", errno.ECONNRESET, "ValueError: not today"),
    ("stem.fail('Traceback\\n  a line\\nKeyError: 1\\n\\n')", errno.ECANCELED, "KeyError: 1"),
    ("stem.begin(0, 0)", errno.ECONNRESET, "RuntimeError: begun already"),
    ("stem.begin('0', 0)", errno.ECONNRESET, "TypeError"),
    ("stem.fail(1)", errno.ECONNRESET, "TypeError"),
    (
        "import mmap\nshared = mmap.mmap(-1, 4096)\nstem.serve(print)",
        errno.ECONNRESET,
        "must not leave shared memory",
    ),
    (
        "import threading as t, time\nt.Thread(target=time.sleep, args=(9,), daemon=True).start()\nstem.serve(print)",
        errno.ECONNRESET,
        "must not leave threads running",
    ),
    ("import os; os.abort()", errno.ECONNRESET, ""),
    ("def prepare(must):\n    1 / 0\nstem.serve(prepare)", errno.ECANCELED, ""),
    ("def prepare(must):\n    stem.fail('too bad')\nstem.serve(prepare)", errno.ECANCELED, ""),
    ("import os\ndef prepare(must):\n    os._exit(3)\nstem.serve(prepare)", errno.EIO, ""),
]


@pytest.mark.namespaces("pids of its own")
def test_code_runs_without_an_exec() -> None:
    with BareStem().pool() as pool, pool.acquire() as lease:
        result, said = run_here(lease, "import os; os.write(channel, b'said'); print(os.getpid(), prepared)")
        assert (result.stdout, result.stderr, result.exit_code, said) == (b"2 [2]\n", b"", 0, b"said")


def test_a_command_is_executed_before_and_after() -> None:
    with BareStem().pool() as pool, pool.acquire() as lease:
        for _ in range(2):
            assert lease.execute(["/bin/echo", "hi"]).stdout == b"hi\n"
            assert run_here(lease, "import sys; sys.exit(7)")[0].exit_code == 7


def test_each_run_finds_a_fresh_interpreter() -> None:
    with BareStem().pool() as pool, pool.acquire() as lease:
        run_here(lease, "import sys; sys.mine = 1")
        result, _ = run_here(lease, "import sys; print(hasattr(sys, 'mine'))")
        assert result.stdout == b"False\n"


def test_the_environment_is_that_of_the_call() -> None:
    with BareStem().pool() as pool, pool.acquire() as lease:
        result, _ = run_here(lease, "import os; print(sorted(os.environ))", env={"MINE": "1"})
        assert result.stdout == b"['HOME', 'LANG', 'LC_CTYPE', 'MINE', 'PATH', 'TMPDIR']\n"


@pytest.mark.namespaces("a /proc of its own")
def test_only_the_streams_and_the_channel_are_open() -> None:
    with BareStem("import os\nleft_open = os.open('/dev/zero', os.O_RDONLY)\n" + RUN).pool() as pool:
        with pool.acquire() as lease:
            result, _ = run_here(
                lease,
                "import os\nlisted = os.open('/proc/self/fd', os.O_RDONLY)\n"
                "print(set(map(int, os.listdir(listed))) - {listed, listed + 1}, channel)",
            )
            found, channel = result.stdout.decode().rsplit(" ", 1)
            assert eval(found) == {0, 1, 2, int(channel)}, result


@pytest.mark.parametrize(("source", "err", "says"), BROKEN)
def test_a_failed_preload_is_told(source: str, err: int, says: str) -> None:
    stem = BareStem(source)
    with pytest.raises(SandboxCreateError) as found, stem.pool():
        pass
    assert (found.value.stage, found.value.errno) == ("preload", err), found.value
    told = stem.errors()
    assert says in told, told
    if err == errno.ECANCELED:
        assert found.value.detail in (says, "ZeroDivisionError('division by zero')", "too bad")


OUTSIDE = """
import sys, _imp, _frozen_importlib
stem = _imp.create_dynamic(_frozen_importlib.ModuleSpec("_sandpool_stem", None, origin=sys.argv[1]))
_imp.exec_dynamic(stem)
for call in stem.source, stem.parameters, lambda: stem.serve(print):
    try:
        call()
    except RuntimeError as error:
        print(error)
"""


def test_a_module_that_no_zygote_has_loaded_is_no_stem() -> None:
    command = [sys.executable, "-c", OUTSIDE, str(MODULE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == (["there is no stem"] * 3, "")


def test_a_tenant_cannot_serve() -> None:
    with BareStem().pool() as pool, pool.acquire() as lease:
        code = (
            "for call in lambda: stem.serve(print), lambda: stem.branch('no'):\n"
            "    try:\n        call()\n    except (RuntimeError, TypeError) as error:\n"
            "        print(type(error).__name__, error)"
        )
        lines = run_here(lease, code)[0].stdout.decode().splitlines()
        assert lines[0] == "RuntimeError there is no stem", lines
        assert lines[1].startswith("TypeError"), lines


def test_an_interpreter_that_is_not_there_is_named() -> None:
    with pytest.raises(SandboxCreateError) as found, BareStem(python="/usr/bin/python0").pool():
        pass
    assert (found.value.stage, found.value.errno) == ("preload", errno.ENOENT)
    assert found.value.detail == "/usr/bin/python0"


def test_a_module_that_is_not_there_is_reported() -> None:
    stem = BareStem(module="/nonexistent/sandpool-stem.abi3.so")
    with pytest.raises(SandboxCreateError) as found, stem.pool():
        pass
    assert (found.value.stage, found.value.errno) == ("spawn_zygote", errno.ENOENT)


def test_what_is_no_interpreter_is_refused() -> None:
    with pytest.raises(SandboxCreateError) as found, BareStem(python="/bin/true").pool():
        pass
    assert found.value.stage == "preload"


def test_a_preload_has_its_own_time() -> None:
    stem = BareStem("import time; time.sleep(60)")
    stem.preload_timeout = -0.5  # the time of every zygote is added
    began = time.monotonic()
    with pytest.raises(SandboxCreateError) as found, stem.pool():
        pass
    assert (found.value.stage, found.value.errno) == ("preload", errno.ETIMEDOUT)
    assert time.monotonic() - began < 8


HOLDS = (
    "held = bytearray(96 << 20)\nfor at in range(0, len(held), 4096):\n    held[at] = 1\nimport sys\nsys.held = held\n"
)


def test_what_the_interpreter_holds_is_not_the_commands_memory() -> None:
    stem = BareStem(HOLDS + RUN)
    with stem.pool(SandboxConfig(memory_limit_mb=64)) as pool, pool.acquire() as lease:
        result, _ = run_here(lease, "import time; mine = bytearray(b'1') * (40 << 20); time.sleep(0.3)")
        assert (result.exit_code, result.oom_killed) == (0, False)
        result, _ = run_here(lease, "import sys, time; mine = sys.held[::4096] * 1700; time.sleep(0.3)")
        assert (result.exit_code, result.oom_killed) == (0, False)
        result, _ = run_here(lease, "import time; mine = bytearray(b'1') * (120 << 20); time.sleep(5)")
        assert result.oom_killed
        # A program has nothing of the interpreter.
        grows = "import time; mine = bytearray(b'1') * (90 << 20); time.sleep(5)"
        assert lease.execute(["/usr/bin/python3", "-c", grows]).oom_killed


def test_the_data_limit_is_that_of_a_program() -> None:
    stem = BareStem(HOLDS + RUN)
    with stem.pool(SandboxConfig(data_limit_mb=32)) as pool, pool.acquire() as lease:
        code = "bytearray(16 << 20)\nprint(1)\ntry:\n    bytearray(48 << 20)\nexcept MemoryError:\n    print(2)"
        assert run_here(lease, code)[0].stdout == b"1\n2\n"
        assert lease.execute(["sh", "-c", "ulimit -d"]).stdout == b"%d\n" % (32 << 10)


def test_times_and_peak_begin_with_the_request() -> None:
    busy = "import time\nuntil = time.process_time() + 0.3\nwhile time.process_time() < until:\n    pass\n"
    stem = BareStem(HOLDS + RUN.replace("    prepared", "    " + busy.replace("\n", "\n    ") + "prepared"))
    with stem.pool() as pool, pool.acquire() as lease:
        result, _ = run_here(lease, "1")
        assert result.user_time + result.system_time < 0.15
        assert result.max_rss_bytes < 32 << 20
        result, _ = run_here(lease, busy + "mine = bytearray(b'1') * (48 << 20)")
        assert 0.3 <= result.user_time + result.system_time < 0.6
        assert 40 << 20 < result.max_rss_bytes < 64 << 20
        assert lease.execute(["/bin/true"]).user_time < 0.15
