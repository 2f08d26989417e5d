"""`Interpreter(start="exec")`: each sandbox starts a program of its own, which waits for one piece of code."""

from __future__ import annotations

import errno
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eyes import children
from scripts import run_script
from waiting import wait_until

from pysandpool import (
    Interpreter,
    InvalidSandboxConfigError,
    PoolConfig,
    PooledSandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxError,
    SandboxPool,
    SandpoolError,
)

ONE = PoolConfig(min_size=1, max_size=2)
PYTHON = "/usr/bin/python3"


def pool_of(interpreter: Interpreter, **config: Any) -> SandboxPool:
    return SandboxPool(SandboxConfig(interpreter=interpreter, **config), ONE)


@pytest.fixture(scope="module")
def python() -> Iterator[SandboxPool]:
    with pool_of(Interpreter(python=PYTHON, start="exec", preload=["json"], setup="ready = 1")) as pool:
        yield pool


@pytest.fixture
def lease(python: SandboxPool) -> Iterator[PooledSandbox]:
    with python.acquire() as sandbox:
        yield sandbox


# --- Python ----------------------------------------------------------------------------------------------


def test_code_finds_what_was_loaded(lease: PooledSandbox) -> None:
    result = lease.run_code("import sys\nprint(ready, 'json' in sys.modules, input())\nready + 41", input="line\n")
    assert (result.stdout, result.text, result.exit_code) == ("1 True line\n", "42", 0)


def test_an_exception_is_told_with_its_line(lease: PooledSandbox) -> None:
    result = lease.run_code("x = 0\n1 / x\n")
    assert result.exit_code == 1
    assert result.error is not None
    assert result.error.name == "ZeroDivisionError"
    assert "1 / x" in result.error.traceback


def test_environment_and_directory_are_those_of_the_call(lease: PooledSandbox) -> None:
    value = 'quotes " \\ newline\n tab\t é'
    code = "import os\nprint(sorted(os.environ), os.environ['NAME'], os.getcwd(), sep='|')"
    result = lease.run_code(code, env={"NAME": value, "LANG": None}, cwd="/usr")
    names, found, directory = result.stdout.rstrip("\n").split("|")
    assert (found, directory) == (value, "/usr")
    assert names == str(sorted({"PATH", "HOME", "LC_CTYPE", "TMPDIR", "NAME"}))


def test_each_call_of_a_lease_has_a_fresh_one(lease: PooledSandbox) -> None:
    first = lease.run_code("import os\nready = 2\nopen('file', 'w').write('kept')\nos.getpid()")
    second = lease.run_code("import os\nprint(ready, open('file').read())\nos.getpid()")
    assert second.stdout == "1 kept\n"
    assert int(first.text or "") != int(second.text or "")
    failed = lease.run_code("1 / 0")
    assert (failed.error and failed.error.name, failed.claimed.complete) == ("ZeroDivisionError", True)


def test_commands_and_code_take_turns(lease: PooledSandbox) -> None:
    for number in range(3):
        assert lease.execute(["/bin/echo", str(number)]).check().stdout == f"{number}\n".encode()
        result = lease.run_code(f"print({number})\n{number}")
        assert (result.stdout, result.text, result.ok) == (f"{number}\n", str(number), True)


def test_output_comes_while_the_code_runs(lease: PooledSandbox) -> None:
    came: list[str] = []
    code = "import time\nprint('first', flush=True)\ntime.sleep(0.05)\nprint('second')"
    result = lease.run_code(code, on_stdout=came.append)
    assert "".join(came) == "first\nsecond\n"
    assert result.exit_code == 0


def test_a_time_out_ends_the_code_and_not_the_lease(lease: PooledSandbox) -> None:
    result = lease.run_code("print('before', flush=True)\nwhile True: pass", timeout=0.5)
    assert (result.timed_out, result.stdout) == (True, "before\n")
    assert lease.run_code("print('after')").stdout == "after\n"


def test_a_signal_is_reported(lease: PooledSandbox) -> None:
    result = lease.run_code("import os\nos.kill(os.getpid(), 11)")
    assert (result.exit_code, result.signal) == (None, 11)


def test_much_code_arrives_whole(lease: PooledSandbox) -> None:
    assert lease.run_code(f"text = '''{'é' * 1_000_000}'''\nlen(text)").text == "1000000"


def test_memory_is_limited() -> None:
    with pool_of(Interpreter(python=PYTHON, start="exec"), memory_limit_mb=64) as pool:
        result = pool.run_code("hoard = []\nwhile True: hoard.append(bytearray(1 << 20))")
        assert result.oom_killed or result.exit_code == 1
        assert pool.run_code("print('next')").stdout == "next\n"


