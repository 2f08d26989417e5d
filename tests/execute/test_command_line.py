"""`python -m pysandpool run`: streams pass through as they come, and nothing of a command is lost or left."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import full_tier
import pytest
from eyes import alive
from eyes_linux import descendants
from waiting import Call, wait_until

from pysandpool._execute import passage

pytestmark = pytest.mark.slow  # not in `make quick`

RUN = [sys.executable, "-m", "pysandpool", "run", *full_tier.allowing()]
LINE = shlex.join(RUN)
MIB = 1024 * 1024
PYTHON = "/usr/bin/python3"
FLAGS = "import fcntl, sys; sys.stderr.write(str(fcntl.fcntl(1, fcntl.F_GETFL)))"


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options = {"stdin": subprocess.DEVNULL, **options} if "input" not in options else options
    return subprocess.run([*RUN, *words], check=False, timeout=60, capture_output=True, **options)


def start(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    return subprocess.Popen([*RUN, *words], **{**streams, **options})


# --- what passes through ---------------------------------------------------------------------------------


def test_output_and_exit_code() -> None:
    done = run("--", "/bin/sh", "-c", "printf out; printf err >&2; exit 37")
    assert (done.stdout, done.stderr, done.returncode) == (b"out", b"err", 37)


def test_large_output_is_complete() -> None:
    script = "import os\nfor i in range(320): os.write(1, bytes([i % 256]) * 65536)"
    with start("--", PYTHON, "-c", script) as process:
        assert process.stdout is not None
        found = hashlib.sha256(process.stdout.read())
    expected = hashlib.sha256(b"".join(bytes([i % 256]) * 65536 for i in range(320)))
    assert (found.hexdigest(), process.returncode) == (expected.hexdigest(), 0)


def test_output_into_a_file_is_complete(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        done = subprocess.run([*RUN, "--", "/usr/bin/head", "-c", str(20 * MIB), "/dev/zero"], check=False, stdout=file)
    assert done.returncode == 0
    assert (tmp_path / "out").stat().st_size == 20 * MIB


def test_a_pipe_takes_as_much_as_it_can_hold(tmp_path: Path) -> None:
    """And it stays a pipe whose writers wait, for other programs that write to it."""
    read, write = os.pipe()
    flags = fcntl.fcntl(write, fcntl.F_GETFL)
    with start("--", "/usr/bin/head", "-c", str(64 * MIB), "/dev/zero", stdout=write) as process:
        os.close(write)
        largest = total = 0
        while piece := os.read(read, MIB):
            largest, total = max(largest, len(piece)), total + len(piece)
        assert process.wait(10) == 0
    os.close(read)
    assert total == 64 * MIB
    assert largest > 64 * 1024
    line = f"{LINE} -- /bin/echo out; {sys.executable} -c '{FLAGS}'"
    done = subprocess.run(["/bin/sh", "-c", line], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert (done.stdout, int(done.stderr)) == (b"out\n", flags)


def test_a_pipe_that_cannot_be_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may belong to another user. Then no write is longer than what the pipe takes at once."""
    monkeypatch.setattr(passage, "_opened_anew", lambda _: -1)
    read, write = os.pipe()
    sink = passage.Sink(write)
    sink.put(bytes(MIB))
    assert sink.pass_on() == write  # it would wait for the reader
    reader = Call(lambda: b"".join(iter(lambda: os.read(read, MIB), b"")))
    sink.end(b"end")
    os.close(write)
    assert reader.result() == bytes(MIB) + b"end"
    os.close(read)


def test_what_has_no_reader_takes_all_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lengths: list[int] = []
    write = os.write
    monkeypatch.setattr(passage.os, "write", lambda fd, data: lengths.append(len(data)) or write(fd, data))
    for path in ("/dev/null", tmp_path / "file"):
        with open(path, "wb") as file:
            sink = passage.Sink(file.fileno())
            sink.put(bytes(MIB))
            assert sink.pass_on() == -1
    assert lengths == [MIB, MIB]


