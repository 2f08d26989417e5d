"""How the processes of pytest-xdist share the tests, and which tests have the machine to themselves.

A file's tests run in one process, one after the other, because its fixtures are shared (`--dist loadfile`). Files that
share little and take long are cut up. The longest files come first, so that none is begun last.

A test marked `alone` looks at the whole machine, or uses up what all processes of a user share. It waits until no other
test runs, and the others wait for it. Without pytest-xdist, all this changes nothing.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

# Each test of these files may run in another process than its neighbour; those of the others stay together.
CUT_UP = ("native/test_c.py", "native/test_model.py", "repo/test_mac_build.py")
LONGEST_FIRST = (
    "native/test_c.py",
    "native/test_fuzz.py",
    "isolation/test_attack.py",
    "repo/test_examples.py",
    "isolation/test_memory.py",
    "faults/test_zygote_death.py",
    "faults/test_interrupts.py",
    "faults/test_undead.py",
    "faults/test_soak.py",
    "repo/test_mac_build.py",
    "faults/test_leaks.py",
    "faults/test_hosts.py",
    "faults/test_kill.py",
    "contract/test_contract_stats.py",
    "contract/test_contract_refill.py",
    "contract/test_pool_model.py",
    "execute/test_execute.py",
)
LOCKS = "SANDPOOL_TESTS_LOCKS"
SHARED_LOCKS = "SANDPOOL_TESTS_SHARED_LOCKS"  # of several runs at the same time: tests/native/coverage/run.py


def group_of(nodeid: str) -> str:
    """Tests of one group run in one process."""
    file, _, test = nodeid.partition("::")
    if file.endswith(CUT_UP):
        return nodeid
    if file.endswith("isolation/test_attack.py"):
        return f"{file}::{test.partition('-')[0]}"  # by user: a run has many attacks of one
    return file


def rank_of(nodeid: str) -> int:
    return next((n for n, name in enumerate(LONGEST_FIRST) if nodeid.partition("::")[0].endswith(name)), 1000)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Groups(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # they are in order
    return Groups(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank_of(item.nodeid))


class Machine:
    """Two locks that the processes of one run share: `gate` keeps newcomers out while somebody waits to be alone."""

    def __init__(self, folder: str) -> None:
        self.gate, self.machine = (os.open(Path(folder, name), os.O_RDWR | os.O_CREAT) for name in ("gate", "machine"))

    def enter(self, alone: bool) -> None:
        how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        fcntl.flock(self.gate, how)
        fcntl.flock(self.machine, how)
        fcntl.flock(self.gate, fcntl.LOCK_UN)

    def leave(self) -> None:
        fcntl.flock(self.machine, fcntl.LOCK_UN)


_machine: Machine | None = None


def pytest_configure(config: pytest.Config) -> None:
    """The first process makes the folder of the locks; its workers inherit the environment."""
    global _machine  # noqa: PLW0603  # one for each process
    if hasattr(config, "workerinput"):
        _machine = Machine(os.environ[LOCKS])
    elif SHARED_LOCKS in os.environ:
        _machine = Machine(os.environ.pop(SHARED_LOCKS))  # a run that a test starts has none
    elif getattr(config.option, "numprocesses", None):
        folder = tempfile.TemporaryDirectory(prefix="sandpool-tests-")
        os.environ[LOCKS] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Around all of a test with its fixtures, so that no time-out counts the wait."""
    if _machine is None:
        return (yield)
    _machine.enter(alone=item.get_closest_marker("alone") is not None)
    try:
        return (yield)
    finally:
        _machine.leave()
