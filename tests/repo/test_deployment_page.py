"""docs/deployment.md: its table has all places of tools/deployment.py, and what was refused has a hint that helped."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import deployment  # noqa: E402
import machines  # noqa: E402

EVERYWHERE = ("kernel", "cgroups", "attack")
"""parts of tests/vm/suites.py that have run on each kernel"""


PASSED = r"[1-9]\d*(, \d+ \w+)* \(\d{4}-\d\d-\d\d(/\d\d-\d\d)?\)"


def rows(begin: str = deployment.BEGIN, end: str = deployment.END) -> list[list[str]]:
    table = deployment.PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0]
    return cells(table)[1:]  # without the head


def cells(table: str) -> list[list[str]]:
    return [line[2:-2].split(" | ") for line in table.splitlines() if line.startswith("| ")]


def test_the_table_has_every_place() -> None:
    assert [row[0] for row in rows()] == [place.name for place in deployment.places()], "run tools/deployment.py"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_place_is_full_or_has_a_hint_that_was_followed(row: list[str]) -> None:
    name, default, degraded, *followed = row
    if default.startswith("full"):
        return
    assert default.startswith("refused: `")
    assert degraded.startswith(("full", "landlock", "refused"))
    assert followed[0].startswith("full") or "RHEL 8" in name


def test_other_kernels_passed() -> None:
    """What tests/vm/run.py kept when the page was written. Nothing has failed, and the attacks have run everywhere."""
    *parts, kernel = rows(deployment.TESTS_BEGIN, deployment.TESTS_END)
    assert [part[0] for part in parts] == [f"`{name}`" for name in machines.SUITES], "run tools/deployment.py --tests"
    versions = [version for version in machines.kernels.RELEASES for _ in machines.boot.USERS]
    assert [release.startswith(version) for release, version in zip(kernel[1:], versions)] == [True] * len(versions)
    for part, *cells_of_part in parts:
        missing = {cell for cell in cells_of_part if not re.fullmatch(PASSED, cell)}
        assert missing <= (set() if part.strip("`") in EVERYWHERE else {"not run"}), part


def test_the_table_says_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def result(suite: str, uid: int, day: int, counts: tuple[int, ...], verdict: str) -> machines.results.Result:
        return machines.results.Result(
            "6.1", suite, uid, f"2026-01-0{day}", "6.1.0-50-cloud-amd64", counts, 1.0, verdict
        )

    kept = [
        result("attack", 0, 2, (9, 0, 0, 2, 1), "passed"),
        result("kernel", 0, 1, (3, 0, 0, 0, 0), "passed"),
        result("kernel", 1000, 1, (3, 1, 0, 0, 0), "FAILED"),
    ]
    monkeypatch.setattr(machines, "RESULTS", tmp_path / "results.json")
    machines.results.write(machines.RESULTS, kept)
    before = """| tests | 6.1, root | 6.1, user |
|---|---|---|
| `attack` | 1 (2025-01-01) | 8, 1 skipped (2025-01-01) |
| `code` | not run | 4 (2025-01-01) |
| Debian's kernel | 6.1.0-49 | 6.1.0-50 |"""
    head, *rows = cells(machines.tests_passed(before))
    at = head.index("6.1, root")
    found = {row[0]: row[at : at + 2] for row in rows}
    assert found["`attack`"] == ["9, 2 skipped, 1 xfailed (2026-01-02)", "8, 1 skipped (2025-01-01)"]
    assert found["`kernel`"] == ["3 (2026-01-01)", "failed (2026-01-01)"]
    assert found["`code`"] == ["not run", "4 (2025-01-01)"]
    assert found["Debian's kernel"] == ["6.1.0-49, 6.1.0-50", "6.1.0-50"]


@pytest.mark.extended
def test_the_table_is_what_is_measured_here() -> None:
    places = [place for place in deployment.places() if not place.missing()]
    found = [list(deployment.row(place, 1)) for place in places]
    page = {row[0]: row for row in rows()}
    assert found == [page[row[0]] for row in found]
