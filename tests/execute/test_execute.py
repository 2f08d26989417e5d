"""execute(): what a command gets, what comes back, and what ends it."""

from __future__ import annotations

import errno
import gc
import io
import math
import mmap
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from eyes import alive, children, stat_fields
from host_state import HostState
from pools import OpenPool, assert_balanced, wait_idle
from waiting import Call, wait_until

from pysandpool import (
    CommandFailedError,
    CommandNotFoundError,
    PooledSandbox,
    Sandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxError,
    SandboxLostError,
    SandboxPool,
    SandboxReleasedError,
    SandboxResult,
)

PYTHON = "/usr/bin/python3"
MB = 1_000_000


def sh(sandbox: PooledSandbox, script: str, **options: Any) -> SandboxResult:
    return sandbox.execute(["/bin/sh", "-c", script], **options)


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def inside(sandbox: PooledSandbox) -> set[int]:
    """The pids inside that are neither init nor the process that looks."""
    script = "import os; print(*(p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()))"
    out = sandbox.execute([PYTHON, "-c", script]).check().stdout
    return {int(word) for word in out.split()} - {1}


# --- output and status -----------------------------------------------------------------------------------


def test_output_and_exit_code(sandbox: PooledSandbox) -> None:
    result = sh(sandbox, "printf out; printf err >&2; exit 37")
    assert (result.stdout, result.stderr, result.exit_code) == (b"out", b"err", 37)
    assert (result.signal, result.timed_out, result.oom_killed) == (None, False, False)
    assert (result.stdout_truncated, result.stderr_truncated) == (False, False)
    assert isinstance(result, SandboxResult)


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 128, 137, 255])
def test_every_exit_code_is_the_commands_own(sandbox: PooledSandbox, code: int) -> None:
    assert sh(sandbox, f"exit {code}").exit_code == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ])
def test_signal(sandbox: PooledSandbox, number: signal.Signals) -> None:
    result = sh(sandbox, f"echo before; kill -{int(number)} $$")
    assert (result.stdout, result.exit_code, result.signal) == (b"before\n", None, number)
    assert not result.timed_out


