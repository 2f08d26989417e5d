"""popen: processes that run beside the commands of a lease."""

from __future__ import annotations

import fcntl
import gc
import io
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import IO, Any

import pytest
from eyes import alive, open_fds
from waiting import wait_until

from pysandpool import (
    CommandNotFoundError,
    PoolConfig,
    PooledSandbox,
    PoolStateError,
    Sandbox,
    SandboxConfig,
    SandboxError,
    SandboxLostError,
    SandboxPool,
    SandboxProcess,
    SandboxReleasedError,
)
from pysandpool._process import process as process_module
from pysandpool._process.process import start_process
from pysandpool._process.streams import Streams

pytestmark = pytest.mark.skipif("sys.platform == 'darwin'", reason="an agent starts no processes beside commands")

SERVER = """
import socket
server = socket.socket(socket.AF_UNIX); server.bind("/tmp/door"); server.listen()
print("ready", flush=True)
while True:
    peer, _ = server.accept()
    peer.sendall(b"you said " + peer.recv(100)); peer.close()
"""
CLIENT = """
import socket
peer = socket.socket(socket.AF_UNIX); peer.connect("/tmp/door"); peer.sendall(b"hello")
print(peer.recv(100).decode())
"""


F_GETPIPE_SZ = 1032


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(SandboxConfig(), PoolConfig(min_size=2)) as pool:
        yield pool