def test_no_two_sandboxes_share_a_hash_secret_or_addresses(python: SandboxPool) -> None:
    name_on_stack = "ctypes.c_void_p.in_dll(ctypes.CDLL(None), 'program_invocation_name').value"
    code = f"import ctypes\nprint(hash('text'), {name_on_stack})"
    found = [python.run_code(code).stdout.split() for _ in range(4)]
    assert len({secret for secret, _ in found}) == len({address for _, address in found}) == 4


def test_a_socket_is_left_to_the_code_and_nothing_else(lease: PooledSandbox) -> None:
    code = (
        "import os\nfound = []\nfor fd in range(os.sysconf('SC_OPEN_MAX')):\n    try:\n"
        "        os.fstat(fd)\n        found.append(fd)\n    except OSError:\n        pass\nprint(found)"
    )
    assert lease.run_code(code).stdout == "[0, 1, 2, 3]\n"


def test_beside_a_process_there_is_none(lease: PooledSandbox) -> None:
    with lease.popen(["/bin/sleep", "60"]) as process:
        with pytest.raises(SandboxError, match="busy"):
            lease.run_code("print(1)")
        process.kill()
    assert lease.run_code("print(1)").stdout == "1\n"


def test_a_session_is_refused(lease: PooledSandbox) -> None:
    with pytest.raises(SandboxError, match="exec"):
        lease.session()
    assert lease.run_code("print(1)").stdout == "1\n"


