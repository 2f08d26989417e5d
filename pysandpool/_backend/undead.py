"""What can be told of a sandbox that was killed and does not die: the states of its processes, from /proc.

Only files that the kernel answers without the process's memory are read, so that what is stuck sticks nobody else.
"""

from __future__ import annotations

from pathlib import Path

_MOST = 4
_PROC = Path("/proc")


def _read(pid: int, name: str) -> str:
    try:
        return (_PROC / str(pid) / name).read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # it is gone, or it is another user's
        return ""


def _children(pid: int) -> list[int]:
    return [int(word) for word in _read(pid, f"task/{pid}/children").split()]


def _describe(pid: int) -> str:
    fields = dict(line.split(":", 1) for line in _read(pid, "status").splitlines() if ":" in line)
    state = fields.get("State", "").strip()
    where = _read(pid, "wchan")
    return f"pid {pid}: {state}" + (f" in {where}" if where not in ("", "0") else "") if state else ""


def state_of(init: int) -> str:
    """The state of the sandbox's init and of a few processes below it; where the kernel waits for, if it tells."""
    found, told = [init], []
    for pid in found:
        found += _children(pid)
        text = _describe(pid)
        if text:
            told.append(text)
    more = f", and {len(told) - _MOST} more" if len(told) > _MOST else ""
    return ", ".join(told[:_MOST]) + more if told else "its processes cannot be seen"
