"""SECURITY.md names what proves each guarantee; it is all there."""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "isolation" / "attack"))

from table import ATTACKS  # noqa: E402

PAGE = (ROOT / "SECURITY.md").read_text()
SECTION = PAGE.split("## What proves it")[1].split("\n## ")[0]
# guarantee, tests, attacks
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in SECTION.splitlines() if line[:2] == "| "][1:]


@functools.cache
def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_what_a_row_names_is_there(row: list[str]) -> None:
    guarantee, tests, attacks = row
    assert guarantee
    assert quoted(tests), "a guarantee without a test is a claim"
    for name in quoted(tests):
        file, _, test = name.partition("::")
        assert test in functions_of(ROOT / file), name
    assert set(quoted(attacks)) <= {attack.name for attack in ATTACKS}


def test_every_test_and_attack_of_the_page_is_there() -> None:
    for file, test in re.findall(r"`(tests/[\w./]+)::(\w+)`", PAGE):
        assert test in functions_of(ROOT / file), f"{file}::{test}"
    limits = PAGE.split("## Known limits")[1].split("\n## ")[0]
    shown = [line.strip("|").split("|")[-1] for line in limits.splitlines() if line[:2] == "| "]
    named = {name for cell in shown for name in quoted(cell)}
    attacks = {name for name in named if not name.startswith("tests/")}
    assert len(attacks) > 5
    assert attacks <= {attack.name for attack in ATTACKS}


def test_no_attack_that_is_named_is_known_to_succeed() -> None:
    named = {name for row in ROWS for name in quoted(row[2])}
    assert not {attack.name for attack in ATTACKS if attack.hole} & named


def test_the_table_is_read() -> None:
    assert len(ROWS) > 15


def test_every_file_of_the_page_exists() -> None:
    for name in re.findall(r"`(tests/[\w./]+)", PAGE):
        assert (ROOT / name).exists(), name
