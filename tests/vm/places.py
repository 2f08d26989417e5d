"""What `pysandpool doctor` reports on this kernel: a line `place: [...]` for each row of tools/machines.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root also asks for the user")

DOCTOR = [sys.executable, "-m", "pysandpool", "doctor", "--json"]
AS_USER = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"]


def doctor(*start: str) -> dict[str, Any]:
    done = subprocess.run([*start, *DOCTOR], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.startswith("{"), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tell(name: str, *reports: dict[str, Any]) -> None:
    print(f"\nplace: {json.dumps([name, *reports])}", flush=True)


def follow(command: str) -> None:
    """A command `sysctl -w NAME=VALUE` of a hint."""
    program, option, setting = command.split()
    assert (program, option) == ("sysctl", "-w"), command
    name, value = setting.split("=")
    Path("/proc/sys", *name.split(".")).write_text(value)


@pytest.mark.parametrize(("name", "start"), [("root", []), ("user", AS_USER)])
def test_as_it_is(name: str, start: list[str]) -> None:
    tell(name, doctor(*start))


def test_without_user_namespaces() -> None:
    sysctl = "kernel.unprivileged_userns_clone"  # of Debian's kernels alone
    file = Path("/proc/sys", *sysctl.split("."))
    before = file.read_text()
    try:
        file.write_text("0")
        refused = doctor(*AS_USER)
        for fix in refused["fixes"]:
            follow(fix["command"])
        tell(sysctl, refused, doctor(*AS_USER))
    finally:
        file.write_text(before)
