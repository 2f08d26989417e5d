"""Starts a command on a machine that refuses system calls: `python refusing.py pivot_root=EPERM,... COMMAND ...`."""

from __future__ import annotations

import errno
import os
import sys

from simulate import answer


def refuse(calls: str) -> None:
    """Refuses, from now on and for all children, each `call=ERRNO` of the list."""
    for call in calls.split(","):
        name, _, err = call.partition("=")
        answer(name, getattr(errno, err))


if __name__ == "__main__":
    refuse(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
