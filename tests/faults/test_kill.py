"""SIGKILL of hosts and zygotes at random moments, and of a host whose forked children live on: nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from eyes import alive
from full_tier import head_of_scripts
from scripts import ROOT, SUPPORT
from waiting import wait_until

HERE = Path(__file__).parent
PROGRAM = """
import os, runpy, sys
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def killed(what: str, n: int, seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", head_of_scripts() + PROGRAM, HERE / "kill.py", what, str(n), str(seed), "10"],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("times", [40, pytest.param(500, marks=pytest.mark.extended)])
def test_killed_hosts_leave_nothing(times: int) -> None:
    assert f"host killed {times} times" in killed("host", times, 11)


@pytest.mark.parametrize("times", [25, pytest.param(500, marks=pytest.mark.extended)])
def test_killed_zygotes_leave_a_pool_that_works(times: int) -> None:
    assert f"zygote killed {times} times" in killed("zygote", times, 12)


@pytest.mark.parametrize("times", [10, pytest.param(300, marks=pytest.mark.extended)])
def test_killed_stems_leave_a_pool_that_works(times: int) -> None:
    assert f"stem killed {times} times" in killed("stem", times, 13)


LONG_LIVED_CHILD = """
import os, sys, time
from eyes import children, zygote_of
from pysandpool import PoolConfig, SandboxPool

pool = SandboxPool(None, PoolConfig(min_size=2))
idle, busy = pool.acquire(), pool.acquire()
busy.execute(["/bin/true"])
child = os.fork()
if child:
    print(zygote_of(idle), idle.pid, busy.pid, child, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_forked_child_does_not_keep_a_dead_hosts_sandboxes(end: int) -> None:
    """It has copies of every descriptor, so no socket closes: the zygote sees the host's own end."""
    with subprocess.Popen(
        [sys.executable, "-c", head_of_scripts() + LONG_LIVED_CHILD], stdout=subprocess.PIPE, text=True, cwd=SUPPORT
    ) as host:
        assert host.stdout is not None
        *pids, child = (int(word) for word in host.stdout.readline().split())
        try:
            assert all(alive(pid) for pid in pids)
            host.send_signal(end)
            host.wait()
            wait_until(lambda: not any(alive(pid) for pid in pids), "zygote and sandboxes are gone", 5)
            assert alive(child), "control: it holds the descriptors"
        finally:
            os.kill(child, signal.SIGKILL)
