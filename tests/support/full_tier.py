"""What this machine refuses: where there are no namespaces, tests of sandboxes with namespaces are skipped.

Such a machine is a container with Docker's default profile, for one. Its reason is proved twice: a call for a user
namespace fails here without this package, and the package names that stage. A sandbox that fails in another way is a
failure of its test.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
# Their tests make sandboxes with namespaces, in this process or in others.
ROOMS = frozenset({"clients", "execute", "faults", "isolation", "loop"})
OF_THE_LOWER_TIER = frozenset({"test_attack_tier", "test_landlock_tier", "test_landlock_tier_files"})
OTHER_BACKENDS = frozenset({"fake", "agent", "landlock"})
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
        return str(error).partition("; hint")[0] if error.stage == "user_namespace" else ""
    return ""


def needs_namespaces(item: pytest.Item) -> bool:
    room = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
    backend = getattr(item, "callspec", None)
    backend_name = backend.params.get("open_pool") if backend is not None else None
    if backend_name is not None:
        return backend_name not in OTHER_BACKENDS
    if item.get_closest_marker("namespaces") is not None:
        return True
    if room == "contract":
        return "launcher" not in getattr(item, "fixturenames", ())
    return room in ROOMS and item.path.stem not in OF_THE_LOWER_TIER


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not any(needs_namespaces(item) for item in items) or not refusal():
        return
    skip = pytest.mark.skip(reason=f"needs namespaces: {refusal()}")
    for item in items:
        if needs_namespaces(item):
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Tests of other rooms that make a sandbox, too."""
    from pysandpool import SandboxCreateError

    try:
        return (yield)
    except SandboxCreateError as error:
        if error.stage == "user_namespace" and refusal():
            pytest.skip(f"needs namespaces: {refusal()}")
        raise
    except AssertionError as error:
        if refusal() and refusal() in str(error):  # what a program of the test has said
            pytest.skip(f"needs namespaces: {refusal()}")
        raise
