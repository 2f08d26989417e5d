"""Reads from /proc what the processes of a sandbox do that was killed and does not die.

It reads only files that the kernel can answer without locking the memory of the process, so that the reader cannot get
stuck with it.
"""

from __future__ import annotations

from pathlib import Path

_MOST = 4
_PROC = Path("/proc")


def _read(pid: int, name: str) -> str:
    try:
        return (_PROC / str(pid) / name).read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # it is gone, or it belongs to another user
        return ""


def _children(pid: int) -> list[int]:
    return [int(word) for word in _read(pid, f"task/{pid}/children").split()]


def _describe(pid: int) -> str:
    fields = dict(line.split(":", 1) for line in _read(pid, "status").splitlines() if ":" in line)
    state = fields.get("State", "").strip()
    where = _read(pid, "wchan")
    return f"pid {pid}: {state}" + (f" in {where}" if where not in ("", "0") else "") if state else ""


def state_of(init: int) -> str:
    """The states of the sandbox's init and of a few of its descendants, with the kernel function that each waits in."""
    found, states = [init], []
    for pid in found:
        found += _children(pid)
        text = _describe(pid)
        if text:
            states.append(text)
    more = f", and {len(states) - _MOST} more" if len(states) > _MOST else ""
    return ", ".join(states[:_MOST]) + more if states else "its processes cannot be seen"
