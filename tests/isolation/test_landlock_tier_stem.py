"""What an interpreter that is copied can reach in the Landlock tier: before there is a sandbox, and in one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_landlock_tier import IS_ROOT, directory, mark, parent_of, with_mark
from test_landlock_tier_code import PYTHON, _in_the_tier, abi, code_config
from waiting import wait_until

from pysandpool import PoolConfig, Sandbox, SandboxCreateError, SandboxPool

__all__ = ["_in_the_tier", "abi", "directory", "mark"]  # fixtures of this module, too

ONE = PoolConfig(min_size=1, max_size=2)
REFUSED = {1, 13, 97}  # EPERM, EACCES, EAFNOSUPPORT
LEASE_ID = 2_000_000_000

ATTEMPTS = """
import os, socket
def attempt(what):
    try:
        what()
    except OSError as error:
        return error.errno
    return 0
def attempts(directory):
    return [attempt(what) for what in (
        lambda: open(directory + "/secret").close(),
        lambda: open(directory + "/new", "w").close(),
        lambda: os.listdir(directory),
        lambda: os.listdir("/"),
        lambda: os.unlink(directory + "/secret"),
        lambda: socket.socket().close(),
        lambda: open("/proc/%d/environ" % HOST).close(),
        lambda: os.kill(HOST, 0),
    )]
