"""Measures every budget of the design and prints one row for each: `python bench/table.py --help`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import machine
import report
import rows_acquire
import rows_capture
import rows_code
import rows_execute
import rows_files
import rows_loop
import rows_memory
import rows_resident
import rows_threads
import rows_workspace
from row import Bench, Effort, Failure, Row

BENCHES: tuple[Bench, ...] = (
    *rows_acquire.BENCHES,
    *rows_workspace.BENCHES,
    *rows_execute.BENCHES,
    *rows_loop.BENCHES,
    *rows_threads.BENCHES,
    *rows_resident.BENCHES,
    *rows_memory.BENCHES,
    *rows_capture.BENCHES,
    *rows_code.BENCHES,
    *rows_files.BENCHES,
)
NAMES = tuple(name for bench in BENCHES for name in bench.names)


def _row_names(text: str) -> frozenset[str]:
    names = frozenset(text.split(","))
    if unknown := names - set(NAMES):
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(sorted(unknown))}")
    return names


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"rows: {', '.join(NAMES)}")
    add = parser.add_argument
    add("--quick", action="store_true", help="a tenth of the samples: for a look, not for the README")
    add("--rows", type=_row_names, default=frozenset(NAMES), metavar="NAME,NAME", help="only these")
    add("--markdown", action="store_true", help="print the README's form")
    add("--json", type=Path, metavar="FILE", help="also write everything there")
    return parser.parse_args(argv)


def _measure(wanted: frozenset[str], effort: Effort) -> tuple[list[Row], list[Failure]]:
    """A measurement that raises becomes a failure, and the others still run."""
    rows: list[Row] = []
    failures: list[Failure] = []
    for bench in BENCHES:
        names = tuple(name for name in bench.names if name in wanted)
        if not names:
            continue
        busy = "" if machine.comes_to_rest() else "OTHER PROGRAMS WERE USING THE CORES"
        print(f"measuring {', '.join(names)} … {busy}", file=sys.stderr, flush=True)
        try:
            measured = [row for row in bench.measure(effort) if row.name in names]
            rows += [replace(row, note="; ".join(filter(None, (busy, row.note)))) for row in measured]
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            failures.append(Failure(names, f"{type(error).__name__}: {error}"))
    return rows, failures


def main(argv: Sequence[str]) -> int:
    """0 when every row is there and within its budget."""
    options = _arguments(argv)
    where = machine.describe()
    rows, failures = _measure(options.rows, Effort(options.quick))
    if options.json:
        report.save(options.json, where, rows, failures)
    if options.markdown:
        print(report.markdown(where, rows, failures))
    else:
        report.terminal(where, rows, failures)
    return 0 if not failures and all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
