"""Writes a measured table into docs/performance.md, and its main rows into README.md.

`python bench/publish.py` measures everything first; `--from FILE` takes what `table.py --json FILE` has saved.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import report
from measure import Distribution
from row import Budget, Failure, Row

ROOT = Path(__file__).resolve().parent.parent
MAIN_ROWS = ("acquire", "echo", "cold", "jobs", "code")
DERIVED = ("ratio", "verdict")
HEADER = (
    "| row | figure | measured | compared with | ratio | budget | N |",
    "|---|---|---:|---:|---:|---|---:|",
)


def _row(saved: Mapping[str, Any]) -> Row:
    fields = {name: value for name, value in saved.items() if name not in DERIVED}
    fields["budget"] = Budget(**fields["budget"])
    fields["samples"] = Distribution(**fields["samples"])
    return Row(**fields)


def load(path: Path) -> tuple[dict[str, str], list[Row], list[Failure]]:
    """What `report.save` has written."""
    content = json.loads(path.read_text(encoding="utf-8"))
    failures = [Failure(tuple(one["names"]), one["error"]) for one in content["failures"]]
    return content["machine"], [_row(saved) for saved in content["rows"]], failures


def _main_row(row: Row) -> str:
    name, figure, measured, baseline, ratio, budget, verdict, *_, count = report.cells(row)
    verdict = verdict if row.met else f"**{verdict}**"
    return f"| {' | '.join((name, figure, measured, baseline, ratio, f'{budget}, {verdict}', count))} |"


def main_rows(machine: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The README's part. Raises ValueError when one of its rows was not measured."""
    found = {row.name: row for row in rows}
    if missing := [name for name in MAIN_ROWS if name not in found]:
        raise ValueError(f"not measured: {', '.join(missing)}")
    where = (
        f"On {machine['date'].split()[0]}: pysandpool {machine['pysandpool']}, {machine['kernel']}, {machine['CPU']}, "
        f"{machine['cores']} cores, {machine['Python']}.\nEach ratio compares samples that took turns in one run."
    )
    return "\n".join([where, "", *HEADER, *(_main_row(found[name]) for name in MAIN_ROWS)])


def replace(text: str, name: str, new: str) -> str:
    """`text` with what stands between `<!-- bench: name -->` and the next `<!-- end -->` replaced."""
    begin, end = f"<!-- bench: {name} -->\n", "\n<!-- end -->"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"no marks for {name}")
    return f"{before}{begin}{new}{end}{after}"


def _measure() -> tuple[dict[str, str], list[Row], list[Failure]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.json"
        subprocess.run([sys.executable, str(ROOT / "bench" / "table.py"), "--json", str(path)], check=False)
        return load(path)


def main(argv: Sequence[str]) -> int:
    """0 when both files were written; budgets that are missed are written like others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="what table.py --json has saved")
    options = parser.parse_args(argv)
    machine, rows, failures = load(options.source) if options.source else _measure()
    for path, name, new in (
        (ROOT / "docs" / "performance.md", "table", report.markdown(machine, rows, failures)),
        (ROOT / "README.md", "readme", main_rows(machine, rows)),
    ):
        path.write_text(replace(path.read_text(encoding="utf-8"), name, new), encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