"""


@pytest.fixture
def outside(directory: Path) -> str:
    """A directory of the host that everybody may read and change."""
    directory.chmod(0o777)
    (directory / "secret").write_text("of the host\n")
    return str(directory)


def attempts_of(outside: str) -> str:
    return f"HOST = {os.getpid()}\n{ATTEMPTS}found = attempts({outside!r})\nids = os.getresuid()\n"


def test_the_attempts_succeed_on_the_host(outside: str) -> None:
    names: dict[str, Any] = {}
    exec(attempts_of(outside), names)
    assert set(names["found"]) == {0}


def test_a_preload_finds_what_its_sandboxes_find(abi: int, outside: str) -> None:
    setup = attempts_of(outside) + "effective = [line for line in open('/proc/self/status') if 'CapEff' in line]"
    with SandboxPool(code_config("fork", setup=setup), ONE) as pool:
        found, ids, effective = eval(pool.run_code("found, ids, effective").text or "")
    # Before ABI 6 only other ids keep signals from the host; they reach it from no tenant.
    kept, signals = found[:-1], found[-1]
    assert set(kept) <= REFUSED, found
    assert signals in REFUSED or (abi < 6 and not IS_ROOT)
    assert ids == ((65534,) * 3 if IS_ROOT else (os.getuid(),) * 3)
    assert [int(line.split()[1], 16) for line in effective] == [0]


def test_what_runs_in_each_sandbox_before_its_code_is_confined_as_the_code(abi: int, outside: str) -> None:
    after = (
        attempts_of(outside)
        + "found += [attempt(lambda: open('/proc/self/status')), attempt(lambda: os.kill(os.getppid(), 0))]"
    )
    with SandboxPool(code_config("fork", after_fork=after), ONE) as pool:
        found, ids = eval(pool.run_code("found, ids").text or "")
        later = eval(pool.run_code(f"attempts({outside!r})").text or "")
    assert set(found) <= REFUSED, found
    assert set(later) <= REFUSED, later
    assert len(set(ids)) == 1
    assert ids[0] >= LEASE_ID if IS_ROOT else ids[0] == os.getuid()


REACH = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
class Piece(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_size_t)]
def call(result):
    return ctypes.get_errno() if result == -1 else 0
def reach(pid, at, size):
    room = ctypes.create_string_buffer(size)
    here, there = Piece(ctypes.addressof(room), size), Piece(at, size)
    return [
        call(libc.kill(pid, 0)),
        call(libc.syscall(310, pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)),  # process_vm_readv
        call(libc.ptrace(16, pid, 0, 0)),  # PTRACE_ATTACH
        call(libc.syscall(302, pid, 7, None, ctypes.byref(here))),  # prlimit64
    ]
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86_64")
def test_the_code_of_another_lease_is_out_of_reach(abi: int) -> None:
    with SandboxPool(code_config("fork", setup=REACH), PoolConfig(min_size=2)) as pool:
        with pool.acquire() as one, pool.acquire() as other, one.session() as victim:
            pid, at = eval(
                victim.run("room = ctypes.create_string_buffer(b'secret')\n(os.getpid(), ctypes.addressof(room))").text
                or ""
            )
            os.kill(pid, 0)  # the host sees it under this number
            for target in (pid, one.pid, other.pid, parent_of(one.pid)):
                found = eval(other.run_code(f"reach({target}, {at}, 6)").text or "")
                # SECURITY.md declares the last one for an ordinary user: limits can be read there, and not be set.
                assert all(found[:-1]), (target, found)
                assert found[-1] or not IS_ROOT, (target, found)
            assert victim.run("room.value").text == "b'secret'"
            own = other.run_code(
                "import subprocess\nsleeper = subprocess.Popen(['/bin/sleep', '9'])\nlibc.kill(sleeper.pid, 9)"
            )
            assert own.text == "0", "its own processes are in reach"


IS_OPEN = """
import os
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
"""


def test_only_the_streams_and_the_channel_are_open(abi: int) -> None:
    code = "[fd for fd in range(1024) if is_open(fd)]"
    with SandboxPool(code_config("fork", setup=IS_OPEN), ONE) as pool, pool.acquire() as lease:
        texts = [lease.run_code(code).text]
        with lease.session() as session:
            texts.append(session.run(code).text)
    for found in (eval(text or "") for text in texts):
        assert (found[:3], len(found)) == ([0, 1, 2], 4), found


def memory_of(pid: int) -> Iterator[bytes]:
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(bound, 16) for bound in line.split()[0].split("-"))
            try:
                memory.seek(start)
                yield memory.read(end - start)
            except (OSError, OverflowError, ValueError):
                continue


@pytest.mark.skipif(not IS_ROOT, reason="only root reads the memory of init")
def test_the_paths_of_the_host_are_not_in_the_memory_of_code(abi: int, directory: Path) -> None:
    shown = directory / f"shown-{os.urandom(8).hex()}"
    shown.mkdir()
    wanted = shown.name.encode()
    with SandboxPool(code_config("fork", fs_readonly=[str(shown)]), ONE) as pool, pool.acquire() as lease:
        with lease.session() as session:
            pid = int(session.run("os.getpid()").text or "")
            assert any(wanted in piece for piece in memory_of(lease.pid)), "init knows it"
            assert not any(wanted in piece for piece in memory_of(pid))


@pytest.mark.slow
def test_a_sandbox_whose_preparation_hangs_is_given_up_and_ends(abi: int, mark: str) -> None:
    hang = f"import os\nos.spawnv(os.P_WAIT, '/bin/sleep', ['sleep', '{mark}'])"
    # The pool, and so the zygote, lives on: nothing but init ends the sandbox.
    with SandboxPool(code_config("fork", after_fork=hang, preload_timeout=5), PoolConfig(min_size=0)) as pool:
        with pytest.raises(SandboxCreateError) as caught:
            pool.acquire()
        assert caught.value.stage == "timeout", caught.value
        wait_until(lambda: with_mark(mark) == [], "all processes have ended")


@pytest.mark.parametrize("victim", ["init", "zygote"])
def test_nothing_is_left_when_init_or_the_zygote_is_killed(abi: int, mark: str, victim: str) -> None:
    code = f"import subprocess\n[subprocess.Popen(['/bin/sleep', '{mark}'], start_new_session=True) for _ in range(3)]"
    with SandboxPool(code_config("fork"), ONE) as pool:
        lease = pool.acquire()
        session = lease.session()
        session.run(code)
        wait_until(lambda: len(with_mark(mark)) == 3, "the processes have started")
        os.kill(lease.pid if victim == "init" else parent_of(lease.pid), signal.SIGKILL)
        wait_until(lambda: with_mark(mark) == [], "all processes have ended")
        lease.release()
        assert pool.run_code("ready").text == "41"


@pytest.mark.skipif(not IS_ROOT, reason="only root opens a pid namespace, and gives leases ids of their own")
@pytest.mark.parametrize("victim", ["none", "init"])
def test_the_kill_of_a_lease_reaches_no_other_process(abi: int, victim: str) -> None:
    """In a pid namespace: otherwise the failure of this test would end every process of the machine."""
    script = f"""
        import os, signal, subprocess, time
        from pysandpool import *
        other = subprocess.Popen(["sleep", "60"])
        allow = NamespaceDegradation.ALLOW_DEGRADATION
        config = SandboxConfig(namespace_degradation=allow, interpreter=Interpreter(python={PYTHON!r}))
        with SandboxPool(config, PoolConfig(min_size=2)) as pool, pool.acquire() as lease:
            assert lease.run_code("1").text == "1" and lease.isolation.tier == "landlock"
            if {victim!r} == "init":
                os.kill(lease.pid, signal.SIGKILL)
                time.sleep(0.5)
        time.sleep(0.5)
        print("alive" if other.poll() is None else "killed")
        other.kill()
    """
    apart = [
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        sys.executable,
        "-c",
        textwrap.dedent(script),
    ]
    done = subprocess.run(apart, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "alive\n", done


def test_a_closed_pool_leaves_no_file(abi: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    setup = "import os, tempfile\nplace = tempfile.mkdtemp()\nopen(place + '/of the preload', 'w').close()"
    with SandboxPool(code_config("fork", setup=setup), ONE) as pool:
        assert (
            pool.run_code("import os\n[tempfile.gettempdir() == os.getcwd(), os.path.exists(place)][0]").text == "True"
        )
        assert len(list(directory.iterdir())) == 1
    assert list(directory.iterdir()) == []


def test_writable_paths_are_for_an_interpreter_that_is_started(directory: Path) -> None:
    if IS_ROOT:
        directory.chmod(0o777)
    with pytest.raises(SandboxCreateError) as caught:
        Sandbox(code_config("fork", fs_readwrite=[str(directory)]))
    assert (caught.value.stage, caught.value.errno) == ("tier", 95)
    assert 'start="exec"' in str(caught.value)
    with Sandbox(code_config("exec", fs_readwrite=[str(directory)])) as sandbox:
        assert sandbox.run_code(f"open({str(directory / 'made')!r}, 'w').write('x')").text == "1"
    assert (directory / "made").read_text() == "x"
