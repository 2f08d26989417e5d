"""A host, whatever it is, does not meet the processes of the library: no SIGCHLD, no child for wait(), no zombie."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from full_tier import ALLOWING, denies_namespaces, refusal
from scripts import SUPPORT

from pysandpool._backend.machine import kernel_version

IN_NAMESPACE = [
    "unshare",
    *(["--user", "--map-root-user"] if os.geteuid() != 0 else []),
    "--pid",
    "--fork",
    "--mount-proc",
]

TOOLS = """
import os, resource, signal, subprocess, sys, threading, time
from contextlib import suppress
from pathlib import Path
from eyes import alive, children, see_orphans, stat_fields, status_field, zygote_of
from host_state import HostState, leave_free_fds
from waiting import wait_until
from pysandpool import *

def named(word):
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and word in Path(f"/proc/{name}/comm").read_text():
                found.append(int(name))
    return found

def zombies():
    return [pid for pid in named("sandpool") if (stat_fields(pid) or ["X"])[0] == "Z"]

def use_pools(count=3):
    for _ in range(count):
        with SandboxPool() as pool, pool.acquire() as lease:
            assert lease.execute(["/bin/echo", "x"]).check().stdout == b"x\\n"

def nobody_is_met():
    with suppress(ChildProcessError):
        raise AssertionError(f"met {os.waitpid(-1, os.WNOHANG)}")
"""


@pytest.fixture(params=["full", "landlock"], autouse=True)
def tier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """In the Landlock tier no namespace of pids keeps orphans from the host."""
    found: str = request.param
    if found == "landlock":
        if kernel_version() < (5, 13):
            pytest.skip("this kernel has no Landlock")
        monkeypatch.setenv("PYSANDPOOL_TIER", found)
        monkeypatch.setitem(globals(), "TOOLS", TOOLS + ALLOWING)
    elif refusal():
        pytest.skip(f"needs namespaces: {refusal()}")
    return found


def check(code: str, *arguments: str, within: list[str] | None = None) -> None:
    """Runs the tools and then the code, which has to say that all went well; `within` is a command in front of it."""
    if within is not None and denies_namespaces():
        pytest.skip("a container forbids the namespace in which the host would be pid 1")
    done = subprocess.run(
        [*(within or []), sys.executable, "-c", TOOLS + code, *arguments],
        cwd=SUPPORT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "well\n", 0)


MEETS_NOBODY = """
heard = []
signal.signal(signal.SIGCHLD, lambda *_: heard.append(1))
over, met = threading.Event(), []
def wait():
    while not over.is_set():
        with suppress(ChildProcessError):
            met.append(os.wait())
        time.sleep(0.001)
thread = threading.Thread(target=wait)
thread.start()
use_pools(5)
with SandboxPool() as pool, pool.acquire() as lease:
    os.kill(zygote_of(lease), signal.SIGKILL)
    with suppress(SandboxError):
        lease.execute(["/bin/true"])
    with pool.acquire() as other:
        other.execute(["/bin/true"]).check()
over.set()
thread.join()
assert (met, heard) == ([], []), (met, heard)
wait_until(lambda: not children(), "they are all gone")
print("well")
"""


def test_wait_and_signal() -> None:
    check(MEETS_NOBODY)


def test_host_that_is_pid_1() -> None:
    """Orphans come to it, with SIGCHLD: so there must be none."""
    check("assert os.getpid() == 1\n" + MEETS_NOBODY, within=IN_NAMESPACE)


def test_host_that_gets_orphans() -> None:
    check("see_orphans()\n" + MEETS_NOBODY)


def test_host_that_ignores_sigchld() -> None:
    check("signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nuse_pools()\nnobody_is_met()\nprint('well')")


def test_a_reaping_handler_does_not_block() -> None:
    """The classic one waits for any child, and the application has one that lives."""
    code = """
signal.signal(signal.SIGCHLD, lambda *_: os.wait())
worker = subprocess.Popen(["/bin/sleep", "60"])
started = time.monotonic()
use_pools()
assert time.monotonic() - started < 20
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
worker.kill()
worker.wait()
print("well")
"""
    check(code)


def test_pid_1_that_does_not_reap() -> None:
    code = """
assert os.getpid() == 1
host = subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
assert not zombies(), zombies()
print("well")
"""
    check(code, TOOLS + "use_pools(5)", within=IN_NAMESPACE)


def test_what_the_reaper_is() -> None:
    """It shares the host's memory: it must have nothing else of it, and be able to do nothing."""
    code = """
read, write = os.pipe()
os.set_inheritable(write, True)
with SandboxPool() as pool:
    (reaper,) = [pid for pid in children() if pid in named("sandpool-reaper")]
    links = [os.readlink(f"/proc/{reaper}/fd/{fd}") for fd in os.listdir(f"/proc/{reaper}/fd")]
    assert len(links) == 2 and "anon_inode:[signalfd]" in links and "pidfd" in "".join(links), links
    assert status_field(reaper, "Seccomp") == "2"
    assert status_field(reaper, "NoNewPrivs") == "1"
    assert os.getsid(reaper) == reaper
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(reaper, number)
    with pool.acquire() as lease:
        lease.execute(["/bin/true"]).check()
    os.close(write)
    assert os.read(read, 1) == b"", "no other holds the pipe open"
assert not alive(reaper)
print("well")
"""
    check(code)


def test_it_ends_with_the_host() -> None:
    code = """
from pysandpool import *
import os, time
pool = SandboxPool(SandboxConfig(namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION))
print(os.getpid(), flush=True)
time.sleep(60)
"""
    check(
        f"""
host = subprocess.Popen([sys.executable, "-c", {code!r}], stdout=subprocess.PIPE)
host.stdout.readline()
(reaper,) = children(host.pid)
host.kill()
host.wait()
wait_until(lambda: not alive(reaper), "the reaper is gone", 5)
wait_until(lambda: not [pid for pid in named("sandpool") if alive(pid)], "all are", 5)
print("well")
""",
        within=IN_NAMESPACE,
    )


def test_without_a_reaper() -> None:
    """Killed by somebody: what it stands for goes on, and still nothing is left behind."""
    code = """
with SandboxPool() as pool:
    (reaper,) = [pid for pid in children() if pid in named("sandpool-reaper")]
    os.kill(reaper, signal.SIGKILL)
    for _ in range(3):
        with pool.acquire() as lease:
            lease.execute(["/bin/true"]).check()
wait_until(lambda: not alive(reaper), "it is gone")
print("well")
"""
    check(code)


def test_a_stopped_zygote_does_not_hold_up_close() -> None:
    code = """
pool = SandboxPool()
with pool.acquire() as lease:
    zygote = zygote_of(lease)
os.kill(zygote, signal.SIGSTOP)
started = time.monotonic()
pool.close()
assert time.monotonic() - started < 2.5, time.monotonic() - started
assert not alive(zygote)
print("well")
"""
    check(code)


@pytest.mark.parametrize("free", range(8))
def test_few_descriptors(free: int) -> None:
    """It is opened, or the error says which limit; and nothing stays behind."""
    code = f"""
import gc
before = HostState()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)
leave_free_fds({free})
try:
    SandboxPool(None, PoolConfig(min_size=0)).close()
except SandboxCreateError as error:
    assert "RLIMIT_NOFILE" in error.hint, (error, error.hint)
resource.setrlimit(resource.RLIMIT_NOFILE, hard)
gc.collect()
before.assert_restored()
print("well")
"""
    check(code)