@pytest.fixture(autouse=True)
def closed_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the files of the processes that a test leaves, as the garbage collector would, with a warning."""
    started: list[SandboxProcess] = []

    def start(*args: Any) -> SandboxProcess:
        started.append(start_process(*args))
        return started[-1]

    monkeypatch.setattr("pysandpool._pool.lease.start_process", start)
    yield
    for process in started:
        for file in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):
                if file is not None:
                    file.close()


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def is_broken(pipe: IO[bytes] | None) -> bool:
    assert pipe is not None
    try:
        pipe.write(b"x")
        pipe.flush()
    except BrokenPipeError:
        return True
    return False


# ---- ends ----


def test_the_end_of_a_process(lease: PooledSandbox) -> None:
    process = lease.popen(sh("echo out; echo err >&2; exit 3"), stdout=PIPE, stderr=PIPE)
    assert process.communicate() == (b"out\n", b"err\n")
    assert (process.returncode, process.poll(), process.wait()) == (3, 3, 3)
    assert not process.timed_out
    assert not process.oom_killed


@pytest.mark.namespaces("a /proc of its own")
def test_streams_of_a_process_are_dev_null_by_default(lease: PooledSandbox) -> None:
    process = lease.popen(sh('test -z "$(cat)" && echo x && a=$(readlink /proc/$$/fd/1) && echo $a >/tmp/out'))
    assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
    assert process.wait() == 0
    assert lease.execute(["cat", "/tmp/out"]).stdout == b"/dev/null\n"


def test_signals(lease: PooledSandbox) -> None:
    process = lease.popen(sh("trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.01; done"), stdout=PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    assert process.communicate()[0] == b"got\n"
    assert process.returncode == 7
    ends: list[tuple[Callable[[SandboxProcess], None], int]] = [
        (SandboxProcess.terminate, signal.SIGTERM),
        (SandboxProcess.kill, signal.SIGKILL),
    ]
    for end, number in ends:
        sleeper = lease.popen(["sleep", "60"])
        end(sleeper)
        assert sleeper.wait(10) == -number
        end(sleeper)  # changes nothing
    with pytest.raises(ValueError, match="sig = 99 is not allowed"):
        process.send_signal(99)


def test_wait_times_out_and_the_process_runs_on(lease: PooledSandbox) -> None:
    process = lease.popen(["sleep", "60"])
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        process.wait(0.2)
    assert 0.2 <= time.monotonic() - began < 5
    assert caught.value.cmd == ["sleep", "60"]
    assert process.poll() is None
    process.kill()
    assert process.wait(10) == -9


def test_the_timeout_of_a_process_kills_it(lease: PooledSandbox) -> None:
    process = lease.popen(["sleep", "60"], timeout=0.2)
    other = lease.popen(["cat"], stdin=PIPE)
    assert process.wait(10) == -9
    assert process.timed_out
    assert other.poll() is None
    other.communicate()
    assert (other.returncode, other.timed_out) == (0, False)


def test_the_lease_ends_its_processes(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        process = lease.popen(["cat"], stdin=PIPE, stdout=PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
    assert process.wait(10) == -9
    assert process.stdout.read() == b""
    # The descriptors of init close a moment before the process ends.
    wait_until(lambda: is_broken(process.stdin), "a broken pipe")
    process.terminate()
    assert process.returncode == -9
    with pytest.raises(SandboxReleasedError):
        lease.popen(["true"])


def test_a_closed_pool_ends_its_processes() -> None:
    with SandboxPool() as pool:
        lease = pool.acquire()
        process = lease.popen(["sleep", "60"])
    assert process.wait(10) == -9
    with pytest.raises(PoolStateError):
        lease.popen(["true"])


def test_a_wait_ends_with_the_lease(pool: SandboxPool) -> None:
    lease = pool.acquire()
    process = lease.popen(["sleep", "60"])
    threading.Timer(0.2, lease.release).start()
    assert process.wait(10) == -9


def test_what_cannot_be_started(lease: PooledSandbox, tmp_path: Path) -> None:
    with pytest.raises(CommandNotFoundError) as missing:
        lease.popen(["no-such-command"])
    assert missing.value.filename == "no-such-command"
    with pytest.raises(ValueError, match="at least the name of a command"):
        lease.popen([])
    with pytest.raises(SandboxError, match="cwd") as cwd:
        lease.popen(["true"], cwd="/no/such/directory")
    assert cwd.value.errno == 2
    wrong: list[dict[str, Any]] = [{"stdin": 1.5}, {"stdout": "file"}, {"stderr": object()}]
    for kwargs in wrong:
        with pytest.raises(TypeError, match="is not allowed; expected: PIPE, DEVNULL"):
            lease.popen(["true"], **kwargs)
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ValueError, match="it is no file, pipe or socket"):
            lease.popen(["true"], stdin=directory)
    finally:
        os.close(directory)
    with pytest.raises(ValueError, match="pty=True is not allowed with"):
        lease.popen(["true"], pty=True, stdout=PIPE)
    with pytest.raises(ValueError, match="stdin = -5"):
        lease.popen(["true"], stdin=-5)
    with pytest.raises(LookupError):
        lease.popen(["true"], text=True, errors="no-such-handler")
    assert lease.popen(["true"]).wait() == 0


def test_no_descriptor_is_left(pool: SandboxPool, lease: PooledSandbox) -> None:
    lease.execute(["true"])
    assert pool.settle(30)  # else the pool may open those of another sandbox meanwhile
    before = open_fds()
    for _ in range(3):
        lease.popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE).communicate(b"x")
        with pytest.raises(CommandNotFoundError):
            lease.popen(["no-such-command"], stdout=PIPE)
        with pytest.raises(CommandNotFoundError):
            lease.popen(["no-such-command"], pty=True)
        with lease.popen(["sh", "-c", "exit"], pty=True):
            pass
    wait_until(lambda: not open_fds().items() - before.items(), "all descriptors closed")


@pytest.mark.parametrize("pty", [False, True], ids=["pipes", "terminal"])
def test_the_error_of_a_start_keeps_no_descriptor_open(pty: bool) -> None:
    with Sandbox() as sandbox:
        sandbox.execute(["true"])
        before = open_fds()
        with pytest.raises(CommandNotFoundError) as kept:
            sandbox.popen(["no-such-command"], pty=pty, stdout=None if pty else PIPE)
        # The one of a sandbox that was destroyed before may go meanwhile.
        assert not open_fds().items() - before.items(), kept


# ---- streams ----


def test_a_conversation(lease: PooledSandbox) -> None:
    process = lease.popen(["cat"], stdin=PIPE, stdout=PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    for word in ("one", "zwei", "três"):
        process.stdin.write(f"{word}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{word}\n"
    process.stdin.close()
    assert process.wait(10) == 0


def test_lines_come_as_they_are_written(lease: PooledSandbox) -> None:
    process = lease.popen(sh("for i in 1 2 3; do echo $i; sleep 0.2; done"), stdout=PIPE, text=True)
    assert process.stdout is not None
    times = []
    for number, line in enumerate(process.stdout, 1):
        assert line == f"{number}\n"
        times.append(time.monotonic())
    assert times[-1] - times[0] >= 0.3
    assert process.wait() == 0


def test_stderr_into_stdout_and_into_a_file(lease: PooledSandbox, tmp_path: Path) -> None:
    process = lease.popen(sh("echo a; echo b >&2"), stdout=PIPE, stderr=STDOUT)
    assert process.communicate() == (b"a\nb\n", None)
    path = tmp_path / "out"
    with path.open("wb") as file:
        assert lease.popen(sh("echo a; echo b >&2"), stdout=file, stderr=STDOUT).wait() == 0
        assert lease.popen(sh("echo c; echo d >&2"), stdout=DEVNULL, stderr=file.fileno()).wait() == 0
    assert path.read_bytes() == b"a\nb\nd\n"
    with path.open("rb") as source, open(os.devnull, "wb") as sink:
        assert lease.popen(["grep", "-q", "d"], stdin=source, stdout=sink).wait() == 0


def test_a_socket_as_stream(lease: PooledSandbox) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = lease.popen(["cat"], stdin=theirs, stdout=theirs)
        theirs.close()
        ours.sendall(b"ping")
        assert ours.recv(10) == b"ping"
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(10) == 0


def test_communicate_goes_on_after_a_timeout(lease: PooledSandbox) -> None:
    script = "echo first; read line; echo $line; sleep 0.5; echo last"
    process = lease.popen(sh(script), stdin=PIPE, stdout=PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        process.communicate("word\n", timeout=0.2)
    assert caught.value.output == b"first\nword\n"
    assert process.communicate() == ("first\nword\nlast\n", None)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_communicate_moves_any_size(lease: PooledSandbox, size: int) -> None:
    data = os.urandom(size)
    assert lease.popen(["cat"], stdin=PIPE, stdout=PIPE).communicate(data) == (data, None)


def test_communicate_writes_what_was_not_flushed(lease: PooledSandbox) -> None:
    """There is no room for it at first."""
    process = lease.popen(sh("until test -e go; do sleep 0.01; done; wc -c"), stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    room = fcntl.fcntl(process.stdin, F_GETPIPE_SZ)
    process.stdin.write(bytes(room))
    process.stdin.write(b"not flushed")
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(b"input", timeout=0.1)
    lease.write_file("go", "")
    assert int(process.communicate()[0]) == room + len(b"not flushed" + b"input")


def test_communicate_with_a_process_that_does_not_read(lease: PooledSandbox) -> None:
    process = lease.popen(["true"], stdin=PIPE, stdout=PIPE)
    assert process.communicate(b"x" * 1_000_000) == (b"", None)
    with pytest.raises(ValueError, match="start the process with stdin=PIPE"):
        lease.popen(["true"]).communicate(b"x")
    with pytest.raises(TypeError, match="input must be bytes-like, not str"):
        lease.popen(["cat"], stdin=PIPE).communicate("x")


@pytest.mark.namespaces("a /proc of its own")
def test_a_tenant_cannot_make_communicate_wait_beyond_its_timeout(lease: PooledSandbox) -> None:
    """It fills its own standard input, so that a write that seemed possible would wait."""
    script = "exec 3>/proc/self/fd/0; while :; do head -c 4096 /dev/zero >&3; done"
    process = lease.popen(sh(script), stdin=PIPE, stdout=PIPE)
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(b"x" * 10_000_000, timeout=0.5)
    assert time.monotonic() - began < 5


def test_undecodable_text(lease: PooledSandbox) -> None:
    with pytest.raises(UnicodeDecodeError):
        lease.popen(["printf", r"\377"], stdout=PIPE, text=True).communicate()
    found = lease.popen(["printf", r"\377\r\n"], stdout=PIPE, errors="replace").communicate()  # means text
    assert found == ("\N{REPLACEMENT CHARACTER}\n", None)


def test_an_interrupted_start_leaves_no_terminal_open(lease: PooledSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    lease.execute(["true"])
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(process_module, "terminal_files", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lease.popen(["sleep", "60"], pty=True)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_slow_reader_holds_up_nobody_else(lease: PooledSandbox) -> None:
    writer = lease.popen(["cat", "/dev/zero"], stdout=PIPE)
    for _ in range(3):
        assert lease.execute(["echo", "x"]).stdout == b"x\n"
        assert lease.popen(["echo", "y"], stdout=PIPE).communicate() == (b"y\n", None)
    assert writer.stdout is not None
    assert len(writer.stdout.read(1 << 20)) == 1 << 20
    writer.kill()
    assert writer.wait(10) == -9


# ---- several ----


@pytest.mark.namespaces("sockets with names")
def test_a_server_and_its_client(lease: PooledSandbox) -> None:
    server = lease.popen(["python3", "-c", SERVER], stdout=PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    for _ in range(3):
        assert lease.execute(["python3", "-c", CLIENT]).stdout == b"you said hello\n"
    client = lease.popen(["python3", "-c", CLIENT], stdout=PIPE)
    assert client.communicate()[0] == b"you said hello\n"
    assert server.poll() is None


@pytest.mark.namespaces("a /proc of its own")
def test_execute_kills_only_what_it_started(lease: PooledSandbox) -> None:
    child = "sleep 301 & setsid sleep 302 & (setsid sleep 303 &) ; echo started; wait"
    server = lease.popen(sh(child), stdout=PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"started\n"
    left = "sleep 401 & setsid sleep 402 & (setsid sh -c 'sleep 403 & sleep 404' &) ; sleep 0.1; echo done"
    assert lease.execute(sh(left)).stdout == b"done\n"
    found = lease.execute(sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout
    assert [n for n in range(301, 405) if f"sleep {n}".encode() in found] == [301, 302, 303]
    server.kill()
    server.wait()
    found = lease.execute(sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout
    assert [n for n in range(301, 405) if f"sleep {n}".encode() in found] == [301, 302, 303], "they end with the lease"


@pytest.mark.namespaces("a private /tmp")
def test_a_process_that_is_started_while_a_command_runs(lease: PooledSandbox) -> None:
    results: list[Any] = []
    script = "sleep 501 & while [ ! -e /tmp/stop ]; do sleep 0.01; done; echo end"
    thread = threading.Thread(target=lambda: results.append(lease.execute(sh(script))))
    thread.start()
    time.sleep(0.1)
    process = lease.popen(["cat"], stdin=PIPE, stdout=PIPE)
    assert lease.popen(["touch", "/tmp/stop"]).wait(10) == 0
    thread.join(10)
    assert results[0].stdout == b"end\n"
    found = lease.execute(sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout
    assert b"sleep 501" not in found
    assert process.communicate(b"still here") == (b"still here", None)


@pytest.mark.namespaces("a /proc of its own")
def test_a_command_beside_processes_times_out(lease: PooledSandbox) -> None:
    process = lease.popen(["cat"], stdin=PIPE, stdout=PIPE)
    result = lease.execute(["sleep", "60"], timeout=0.2)
    assert (result.timed_out, result.signal) == (True, signal.SIGKILL)
    assert process.communicate(b"x") == (b"x", None)
    assert lease.execute(["echo", "x"]).stdout == b"x\n"


def test_failures_beside_processes_are_as_ever(lease: PooledSandbox) -> None:
    with lease.popen(["sleep", "60"]) as process:
        with pytest.raises(CommandNotFoundError):
            lease.execute(["no-such-command"])
        with pytest.raises(SandboxError, match="cwd"):
            lease.execute(["true"], cwd="/no/such/directory")
        result = lease.execute(sh("cat; exit 4"), input=b"x", env={"A": "b"})
        assert (result.exit_code, result.stdout) == (4, b"x")
        process.kill()


def test_as_many_processes_as_there_is_room_for(lease: PooledSandbox) -> None:
    processes = [lease.popen(["cat"], stdin=PIPE) for _ in range(64)]
    with pytest.raises(SandboxError) as caught:
        lease.popen(["true"])
    assert caught.value.errno == 11
    assert "64 processes and sessions at a time" in caught.value.hint
    assert lease.execute(["true"]).exit_code == 0
    processes.pop().communicate()
    assert lease.popen(["true"]).wait() == 0
    for process in processes:
        process.kill()
    assert {process.wait(10) for process in processes} == {-9}


def test_large_arguments_beside_a_command(lease: PooledSandbox) -> None:
    """They do not fit into the socket at once, so that init has to read them while the command runs."""
    words = ["x" * 100_000] * 10
    thread = threading.Thread(target=lambda: lease.execute(["sleep", "0.5"]))
    thread.start()
    process = lease.popen(["/bin/echo", *words], stdout=PIPE)
    assert process.communicate()[0] == " ".join(words).encode() + b"\n"
    thread.join()
    assert lease.popen(["/bin/echo", *words], stdout=PIPE).communicate()[0] == " ".join(words).encode() + b"\n"


def test_many_quick_processes(lease: PooledSandbox) -> None:
    for number in range(200):
        assert lease.popen(sh(f"exit {number % 100}")).wait(20) == number % 100
    assert lease.execute(["echo", "x"]).stdout == b"x\n"


def test_threads_start_and_wait_at_once(lease: PooledSandbox) -> None:
    errors: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for _ in range(10):
                assert lease.popen(["echo", str(n)], stdout=PIPE, text=True).communicate() == (f"{n}\n", None)
                assert lease.execute(["echo", str(n)]).stdout == f"{n}\n".encode()
        except Exception as error:  # noqa: BLE001 - reported by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors


def test_several_threads_wait_for_one_process(lease: PooledSandbox) -> None:
    process = lease.popen(["sleep", "0.3"])
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(process.wait(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert codes == [0, 0, 0, 0]


# ---- the handle ----


@pytest.mark.namespaces("a private /tmp")
def test_a_lease_that_only_had_a_process_is_not_handed_out_again() -> None:
    with SandboxPool(SandboxConfig(), PoolConfig(min_size=0, max_size=1)) as pool:
        with pool.acquire() as lease:
            first = lease.pid
            assert lease.popen(sh("echo secret >/tmp/kept")).wait() == 0
        with pool.acquire() as lease:
            assert lease.pid != first
            assert lease.execute(["ls", "/tmp"]).stdout == b""


def test_a_dead_idle_sandbox_is_replaced() -> None:
    with SandboxPool(SandboxConfig(), PoolConfig(min_size=1, max_size=1)) as pool, pool.acquire() as lease:
        init = lease.pid
        os.kill(init, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{init}").exists(), "init is gone")
        assert lease.popen(["echo", "x"], stdout=PIPE).communicate() == (b"x\n", None)


def test_a_with_block(lease: PooledSandbox) -> None:
    with lease.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"")
    assert process.returncode == 0
    assert process.stdin.closed
    with pytest.raises(KeyError), lease.popen(["sleep", "60"]) as process:
        raise KeyError
    assert process.returncode == -9


def test_the_pid_is_that_of_the_host(lease: PooledSandbox) -> None:
    process = lease.popen(["sleep", "60"])
    assert Path(f"/proc/{process.pid}/cmdline").read_bytes() == b"sleep\x0060\x00"
    assert repr(process) == f"<SandboxProcess 'sleep' pid={process.pid} running>"
    process.kill()
    process.wait()
    assert repr(process) == f"<SandboxProcess 'sleep' pid={process.pid} returncode=-9>"


def test_a_sandbox_without_a_pool() -> None:
    with Sandbox() as sandbox:
        assert sandbox.popen(["echo", "x"], stdout=PIPE, text=True).communicate() == ("x\n", None)


@pytest.mark.namespaces("a private /tmp")
def test_a_process_outlives_its_handle(lease: PooledSandbox) -> None:
    lease.popen(sh("sleep 0.3; touch /tmp/late"))
    wait_until(lambda: lease.execute(["ls", "/tmp/late"]).exit_code == 0, "the file")


def test_a_forked_child_cannot_use_a_process(lease: PooledSandbox) -> None:
    process = lease.popen(["sleep", "60"])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            process.poll()
        except PoolStateError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert process.poll() is None
    process.kill()
    assert process.wait(10) == -9


# ---- limits ----


def test_memory_of_several_processes_counts_together() -> None:
    eat = "import time; a = bytearray(40 << 20); a[::4096] = b'x' * len(a[::4096]); time.sleep(60)"
    with Sandbox(SandboxConfig(memory_limit_mb=100)) as sandbox:
        by_cgroup, init = sandbox.isolation.memory == "full", sandbox.pid
        eaters = [sandbox.popen(["python3", "-c", eat], stdout=PIPE) for _ in range(4)]
        assert [eater.wait(30) for eater in eaters] == [-9] * 4
        assert all(eater.oom_killed for eater in eaters)
        if by_cgroup:  # it ends the sandbox as a whole, one process after another
            wait_until(lambda: not alive(init), "init is dead")
            with pytest.raises(SandboxLostError):
                sandbox.execute(["echo", "x"])
            return
        assert sandbox.execute(["echo", "x"]).stdout == b"x\n"
        assert sandbox.popen(["echo", "x"], stdout=PIPE).communicate()[0] == b"x\n"


def test_one_command_that_eats_memory_beside_a_process() -> None:
    with Sandbox(SandboxConfig(memory_limit_mb=100)) as sandbox:
        process = sandbox.popen(["sleep", "60"])
        result = sandbox.execute(["python3", "-c", "a = bytearray(1 << 30); a[::4096] = b'x' * len(a[::4096])"])
        assert result.oom_killed
        assert process.wait(10) == -9
        assert process.oom_killed


def test_without_fork(pool: SandboxPool) -> None:
    with Sandbox(SandboxConfig(allow_fork=False)) as sandbox:
        process = sandbox.popen(["cat"], stdin=PIPE, stdout=PIPE)
        assert sandbox.execute(sh("(echo x) || echo refused")).exit_code != 0
        assert process.communicate(b"x") == (b"x", None)


# ---- terminals ----


def test_a_terminal(lease: PooledSandbox) -> None:
    script = "tty; stty size; read line; echo got $line; exit 5"
    process = lease.popen(sh(script), pty=True, text=True)
    process.resize(33, 77)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is None
    process.stdin.write("word\n")
    assert "got word\n" in process.stdout.read()
    assert process.wait(10) == 5
    for rows, cols in ((0, 80), (24, 70000)):
        with pytest.raises(ValueError, match="is not allowed"):
            process.resize(rows, cols)
    with pytest.raises(ValueError, match="has no terminal"):
        lease.popen(["true"]).resize(24, 80)


@pytest.mark.parametrize(
    ("size", "shown"),
    [(None, b"24 80\r\n"), ((31, 99), b"31 99\r\n"), (os.terminal_size((99, 31)), b"31 99\r\n")],
    ids=["usual", "rows-and-columns", "of-a-terminal"],
)
def test_a_terminal_has_its_size_from_the_start(lease: PooledSandbox, size: Any, shown: bytes) -> None:
    assert lease.popen(["stty", "size"], pty=True, size=size).communicate() == (shown, None)


@pytest.mark.parametrize("size", [(0, 80), (24, 65536), (24, 80.0), (24,), 24])
def test_a_wrong_size(lease: PooledSandbox, size: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        lease.popen(["touch", "started"], pty=True, size=size)
    with pytest.raises(ValueError, match="without pty=True"):
        lease.popen(["touch", "started"], size=(24, 80))
    assert lease.execute(["ls", "started"]).exit_code != 0


def test_a_terminal_is_the_controlling_one(lease: PooledSandbox) -> None:
    look = "import os; print(os.tcgetpgrp(0), os.major(os.fstat(0).st_rdev))"
    script = f"echo $$ $(/usr/bin/python3 -c '{look}'); trap 'echo winch' WINCH; echo ready; "
    script += "while :; do sleep 0.01; done"
    process = lease.popen(sh(script), pty=True)
    assert process.stdin is not None
    assert process.stdout is not None
    pid, group, major = process.stdout.readline().split()
    assert pid == group
    assert major == b"136", "of /dev/pts"
    assert process.stdout.readline() == b"ready\r\n"
    process.resize(50, 100)
    assert process.stdout.readline() == b"winch\r\n"
    process.stdin.write(b"\x03")
    process.stdin.flush()
    assert process.wait(10) == -signal.SIGINT


def test_the_output_of_a_terminal_ends(lease: PooledSandbox) -> None:
    process = lease.popen(["echo", "x"], pty=True)
    assert process.communicate() == (b"x\r\n", None)
    assert process.returncode == 0
    process = lease.popen(sh("echo a; echo b"), pty=True)
    assert isinstance(process.stdout, io.BufferedReader)
    assert list(process.stdout) == [b"a\r\n", b"b\r\n"]


def test_keys_that_nobody_reads(pool: SandboxPool) -> None:
    """The kernel does not wake who writes to a full terminal when nobody has it open any more."""
    keys = b"key\n" * 100_000
    with pool.acquire() as lease:
        process = lease.popen(["sleep", "60"], pty=True, timeout=0.2)
        assert process.stdin is not None
        with pytest.raises(BrokenPipeError):
            process.stdin.write(keys)
        assert process.wait() == -9
        assert lease.popen(["sleep", "0.2"], pty=True).communicate(keys)[1] is None


@pytest.mark.parametrize("pty", [True, False], ids=["terminal", "pipes"])
def test_a_timeout_that_ends_during_the_start(lease: PooledSandbox, pty: bool) -> None:
    streams: Any = {} if pty else {"stdin": PIPE, "stdout": PIPE}
    for _ in range(20):  # most of these are killed before they have sent their terminal
        process = lease.popen(["sleep", "60"], pty=pty, timeout=1e-9, **streams)
        assert process.wait(10) == -9
        assert process.timed_out
        assert process.stdin is not None
        assert process.stdout is not None
        if pty:
            process.resize(33, 77)
        assert process.communicate() == (b"", None)


# ---- interrupts ----


class AlarmError(Exception):
    pass


@pytest.fixture
def alarm() -> Iterator[Callable[[float], object]]:
    """After so many seconds the next step of Python raises AlarmError."""

    def ring(number: int, frame: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_exception_of_a_signal_handler_passes_through(
    lease: PooledSandbox, alarm: Callable[[float], object]
) -> None:
    process = lease.popen(["sleep", "60"], stdout=PIPE)
    assert process.stdout is not None
    for wait in (process.wait, process.communicate, process.stdout.readline):
        alarm(0.1)
        began = time.monotonic()
        with pytest.raises(AlarmError):
            wait()
        assert time.monotonic() - began < 5
        assert process.poll() is None, "it runs on"
    assert lease.execute(["echo", "x"]).stdout == b"x\n"


def test_an_end_of_a_pipe_is_closed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be another descriptor's by then."""
    close, closed = os.close, []

    def interrupted(fd: int) -> None:
        closed.append(fd)
        close(fd)
        if len(closed) == 1:
            raise AlarmError

    opened = Streams(None, PIPE, PIPE)
    monkeypatch.setattr(os, "close", interrupted)
    with pytest.raises(AlarmError):
        opened.close_far()
    opened.close()
    assert len(closed) == len(set(closed)) == 4


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of a file that nobody has yet
def test_a_start_that_is_interrupted_leaves_no_process(lease: PooledSandbox, alarm: Callable[[float], object]) -> None:
    interrupted = 0
    for n in range(60):
        process = None
        try:
            alarm(0.0002 * (n % 10 + 1))
            process = lease.popen(["sleep", "600"], stdout=PIPE)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except AlarmError:
            interrupted += 1
        if process is not None:
            process.kill()
    assert interrupted > 0

    def left() -> int:
        script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 60[0]' | wc -l"
        return int(lease.execute(sh(script)).stdout)

    gc.collect()
    # Python may raise an exception between the return of a call and the assignment of its result.
    wait_until(lambda: left() <= 2, "no processes")
