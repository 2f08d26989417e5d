"""The rows of README.md beside this file that no attack shows, each tried on a real Mac.

Prints a line for each; exits with 1 when one does not hold. Run by the workflow macos.yml.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from pysandpool import (
    IsolationReport,
    PoolConfig,
    PoolStateError,
    SandboxConfig,
    SandboxLostError,
    SandboxPool,
    SeccompProfile,
)

PYTHON = "/usr/bin/python3"
ALLOW_ALL = "(version 1)(allow default)"
Check = Callable[[], object]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def pool_of(**fields: object) -> SandboxPool:
    return SandboxPool(SandboxConfig(**fields), PoolConfig(min_size=1))  # type: ignore[arg-type]


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"not within 10 s: {what}"
        time.sleep(0.01)


def exists(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@check
def profiles() -> None:
    """sandbox-exec takes the profile of each kind of configuration, and the agent starts under it."""
    folder = os.path.realpath(tempfile.mkdtemp())
    for fields in (
        {},
        {"fs_readonly": [folder]},
        {"fs_readwrite": [folder], "allow_unix_sockets": True},
        {"deny_network": False, "seccomp_profile": SeccompProfile.NETWORK},
    ):
        with pool_of(**fields) as pool, pool.acquire() as lease:
            assert lease.execute(["/bin/echo", "on"]).check().stdout == b"on\n", fields


@check
def report() -> None:
    """The agent proves what it says, and no more: RLIMIT_DATA limits no mapping here."""
    with pool_of() as pool, pool.acquire() as lease:
        assert lease.isolation == IsolationReport(tier="seatbelt", mounts="partial", network="partial"), lease.isolation


@check
def signals_stay_inside() -> None:
    """kill(-1) reaches its own sandbox and no other one of the same profile."""
    with pool_of() as pool, pool.acquire() as one, pool.acquire() as other:
        one.execute([PYTHON, "-c", "import os; os.kill(-1, 0)"])
        one.execute(["/bin/sh", "-c", "kill -9 -1"])
        assert exists(other.pid)
        assert other.execute(["/bin/echo", "on"]).check().stdout == b"on\n"


@check
def strays_are_found() -> None:
    """What a tenant that kills its agent leaves is ended from outside."""
    with pool_of() as pool:
        lease = pool.acquire()
        script = "(trap '' TERM; exec /bin/sleep 4711) & kill -9 $PPID; exec /bin/sleep 4711"
        with contextlib.suppress(SandboxLostError):
            lease.execute(["/bin/sh", "-c", script])
        lease.release()
        search = ["/usr/bin/pgrep", "-f", "sleep 4711"]
        until(lambda: subprocess.run(search, capture_output=True, check=False).returncode == 1, "strays end")


@check
def descriptors() -> None:
    """A command has 0, 1 and 2, and nothing of the host's."""
    code = (
        "import os\ndef is_open(fd):\n    try: return bool(os.fstat(fd))\n    except OSError: return False\n"
        "print([fd for fd in range(256) if is_open(fd)])"
    )
    with pool_of() as pool, pool.acquire() as lease:
        assert lease.execute([PYTHON, "-c", code]).check().stdout.split() == [b"[0,", b"1,", b"2]"]


@check
def large_request() -> None:
    """A record, its descriptors and a payload of many packets arrive whole over SOCK_STREAM."""
    data = os.urandom(1 << 20)
    with pool_of() as pool, pool.acquire() as lease:
        words = ["x" * 100_000, "y" * 100_000]
        done = lease.execute(["/bin/sh", "-c", "echo ${#1} ${#2}; cat", "sh", *words], input=data).check()
        assert done.stdout == b"100000 100000\n" + data


@check
def death_is_noticed() -> None:
    """The end of the lifeline wakes kevent: a dead idle one is replaced, and not handed out."""
    with pool_of() as pool:
        with pool.acquire() as lease:
            pid = lease.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: pool.stats().evict_count == 1 and pool.stats().idle_count == 1, "it is replaced")


@check
def forked_child() -> None:
    """The mark of forks is cleared by os.fork()."""
    with pool_of() as pool:
        child = os.fork()
        if child == 0:
            try:
                pool.acquire()
            except PoolStateError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


@check
def nested() -> None:
    """Inside another sandbox creation fails with its reason, and doctor says so."""
    command = ["/usr/bin/sandbox-exec", "-p", ALLOW_ALL, sys.executable, "-m", "pysandpool", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert (done.returncode, found["works"], found["stage"]) == (1, False, "seatbelt"), found
    assert found["seatbelt"]["confined"], found


@check
def sweep() -> None:
    """What a killed host left goes with the next one that starts."""
    code = (
        "import os, signal\nfrom pysandpool import SandboxPool\npool = SandboxPool()\n"
        "print(pool.acquire().execute(['/bin/pwd']).check().stdout.decode(), end='', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    assert left.name.startswith("s"), done
    with pool_of() as pool, pool.acquire():
        until(lambda: not left.exists(), "it is swept")


@check
def semaphores() -> None:
    """multiprocessing has its own, and no other name."""
    code = "import multiprocessing as m; m.get_context('spawn').Lock()"
    other = "import ctypes; raise SystemExit(ctypes.CDLL(None).sem_open(b'/other', 0x200, 0o600, 1) != -1)"
    with pool_of() as pool, pool.acquire() as lease:
        lease.execute([PYTHON, "-c", code]).check()
        lease.execute([PYTHON, "-c", other]).check()


def main() -> int:
    failed = 0
    for name, function in CHECKS.items():
        try:
            function()
        except Exception:  # noqa: BLE001  # all of them are to be seen
            failed += 1
            print(f"FAILS  {name}: {function.__doc__}")
            traceback.print_exc()
        else:
            print(f"holds  {name}: {function.__doc__}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
