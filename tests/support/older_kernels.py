"""What Linux 5.10 and 6.1 lack, and what a test is to do about it.

The documentation names all: mode cow needs an overlay that an ordinary user may mount, and before 6.6, when a tmpfs has
no extended attributes of users, it cannot make a directory in the place of a removed one. Before 5.12, on a tmpfs
before 6.3, no path of root's can be idmapped, so that it has to belong to the sandbox's uid.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pysandpool import SandboxError
from pysandpool._backend.hint_texts import OVERLAY
from pysandpool._backend.machine import kernel_version

OVERLAYS_OF_USERS = kernel_version() >= (5, 11)
OVERLAYS_REPLACE = kernel_version() >= (6, 6)
IDMAPPED_MOUNTS, IDMAPPED_TMPFS = (5, 12), (6, 3)
_UNPRIVILEGED = 65534


def _is_mapped(path: Path) -> bool:
    """Whether the sandbox's user may open what the pool's user may."""
    if os.geteuid() != 0 or kernel_version() >= IDMAPPED_TMPFS:
        return True
    system = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout
    return kernel_version() >= IDMAPPED_MOUNTS and system != "tmpfs\n"


def needs_idmapped_mounts(path: Path) -> None:
    if not _is_mapped(path):
        pytest.skip("this kernel cannot idmap it: mounts of a tmpfs since Linux 6.3, of others since 5.12")


def open_to_sandboxes(*paths: Path) -> None:
    """Where root's paths cannot be idmapped, it gives them to the sandbox's uid."""
    for path in paths:
        if not _is_mapped(path):
            os.chown(path, _UNPRIVILEGED, _UNPRIVILEGED)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """A test of mode cow is skipped where the kernel has no such overlay: test_workspaces.py tests the refusal."""
    try:
        return (yield)
    except SandboxError as error:
        if error.hint == OVERLAY and not OVERLAYS_OF_USERS:
            pytest.skip("mode cow needs Linux 5.11")
        raise
