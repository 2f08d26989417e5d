#!/usr/bin/env python3
"""Writes the table of docs/deployment.md: what a sandbox is in containers, units and the like, measured here as root.

    tools/deployment.py             run `pysandpool doctor` in each place, three times, and write the table
    tools/deployment.py --print     print the table, change nothing
    tools/deployment.py --only bwrap --times 1    only the places whose name contains a word
    tools/deployment.py --tests     write the second table only: the tests that tests/vm/run.py ran on other kernels;
                                    what it has not run here keeps its cells

Each place is left as it is, and then changed as the hint says; all runs of a place must give the same. What cannot be
run on this machine is named in the table with its reason. The places are those of tools/places.py.
"""

from __future__ import annotations

import argparse
import datetime as dt
import errno
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]

import machines  # noqa: E402
import systemd  # noqa: E402
from place import Place  # noqa: E402
from places import places  # noqa: E402

PAGE = ROOT / "docs" / "deployment.md"
BEGIN, END = "<!-- table -->", "<!-- end-table -->"
TESTS_BEGIN, TESTS_END = "<!-- tests -->", "<!-- end-tests -->"
# What is missing where a part of the report is "partial" with namespaces.
_LESS = {"mounts": "no `/proc`", "namespaces": "the hostname is the container's"}
# Of a report, what is "full" wherever namespaces are allowed. Memory and cpu are a matter of cgroups.
WHOLE = ("namespaces", "mounts", "landlock", "seccomp", "network")


def row(place: Place, times: int) -> tuple[str, str, str, str]:
    """The cells of a place; raises AssertionError if its runs differ."""
    why = place.missing()
    if why:
        return place.name, f"not run: {why}", "", ""
    found = _same([_cells(place) for _ in range(place.times or times)])
    return (place.name, *found)


def _same(cells: list[tuple[str, str, str]]) -> tuple[str, str, str]:
    assert len(set(cells)) == 1, f"the runs differ: {cells}"
    return cells[0]


def _cells(place: Place) -> tuple[str, str, str]:
    before = place.report([])
    if before["works"]:
        return _tier(before["isolation"]), _tier(before["isolation"]), ""
    stage = f"refused: `{before['stage']}`, {errno.errorcode.get(before['errno'], before['errno'])}"
    degraded = _tier(before["isolation"]) if before["isolation"] else "refused"
    commands = [fix["command"] for fix in before["fixes"]]
    if place.instead is not None:
        return stage, degraded, f"{_after(place.instead())}: {place.how}"
    if not commands:
        return stage, degraded, place.how or before["hint"]
    return stage, degraded, f"{_after(place.report(commands))}: {_short(commands)}"


def _after(report: dict[str, Any]) -> str:
    return _tier(report["isolation"]) if report["works"] else f"refused: `{report['stage']}`"


def _tier(isolation: dict[str, Any]) -> str:
    if isolation.get("tier", "full") != "full":
        return str(isolation["tier"])
    abi = isolation["landlock_abi"]
    words = {**_LESS, "landlock": f"Landlock has ABI {abi}" if abi else "no Landlock"}
    less = [words.get(name, f"{name} {isolation[name]}") for name in WHOLE if isolation[name] != "full"]
    return f"full, but {' and '.join(less)}" if less else "full"


def _short(commands: Sequence[str]) -> str:
    """The commands and settings, without that which writes the profile, and one of those that say the same."""
    kept = [
        one
        for one in commands
        if "doctor --seccomp-profile" not in one and not one.startswith(("security_opt:", "user:"))
    ]
    lines = [line for one in kept for line in one.replace(" IMAGE", "").splitlines() if line != "[Service]"]
    return ", ".join(f"`{line}`" for line in lines)


def versions() -> str:
    """What was measured with."""

    def version(*words: str) -> str:
        found = re.search(r"\d+(\.\d+)*", subprocess.run(words, capture_output=True, text=True, check=False).stdout)
        return found[0] if found else "?"

    programs = {
        "runc": ("runc", "--version"),
        "Podman": ("podman", "--version"),
        "systemd": (systemd.PROGRAM, "--version"),
        "bwrap": ("bwrap", "--version"),
        "Docker": ("dockerd", "--version"),
        "LXC": ("lxc-execute", "--version"),
        "firejail": ("firejail", "--version"),
    }
    there = [f"{name} {version(*words)}" for name, words in programs.items() if shutil.which(words[0])]
    return ", ".join([f"Linux {'.'.join(platform.release().split('.')[:2])}", *there])


def table(chosen: Sequence[Place], times: int) -> str:
    often = f"each place {times} times, all alike; other kernels, NixOS and musl once"
    lines = [
        f"Measured on {dt.date.today().isoformat()} with {versions()}; {often}.",
        "",
        "| where | by default | with `ALLOW_DEGRADATION` | with the hint followed |",
        "|---|---|---|---|",
    ]
    for place in chosen:
        cells = row(place, times)
        print(" | ".join(cells), file=sys.stderr)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", dest="only_print")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--times", type=int, default=3, metavar="N")
    parser.add_argument("--tests", action="store_true")
    args = parser.parse_args()
    if args.tests:
        before = PAGE.read_text(encoding="utf-8").split(TESTS_BEGIN)[1].split(TESTS_END)[0]
        _write(TESTS_BEGIN, machines.tests_passed(before), TESTS_END)
        return 0
    chosen = [place for place in places() if args.only.lower() in place.name.lower()]
    made = table(chosen, args.times)
    if args.only_print or args.only:
        print(made)
        return 0
    _write(BEGIN, made, END)
    return 0


def _write(begin: str, made: str, end: str) -> None:
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    PAGE.write_text(f"{before}{begin}\n\n{made}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
