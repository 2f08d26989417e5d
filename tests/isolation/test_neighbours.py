"""A hostile process of a lease, started by popen, against what init starts beside it. A control shows that each works.

What it can take of a process that has not execed is in attack/table.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from subprocess import PIPE

import pytest
from waiting import wait_until

from pysandpool import Interpreter, Sandbox, SandboxConfig, SandboxError, SandboxProcess

pytestmark = pytest.mark.skipif("sys.platform == 'darwin'", reason="an agent starts no processes beside commands")

# Each says "ready" and then does harm for as long as it lives.
STOP_ALL = "import os\nprint('ready', flush=True)\nwhile True:\n  try: os.kill(-1, 19)\n  except OSError: pass"
KILL_ALL = "import os\nprint('ready', flush=True)\nwhile True:\n  try: os.kill(-1, 9)\n  except OSError: pass"
SIGNAL_INIT = "import os\nprint('ready', flush=True)\nwhile True:\n  for n in (10, 12, 17): os.kill(1, n)"
BOMB = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(60)
    except OSError:
        print("ready", flush=True)
        break
while True:  # takes every place that becomes free
    try:
        if os.fork() == 0:
            time.sleep(60)
    except OSError:
        pass
"""
# Traces every process that it meets, and never waits for one, so that their parent does not see the end of any.
TRACE_ALL = """
import ctypes, os
libc = ctypes.CDLL(None)
print("ready", flush=True)
while True:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (1, os.getpid()):
            libc.ptrace(0x4206, int(name), 0, 0)
"""
# Each generation starts the next one and ends, so that a kill by number comes too late.
HOPPER = """
import os
if os.fork():
    os._exit(0)
os.setsid()
while True:
    if os.fork():
        os._exit(0)
    open("/tmp/beat", "w").close()
"""
UNMARKED = """
import os, resource, time
if os.fork():
    os._exit(0)
os.setsid()
try:
    resource.prlimit(0, 10, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
except (ValueError, PermissionError):
    pass
time.sleep(60)
"""

# Traces the runtime that waits for code beside each command, and ends, or leaves a tracer that does not.
TRACE_RUNTIME = """
import ctypes, os, sys, time
(runtime,) = (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid()))
stays, leaves = os.pipe()
if sys.argv[1] == "leave" and os.fork():
    sys.exit(os.read(stays, 1) != b"0")
failed = ctypes.CDLL(None).ptrace(0x4206, runtime, 0, 0)
open("/tmp/traced", "w").close()
os.write(leaves, b"%d" % (failed != 0))
time.sleep(60)
"""


@contextmanager
def hostile(sandbox: Sandbox, program: str) -> Iterator[SandboxProcess]:
    process = sandbox.popen(["python3", "-c", program], stdout=PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(timeout_secs=20)) as sandbox:
        yield sandbox


def in_order(sandbox: Sandbox) -> bool:
    return sandbox.execute(["echo", "x"]).stdout == b"x\n" and sandbox.popen(["true"]).wait(10) == 0


