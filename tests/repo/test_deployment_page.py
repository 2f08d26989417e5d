"""docs/deployment.md: its table has all places of tools/deployment.py, and what was refused has a hint that helped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import deployment  # noqa: E402


def rows() -> list[list[str]]:
    table = deployment.PAGE.read_text(encoding="utf-8").split(deployment.BEGIN)[1].split(deployment.END)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]  # without the head
    return [line[2:-2].split(" | ") for line in lines]


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


@pytest.mark.extended
def test_the_table_is_what_is_measured_here() -> None:
    places = [place for place in deployment.places() if not place.missing()]
    found = [list(deployment.row(place, 1)) for place in places]
    page = {row[0]: row for row in rows()}
    assert found == [page[row[0]] for row in found]
