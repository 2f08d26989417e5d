"""Judges what gcovr has counted: which lines no test runs, and which of them allowed.txt gives a reason for."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ALLOWED = Path(__file__).with_name("allowed.txt")
MEASURED = ("common", "host", "zygote", "init", "stem")
# A line of the source that says what has failed: here each branch counts, elsewhere each line.
ERROR = re.compile(r"sp_failed\(|sp_error_set\(|-E[A-Z]{2}|-errno|\berrno\b|-rc\b")

_FILTERS = [argument for name in MEASURED for argument in ("--filter", f"csrc/{name}/", "--exclude", ".*_darwin")]
# Of a process that has ended in the middle of a function, some counters are missing, and gcov finds less than nothing.
_ENDED = ("--gcov-ignore-parse-errors", "negative_hits.warn_once_per_file")
_MERGED = ("--merge-mode-functions", "separate")
GCOVR = [sys.executable, "-m", "gcovr", "-j", str(os.cpu_count()), "--root", ".", *_FILTERS, *_ENDED, *_MERGED, "."]


@dataclass(frozen=True)
class Gap:
    """A line that no test runs; or one that reports an error, and a branch of it that none takes."""

    file: str
    line: int
    functions: frozenset[str]
    text: str
    whole: bool

    def __str__(self) -> str:
        kind = "not run" if self.whole else "never so"
        return f"{self.file}:{self.line}: {kind}, in {' '.join(sorted(self.functions))}: {self.text}"


@dataclass(frozen=True)
class Row:
    """A row of allowed.txt: patterns of file and function, and what the line has to contain."""

    file: str
    function: str
    text: str

    def fits(self, gap: Gap) -> bool:
        functions = any(fnmatchcase(name, self.function) for name in gap.functions)
        return functions and fnmatchcase(gap.file, self.file) and self.text in gap.text


def allowed() -> list[Row]:
    lines = ALLOWED.read_text("utf-8").splitlines()
    rows = [line.split(None, 2) for line in lines if line and not line.startswith("#")]
    return [Row(file, function, text[0].strip() if text else "") for file, function, *text in rows]


def gaps(tree: Path) -> Iterator[Gap]:
    """A line has an entry for each function it is in: a C file is part of some tests under other names."""
    found: dict[str, Any] = json.loads((tree / "coverage.json").read_text("utf-8"))
    for file in found["files"]:
        source = (tree / file["file"]).read_text("utf-8").splitlines()
        entries: dict[int, list[dict[str, Any]]] = {}
        for entry in file["lines"]:
            entries.setdefault(entry["line_number"], []).append(entry)
        for line, of_line in entries.items():
            text = source[line - 1].strip()
            whole = all(entry["count"] == 0 for entry in of_line)
            if whole or (ERROR.search(text) and not is_taken_each_way(of_line)):
                functions = frozenset(entry.get("function_name") or "" for entry in of_line)
                yield Gap(file["file"], line, functions, text, whole)


def is_taken_each_way(entries: list[dict[str, Any]]) -> bool:
    counts = [[branch["count"] for branch in entry["branches"]] for entry in entries]
    if len({len(branches) for branches in counts}) != 1:  # a test replaced what is called there
        return any(all(branches) for branches in counts)
    return all(any(way) for way in zip(*counts))


def judge(tree: Path) -> bool:
    rows = allowed()
    open_gaps = list(gaps(tree))
    uncovered = [gap for gap in open_gaps if not any(row.fits(gap) for row in rows)]
    idle = [row for row in rows if not any(row.fits(gap) for gap in open_gaps)]
    for row in idle:
        print(f"allowed.txt: no longer needed here: {row.file} {row.function} {row.text}")
    for gap in uncovered:
        print(gap)
    print(f"{len(open_gaps)} places that no test reaches, of which allowed.txt gives no reason for {len(uncovered)}")
    return not uncovered