def test_one_that_stops_all(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysandpool._process.process._START_SECONDS", 0.5)
    with hostile(sandbox, STOP_ALL):
        began = time.monotonic()
        ends = [sandbox.execute(["sleep", "0.1"], timeout=0.5) for _ in range(3)]
        assert any(end.timed_out for end in ends), "the control: it stops what it can"
        for _ in range(3):
            with suppress(SandboxError):  # it may not be started in time
                sandbox.popen(["sleep", "60"], timeout=0.5).wait(5)
        assert time.monotonic() - began < 15
    assert in_order(sandbox)


def test_one_that_kills_all(sandbox: Sandbox) -> None:
    with hostile(sandbox, KILL_ALL):
        ends = [sandbox.execute(["sleep", "0.2"]) for _ in range(5)]
        assert any(end.signal == 9 for end in ends), "the control: it kills what it can"
        assert not any(end.timed_out or end.oom_killed for end in ends)
        assert {sandbox.popen(["sleep", "60"]).wait(10) for _ in range(5)} == {-9}
    assert in_order(sandbox)


def test_one_that_signals_init(sandbox: Sandbox) -> None:
    with hostile(sandbox, SIGNAL_INIT):
        for _ in range(20):
            assert in_order(sandbox)
        assert sandbox.execute(["sleep", "60"], timeout=0.3).timed_out
        assert sandbox.popen(["sleep", "60"], timeout=0.3).wait(10) == -9


def test_one_that_traces_all(sandbox: Sandbox) -> None:
    with hostile(sandbox, TRACE_ALL) as tracer:
        began = time.monotonic()
        assert sandbox.execute(["sleep", "60"], timeout=0.5).timed_out
        assert time.monotonic() - began < 10, "a tracer keeps the end of its tracee from init, unless it is killed"
        assert tracer.wait(10) == -9
    assert in_order(sandbox)


def test_a_fork_bomb(sandbox: Sandbox) -> None:
    with Sandbox(SandboxConfig(max_processes=20)) as small, hostile(small, BOMB):
        for _ in range(5):
            assert small.popen(["true"]).wait(10) == 0
            assert small.execute(["/bin/echo", "x"]).stdout == b"x\n"
        result = small.execute(["sh", "-c", "/bin/true; echo $?"])
        assert b"fork" in result.stderr, "the control: nobody else can start a process"


def test_a_command_that_flees_from_its_end(sandbox: Sandbox) -> None:
    """The kill by number may need many attempts; in the end everything is killed."""
    server = sandbox.popen(["sleep", "60"])
    began = time.monotonic()
    assert sandbox.execute(["python3", "-c", HOPPER], timeout=10).exit_code == 0
    assert time.monotonic() - began < 10
    sandbox.execute(["rm", "-f", "/tmp/beat"])
    time.sleep(0.2)
    assert sandbox.execute(["ls", "/tmp/beat"]).exit_code != 0
    server.kill()
    assert server.wait(10) == -9
    assert in_order(sandbox)


def test_a_command_cannot_lose_its_mark(sandbox: Sandbox) -> None:
    server = sandbox.popen(["python3", "-c", UNMARKED])
    assert server.wait(10) == 0
    count = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c '^ *resource.prlimit' || true"]
    before = int(sandbox.execute(count).stdout)
    assert before == 1, "the control: what a process leaves lives on"
    assert sandbox.execute(["python3", "-c", UNMARKED]).exit_code == 0
    assert int(sandbox.execute(count).stdout) == before


def test_a_process_that_closes_everything_and_kills_its_session(sandbox: Sandbox) -> None:
    script = "import os; os.closerange(0, 4096); os.kill(-1, 9); os.kill(os.getpid(), 9)"
    for _ in range(3):
        assert sandbox.popen(["python3", "-c", script], stdin=PIPE, stdout=PIPE).communicate() == (b"", None)
        assert in_order(sandbox)


def test_a_process_without_a_reader_gets_no_memory_of_the_host(sandbox: Sandbox) -> None:
    writers = [sandbox.popen(["cat", "/dev/zero"], stdout=PIPE) for _ in range(8)]
    time.sleep(0.3)
    assert in_order(sandbox)
    for writer in writers:
        writer.kill()
        assert writer.wait(10) == -9
        assert writer.stdout is not None
        assert len(writer.stdout.read()) <= 1 << 20
        writer.stdout.close()


def test_a_command_that_traces_the_runtime_that_waits() -> None:
    """The kernel keeps the end of a tracee from its parent, which is init, until the tracer has seen it."""
    with Sandbox(SandboxConfig(interpreter=Interpreter(start="exec"), timeout_secs=20)) as sandbox:
        ended = sandbox.execute(["python3", "-c", TRACE_RUNTIME, "leave"])
        assert (ended.exit_code, ended.signal) == (0, None)
        assert sandbox.exists("/tmp/traced")
        assert sandbox.run_code("print(1)").stdout == "1\n"
        sandbox.remove("/tmp/traced")
        beside = threading.Thread(target=sandbox.execute, args=(["python3", "-c", TRACE_RUNTIME, "stay"],))
        beside.start()
        wait_until(lambda: sandbox.exists("/tmp/traced"), "the runtime is traced")
        assert sandbox.popen(["true"]).wait(10) == 0, "init serves"
        assert sandbox.popen(["python3", "-c", "import os; os.kill(-1, 9)"]).wait(10) == 0
        beside.join(10)
        assert not beside.is_alive()
        assert sandbox.run_code("print(2)").stdout == "2\n"


# Short ones: later init leaves the group of the zygote.
KILL_GROUP = ["/bin/sh", "-c", "kill -9 0"]
KILL_GROUP_IN_CODE = "import os; os.kill(0, 9)"


def by_execute(sandbox: Sandbox) -> None:
    assert sandbox.execute(KILL_GROUP).signal == 9


def by_popen(sandbox: Sandbox) -> None:
    assert sandbox.popen(KILL_GROUP).wait(10) == -9


def by_terminal(sandbox: Sandbox) -> None:
    with sandbox.popen(KILL_GROUP, pty=True) as process:
        assert process.wait(10) == -9


def by_code(sandbox: Sandbox) -> None:
    assert sandbox.run_code(KILL_GROUP_IN_CODE).signal == 9


def by_session(sandbox: Sandbox) -> None:
    with sandbox.session() as session:
        assert session.run(KILL_GROUP_IN_CODE).signal == 9


@pytest.mark.parametrize(
    ("kill_group", "interpreter"),
    [(by_execute, None), (by_popen, None), (by_terminal, None), (by_code, Interpreter()), (by_session, Interpreter())],
)
def test_no_tenant_is_in_the_group_of_another_sandbox(
    kill_group: Callable[[Sandbox], None], interpreter: Interpreter | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inits of a zygote are in one process group, and all tenants have one uid on the host: kill(2) of 0 would end
    every sandbox if a tenant were in it. The control of the call is that it ends its caller."""
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", "5")  # later ones keep signals inside by themselves
    config = SandboxConfig(timeout_secs=20, interpreter=interpreter)
    with Sandbox(config) as attacker, Sandbox(config) as other, other.popen(["sleep", "60"]) as bystander:
        kill_group(attacker)
        assert other.execute(["echo", "x"]).stdout == b"x\n"
        assert bystander.poll() is None
        bystander.kill()
