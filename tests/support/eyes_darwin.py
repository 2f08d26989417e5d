"""What tests see of the host's own state on macOS, where there is no /proc: by ps(1), /dev/fd and signals."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import NoReturn

import pytest


def see_orphans() -> None:
    """They go to launchd: nobody else can have them."""


def open_fds() -> dict[int, str]:
    found = {}
    for name in os.listdir("/dev/fd"):
        try:
            os.fstat(int(name))
        except OSError:  # the listing's own
            continue
        found[int(name)] = name
    return found


def thread_count() -> int:
    lines = subprocess.run(["ps", "-M", "-p", str(os.getpid())], capture_output=True, text=True, check=True).stdout
    return len(lines.splitlines()) - 1


def _processes() -> Iterator[tuple[int, int, str]]:
    """pid, parent and state of all processes but the ps that lists them."""
    with subprocess.Popen(["ps", "-axo", "pid=,ppid=,stat="], stdout=subprocess.PIPE, text=True) as ps:
        text, _ = ps.communicate()
    for line in text.splitlines():
        pid, parent, state = line.split()[:3]
        if int(pid) != ps.pid:
            yield int(pid), int(parent), state


def alive(pid: int) -> bool:
    return any(one == pid and not state.startswith("Z") for one, _, state in _processes())


def children(pid: int | None = None) -> set[int]:
    parent = os.getpid() if pid is None else pid
    return {one for one, its_parent, _ in _processes() if its_parent == parent}


def reap_orphans() -> None:
    """There are none: see_orphans."""


def identity(pid: int) -> tuple[int, str]:
    """(pid, start time): a process's name that is not used again."""
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return pid, done.stdout.strip()


def is_standby(pid: int) -> bool:
    return False


def stat_fields(pid: int) -> NoReturn:
    pytest.skip("of Linux: /proc")


def status_field(pid: int | str, name: str) -> NoReturn:
    pytest.skip("of Linux: /proc")


def zygote_of(lease: object) -> NoReturn:
    pytest.skip("of Linux: there is no zygote")
