"""What Linux 5.10 lacks, and what a test is to do about it.

The documentation names both: mode cow needs an overlay that an ordinary user may mount, and before 5.12 no path of
root's can be idmapped, so that it has to belong to the sandbox's uid.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pysandpool import SandboxError
from pysandpool._backend.hints import OVERLAY
from pysandpool._backend.machine import kernel_version

OVERLAYS_OF_USERS = kernel_version() >= (5, 11)
IDMAPPED_MOUNTS = kernel_version() >= (5, 12)
of_idmapped_mounts = pytest.mark.skipif(
    os.geteuid() == 0 and not IDMAPPED_MOUNTS, reason="this kernel has no idmapped mounts, which are Linux 5.12's"
)
_UNPRIVILEGED = 65534


def open_to_sandboxes(*paths: Path) -> None:
    """Where root's paths cannot be idmapped, it gives them to the sandbox's uid."""
    if os.geteuid() == 0 and not IDMAPPED_MOUNTS:
        for path in paths:
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