def test_large_input_takes_large_steps() -> None:
    """The caller's pipe and the command's hold what one turn moves."""
    command = "import os\nprint(max(map(len, iter(lambda: os.read(0, 1 << 20), b''))))"
    read, write = os.pipe()
    with start("--", "/usr/bin/python3", "-c", f"import time; time.sleep(0.5)\n{command}", stdin=read) as process:
        os.close(read)
        for _ in range(16):
            os.write(write, bytes(MIB))
        os.close(write)
        out, _ = process.communicate(timeout=30)
    assert int(out) > 64 * 1024


def test_large_input_passes(tmp_path: Path) -> None:
    data = os.urandom(10 * MIB)
    (tmp_path / "in").write_bytes(data)
    assert run("--", "/bin/cat", input=data).stdout == data
    with (tmp_path / "in").open("rb") as file:
        assert run("--stdin", "--", "/bin/cat", stdin=file).stdout == data


def test_a_line_passes_in_both_directions_while_the_command_runs() -> None:
    with start("--", "/bin/cat", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"first\n", b"second\n"):
            process.stdin.write(line)
            assert process.stdout.readline() == line
        process.stdin.close()
        assert process.wait(10) == 0


def test_input_that_nobody_reads_is_no_error() -> None:
    done = run("--", "/bin/echo", "done", input=bytes(MIB))
    assert (done.stdout, done.stderr, done.returncode) == (b"done\n", b"", 0)


@pytest.mark.parametrize(("words", "expected"), [([], b""), (["--stdin"], b"typed\n")])
def test_a_terminal_is_read_only_on_demand(words: list[str], expected: bytes) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"typed\n\x04")
        assert run(*words, "--", "/bin/cat", stdin=theirs).stdout == expected
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_command_does_not_get_a_terminal() -> None:
    ours, theirs = pty.openpty()
    try:
        script = "test -t 0 || test -t 1 || test -t 2 || echo none"
        assert (
            subprocess.run([*RUN, "--", "/bin/sh", "-c", script], check=False, stdin=theirs, stdout=theirs).returncode
            == 0
        )
        assert os.read(ours, 100) == b"none\r\n"
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_dev_null(closed: str) -> None:
    script = "cat; echo out; echo err >&2; exit 3"
    line = f"{LINE} -- /bin/sh -c '{script}' {closed}"
    done = subprocess.run(["/bin/sh", "-c", line], check=False, capture_output=True, stdin=subprocess.DEVNULL)
    expected = (b"" if " >" in f" {closed}" else b"out\n", b"" if "2>" in closed else b"err\n", 3)
    assert (done.stdout, done.stderr, done.returncode) == expected


def test_an_input_that_cannot_be_read_is_empty() -> None:
    with Path(os.devnull).open("wb") as write_only:  # as nohup(1) leaves it
        assert run("--", "/bin/cat", stdin=write_only).returncode == 0


# --- how it ends -----------------------------------------------------------------------------------------


def test_a_reader_that_leaves_ends_the_command() -> None:
    line = f"{LINE} --timeout 20 -- yes | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["/bin/bash", "-c", line], check=False, capture_output=True, timeout=15)
    assert (done.stdout, done.stderr) == (b"y\n141\n", b"")


def test_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("--", "/usr/bin/yes", stdout=full)
        assert process.stderr is not None
        assert process.stderr.read() == b"pysandpool: cannot write the output: No space left on device\n"
        assert process.wait(10) == 125
        process.stderr.close()


def test_timeout() -> None:
    done = run("--timeout", "0.5", "--", "/bin/sh", "-c", "echo kept; sleep 60")
    assert (done.stdout, done.returncode) == (b"kept\n", 124)
    assert done.stderr == b"pysandpool: the command ran longer than 0.5 s and was killed (--timeout)\n"


def test_a_reader_that_waits_does_not_delay_the_timeout() -> None:
    with start("--timeout", "0.5", "--", "/usr/bin/yes") as process:
        below = wait_for_command(process, "yes")
        wait_until(lambda: not alive(below), "the command is dead", 5)
        assert process.stdout is not None
        # Two pipes and two pieces of 1 MiB each.
        assert len(process.stdout.read()) <= 4 * MIB
        assert process.wait(10) == 124


@pytest.mark.namespaces("a scratch of limited size")
def test_too_much_memory() -> None:
    script = "head -c 60000000 /dev/zero > /tmp/file; sleep 60"  # what is in /tmp counts
    done = run("--memory", "32", "--", "/bin/sh", "-c", script)
    assert done.stderr == b"pysandpool: the command used more than 32 MiB of memory and was killed (--memory)\n"
    assert done.returncode == 137


