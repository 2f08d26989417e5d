"""What became of the parts: kept in a file, so that a run can be resumed, and shown as tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

WORDS = ("passed", "failed", "error", "skipped", "xfailed")
PASSED = "passed"


@dataclass(frozen=True)
class Result:
    """One part of the tests, of one user on one kernel."""

    kernel: str
    suite: str
    uid: int
    date: str
    release: str = "-"
    counts: tuple[int, ...] = (0,) * len(WORDS)
    """As many tests as became each of WORDS."""
    seconds: float = 0.0
    verdict: str = "FAILED"


def read(file: Path) -> list[Result]:
    """Those of a file that write() made; none if there is no such file."""
    rows = json.loads(file.read_text()) if file.exists() else []
    return [Result(**{**row, "counts": tuple(row["counts"][word] for word in WORDS)}) for row in rows]


def write(file: Path, results: Iterable[Result]) -> None:
    rows = [{**asdict(result), "counts": dict(zip(WORDS, result.counts))} for result in results]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, indent=1) + "\n")


def replace(results: Iterable[Result], new: Sequence[Result]) -> list[Result]:
    """All of them, where a new one takes the place of that of the same kernel, part and user."""
    replaced = {(result.kernel, result.suite, result.uid) for result in new}
    return [result for result in results if (result.kernel, result.suite, result.uid) not in replaced] + list(new)


def of_console(lines: Sequence[str], kernel: str, suite: str, uids: Iterable[int], date: str) -> list[Result]:
    """Of each user of one machine. A user whose tests did not come to their end has failed."""
    codes = dict(re.findall(r"inside: uid (\d+) ended with (-?\d+)$", "\n".join(lines), re.MULTILINE))
    found: dict[int, Result] = {}
    began: re.Match[str] | None = None
    for line in lines:
        began = re.search(r"--- as uid (\d+) on Linux (\S+),", line) or began
        ended = re.search(r"^=* ?\d+ \w+.* in ([\d.]+)s", line)
        if began is not None and ended is not None:
            numbers = {word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", line)}
            counts = tuple(numbers.get(word, 0) for word in WORDS)
            verdict = PASSED if codes.get(began[1]) == "0" and numbers.get("passed") else "FAILED"
            found[int(began[1])] = Result(
                kernel, suite, int(began[1]), date, began[2], counts, float(ended[1]), verdict
            )
    return [found.get(uid, Result(kernel, suite, uid, date)) for uid in uids]


def table(results: Iterable[Result]) -> str:
    """A line for each part, and one for each kernel and user that adds up its parts."""
    rows: list[tuple[str, ...]] = [("kernel", "release", "uid", "part", *WORDS, "seconds", "verdict")]
    users: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        users.setdefault((result.kernel, result.uid), []).append(result)
    for parts in users.values():
        rows += [_row(part, part.suite) for part in parts]
    for parts in users.values():
        rows.append(_row(_sum(parts), f"all {len(parts)}"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _sum(parts: Sequence[Result]) -> Result:
    return Result(
        parts[0].kernel,
        "",
        parts[0].uid,
        max(part.date for part in parts),
        max(part.release for part in parts),
        tuple(map(sum, zip(*(part.counts for part in parts)))),
        sum(part.seconds for part in parts),
        PASSED if all(part.verdict == PASSED for part in parts) else "FAILED",
    )


def _row(result: Result, name: str) -> tuple[str, ...]:
    numbers = (str(number) for number in result.counts)
    seconds = f"{result.seconds:.0f}"
    return (result.kernel, result.release, str(result.uid), name, *numbers, seconds, result.verdict)
