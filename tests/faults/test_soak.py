"""The short forms of `make soak` and of its cycles, and that they see what they look for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT, run_script

HERE = Path(__file__).parent
FIND_SOAK = f"import sys\nsys.path.append({os.fspath(HERE)!r})\n"


LONG = [pytest.param(mode, marks=pytest.mark.extended) for mode in (["--seconds", "200"], ["--cycles", "20000"])]


@pytest.mark.namespaces("networks and workspaces")
@pytest.mark.parametrize("mode", [["--seconds", "10"], ["--cycles", "600"], *LONG])
def test_soak(mode: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "soak.py", *mode, "--seed", "3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in order" in done.stdout


LOSSES = {
    "a lease": "lost = pool.acquire()",
    "a descriptor": "import os; lost = os.open('/dev/null', os.O_RDONLY)",
    "a thread": "import threading, time; threading.Thread(target=time.sleep, args=(30,), daemon=True).start()",
    "a process": "import os; os.posix_spawn('/bin/sleep', ['sleep', '8'], {})",
    "a slot": "lost = SandboxPool(); run.pools[0], pool = lost, run.pools[0]",
}


@pytest.mark.namespaces("networks and workspaces")
@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_lost_is_seen(loss: str) -> None:
    done = run_script(
        FIND_SOAK
        + f"""
from eyes_linux import see_orphans
see_orphans()
import soak_run
from soak_check import BreachError
from pysandpool import SandboxPool
soak_run.STUCK_SECONDS = 1.0
run = soak_run.Soak(1, 1)
(pool,) = run.pools
run.check()
{LOSSES[loss]}
try:
    run.check()
except BreachError:
    print("seen")
"""
    )
    assert (done.stdout, done.stderr) == ("seen\n", "")


HUNG = """
import ctypes
import soak_watch
soak_watch.HANG_SECONDS = 1.0

def soak(beats):
    beats.begun("the last deed")
    beats.ended()
    ctypes.PyDLL(None).sleep(60)  # it keeps the GIL

print(soak_watch.watched(soak, "seed 3"))
"""


def test_a_hang_is_reported_and_ended() -> None:
    """Where each thread waits in the kernel and in Python, though no Python code can run in the soak's process."""
    done = run_script(FIND_SOAK + HUNG)
    assert "HANG: nothing has ended for 1 s" in done.stdout
    assert "nanosleep" in done.stdout
    assert "HUNG, seed 3; the last events:\nthe last deed\n3\n" in done.stdout
    assert "in soak" in done.stderr


# What it said is still in the pipe, whose other end a child of its keeps open.
DIED = """
import os, resource, signal, time
import soak_watch

def soak(beats):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
    for deed in range(100):
        beats.begun(f"deed {deed}")
    os.kill(os.getpid(), signal.SIGNAL)

code = soak_watch.watched(soak, "seed 3")
print(code)
"""


@pytest.mark.parametrize(("name", "said"), [("SIGSEGV", "11 (Segmentation fault)"), ("SIGKILL", "9 (Killed)")])
def test_a_death_by_a_signal_is_reported(name: str, said: str) -> None:
    done = run_script(FIND_SOAK + DIED.replace("SIGNAL", name))
    first, *events, code = done.stdout.splitlines()
    assert first == f"DIED by signal {said}, seed 3; the last events:"
    assert events == [f"deed {deed}" for deed in range(40, 100)]
    assert code == "4"
    assert ("in soak" in done.stderr) == (name == "SIGSEGV"), "where it was, unless nothing could be reported"


def test_a_soak_that_ends_is_not_hung() -> None:
    done = run_script(FIND_SOAK + "import soak_watch\nprint(soak_watch.watched(lambda beats: 7, 'seed 3'))")
    assert (done.stdout, done.stderr) == ("7\n", "")
