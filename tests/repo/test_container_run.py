"""The table of tests/container/run.py is read from what pytest prints."""

from __future__ import annotations

import runpy
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "container" / "run.py"

LINES = """
tests/unit/test_a.py::test_one
[gw0] [  1%] PASSED tests/unit/test_a.py::test_one
[gw1] [ 50%] FAILED tests/unit/test_a.py::test_two[a b]
[gw0] [ 99%] SKIPPED tests/repo/test_b.py::test_three
[gw0] [100%] SKIPPED tests/repo/test_b.py::test_four
SKIPPED [2] tests/repo/test_b.py:12: runc is not installed: apt-get install runc
FAILED tests/unit/test_a.py::test_two[a b] - assert False
"""


def test_tests_are_counted_by_directory_and_skips_by_reason() -> None:
    outcome = runpy.run_path(str(RUN))["Outcome"]()
    for line in LINES.splitlines():
        outcome.read(line)
    assert outcome.directories == {"tests/unit": {"PASSED": 1, "FAILED": 1}, "tests/repo": {"SKIPPED": 2}}
    assert outcome.reasons == {"runc is not installed: apt-get install runc": 2}
    table = [line.split() for line in outcome.table().splitlines()]
    assert table[0] == ["passed", "failed", "error", "skipped", "xfail"]
    assert ["tests/unit", "1", "1", "0", "0", "0"] in table
    assert ["all", "1", "1", "0", "2", "0"] in table
    assert table[-1][:2] == ["2", "skipped:"]
