"""The outcomes of toolchains.py as a table for a terminal, as docs/toolchains.md, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from toolchains_catalogue import KINDS, Toolchain
from toolchains_trial import STEPS_MB, Outcome

from pysandpool import Sandbox, SandboxConfig, __version__

PAGE = Path(__file__).resolve().parents[1] / "docs" / "toolchains.md"
LANGUAGES = ("toolchain", "version", "hello", "threads", "test runner", "compile, MiB", "run, MiB")
OTHERS = ("what", "version", "works", "test runner", "prepare, MiB", "run, MiB")
HEAD = """# Toolchains

What runs in a sandbox with default limits, and the smallest memory limit with which it still runs.
`python examples/toolchains.py --write` measures this page: the programs and the commands are in `examples/toolchains`.
"""
LEGEND = """
- **hello** is compiled, where there is a compiler, and run; the output must be right. **threads** starts eight threads
  (processes in sh and R) that add up numbers. **test runner** runs two tests, or finds a planted bug.
- **compile** and **run** are the smallest `memory_limit_mb` with which the compiler, and the program alone, worked {n}
  times in a row, out of {first}, 6, 8, 12, 16, … {last}. What they write into `/tmp` counts, too. In brackets is the
  resident memory of the largest process, program files included. Without a cgroup, a program that ends within
  milliseconds can use more than its limit: choose a limit above both numbers. "-" means that there is nothing to try.
- Where a row says so, the sandbox has more than the default configuration.
"""


def where(repeats: int) -> dict[str, str]:
    """When, on what and how often was measured."""
    with Sandbox(SandboxConfig()) as sandbox:
        memory = {"full": "a cgroup", "partial": "init's watch"}.get(sandbox.isolation.memory, sandbox.isolation.memory)
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "pysandpool": __version__,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "cores": str(os.cpu_count()),
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "memory limited by": memory,
        "N": str(repeats),
    }


def _distribution() -> str:
    lines = Path("/etc/os-release").read_text("utf-8").splitlines() if Path("/etc/os-release").exists() else []
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")), "unknown")


def cells(toolchain: Toolchain, outcome: Outcome) -> tuple[str, ...]:
    """One row, for the header of its kind."""
    tests = outcome.tests and f"{toolchain.runner}: {outcome.tests}"
    limits = (_limit(outcome.compile_mb, outcome.compile_peak_mb), _limit(outcome.hello_mb, outcome.hello_peak_mb))
    if toolchain.kind == "language":
        row: tuple[str, ...] = (title(toolchain), outcome.version, outcome.hello, outcome.threads, tests, *limits)
    else:
        row = (title(toolchain), outcome.version, outcome.hello, tests, *limits)
    return tuple(cell or "-" for cell in row)


def title(toolchain: Toolchain) -> str:
    """The first cell: the name, what is tried, and what the sandbox has beyond the default configuration."""
    more = [toolchain.note, *(f"`{name}={value!r}`" for name, value in toolchain.config.items())]
    return ": ".join(filter(None, (toolchain.title, ", ".join(filter(None, more)))))


def _limit(limit: int | None, peak: int | None) -> str:
    return "" if limit is None else f"{limit} ({peak})"


def header(kind: str) -> tuple[str, ...]:
    return LANGUAGES if kind == "language" else OTHERS


def markdown(facts: Mapping[str, str], rows: Sequence[tuple[Toolchain, Outcome]]) -> str:
    """The whole page."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    legend = LEGEND.format(n=facts["N"], first=STEPS_MB[0], last=STEPS_MB[-1])
    parts = [f"{HEAD}\n{told}.\n{legend}"]
    for kind, heading in KINDS.items():
        found = [cells(one, outcome) for one, outcome in rows if one.kind == kind and not outcome.missing]
        if found:
            parts.append(f"## {heading}\n\n" + _table(header(kind), found))
    if lost := [(one.title, f"not there: {outcome.missing}") for one, outcome in rows if outcome.missing]:
        parts.append("## Not tried\n\n" + _table(("what", "why"), lost))
    installs = [(one.title, f"`{one.install}`") for one, _ in rows]
    parts.append("## What to install\n\n" + _table(("what", "command"), installs))
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_json(facts: Mapping[str, str], rows: Sequence[tuple[Toolchain, Outcome]]) -> str:
    return json.dumps({"where": facts, "rows": [asdict(outcome) for _, outcome in rows]}, indent=1)
