"""Each row of tests/native/coverage/allowed.txt still names something that the C code has."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = str(ROOT / "tests" / "native" / "coverage")

sys.path.append(FOLDER)
from verdict import Row, allowed  # noqa: E402

sys.path.remove(FOLDER)  # other folders have a run.py, too

NAME = re.compile(r"\b[a-z_][a-z0-9_]*(?=\()")


def is_current(row: Row) -> bool:
    """In one of its files there is a function of that name, and the text."""
    files = [file.read_text("utf-8") for file in ROOT.glob(row.file.replace("/*", "/**/*")) if file.is_file()]
    return any(
        row.text in text and any(fnmatchcase(name, row.function) for name in NAME.findall(text)) for text in files
    )


@pytest.mark.parametrize("row", allowed(), ids=lambda row: f"{row.file} {row.function} {row.text}")
def test_a_reason_is_about_code_that_is_there(row: Row) -> None:
    assert is_current(row)


@pytest.mark.parametrize(
    "row",
    [
        Row("csrc/common/nothing.c", "*", ""),
        Row("csrc/common/clock.c", "sp_nothing", ""),
        Row("csrc/common/clock.c", "sp_now", "a text that is nowhere"),
    ],
)
def test_a_stale_row_is_found(row: Row) -> None:
    assert not is_current(row)
