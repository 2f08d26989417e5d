#!/usr/bin/env python3
"""A small online judge on pysandpool: compiles and runs the submissions of the bundled folder, trusting none.

    python examples/judge.py [--jobs 2] [--patience 1] [--json] [FILTER ...]

Prints a table of verdicts and exits with 1 if one of them is not the expected one, with 2 if it cannot start.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from judge_problems import Problem, Submission, Test, load
from judge_verdict import Verdict, first_words, how_it_ended, verdict_of

from pysandpool import (
    IsolationReport,
    NamespaceDegradation,
    PoolConfig,
    SandboxConfig,
    SandboxPool,
    SandboxResult,
    SandpoolError,
)

PYTHON = "/usr/bin/python3"
# In a container that refuses namespaces, the judge takes the Landlock tier, which is weaker: SECURITY.md says how.
ALLOW = NamespaceDegradation.ALLOW_DEGRADATION
# The fork bombs among the submissions go off only where this variable is set.
MARK = {"JUDGE_SANDBOX": "1"}
# The kernel's own CPU clock decides about time, so that a busy machine does not turn AC into TLE. The limit is
# inherited over exec; the shell is not there any more when the submission runs.
WITH_CPU_LIMIT = 'ulimit -S -t "$1" && shift && exec "$@"'
WRITE_PROGRAM = "cat > prog && chmod 755 prog"


@dataclass
class Row:
    """One line of the table. Times and memory are the largest over the tests that ran."""

    submission: str
    verdict: Verdict
    expected: Verdict
    ok: bool = False
    test: str = ""
    why: str = ""
    tier: str = "full"
    cpu: float = 0.0
    wall: float = 0.0
    peak_bytes: int = 0

    def measure(self, result: SandboxResult) -> None:
        self.cpu = max(self.cpu, result.user_time + result.system_time)
        self.wall = max(self.wall, result.elapsed)
        self.peak_bytes = max(self.peak_bytes, result.max_rss_bytes)


class Judge:
    """One pool for compilers and one per memory limit, shared by all threads."""

    def __init__(self, problems: Sequence[Problem], jobs: int) -> None:
        self._stack = ExitStack()
        self._size = PoolConfig(min_size=jobs, max_size=2 * jobs)
        self._pools: dict[str, SandboxPool] = {}
        self.isolation: IsolationReport | None = None
        with ExitStack() as undo:
            undo.callback(self._stack.close)
            self._open(
                "compile",
                SandboxConfig(memory_limit_mb=512, timeout_secs=30, max_processes=32, namespace_degradation=ALLOW),
            )
            for memory_mb in sorted({problem.limits.memory_mb for problem in problems}):
                self._open(f"run {memory_mb} MB", run_config(memory_mb))
            undo.pop_all()

    def _open(self, name: str, config: SandboxConfig) -> None:
        pool = self._pools[name] = self._stack.enter_context(SandboxPool(config, self._size))
        with pool.acquire() as sandbox:
            self.isolation = sandbox.isolation

    @property
    def tier(self) -> str:
        return self.isolation.tier if self.isolation is not None else "full"

    def close(self) -> None:
        self._stack.close()

    def stats(self) -> dict[str, Any]:
        return {name: pool.stats() for name, pool in self._pools.items()}

    def judge(self, submission: Submission) -> Row:
        """Compiles, then runs the tests in order up to the first that is not accepted."""
        row = Row(submission.name, Verdict.IE, submission.verdict, tier=self.tier)
        if submission.needs is not None and getattr(self.isolation, submission.needs) != "full":
            row.verdict, row.ok = Verdict.NR, True
            row.why = f"declared: isolation.{submission.needs} is not full in this tier, see SECURITY.md"
            return row
        try:
            said = self._judge(submission, row)
        except SandpoolError as error:  # the judge's failure, not the submission's
            row.verdict, row.why = Verdict.IE, f"{type(error).__name__}: {error}"
            return row
        row.ok = as_expected(submission, row, said)
        return row

    def _judge(self, submission: Submission, row: Row) -> bytes:
        program, failure = self._build(submission)
        if program is None:
            row.verdict, row.why = Verdict.CE, failure
            return b""
        said = b""
        for test in submission.problem.tests:
            result = self._run(submission, program, test)
            row.measure(result)
            row.verdict, row.why = verdict_of(result, test.expected, submission.problem.limits)
            row.test, said = test.name, result.stdout
            if row.verdict is not Verdict.AC:
                break
        return said

    def _build(self, submission: Submission) -> tuple[bytes | None, str]:
        """Returns (program, "") or (None, the compiler's complaint).

        A compiler that reads hostile text runs inside. What it makes leaves as bytes on stdout, the sandbox goes.
        """
        source = submission.path.read_bytes()
        with self._pools["compile"].acquire() as sandbox:
            if submission.path.suffix == ".c":
                command = ["gcc", "-O2", "-o", "prog", "-x", "c", "-"]
                made = sandbox.execute(command, input=source)
                if made.exit_code == 0:
                    return sandbox.execute(["cat", "prog"]).check().stdout, ""
            else:
                sandbox.execute(["tee", "main.py"], input=source).check()
                made = sandbox.execute([PYTHON, "-m", "py_compile", "main.py"])
                if made.exit_code == 0:
                    return source, ""
        return None, compiler_message(made)

    def _run(self, submission: Submission, program: bytes, test: Test) -> SandboxResult:
        """One test in one fresh sandbox: what it leaves (files, processes, shared memory) meets no other test.

        The one that compiled is not used again either: by then a hostile source may have been at work in it.
        """
        limits = submission.problem.limits
        command = ["./prog"] if submission.path.suffix == ".c" else [PYTHON, "prog"]
        with self._pools[f"run {limits.memory_mb} MB"].acquire() as sandbox:
            sandbox.execute(["/bin/sh", "-c", WRITE_PROGRAM], input=program).check()
            limited = ["/bin/sh", "-c", WITH_CPU_LIMIT, "sh", str(limits.cpu_seconds), *command]
            return sandbox.execute(limited, input=test.input, timeout=limits.wall_seconds)


def run_config(memory_mb: int) -> SandboxConfig:
    return SandboxConfig(
        memory_limit_mb=memory_mb,
        timeout_secs=30,
        max_processes=8,
        max_output_bytes=1 << 20,
        namespace_degradation=ALLOW,
        env_vars=MARK,
    )


def compiler_message(result: SandboxResult) -> str:
    """The line that names the error, or how the compiler ended if it did not say."""
    lines = [line for line in result.stderr.split(b"\n") if line.strip()]
    errors = [line for line in lines if b"rror:" in line]
    return first_words((errors or lines[-1:] or [how_it_ended(result).encode()])[0], 100)


def as_expected(submission: Submission, row: Row, said: bytes) -> bool:
    """The verdict is the declared one, for the declared reason, and nothing undeclared was printed."""
    if row.verdict is not submission.verdict or submission.note_in(row.tier) not in row.why:
        return False
    return submission.prints is None or said.strip() == submission.prints.encode()


HEADER = ("submission", "verdict", "test", "cpu ms", "wall ms", "peak MB", "expected", "", "why")
LINE = "{:<22} {:<7} {:<14} {:>7} {:>8} {:>8}  {:<8} {:<8} {}"


def line_of(row: Row) -> str:
    figures = (f"{row.cpu * 1e3:.0f}", f"{row.wall * 1e3:.0f}", f"{row.peak_bytes / 2**20:.1f}")
    ran = figures if row.test else ("-", "-", "-")
    test = "" if row.verdict is Verdict.AC else row.test
    end = (row.expected.value, "ok" if row.ok else "MISMATCH", row.why)
    return LINE.format(row.submission, row.verdict.value, test, *ran, *end).rstrip()


def print_report(rows: Sequence[Row], stats: dict[str, Any]) -> None:
    heading = LINE.format(*HEADER)
    print(heading, "-" * len(heading), *map(line_of, rows), sep="\n")
    wrong, left_out = sum(not row.ok for row in rows), sum(row.verdict is Verdict.NR for row in rows)
    print(f"\n{len(rows)} submissions, {f'{wrong} not' if wrong else 'all'} as expected", end="")
    print(f", {left_out} of them not run" if left_out else "")
    for tier in {row.tier for row in rows} - {"full"}:
        print(f"This machine refuses namespaces: the sandboxes were of the {tier} tier, see SECURITY.md.")
    for name, figures in stats.items():
        print(f"pool {name:<10} {figures}")


def as_json(rows: Sequence[Row], stats: dict[str, Any]) -> str:
    figures = ("hit_count", "miss_count", "evict_count", "idle_count", "in_use_count")
    pools = {name: {figure: getattr(value, figure) for figure in figures} for name, value in stats.items()}
    report = {"ok": all(row.ok for row in rows), "rows": [asdict(row) for row in rows], "pools": pools}
    return json.dumps(report, indent=1)


def missing_programs(submissions: Sequence[Submission]) -> str:
    """What the host lacks and the command that installs it, or ""."""
    suffixes = {submission.path.suffix for submission in submissions}
    if ".c" in suffixes and shutil.which("gcc", path="/usr/bin:/bin") is None:
        return "gcc is missing; install it: apt-get install gcc libc6-dev (or: dnf install gcc glibc-devel)"
    if ".py" in suffixes and not os.access(PYTHON, os.X_OK):
        return f"{PYTHON} is missing; install it: apt-get install python3 (or: dnf install python3)"
    return ""


def judge_all(submissions: Sequence[Submission], jobs: int) -> tuple[list[Row], dict[str, Any]]:
    """Rows in the order of the submissions; progress, in the order of the endings, on stderr."""
    lock, done = threading.Lock(), 0
    problems = [submission.problem for submission in submissions]
    with closing(Judge(problems, jobs)) as judge, ThreadPoolExecutor(jobs) as threads:
        if judge.tier != "full":
            print(f"this machine refuses namespaces: taking the {judge.tier} tier", file=sys.stderr)

        def one(submission: Submission) -> Row:
            nonlocal done
            row = judge.judge(submission)
            with lock:
                done += 1
                mark = "" if row.ok else f"  expected {row.expected.value}: {row.why}"
                print(f"[{done}/{len(submissions)}] {row.submission} {row.verdict.value}{mark}", file=sys.stderr)
            return row

        return list(threads.map(one, submissions)), judge.stats()


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def patiently(submissions: Sequence[Submission], factor: int) -> list[Submission]:
    """With longer limits of the wall clock: on a busy machine a command may wait long for a processor."""

    def longer(problem: Problem) -> Problem:
        limits = replace(problem.limits, wall_seconds=problem.limits.wall_seconds * factor)
        return replace(problem, limits=limits)

    return [replace(one, problem=longer(one.problem)) for one in submissions]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A small online judge on pysandpool.")
    parser.add_argument("filter", nargs="*", help="judge only what has one of these in its problem/name")
    parser.add_argument("--jobs", type=positive, default=2, help="submissions judged at a time (default 2)")
    parser.add_argument(
        "--patience", type=positive, default=1, help="factor for limits of the wall clock, on a busy machine"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    submissions = patiently(load(), options.patience)
    if options.filter:
        submissions = [one for one in submissions if any(part in one.name for part in options.filter)]
    if not submissions:
        parser.error("no submission matches")
    if missing := missing_programs(submissions):
        print(f"judge: {missing}", file=sys.stderr)
        return 2
    try:
        rows, stats = judge_all(submissions, options.jobs)
    except SandpoolError as error:  # no sandbox at all: the error names the stage and the remedy
        print(f"judge: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(as_json(rows, stats))
    else:
        print_report(rows, stats)
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
