#!/usr/bin/env python3
"""Judges completions of programming tasks in the format of HumanEval, each in a warm interpreter of its own.

    python examples/humaneval.py                                            # the bundled tasks and samples
    python examples/humaneval.py --tasks HumanEval.jsonl.gz --samples samples.jsonl --k 1 10

Prints a line for each way to end and the estimate of pass@k. With the bundled samples it exits with 1 if one of them
does not end as its line expects; it exits with 2 if it cannot start.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import secrets
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from pysandpool import CodeResult, Interpreter, PoolConfig, SandboxConfig, SandboxError, SandboxPool

FOLDER = Path(__file__).with_suffix("")
PASSED = "passed"
# What tasks of this kind import most often. An interpreter that has loaded it starts as fast as one that has not.
PRELOAD = ("collections", "functools", "heapq", "itertools", "math", "re", "string", "typing")


@dataclass(frozen=True)
class Task:
    """One line of a task file."""

    task_id: str
    prompt: str
    test: str
    entry_point: str

    def program(self, completion: str, token: str) -> str:
        """What runs inside. The last expression shows that the tests have come to their end: exiting early, with any
        exit code, does not pass. A completion that looks for the token on purpose can still claim it, for it runs in
        the same interpreter as its tests; judge.py compares answers outside, where nothing can be claimed."""
        return f"{self.prompt}{completion}\n{self.test}\ncheck({self.entry_point})\n{token!r}\n"


@dataclass(frozen=True)
class Sample:
    """One line of a file of samples; `expected` is of the bundled ones only."""

    task_id: str
    completion: str
    expected: str | None = None


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, which may be compressed."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def load_tasks(path: Path) -> dict[str, Task]:
    fields = ("task_id", "prompt", "test", "entry_point")
    return {line["task_id"]: Task(**{name: line[name] for name in fields}) for line in lines_of(path)}


def load_samples(path: Path, tasks: dict[str, Task]) -> list[Sample]:
    samples = [Sample(line["task_id"], line["completion"], line.get("expected")) for line in lines_of(path)]
    if unknown := sorted({sample.task_id for sample in samples} - set(tasks)):
        raise KeyError(f"{path}: there are no tasks {', '.join(unknown)}")
    return samples


def verdict(result: CodeResult, token: str) -> str:
    """How a sample ended. What the sandbox knows comes before what the program says."""
    if result.oom_killed:
        return "out of memory"
    if result.timed_out:
        return "timed out"
    if result.signal is not None:
        return "crashed"
    return PASSED if result.exit_code == 0 and result.error is None and result.text == repr(token) else "failed"


class Judge:
    """A pool whose sandboxes each hold an interpreter that has started; every sample gets a fresh one."""

    def __init__(self, jobs: int, timeout: float, preload: Sequence[str]) -> None:
        self._timeout = timeout
        config = SandboxConfig(interpreter=Interpreter(preload=preload), fs_python=True, memory_limit_mb=256)
        self._pool = SandboxPool(config, PoolConfig(min_size=jobs, max_size=2 * jobs, max_in_use=jobs))

    def judge(self, task: Task, sample: Sample) -> str:
        token = secrets.token_hex(16)
        result = self._pool.run_code(task.program(sample.completion, token), timeout=self._timeout)
        return verdict(result, token)

    def judge_all(
        self, tasks: dict[str, Task], samples: Sequence[Sample], jobs: int, console: Console
    ) -> list[tuple[Sample, str]]:
        with ThreadPoolExecutor(jobs) as threads:
            futures = {threads.submit(self.judge, tasks[sample.task_id], sample): sample for sample in samples}
            ended = track(as_completed(futures), "judging", total=len(futures), console=console)
            return [(futures[future], future.result()) for future in ended]

    def close(self) -> None:
        self._pool.close()


def pass_at_k(tries: int, passed: int, k: int) -> float:
    """The unbiased estimate of the chance that one of k tries passes, from `passed` of `tries` (Chen et al., 2021)."""
    return 1.0 if tries - passed < k else 1.0 - math.comb(tries - passed, k) / math.comb(tries, k)


def estimate(ended: Iterable[tuple[Sample, str]], k: int) -> float | None:
    """The mean over the tasks; None if a task has fewer than k samples."""
    passed: dict[str, list[bool]] = defaultdict(list)
    for sample, how in ended:
        passed[sample.task_id].append(how == PASSED)
    if not passed or min(map(len, passed.values())) < k:
        return None
    return sum(pass_at_k(len(tries), sum(tries), k) for tries in passed.values()) / len(passed)


def report(ended: Sequence[tuple[Sample, str]], ks: Sequence[int], console: Console) -> int:
    for how, count in Counter(how for _, how in ended).most_common():
        console.print(f"{how:<14} {count:>6}")
    for k in ks:
        found = estimate(ended, k)
        console.print(f"pass@{k:<9} {'too few samples' if found is None else f'{found:.3f}'}")
    wrong = [(sample, how) for sample, how in ended if sample.expected not in (None, how)]
    for sample, how in wrong:
        console.print(f"{sample.task_id}: {how}, expected {sample.expected}: {sample.completion!r}", markup=False)
    return 1 if wrong else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, default=FOLDER / "tasks.jsonl", metavar="FILE")
    parser.add_argument("--samples", type=Path, default=FOLDER / "samples.jsonl", metavar="FILE")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="samples at a time (2)")
    parser.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS", help="of one sample (3)")
    parser.add_argument("--preload", nargs="*", default=PRELOAD, metavar="MODULE", help="loaded before any sample runs")
    parser.add_argument("--k", type=int, nargs="*", default=[1], metavar="K", help="print pass@K (1)")
    options = parser.parse_args(argv)
    console = Console()
    try:
        tasks = load_tasks(options.tasks)
        samples = load_samples(options.samples, tasks)
        judge = Judge(options.jobs, options.timeout, options.preload)
    except (OSError, ValueError, KeyError, SandboxError) as error:
        print(f"humaneval.py cannot start: {error}", file=sys.stderr)
        return 2
    try:
        return report(judge.judge_all(tasks, samples, options.jobs, console), options.k, console)
    finally:
        judge.close()


if __name__ == "__main__":
    sys.exit(main())
