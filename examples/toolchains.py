#!/usr/bin/env python3
"""Which compilers, interpreters and servers work in a sandbox, and how little memory do they need?

    python examples/toolchains.py [--quick] [--json | --write] [NAME ...]

Tries the folders of examples/toolchains whose programs are installed, one after the other. Exits with 1 if one of them
fails, with 2 if it cannot start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import toolchains_page as page
from toolchains_catalogue import KINDS, Toolchain, load
from toolchains_trial import Outcome, Trial

from pysandpool import SandpoolError

try:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
except ImportError:
    sys.exit("toolchains: rich is missing; install it: pip install rich")

Rows = list[tuple[Toolchain, Outcome]]


def try_all(toolchains: Sequence[Toolchain], search: bool, repeats: int) -> Rows:
    """In order, with progress on stderr: a bar on a terminal, else one line for each."""
    console = Console(stderr=True)
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    rows: Rows = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(toolchains))
        for one in toolchains:

            def tell(what: str, one: Toolchain = one) -> None:
                progress.update(task, description=escape(f"{one.title}: {what}"))

            rows.append((one, _outcome(one, tell, search, repeats)))
            progress.advance(task)
            console.print(escape(summary(*rows[-1])), highlight=False, soft_wrap=True)
    return rows


def _outcome(one: Toolchain, tell: Callable[[str], None], search: bool, repeats: int) -> Outcome:
    return Trial(one, tell, repeats).run(search)


def summary(toolchain: Toolchain, outcome: Outcome) -> str:
    if outcome.missing:
        return f"{toolchain.title}: skipped, not there: {outcome.missing} ({toolchain.install})"
    tried = {"hello": outcome.hello, "threads": outcome.threads, toolchain.runner: outcome.tests}
    words = [f"{name} {value}" for name, value in tried.items() if value]
    limits = {"compile": outcome.compile_mb, "run": outcome.hello_mb}
    words += [f"{name} {value} MiB" for name, value in limits.items() if value is not None]
    return f"{toolchain.title} {outcome.version}: {', '.join(words)}"


def print_tables(rows: Rows) -> None:
    for kind, heading in KINDS.items():
        table = Table(*page.header(kind), title=heading, box=SIMPLE, title_justify="left")
        for one, outcome in rows:
            if one.kind == kind and not outcome.missing:
                table.add_row(*map(escape, page.cells(one, outcome)), style="bold red" if outcome.failed else "")
        if table.row_count:
            Console().print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tries toolchains in sandboxes and measures the memory they need.")
    parser.add_argument("name", nargs="*", help="only these folders of examples/toolchains")
    parser.add_argument("--quick", action="store_true", help="do not search the smallest memory limits")
    parser.add_argument("--repeats", type=int, default=3, help="how often a limit must suffice (default 3)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    form.add_argument("--write", action="store_true", help="write docs/toolchains.md instead")
    options = parser.parse_args(arguments)
    if options.write and (options.name or options.quick):
        parser.error("--write measures everything: it goes with neither NAME nor --quick")
    try:
        toolchains = load(options.name)
        facts = page.where(options.repeats)
        rows = try_all(toolchains, not options.quick, options.repeats)
    except (SandpoolError, ValueError) as error:
        print(f"toolchains: {error}", file=sys.stderr)
        return 2
    if options.write:
        page.PAGE.write_text(page.markdown(facts, rows), encoding="utf-8")
    elif options.json:
        print(page.as_json(facts, rows))
    else:
        print_tables(rows)
    return 1 if any(outcome.failed for _, outcome in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
