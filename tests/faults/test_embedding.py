"""The library inside a large program: copies, other threads at exit, signal handlers in the middle."""

from __future__ import annotations

import copy
import pickle
import signal
import sys
import typing
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from pools import OpenPool
from scripts import run_script

import pysandpool
from pysandpool import Sandbox, SandboxConfig
from pysandpool._pool import sandbox as _sandbox


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_is_alive_is_not_copied(real_pool: OpenPool, copied: Callable[[Any], Any]) -> None:
    """Two handles of one lease would each believe that it is theirs."""
    pool = real_pool(warm=1)
    with pool.acquire() as lease, Sandbox() as sandbox:
        for one in (pool, lease, sandbox):
            with pytest.raises(TypeError, match="neither copied nor pickled: "):
                copied(one)


def test_results_and_statistics_cross_processes(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        result = lease.execute(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    for value in (result, pool.stats(), pool.config, pool.pool_config):
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.copy(value) == value


@pytest.mark.parametrize("name", pysandpool.__all__)
def test_public_names_are_where_pickles_and_tracebacks_say(name: str) -> None:
    public = getattr(pysandpool, name)
    assert getattr(public, "__module__", "pysandpool") == "pysandpool"
    if isinstance(public, type):
        assert pickle.loads(pickle.dumps(public)) is public
        if sys.version_info >= (3, 10):  # the first that can evaluate "str | None"
            typing.get_type_hints(public)


def test_a_signal_handler_may_make_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of the same configuration, while the first is still opened by the code that it interrupts."""
    config = SandboxConfig(env_vars={"FOR": "a signal handler"})
    really_open = _sandbox.open_core
    made: list[int | None] = []

    def handler(_: int, __: FrameType | None) -> None:
        with Sandbox(config) as sandbox:
            made.append(sandbox.execute(["/bin/true"]).exit_code)

    def open_core(*args: Any) -> Any:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGUSR1)
        return really_open(*args)

    before = signal.signal(signal.SIGUSR1, handler)
    monkeypatch.setattr(_sandbox, "open_core", open_core)
    try:
        with Sandbox(config) as sandbox:
            assert sandbox.execute(["/bin/true"]).exit_code == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert made == [0]


EXIT_AMONG_THREADS = """
import sys, threading, time
from fake import FakeLauncher
sys.setswitchinterval(1e-6)
kept = [FakeLauncher() for _ in range(60)]
pools = [launcher.open(warm=0) for launcher in kept]

def churn():
    while True:
        with FakeLauncher() as launcher:
            launcher.open(warm=0)

for _ in range(4):
    threading.Thread(target=churn, daemon=True).start()
time.sleep(0.2)
"""


def test_exit_while_daemon_threads_open_pools() -> None:
    done = run_script(EXIT_AMONG_THREADS)
    assert (done.stderr, done.returncode) == ("", 0)