def test_too_much_cpu_time() -> None:
    done = run("--cpu-time", "0.2", "--", PYTHON, "-c", "while True: pass")
    assert done.stderr == b"pysandpool: the command used 0.2 s of CPU time or more (--cpu-time)\n"
    assert done.returncode == 128 + signal.SIGXCPU


def test_the_python_of_this_process() -> None:
    done = run("--python", "--", "python", "-c", "import sys; print(sys.prefix)")
    assert (done.stdout.decode().strip(), done.returncode) == (sys.prefix, 0)


def test_truncation_is_reported() -> None:
    done = run("--max-output-bytes", "5", "--", "/bin/sh", "-c", "echo 123456789; echo 1 >&2; exit 3")
    assert (done.stdout, done.returncode) == (b"12345", 3)
    assert done.stderr == b"1\npysandpool: stdout was truncated after 5 bytes (--max-output-bytes)\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_signal_is_reported_as_a_shell_does(number: signal.Signals) -> None:
    assert run("--", "/bin/sh", "-c", f"kill -{int(number)} $$").returncode == 128 + number


def test_failures_of_the_start() -> None:
    assert run("--", "no-such-command").returncode == 127
    assert run("--", "/etc/passwd").returncode == 126
    assert run("--cwd", "/nowhere", "--", "/bin/true").returncode == 125
    assert run("--memory", "0", "--", "/bin/true").returncode == 125
    assert run().returncode == 2


def wait_for_command(process: subprocess.Popen[bytes], name: str) -> int:
    def found() -> list[int]:
        return [pid for pid in descendants(process.pid) if name_of(pid) == name]

    wait_until(found, f"{name} runs", 20)
    return found()[0]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    ("command", "name"),
    [(["/bin/sleep", "60"], "sleep"), (["/usr/bin/yes"], "yes"), (["/bin/cat"], "cat")],
    ids=["silent", "blocked writer", "waiting for input"],
)
def test_interrupt(command: list[str], name: str) -> None:
    with start("--", *command, stdin=subprocess.PIPE) as process:
        wait_for_command(process, name)
        time.sleep(0.1)
        below = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""
        wait_until(lambda: not any(alive(pid) for pid in below), "nothing is left")


def test_termination_leaves_nothing() -> None:
    with start("--", "/bin/sleep", "60") as process:
        wait_for_command(process, "sleep")
        below = descendants(process.pid)
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
        wait_until(lambda: not any(alive(pid) for pid in below), "nothing is left")


# --- --json ----------------------------------------------------------------------------------------------


def test_json() -> None:
    done = run("--json", "--", "/bin/sh", "-c", r"cat; printf '\377' >&2; exit 3", input="für".encode())
    found = json.loads(done.stdout)
    assert (done.stdout.count(b"\n"), done.stderr, done.returncode) == (1, b"", 3)
    times = [found.pop(name) for name in ("elapsed", "user_time", "system_time", "max_rss_bytes")]
    assert all(time >= 0 for time in times)
    assert found == {
        "error": None,
        "exit_code": 3,
        "signal": None,
        "timed_out": False,
        "oom_killed": False,
        "cpu_time_exceeded": False,
        "stdout": "für",
        "stdout_base64": None,
        "stdout_truncated": False,
        "stderr": "\ufffd",
        "stderr_base64": base64.b64encode(b"\xff").decode(),
        "stderr_truncated": False,
    }


def test_json_of_a_timeout_and_of_truncation() -> None:
    done = run("--json", "--timeout=0.5", "--max-output-bytes=3", "--", "/bin/sh", "-c", "echo 12345; sleep 60")
    found = json.loads(done.stdout)
    assert (found["timed_out"], found["signal"], found["exit_code"]) == (True, signal.SIGKILL, None)
    assert (found["stdout"], found["stdout_truncated"], found["stderr_truncated"]) == ("123", True, False)
    assert (done.stderr, done.returncode) == (b"", 124)


def test_json_of_a_failure() -> None:
    done = run("--json", "--", "no-such-command")
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "CommandNotFoundError"
    assert "ENOENT" in error["message"]
    assert (done.stderr, done.returncode) == (b"", 127)
