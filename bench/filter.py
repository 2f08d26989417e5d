"""Measures what the seccomp filter costs: programs with the tenant's filter and without it, in turns, as a table.

    python bench/filter.py [--rounds N]

The programs run outside of any sandbox, started by a launcher (`filter_bench.c`) that installs the filter or not,
because no configuration can leave the filter out. Only the filter differs. Times are CPU times. Exits with 1 if
CPU-bound Python becomes slower by 2 % or more.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from core import BENCH, CSRC, FLAGS
from machine import describe
from measure import Distribution, expect

BUDGET = 1.02
SPIN = """
import time
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
start = time.process_time_ns()
assert fib(26) == 121393
print(time.process_time_ns() - start)
"""
LOOPS = {"getppid": 400_000, "read+write": 200_000, "fstat": 200_000, "fcntl": 200_000, "mmap+munmap": 60_000}
LOOPS["open+close"] = 60_000


def build(folder: Path) -> Path:
    program = folder / "filter_bench"
    sources = [BENCH / "filter_bench.c", *sorted((CSRC / "host" / "seccomp").glob("*.c"))]
    command = [os.environ.get("CC", "cc"), *FLAGS, f"-I{CSRC}", *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def commands(program: Path) -> dict[str, list[str]]:
    """A command for each row. It prints its CPU time in nanoseconds, or "-" if all of its time counts."""
    python = str(Path(sys.executable).resolve())
    rows = {"CPU-bound Python": [python, "-S", "-c", SPIN]}
    for name, n in LOOPS.items():
        rows[f"{name}, per turn"] = [str(program), "loop", name, str(n)]
    dd = "dd if=/dev/zero of=/dev/null bs=1 count=200000"
    rows[dd.replace("if=/dev/zero of=/dev/null ", "")] = ["/bin/sh", "-c", f"echo -; exec {dd} 2>/dev/null"]
    return rows


def _children_ns() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1e9


def sample(program: Path, filtered: bool, command: list[str]) -> float:
    before = _children_ns()
    done = subprocess.run([program, "exec", str(int(filtered)), *command], capture_output=True, text=True, check=False)
    spent = _children_ns() - before
    expect(done.returncode == 0 and done.stdout.endswith("\n"), done)
    return spent if done.stdout == "-\n" else float(done.stdout)


def in_words(ns: float) -> str:
    return f"{ns:,.0f} ns" if ns < 1e5 else f"{ns / 1e6:,.1f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="samples of each row with and without")
    rounds = parser.parse_args().rounds
    order = random.Random(2)
    times: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="filter_bench-") as folder:
        program = build(Path(folder))
        rows = commands(program)
        for _ in range(rounds):
            turns = [(name, filtered) for name in rows for filtered in (False, True)]
            order.shuffle(turns)
            for name, filtered in turns:
                times.setdefault((name, filtered), []).append(sample(program, filtered, rows[name]))
    print(", ".join(f"{key} {value}" for key, value in describe().items() if key != "bubblewrap") + ".\n")
    print("| program | without, p50 | with, p50 | ratio of p50 | ratio of the fastest | N |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in rows:
        bare, confined = (Distribution.of(times[name, on]).p50 for on in (False, True))
        best = min(times[name, True]) / min(times[name, False])
        print(
            f"| {name} | {in_words(bare)} | {in_words(confined)} | {confined / bare:.3f} | {best:.3f} | 2 x {rounds} |"
        )
    spin = [Distribution.of(times["CPU-bound Python", on]).p50 for on in (False, True)]
    return 0 if spin[1] < BUDGET * spin[0] else 1


if __name__ == "__main__":
    sys.exit(main())