def test_with_a_workspace(python: SandboxPool, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("workspace")
    folder.chmod(0o777)
    (folder / "data").write_text("of the host")
    with python.acquire(workspace=folder) as sandbox:
        result = sandbox.run_code(
            "import os\nprint(os.environ['PWD'], open('data').read())\nopen('new', 'w').write('x')"
        )
        assert result.stdout == "/workspace of the host\n"
    assert (folder / "new").read_text() == "x"


def test_release_ends_the_one_that_waits(python: SandboxPool) -> None:
    with python.acquire() as sandbox:
        sandbox.execute(["/bin/true"])
        children = Path(f"/proc/{sandbox.pid}/task/{sandbox.pid}/children")
        wait_until(children.read_text, "another one waits after the command")
        inside = {(pid, started(pid)) for pid in children.read_text().split()}
    assert inside
    wait_until(lambda: not any(started(pid) == when for pid, when in inside), "the runtime has ended")


def started(pid: str) -> str | None:
    """When the process started, which tells it from a later one with its number; None: there is none."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


# --- others ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("node", path="/usr/bin:/usr/local/bin") is None, reason="Node.js is not installed")
def test_node() -> None:
    with pool_of(Interpreter.node()) as pool:
        code = "const fs = require('fs'); console.log(process.env.A, fs.readFileSync(0, 'utf8')); [1, 2]"
        result = pool.run_code(code, input="in", env={"A": 'a"\n'})
        assert (result.stdout, result.text, result.exit_code) == ('a"\n in\n', "[ 1, 2 ]", 0)
        failed = pool.run_code("null.field")
        assert (failed.exit_code, failed.error and failed.error.name) == (1, "TypeError")
        assert pool.run_code("process.exit(7)").exit_code == 7


@pytest.mark.skipif(shutil.which("bash", path="/bin:/usr/bin") is None, reason="bash is not installed")
def test_bash() -> None:
    script = """\
        f() { printf '%s|' "$@"; }
        f "$NAME" "$(cat)" 'single \\n "double"' é
        exit 3
        """
    with pool_of(Interpreter.bash()) as pool:
        result = pool.run_code(textwrap.dedent(script), input="in", env={"NAME": 'a"b\\c\nd'})
        assert (result.stdout, result.exit_code) == ('a"b\\c\nd|in|single \\n "double"|é|', 3)
        assert pool.run_code("compgen -v __; echo end").stdout == "end\n"


@pytest.mark.skipif(shutil.which("node", path="/usr/bin:/usr/local/bin") is None, reason="Node.js is not installed")
def test_a_long_text_of_javascript_is_truncated() -> None:
    with pool_of(Interpreter.node()) as pool:
        result = pool.run_code("'é'.repeat(9000)", max_output_bytes=2000)
        assert result.text_truncated
        assert result.text == "'" + "é" * (len(result.text) - 1)
        assert len(result.text) > 700


def test_a_program_of_the_caller() -> None:
    runtime = 'echo ready >&3; read -r line <&3; echo "$line"; echo \'{"t":"done","dropped":false}\' >&3; exit 5'
    with pool_of(Interpreter(start="exec", command=("/bin/sh", "-c", runtime))) as pool:
        result = pool.run_code("one\ntwo", env={"PATH": "/bin"}, cwd="/usr")
    assert result.stdout.startswith('{"code":"one\\u000atwo","env":{"PATH":"/bin"')
    assert '"cwd":"/usr","options":{' in result.stdout
    assert (result.exit_code, result.claimed.complete) == (5, True)


# --- what goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo cannot load it >&2; exit 1", "cannot load it"),
        ("echo hello >&3; sleep 60", "has not said that it is ready"),
        ("exec /bin/does-not-exist", "not found"),
        ("yes | head -c 20000 >&2; echo the last line >&2", "the last line"),
    ],
)
def test_one_that_does_not_get_ready(script: str, reason: str) -> None:
    with pytest.raises(SandboxCreateError) as caught:
        pool_of(Interpreter(start="exec", command=("/bin/sh", "-c", script)))
    assert (caught.value.stage, reason in str(caught.value)) == ("preload", True), caught.value


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_one_that_takes_too_long(start: Any) -> None:
    """`preload_timeout` holds for it, and no time is added that somebody would notice."""
    began = time.monotonic()
    with pytest.raises(SandboxCreateError, match="ready") as caught:
        pool_of(Interpreter(start=start, setup="import time\ntime.sleep(600)", preload_timeout=0.5))
    assert (caught.value.stage, caught.value.errno) == ("preload", errno.ETIMEDOUT)
    assert "Interpreter.preload_timeout" in caught.value.hint
    assert time.monotonic() - began < 6


def test_it_starts_once_for_each_sandbox(tmp_path: Path) -> None:
    """Not in the sandbox that the zygote makes for its proofs: there a long start would be waited for in vain."""
    tmp_path.chmod(0o777)
    starts = tmp_path / "starts"
    runtime = f"echo started >>{starts}; echo ready >&3; read request <&3"
    command = ("/bin/sh", "-c", runtime)
    with pool_of(Interpreter(start="exec", command=command), fs_readwrite=[tmp_path]):
        assert starts.read_text() == "started\n"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(SandboxCreateError, match="No such file") as caught:
        pool_of(Interpreter(start="exec", command=("does-not-exist",)))
    assert caught.value.stage == "preload"


def test_a_preload_that_fails_shows_its_reason() -> None:
    with pytest.raises(SandboxCreateError, match="No module named 'does_not_exist'"):
        pool_of(Interpreter(python=PYTHON, start="exec", preload=["does_not_exist"]))


def test_one_that_ends_before_it_is_asked() -> None:
    """The request is refused once init has reaped the runtime; before that, it may take the request and then end."""
    runtime = "echo ready >&3; exit 0"
    with pool_of(Interpreter(start="exec", command=("/bin/sh", "-c", runtime))) as pool, pool.acquire() as sandbox:
        wait_until(lambda: not children(sandbox.pid), "the end of the runtime")
        with pytest.raises(SandpoolError):
            sandbox.run_code("x")
        assert sandbox.execute(["/bin/echo", "usable"]).check().stdout == b"usable\n"


def test_one_that_does_not_read_is_killed_at_the_time_out() -> None:
    runtime = "echo ready >&3; sleep 600"
    with pool_of(Interpreter(start="exec", command=("/bin/sh", "-c", runtime))) as pool, pool.acquire() as sandbox:
        assert sandbox.run_code("x" * 3_000_000, timeout=0.5).timed_out
        assert sandbox.execute(["/bin/echo", "usable"]).check().stdout == b"usable\n"


def test_without_free_descriptors_the_code_fails_and_the_lease_stays() -> None:
    """The answer of a runtime brings four of them."""
    done = run_script(
        """
import errno, resource
from host_state import leave_free_fds
from pysandpool import Interpreter, PoolConfig, SandboxConfig, SandboxError, SandboxPool

runtime = "echo ready >&3; read request <&3"
config = SandboxConfig(interpreter=Interpreter(start="exec", command=("/bin/sh", "-c", runtime)))
with SandboxPool(config, PoolConfig(min_size=1, max_idle_duration=None)) as pool, pool.acquire() as lease:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for free in range(4):
        leave_free_fds(free)
        try:
            lease.run_code("x")
        except SandboxError as error:
            assert error.errno == errno.EMFILE, error
            print(free, end=" ")
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        lease.execute(["/bin/true"]).check()
    assert lease.run_code("x").exit_code == 0
print("well")
"""
    )
    assert (done.stdout, done.stderr) == ("0 1 2 3 well\n", "")


@pytest.mark.parametrize(
    "fields",
    [
        {"start": "spawn"},
        {"start": 1},
        {"command": ("node",)},
        {"command": "node", "start": "exec"},
        {"command": (), "start": "exec"},
        {"command": ("a\0b",), "start": "exec"},
        {"command": ("a",) * 300, "start": "exec"},
        {"command": ("node",), "start": "exec", "preload": ("json",)},
        {"command": ("node",), "start": "exec", "setup": "x = 1"},
    ],
)
def test_fields_that_do_not_fit(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidSandboxConfigError, match=r"Interpreter\."):
        Interpreter(python=sys.executable, **fields)
