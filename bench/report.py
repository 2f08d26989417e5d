"""The table as text, as Markdown for the README, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from row import Budget, Failure, Row

try:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    HAVE_RICH = True
except ImportError:
    HAVE_RICH = False

SAMPLES = ("p50", "p95", "p99", "max", "N")
HEADER = ("row", "figure", "measured", "baseline", "ratio", "budget", "verdict", *SAMPLES)
RIGHT = {"measured", "baseline", "ratio", *SAMPLES}
WRAPS = {"figure", "baseline"}
MIN_WIDTH = 190
SECONDS = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))


def quantity(value: float, unit: str) -> str:
    """Three significant digits, seconds in the unit that suits them."""
    if unit == "s":
        factor, unit = next((factor, name) for limit, factor, name in SECONDS if abs(value) < limit)
        value *= factor
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _budget(budget: Budget, unit: str) -> str:
    sign = "≤" if budget.sense == "<=" else "≥"
    limit = f"{budget.limit:.2f} x" if budget.of == "ratio" else quantity(budget.limit, unit)
    return f"{sign} {limit}"


def cells(row: Row) -> tuple[str, ...]:
    """The cells of one row."""
    unit = row.samples_unit or row.unit
    some = row.samples
    return (
        row.name,
        row.figure,
        quantity(row.value, row.unit),
        "-" if row.baseline is None else f"{quantity(row.baseline, row.unit)} ({row.against})",
        "-" if row.ratio is None else f"{row.ratio:.2f}",
        _budget(row.budget, row.unit),
        row.verdict,
        *(quantity(value, unit) for value in (some.p50, some.p95, some.p99, some.max)),
        f"{some.n:,}",
    )


def _notes(rows: Sequence[Row], failures: Sequence[Failure]) -> list[str]:
    return [f"{row.name}: {row.note}" for row in rows if row.note] + [
        f"{', '.join(failure.names)}: FAILED: {failure.error}" for failure in failures
    ]


def markdown(machine: dict[str, str], rows: Sequence[Row], failures: Sequence[Failure]) -> str:
    rule = ["---:" if name in RIGHT else "---" for name in HEADER]
    lines = [HEADER, rule, *(cells(row) for row in rows)]
    return "\n".join(
        [
            ", ".join(f"{name} {value}" for name, value in machine.items()) + ".",
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            *(f"- {note}" for note in _notes(rows, failures)),
        ]
    )


def _plain(rows: Sequence[Row]) -> None:
    lines = [HEADER, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def terminal(machine: dict[str, str], rows: Sequence[Row], failures: Sequence[Failure]) -> None:
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if HAVE_RICH:
        table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
        for name in HEADER:
            right, wraps = name in RIGHT, name in WRAPS
            table.add_column(
                name, justify="right" if right else "left", no_wrap=not wraps, min_width=26 if wraps else None
            )
        for row in rows:
            table.add_row(*map(escape, cells(row)), style="" if row.met else "bold red")
        console = Console()
        console.width = max(console.width, MIN_WIDTH)
        console.print(table)
    else:
        _plain(rows)
    for note in _notes(rows, failures):
        print(f"- {note}")


def save(path: Path, machine: dict[str, str], rows: Sequence[Row], failures: Sequence[Failure]) -> None:
    content = {
        "machine": machine,
        "rows": [row.as_dict() for row in rows],
        "failures": [{"names": failure.names, "error": failure.error} for failure in failures],
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