def test_check(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(["/bin/true"])
    assert result.check() is result
    for script in ("echo out; echo why >&2; exit 3", "kill -9 $$"):
        failed = sh(sandbox, script)
        with pytest.raises(CommandFailedError) as raised:
            failed.check()
        assert raised.value.result is failed
    late = sandbox.execute(["/bin/sleep", "60"], timeout=0.1)
    with pytest.raises(CommandFailedError):
        late.check()


def test_output_is_opaque_bytes(sandbox: PooledSandbox) -> None:
    every = bytes(range(256)) * 100
    assert sandbox.execute(["/bin/cat"], input=every).stdout == every


def test_both_streams_at_once(sandbox: PooledSandbox) -> None:
    script = "import os\nfor i in range(200):\n os.write(1, b'o' * 10000)\n os.write(2, b'e' * 10000)"
    result = sandbox.execute([PYTHON, "-c", script]).check()
    assert (result.stdout, result.stderr) == (b"o" * 2 * MB, b"e" * 2 * MB)


@pytest.mark.namespaces("a /proc of its own")
def test_streams_can_be_opened_by_name(sandbox: PooledSandbox) -> None:
    """Many a shell script does: `echo ... > /dev/stderr`."""
    script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin; cat /proc/self/fd/0"
    result = sh(sandbox, script, input=b"in")
    assert (result.stdout, result.stderr) == (b"out\nin", b"err\n")


def test_elapsed(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(["/bin/sleep", "0.3"]).check()
    assert 0.3 <= result.elapsed < 3


# --- the command -----------------------------------------------------------------------------------------


def test_argument_kinds(sandbox: PooledSandbox) -> None:
    command = (PurePosixPath("/bin/echo"), b"\xff\xfe", "\udcfd", "é", Path("/a/b"))
    assert sandbox.execute(command).stdout == b"\xff\xfe \xfd \xc3\xa9 /a/b\n"


def test_no_shell(sandbox: PooledSandbox) -> None:
    assert sandbox.execute(["echo", "$HOME", "*", ";", "true", ""]).stdout == b"$HOME * ; true \n"


@pytest.mark.namespaces("a private /tmp")
def test_path_look_up(sandbox: PooledSandbox) -> None:
    sh(sandbox, "mkdir a b; printf '#!/bin/sh\\necho b $0' > b/tool; chmod +x b/tool; echo x > a/tool").check()
    path = {"PATH": "/nowhere:/tmp/a:/tmp/b"}
    assert sandbox.execute(["tool"], env=path).stdout == b"b /tmp/b/tool\n"
    with pytest.raises(CommandNotFoundError) as raised:
        sandbox.execute(["tool"])
    assert (raised.value.errno, raised.value.filename) == (errno.ENOENT, "tool")
    with pytest.raises(CommandNotFoundError) as raised:
        sandbox.execute(["tool"], env={"PATH": "/nowhere:/tmp/a"})
    assert raised.value.errno == errno.EACCES, "the file is there, only not executable: as execvp(3) reports it"


def test_slash_means_no_look_up(sandbox: PooledSandbox) -> None:
    sh(sandbox, "mkdir d; printf '#!/bin/sh\\necho relative' > d/tool; chmod +x d/tool").check()
    assert sandbox.execute(["d/tool"]).stdout == b"relative\n"
    assert sandbox.execute(["./tool"], cwd="d").stdout == b"relative\n"
    with pytest.raises(CommandNotFoundError):
        sandbox.execute(["./echo"])


@pytest.mark.parametrize(
    ("prepare", "command", "err"),
    [
        ("true", "no-such-command", errno.ENOENT),
        ("true", "/no/such/command", errno.ENOENT),
        ("true", "/etc/passwd/x", errno.ENOTDIR),
        ("echo 'echo hi' > f", "/tmp/f", errno.EACCES),
        ("mkdir f", "/tmp/f", errno.EACCES),
        ("echo 'echo hi' > f; chmod +x f", "/tmp/f", errno.ENOEXEC),
        ("head -c 100 /dev/zero > f; chmod +x f", "/tmp/f", errno.ENOEXEC),
        ("printf '#!/no/such/interpreter\\n' > f; chmod +x f", "/tmp/f", errno.ENOENT),
        ("ln -s f f", "/tmp/f", errno.ELOOP),
    ],
)
@pytest.mark.namespaces("a /proc of its own")
def test_what_cannot_be_executed(sandbox: PooledSandbox, prepare: str, command: str, err: int) -> None:
    sh(sandbox, prepare).check()
    with pytest.raises(CommandNotFoundError) as raised:
        sandbox.execute([command, "argument"])
    assert (raised.value.errno, raised.value.filename) == (err, command)
    assert isinstance(raised.value, SandboxError)
    assert command in str(raised.value)
    assert sandbox.execute(["/bin/echo", "usable"]).stdout == b"usable\n"
    assert inside(sandbox) == set()


@pytest.mark.namespaces("a private /tmp")
def test_what_path_passes_over(sandbox: PooledSandbox) -> None:
    """No directory, nothing of the name, nothing that may be executed. If nothing else is found, EACCES it is."""
    sh(sandbox, "mkdir closed; echo > closed/echo; echo > closed/other").check()
    path = {"PATH": "/etc/passwd:/no/such:/tmp/closed:/bin"}
    assert sandbox.execute(["echo", "found"], env=path).stdout == b"found\n"
    with pytest.raises(CommandNotFoundError) as missing:
        sandbox.execute(["other"], env=path)
    assert missing.value.errno == errno.EACCES
    with pytest.raises(SandboxError) as refused:
        sandbox.execute(["echo", "x" * 200_000], env=path)
    assert refused.value.errno == errno.E2BIG, "and nobody looks on in /bin"


def test_two_megabytes_of_arguments(sandbox: PooledSandbox) -> None:
    words = [f"{number:05d}" + "x" * 99_994 for number in range(20)]
    result = sandbox.execute(["/bin/sh", "-c", 'echo $#; printf %s "$@" | cksum', "sh", *words]).check()
    reference = sandbox.execute(["/usr/bin/cksum"], input="".join(words).encode()).check()
    assert result.stdout == b"20\n" + reference.stdout


def test_many_small_arguments(sandbox: PooledSandbox) -> None:
    words = [str(number) for number in range(100_000)]
    assert sandbox.execute(["/bin/sh", "-c", "echo $#", "sh", *words]).stdout == b"100000\n"


@pytest.mark.parametrize(
    "words", [["x" * 200_000], ["x" * 100_000] * 40, ["x" * 100_000] * 200], ids=["one word", "4 MB", "20 MB"]
)
def test_more_arguments_than_the_kernel_takes(sandbox: PooledSandbox, words: list[str]) -> None:
    with pytest.raises(SandboxError) as raised:
        sandbox.execute(["/bin/true", *words])
    assert raised.value.errno == errno.E2BIG
    assert "pass a long script as the input" in raised.value.hint
    assert not isinstance(raised.value, (CommandNotFoundError, SandboxCreateError))
    assert sandbox.execute(["/bin/echo", "usable"]).stdout == b"usable\n"


# --- environment and working directory -------------------------------------------------------------------


def environment(sandbox: PooledSandbox, **options: Any) -> dict[str, str]:
    lines = sandbox.execute(["/usr/bin/env"], **options).check().stdout.decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_environment_of_call_and_config(real_pool: OpenPool) -> None:
    pool = real_pool(SandboxConfig(env_vars={"A": "config", "B": "config", "LANG": "de_DE.UTF-8", "TMPDIR": None}))
    with pool.acquire() as sandbox:
        base = environment(sandbox)
        assert (base["A"], base["B"], base["LANG"]) == ("config", "config", "de_DE.UTF-8")
        assert "TMPDIR" not in base
        changed = environment(sandbox, env={"B": "call", "C": "d=e", "A": None, "HOME": None, "NOT_THERE": None})
        assert changed == {**{k: v for k, v in base.items() if k not in ("A", "HOME")}, "B": "call", "C": "d=e"}
        assert environment(sandbox) == base, "a call's env is the call's alone"


@pytest.mark.namespaces("a private /tmp")
def test_working_directory(sandbox: PooledSandbox) -> None:
    def pwd(**options: Any) -> bytes:
        return sandbox.execute(["/bin/pwd"], **options).check().stdout

    assert pwd() == b"/tmp\n"
    sh(sandbox, "mkdir -p below/it").check()
    assert pwd(cwd="/usr/lib") == b"/usr/lib\n"
    assert pwd(cwd="below/it") == b"/tmp/below/it\n"
    assert pwd(cwd=PurePosixPath("/tmp/below")) == b"/tmp/below\n"
    assert pwd(cwd=b"/usr") == b"/usr\n"
    assert pwd() == b"/tmp\n"


@pytest.mark.parametrize(
    ("cwd", "err"), [("/no/such", errno.ENOENT), ("missing", errno.ENOENT), ("/etc/passwd", errno.ENOTDIR)]
)
def test_working_directory_that_is_none(sandbox: PooledSandbox, cwd: str, err: int) -> None:
    with pytest.raises(SandboxError) as raised:
        sandbox.execute(["/bin/true"], cwd=cwd)
    assert (raised.value.errno, raised.value.stage) == (err, "cwd")
    assert not isinstance(raised.value, CommandNotFoundError)
    assert sandbox.execute(["/bin/true"]).exit_code == 0


# --- input -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide_pool() -> Iterator[SandboxPool]:
    with SandboxPool(SandboxConfig(max_output_bytes=32 * MB, scratch_size_mb=128)) as pool:
        yield pool


def test_ten_megabytes_through_cat(wide_pool: SandboxPool) -> None:
    data = os.urandom(10 * MB)
    with wide_pool.acquire() as sandbox:
        result = sandbox.execute(["/bin/cat"], input=data).check()
    assert result.stdout == data
    assert not result.stdout_truncated


def test_ten_megabytes_through_both_streams(wide_pool: SandboxPool) -> None:
    data = os.urandom(10 * MB)
    with wide_pool.acquire() as sandbox:
        result = sh(sandbox, "tee copy; cat copy >&2", input=data).check()
    assert result.stdout == data
    assert result.stderr == data


@pytest.mark.parametrize("script", ["exit 5", "exec 0<&-; sleep 0.2; exit 5", "head -c 10 >/dev/null; exit 5"])
def test_input_that_is_not_read(sandbox: PooledSandbox, script: str) -> None:
    result = sh(sandbox, script, input=b"x" * 10 * MB)
    assert (result.exit_code, result.stderr) == (5, b"")


def test_input_kinds(sandbox: PooledSandbox) -> None:
    area = mmap.mmap(-1, 4)
    area[:] = b"mmap"
    for data in (b"bytes", bytearray(b"array"), memoryview(b"-view-")[1:-1], area):
        assert sandbox.execute(["/bin/cat"], input=data).stdout == bytes(data)
    area.close()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("text", r"bytes-like and contiguous, not str: pass text=True, or input=text\.encode\(\)"),
        (io.BytesIO(b"x"), r"not BytesIO: pass input=file\.read\(\)"),
        (memoryview(b"abcd")[::2], r"not memoryview with gaps: pass input=bytes\(view\)"),
        (5, r"not int$"),
    ],
    ids=["str", "file", "strided", "int"],
)
def test_input_of_another_kind_is_refused_with_the_fix(sandbox: PooledSandbox, data: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        sandbox.execute(["/bin/cat"], input=data)


def test_no_input_is_the_null_device(sandbox: PooledSandbox) -> None:
    assert sandbox.execute(["/bin/readlink", "/proc/self/fd/0"]).stdout == b"/dev/null\n"
    assert sandbox.execute(["/bin/cat"]).stdout == b""
    assert sandbox.execute(["/bin/cat"], input=b"").stdout == b""


# --- bounded output --------------------------------------------------------------------------------------


def counter(length: int, stream: int = 1) -> list[str]:
    """A command that writes counted(length)."""
    script = (
        f"import os\nleft = {length}\nnumber = 0\n"
        "while left:\n"
        "    chunk = b''.join(b'%07d\\n' % i for i in range(number, number + 8000))[:left]\n"
        f"    left -= len(chunk); number += 8000\n"
        f"    while chunk: chunk = chunk[os.write({stream}, chunk):]\n"
        "open('done', 'w').close()"
    )
    return [PYTHON, "-c", script]


def counted(length: int) -> bytes:
    return b"".join(b"%07d\n" % i for i in range(length // 8 + 1))[:length]


@pytest.mark.parametrize("bound", [0, 1, 1000, 65_536, 100_000])
@pytest.mark.parametrize("extra", [0, 1, 3 * MB])
def test_exactly_the_first_bytes_are_kept(real_pool: OpenPool, bound: int, extra: int) -> None:
    pool = real_pool(SandboxConfig(max_output_bytes=bound))
    with pool.acquire() as sandbox:
        result = sandbox.execute(counter(bound + extra))
        assert result.stdout == counted(bound)
        assert result.stdout_truncated == (extra > 0)
        assert (result.stderr, result.stderr_truncated) == (b"", False)
        assert sandbox.execute(["/bin/ls", "done"]).exit_code == 0, "it ran to its end"


def test_bound_is_per_stream(real_pool: OpenPool) -> None:
    pool = real_pool(SandboxConfig(max_output_bytes=1000))
    with pool.acquire() as sandbox:
        result = sandbox.execute(counter(5000, stream=2))
        assert (result.stderr, result.stderr_truncated) == (counted(1000), True)
        assert (result.stdout, result.stdout_truncated) == (b"", False)
        both = sh(sandbox, "head -c 1001 /dev/zero; head -c 999 /dev/zero >&2")
        assert (len(both.stdout), both.stdout_truncated) == (1000, True)
        assert (len(both.stderr), both.stderr_truncated) == (999, False)


@pytest.mark.slow
def test_output_without_a_bound(real_pool: OpenPool) -> None:
    pool = real_pool(SandboxConfig(max_output_bytes=None, timeout_secs=None))
    with pool.acquire() as sandbox:
        result = sandbox.execute(counter(30 * MB)).check()
    assert result.stdout == counted(30 * MB)


def test_endless_output_is_ended_by_the_timeout(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(["/usr/bin/yes"], timeout=2)
    assert result.timed_out
    assert result.stdout_truncated
    assert result.stdout == b"y\n" * (2 * 1024 * 1024)


# --- time ------------------------------------------------------------------------------------------------


def test_timeout_keeps_partial_output(sandbox: PooledSandbox) -> None:
    result = sh(sandbox, "echo partial; echo problem >&2; sleep 60", timeout=0.5)
    assert result.timed_out
    assert (result.exit_code, result.signal) == (None, signal.SIGKILL)
    assert (result.stdout, result.stderr) == (b"partial\n", b"problem\n")
    assert 0.5 <= result.elapsed < 5


@pytest.mark.namespaces("a /proc of its own")
def test_lease_is_usable_after_a_timeout(sandbox: PooledSandbox) -> None:
    pid = sandbox.pid
    assert sh(sandbox, "echo kept > file; sleep 60 & exec sleep 61", timeout=2).timed_out
    assert inside(sandbox) == set(), "every process of the lease is gone"
    assert sandbox.pid == pid
    assert sandbox.execute(["/bin/cat", "file"]).stdout == b"kept\n"
    assert sh(sandbox, "sleep 60", timeout=0.1).timed_out
    assert sandbox.execute(["/bin/true"]).exit_code == 0


def test_a_kill_that_comes_too_late_is_passed_over(sandbox: PooledSandbox) -> None:
    """The command may end while the request to kill it is on its way; the next command must not be taken for it."""
    took = sorted(sandbox.execute(["/bin/true"]).elapsed for _ in range(20))[10]
    ends = set()
    for i in range(200):
        ends.add(sandbox.execute(["/bin/true"], timeout=took * (0.7 + i / 200)).timed_out)
        assert sandbox.execute(["/bin/true"]).exit_code == 0
    assert True in ends


def test_command_that_ignores_signals_is_ended(sandbox: PooledSandbox) -> None:
    start = time.monotonic()
    result = sh(sandbox, "trap '' TERM INT HUP; echo on; while :; do :; done", timeout=1.5)
    assert result.timed_out
    assert result.stdout == b"on\n"
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_timeout_of_the_config(real_pool: OpenPool) -> None:
    pool = real_pool(SandboxConfig(timeout_secs=0.4))
    with pool.acquire() as sandbox:
        start = time.monotonic()
        assert sandbox.execute(["/bin/sleep", "60"]).timed_out
        assert time.monotonic() - start < 5
        for longer in (30, timedelta(seconds=30), math.inf):
            result = sandbox.execute(["/bin/sleep", "0.7"], timeout=longer)
            assert (result.exit_code, result.timed_out) == (0, False)


def test_timeout_none_in_the_config_is_no_limit(real_pool: OpenPool) -> None:
    pool = real_pool(SandboxConfig(timeout_secs=None))
    with pool.acquire() as sandbox:
        assert sandbox.execute(["/bin/sleep", "0.3"]).exit_code == 0
        assert sandbox.execute(["/bin/sleep", "60"], timeout=timedelta(milliseconds=300)).timed_out


# --- what a command leaves running -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "leave",
    [
        "sleep 60 &",
        "sleep 60 2>/dev/null & sleep 61 >/dev/null &",
        "setsid sleep 60 &",
        "setsid -f sh -c 'sleep 60 & sleep 61'",
        "(trap '' HUP TERM; nohup sleep 60 >/dev/null 2>&1 &) &",
        # Each is followed by one that the loop waits for: else, on a busy machine, no process is left for `ls`.
        "(while :; do sleep 0.01 & sleep 0.01; done) &",
    ],
)
@pytest.mark.namespaces("a /proc of its own")
def test_background_processes_end_with_the_command(sandbox: PooledSandbox, leave: str) -> None:
    start = time.monotonic()
    result = sh(sandbox, f"{leave}\nls -d /proc/[0-9]* | wc -l; exit 3")
    assert time.monotonic() - start < 10
    assert result.exit_code == 3
    assert int(result.stdout.split()[-1]) >= 4, "init, sh, ls and wc; what was left may still be on its way"
    assert inside(sandbox) == set()
    assert children(sandbox.pid) == set()


def test_background_process_that_holds_stdout_does_not_delay(sandbox: PooledSandbox) -> None:
    start = time.monotonic()
    result = sh(sandbox, "sleep 60 & echo $!")
    assert time.monotonic() - start < 10
    assert int(result.stdout) > 1
    assert result.exit_code == 0


def test_daemon_is_seen_by_the_control_and_gone_afterwards(sandbox: PooledSandbox) -> None:
    """While the command runs, the host sees the daemon; once execute has returned, it does not."""
    daemon = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(60)"
    script = f"{PYTHON} -c '{daemon}'; echo started > started; while [ ! -e go ]; do sleep 0.02; done"
    running = Call(sh, sandbox, script + "; echo end", timeout=20)
    init = sandbox.pid

    def orphans() -> set[int]:
        return {pid for pid in children(init) if cmdline(pid).startswith(PYTHON.encode())}

    wait_until(orphans, "the daemon became a child of init")
    seen = orphans()
    for pid in children(init) - seen:
        os.kill(pid, signal.SIGTERM)
    assert running.result().signal == signal.SIGTERM
    assert not any(alive(pid) for pid in seen)


def test_output_before_the_end_is_whole(sandbox: PooledSandbox) -> None:
    """What was written before the exit is never lost, also when it fills the pipe."""
    for _ in range(30):
        result = sh(sandbox, "head -c 60000 /dev/zero; exit 0").check()
        assert len(result.stdout) == 60_000


# --- several executes in one lease -----------------------------------------------------------------------


@pytest.mark.namespaces("a private /tmp")
def test_executes_share_the_scratch(sandbox: PooledSandbox) -> None:
    sh(sandbox, "echo one > /tmp/f; echo two > /dev/shm/f").check()
    assert sandbox.execute(["/bin/cat", "/tmp/f", "/dev/shm/f"]).stdout == b"one\ntwo\n"


@pytest.mark.namespaces("a private /tmp")
def test_leases_do_not_share_the_scratch(shared_pool: SandboxPool, sandbox: PooledSandbox) -> None:
    sh(sandbox, "echo one > /tmp/f").check()
    with shared_pool.acquire() as other:
        assert other.execute(["/bin/ls", "-A", "/tmp"]).stdout == b""


def test_two_threads_are_serialised(sandbox: PooledSandbox) -> None:
    script = "echo start $0 >> log; sleep 0.1; echo end $0 >> log; echo $0"
    calls = {n: Call(sandbox.execute, ["/bin/sh", "-c", script, str(n)]) for n in range(6)}
    for number, call in calls.items():
        assert call.result().stdout == b"%d\n" % number
    log = sandbox.execute(["/bin/cat", "log"]).stdout.decode().split("\n")[:-1]
    assert len(log) == 12
    for start, end in zip(log[::2], log[1::2]):
        assert start.startswith("start")
        assert end == start.replace("start", "end")


def test_usage_is_per_execute(sandbox: PooledSandbox) -> None:
    burn = "import time\nx = bytearray(100 << 20)\nwhile time.process_time() < 0.4: pass"
    heavy = sandbox.execute([PYTHON, "-c", burn]).check()
    assert 0.2 <= heavy.user_time + heavy.system_time < 5
    assert heavy.user_time > 0
    assert 100 << 20 <= heavy.max_rss_bytes < 400 << 20
    light = sandbox.execute(["/bin/true"]).check()
    assert 0 <= light.user_time + light.system_time < heavy.user_time + heavy.system_time
    assert 0 < light.max_rss_bytes < 30 << 20
    waited = sandbox.execute(["/bin/sh", "-c", f"{PYTHON} -c '{burn}'; true"]).check()
    assert 0.2 <= waited.user_time + waited.system_time < 5
    assert waited.max_rss_bytes >= 100 << 20


# --- ended from outside ----------------------------------------------------------------------------------


def test_release_during_execute(real_pool: OpenPool) -> None:
    pool = real_pool(max_size=1)
    lease = pool.acquire()
    init = lease.pid
    running = Call(lease.execute, ["/bin/sleep", "60"])
    wait_until(lambda: children(init), "the command runs")
    (command,) = children(init)
    lease.release()
    with pytest.raises(SandboxReleasedError):
        running.result(10)
    wait_until(lambda: not alive(command) and not alive(init), "sandbox and command are dead")
    wait_idle(pool, 1)
    assert pool.stats().in_use_count == 0
    assert_balanced(pool.stats())


def test_keyboard_interrupt_during_execute(real_pool: OpenPool) -> None:
    pool = real_pool(max_size=1)
    lease = pool.acquire()
    init = lease.pid
    commands: set[int] = set()

    def interrupt() -> None:
        wait_until(lambda: children(init), "the command runs")
        commands.update(children(init))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        lease.execute(["/bin/sleep", "60"])
    assert commands
    wait_until(lambda: not any(alive(pid) for pid in commands), "the command is dead")
    lease.release()
    wait_idle(pool, 1)
    assert pool.stats().in_use_count == 0
    assert_balanced(pool.stats())
    with pool.acquire() as again:
        assert again.execute(["/bin/echo", "in order"]).stdout == b"in order\n"


def test_signal_whose_handler_returns_does_not_end_execute(sandbox: PooledSandbox) -> None:
    count = 0

    def handler(*_: object) -> None:
        nonlocal count
        count += 1

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        result = sh(sandbox, "cat; sleep 0.6; echo end", input=b"x" * MB)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert (result.exit_code, len(result.stdout)) == (0, MB + 4)
    assert count >= 3, "handlers run while the command does"


def test_other_threads_run_meanwhile(sandbox: PooledSandbox) -> None:
    """The GIL is released: this thread counts while the command runs."""
    running = Call(sandbox.execute, ["/bin/sleep", "0.5"])
    turns = 0
    while not running.done:
        turns += 1
    running.result().check()
    assert turns > 1000


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("echo hi",), {}, TypeError),
        ((b"echo",), {}, TypeError),
        ((None,), {}, TypeError),
        ((7,), {}, TypeError),
        ((["echo", 1],), {}, TypeError),
        ((["echo", None],), {}, TypeError),
        (([],), {}, ValueError),
        (((),), {}, ValueError),
        ((["ec\0ho"],), {}, ValueError),
        ((["echo", "a\0b"],), {}, ValueError),
        ((["echo", b"\0"],), {}, ValueError),
        ((["cat"],), {"input": "text"}, TypeError),
        ((["cat"],), {"input": 5}, TypeError),
        ((["cat"],), {"input": [b"x"]}, TypeError),
        ((["env"],), {"env": {"A=B": "c"}}, ValueError),
        ((["env"],), {"env": {"": "c"}}, ValueError),
        ((["env"],), {"env": {"A\0": "c"}}, ValueError),
        ((["env"],), {"env": {"A": "b\0c"}}, ValueError),
        ((["env"],), {"env": {"A": 1}}, TypeError),
        ((["env"],), {"env": {1: "a"}}, TypeError),
        ((["env"],), {"env": [("A", "b")]}, TypeError),
        ((["env"],), {"env": "A=b"}, TypeError),
        ((["pwd"],), {"cwd": "a\0b"}, ValueError),
        ((["pwd"],), {"cwd": ""}, ValueError),
        ((["pwd"],), {"cwd": 3}, TypeError),
        ((["true"],), {"timeout": -1}, ValueError),
        ((["true"],), {"timeout": math.nan}, ValueError),
        ((["true"],), {"timeout": "soon"}, TypeError),
        ((["true"], "x"), {}, TypeError),
        ((["true"],), {"shell": True}, TypeError),
    ],
    ids=repr,
)
def test_bad_input_starts_nothing(
    shared_pool: SandboxPool, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    assert shared_pool.settle(60)  # a sandbox that becomes ready meanwhile would be the next one
    with shared_pool.acquire() as lease:
        pid = lease.pid
        with pytest.raises(error) as raised:
            lease.execute(*arguments, **options)
        assert type(raised.value) in (TypeError, ValueError)
    with shared_pool.acquire() as lease:
        assert lease.pid == pid, "the lease was still unused"


# --- Sandbox: one without a pool -------------------------------------------------------------------------


def test_single_sandbox() -> None:
    with Sandbox() as sandbox:
        sandbox.execute(["/bin/sh", "-c", "echo shared > f"]).check()
        assert sandbox.execute(["/bin/cat", "f"]).stdout == b"shared\n"
    calls = (lambda: sandbox.execute(["/bin/true"]), lambda: sandbox.read_file("f"), lambda: sandbox.pid)
    for call in calls:
        with pytest.raises(SandboxReleasedError, match="this sandbox was destroyed"):
            call()
    sandbox.destroy()


@pytest.mark.namespaces("a private /tmp")
def test_single_sandboxes_are_apart_and_share_a_zygote() -> None:
    config = SandboxConfig(env_vars={"ONLY": "here"})
    with Sandbox(config):
        gc.collect()
        before = HostState()
        one, two = Sandbox(config), Sandbox(config)
        assert children() == before.children, "the same configuration has one zygote"
        one.execute(["/bin/sh", "-c", "echo x > /tmp/f"]).check()
        assert two.execute(["/bin/sh", "-c", "ls -A /tmp; echo $ONLY"]).stdout == b"here\n"
        one.destroy()
        one.destroy()
        assert two.execute(["/bin/true"]).exit_code == 0
        two.destroy()
        before.assert_restored()


def test_request_without_an_answer_is_waited_for_and_not_polled(real_pool: OpenPool) -> None:
    """A sandbox that does not even acknowledge: the timeout holds, the host sleeps meanwhile, and the lease is lost."""
    with real_pool(warm=1).acquire() as lease:
        wait_until(lambda: below(lease.pid), "the standby, which starts right after READY")
        (standby,) = below(lease.pid)
        os.kill(standby, signal.SIGSTOP)
        cpu, start = time.process_time(), time.monotonic()
        waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        result = lease.execute(["/bin/echo", "never"], timeout=0.5)
        assert result.timed_out
        assert 0.5 <= time.monotonic() - start < 20
        assert time.process_time() - cpu < 0.5 * (time.monotonic() - start), "it slept"
        waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - waits
        assert waits < 30 * (time.monotonic() - start), "it woke up for signals alone: 13 times each second"
        with pytest.raises(SandboxLostError):
            lease.execute(["/bin/true"])


def below(parent: int) -> list[int]:
    """All children of a process, the standby too."""
    stats = {int(name): stat_fields(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    return [pid for pid, fields in stats.items() if fields is not None and int(fields[1]) == parent]
