"""What this machine refuses: where there are no namespaces, tests of sandboxes with namespaces are skipped.

Such a machine is a container with Docker's default profile, for one. Its reason is proved twice: a call for a user
namespace fails here without this package, and the package names that stage. A sandbox that fails in another way is a
failure of its test.

The rooms of BOTH_TIERS run there all the same: their configurations allow the Landlock tier by default. Skipped is what
this tier refuses by name, and what has the mark `namespaces`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
# Their tests make sandboxes with namespaces, in this process or in others.
FULL_TIER = frozenset({"clients", "isolation"})
# Their configurations allow the Landlock tier by default.
BOTH_TIERS = frozenset({"contract", "execute", "faults", "loop"})
OF_THE_LOWER_TIER = frozenset(
    {
        "test_attack_tier",
        "test_landlock_tier",
        "test_landlock_tier_code",
        "test_landlock_tier_files",
        "test_landlock_tier_stem",
        "test_landlock_tier_terminals",
        "test_reaper",
    }
)
TIER_REFUSES = re.compile(r"could not attach the workspace .*: Operation not supported")
OTHER_BACKENDS = frozenset({"fake", "agent", "landlock"})
# What a script begins with whose configurations allow that tier, too.
ALLOWING = """
import pysandpool as _p
_p.SandboxConfig.__init__.__kwdefaults__["namespace_degradation"] = _p.NamespaceDegradation.ALLOW_DEGRADATION
del _p
"""
_allowed = False
_NEW_USER_NAMESPACE = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000) != 0)"


@cache
def denies_namespaces() -> bool:
    """Whether a process that asks for a user namespace gets none here, which has nothing to do with the package."""
    if not sys.platform.startswith("linux"):
        return False
    return subprocess.run([sys.executable, "-c", _NEW_USER_NAMESPACE], check=False).returncode != 0


@cache
def refusal() -> str:
    """Why this machine has no sandbox with namespaces; "" if it has."""
    from pysandpool import SandboxConfig, SandboxCreateError, SandboxPool  # the C tests run without the package

    if not denies_namespaces():
        return ""
    try:
        SandboxPool(SandboxConfig()).close()
    except SandboxCreateError as error:
        return _said(error) if error.stage == "user_namespace" else ""
    return ""


def allowing() -> list[str]:
    """The options with which `pysandpool run` makes sandboxes on this machine."""
    return ["--allow-degradation"] if refusal() else []


def head_of_scripts() -> str:
    """What a script of the running test begins with."""
    return ALLOWING if _allowed else ""


def room_of(node: pytest.Item | pytest.Collector) -> str:
    """The directory of tests/ that a test, a file or a directory is in; "" for tests/ itself and what is not in it."""
    return next(iter(node.path.relative_to(TESTS).parts), "") if node.path.is_relative_to(TESTS) else ""


def needs_namespaces(item: pytest.Item) -> bool:
    backend = getattr(item, "callspec", None)
    backend_name = backend.params.get("open_pool") if backend is not None else None
    if backend_name is not None:
        return backend_name not in OTHER_BACKENDS
    if item.get_closest_marker("namespaces") is not None:
        return True
    return room_of(item) in FULL_TIER and item.path.stem not in OF_THE_LOWER_TIER


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not any(needs_namespaces(item) for item in items) or not refusal():
        return
    for item in items:
        if needs_namespaces(item):
            mark = item.get_closest_marker("namespaces")
            what = f", for {mark.args[0]}" if mark is not None and mark.args else ""
            item.add_marker(pytest.mark.skip(reason=f"needs namespaces{what}: {refusal()}"))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, object, object]:
    """A file may have a configuration that is made when it is imported."""
    with _allowed_for(collector):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fixtures of the test included."""
    with _allowed_for(item):
        return (yield)


@contextmanager
def _allowed_for(node: pytest.Item | pytest.Collector) -> Iterator[None]:
    """A configuration that does not say otherwise allows the Landlock tier."""
    global _allowed  # noqa: PLW0603  # one test runs at a time in a process
    if room_of(node) not in BOTH_TIERS or node.path.stem in OF_THE_LOWER_TIER or not refusal():
        yield
        return
    from pysandpool import NamespaceDegradation, SandboxConfig

    defaults = SandboxConfig.__init__.__kwdefaults__
    assert defaults is not None
    before = defaults["namespace_degradation"]
    defaults["namespace_degradation"] = NamespaceDegradation.ALLOW_DEGRADATION
    _allowed = True
    try:
        yield
    finally:
        _allowed = False
        defaults["namespace_degradation"] = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """Not around each fixture: pytest keeps what one of a module has raised for the other tests of the module."""
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Tests of other rooms that make a sandbox, too."""
    return (yield from _skipping())


def _skipping() -> Generator[None, object, object]:
    """What the kernel refuses, or the Landlock tier by name."""
    from pysandpool import SandboxCreateError, SandboxError  # the second is that of a start, or of a workspace

    try:
        return (yield)
    except SandboxCreateError as error:
        if error.stage in {"user_namespace", "tier"} and refusal():
            pytest.skip(f"needs namespaces: {_said(error)}")
        raise
    except SandboxError as error:
        if TIER_REFUSES.search(str(error)) and refusal():
            pytest.skip(f"needs namespaces: {_said(error)}")
        raise
    except AssertionError as error:
        if refusal() and refusal() in str(error):  # what a program of the test has said
            pytest.skip(f"needs namespaces: {refusal()}")
        raise


def _said(error: Exception) -> str:
    return str(error).partition("; hint")[0]
