"""The resource limits of this process that are lower than those which a sandbox has on other hosts.

The zygote replaces the limits of the host (csrc/zygote/limits.c). But only CAP_SYS_RESOURCE may raise a hard limit, so
a lower one of an ordinary user reaches its sandboxes.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import NamedTuple

_INF = resource.RLIM_INFINITY
WANTED: dict[str, tuple[int, str, str]] = {
    "RLIMIT_STACK": (8 << 20, "s", "STACK"),
    "RLIMIT_AS": (_INF, "v", "AS"),
    "RLIMIT_CPU": (_INF, "t", "CPU"),
    "RLIMIT_FSIZE": (_INF, "f", "FSIZE"),
    "RLIMIT_DATA": (_INF, "d", "DATA"),
    "RLIMIT_NOFILE": (8192, "n", "NOFILE"),
    "RLIMIT_NPROC": (1024, "u", "NPROC"),
    "RLIMIT_SIGPENDING": (1024, "i", "SIGPENDING"),
    "RLIMIT_MEMLOCK": (64 << 10, "l", "MEMLOCK"),
}
"""What the hard limit of the host has to be; the option of `ulimit`; the setting of systemd without "Limit"."""
_SYS_RESOURCE = 24


class Low(NamedTuple):
    """One limit that is lower, and the command or setting that raises it."""

    what: str
    fix: str


def low_limits() -> tuple[Low, ...]:
    """The hard limits of this process that lower those of its sandboxes."""
    return () if _may_raise() else tuple(_low(name) for name in WANTED if _is_low(name))


def _is_low(name: str) -> bool:
    number: int | None = getattr(resource, name, None)  # not every system has each limit
    wanted = WANTED[name][0]
    hard = _INF if number is None else resource.getrlimit(number)[1]
    return hard != _INF and (wanted == _INF or hard < wanted)


def _low(name: str) -> Low:
    wanted, option, setting = WANTED[name]
    hard = resource.getrlimit(getattr(resource, name))[1]
    text = "unlimited" if wanted == _INF else str(wanted)
    what = f"{name} of this process is {hard}, and raising it takes CAP_SYS_RESOURCE, so sandboxes have no higher one"
    how = f"ulimit -H{option}, or Limit{setting}= in a unit of systemd"
    return Low(what, f"raise the hard limit before this process starts: {how}; {text} is enough")


def _may_raise() -> bool:
    """Whether this process has CAP_SYS_RESOURCE in the first user namespace."""
    try:
        status = Path("/proc/self/status").read_text()
        ids = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return False
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _SYS_RESOURCE & 1) and ids == ["0", "0", "4294967295"]
