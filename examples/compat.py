#!/usr/bin/env python3
"""Does a sandbox change what ordinary programs do? Runs all of /usr/bin outside and inside, and compares.

    python examples/compat.py [--jobs 4] [--json] [NAME ...]

Compared are exit code, stdout and stderr of ``program --version``, for all programs that answer it within a
second. Prints the programs that differ, each with the reason; exits with 1 if a difference has none.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

from compat_reasons import Answer, Reason, explain, same

from pysandpool import (
    CommandNotFoundError,
    PoolConfig,
    PooledSandbox,
    Sandbox,
    SandboxConfig,
    SandboxError,
    SandboxPool,
    SandpoolError,
    SeccompProfile,
)

PROGRAMS = Path("/usr/bin")
# Not to be run outside, whatever their arguments: they stop the machine, take the screen, talk to its users, or
# (cpan) take --version for work to do over the network.
STOPS = frozenset({"reboot", "halt", "poweroff", "shutdown", "init", "telinit", "runlevel", "systemctl", "kexec"})
SKIP = STOPS | {"wall", "write", "xkill", "startx", "xinit", "Xorg", "X"}
SKIP_PREFIX = ("cpan",)
NOBODY = 65534
OUTSIDE_SECONDS = 1.0
INSIDE_SECONDS = 10.0
# A program that takes --version for work to do must not fill the disk. Blocks of 512 or 1,024 bytes.
WITH_FILE_LIMIT = 'ulimit -c 0; ulimit -f 8192; exec "$@"'

ORDINARY: dict[str, Any] = {"memory_limit_mb": 1024, "timeout_secs": 30}
STATE = tuple(path for path in ("/sys", "/run", "/opt", "/srv") if Path(path).is_dir())
SOCKETS = {"deny_network": False, "allow_unix_sockets": True, "seccomp_profile": SeccompProfile.NETWORK}
# What a program may lack inside, from little to much; each includes the one before.
MORE: dict[str, dict[str, Any]] = {
    "files of /etc": {"fs_readonly": ("/etc",)},
    "files of /var": {"fs_readonly": ("/etc", "/var")},
    "files of " + ", ".join(STATE): {"fs_readonly": ("/etc", "/var", *STATE)},
    "sockets": {"fs_readonly": ("/etc", "/var", *STATE), **SOCKETS},
    "memory and processes": {
        "fs_readonly": ("/etc", "/var", *STATE), **SOCKETS, "memory_limit_mb": None, "max_processes": None,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    program: str
    outside: Answer
    inside: Answer
    reason: Reason | None


class Comparison:
    """Runs programs on both sides. Inside, each run has a fresh sandbox."""

    def __init__(self, pool: SandboxPool) -> None:
        self._pool = pool
        self._seen: dict[str, bool] = {}
        with pool.acquire() as sandbox:
            listing = sandbox.execute(["/usr/bin/env", "-0"]).check().stdout
        pairs = (entry.partition(b"=") for entry in listing.split(b"\0") if entry)
        self._environment = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}

    def compare(self, program: Path) -> Difference | bool | None:
        """A difference, True when there is none, None when the program does not answer outside."""
        outside = self.outside(program)
        if outside.timed_out or outside.missing or outside.signal is not None:
            return None
        if outside.exit_code != 0 and not outside.stdout + outside.stderr:
            return None
        inside = self.inside(program)
        if same(outside, inside):
            return True
        trials = [(given, functools.partial(self._given, given, program)) for given in MORE]
        reason = explain(program, (outside, inside, self.outside(program)), self.seen_inside, trials)
        return Difference(program.name, outside, inside, reason)

    def outside(self, program: Path) -> Answer:
        """In an empty home, the sandbox's environment, without terminal and stdin; as nobody when we are root."""
        ids: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        with TemporaryDirectory(prefix="compat-") as home, TemporaryFile() as out, TemporaryFile() as err:
            if ids:
                os.chown(home, NOBODY, NOBODY)
            process = subprocess.Popen(
                ["/bin/sh", "-c", WITH_FILE_LIMIT, "sh", program, "--version"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=home,
                env={**self._environment, "HOME": home, "TMPDIR": home, "PWD": home},
                start_new_session=True,
                **ids,
            )
            code = _wait_and_kill(process)
            stdout, stderr = (_text(file).replace(os.fsencode(home), b"/tmp") for file in (out, err))
        if code is None:
            return Answer(None, None, stdout, stderr, timed_out=True)
        return Answer(code if code >= 0 else None, -code if code < 0 else None, stdout, stderr)

    def inside(self, program: Path) -> Answer:
        with self._pool.acquire() as sandbox:
            return ask(sandbox, program)

    def _given(self, more: str, program: Path) -> Answer | None:
        """The answer in a sandbox that is given more, None where there cannot be such a sandbox."""
        try:
            with Sandbox(SandboxConfig(**{**ORDINARY, **MORE[more]})) as sandbox:
                return ask(sandbox, program)
        except SandboxError:
            return None

    def seen_inside(self, path: str) -> bool:
        if path not in self._seen:
            with self._pool.acquire() as sandbox:
                self._seen[path] = sandbox.execute(["/usr/bin/test", "-e", path]).exit_code == 0
        return self._seen[path]


def ask(sandbox: PooledSandbox | Sandbox, program: Path) -> Answer:
    try:
        got = sandbox.execute([program, "--version"], timeout=INSIDE_SECONDS)
    except CommandNotFoundError as error:
        return Answer(None, None, b"", str(error).encode(), missing=True)
    return Answer(got.exit_code, got.signal, got.stdout, got.stderr, got.timed_out)


def _wait_and_kill(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code, or None after a second; either way nothing of the process group is left."""
    try:
        return process.wait(OUTSIDE_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _text(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(1 << 20)


def programs(names: Sequence[str]) -> list[Path]:
    """The executable files of /usr/bin that may be run here, or those of them that are named."""
    found = [Path(entry) for entry in os.scandir(PROGRAMS) if entry.is_file() and os.access(entry, os.X_OK)]
    wanted = (path for path in found if not names or path.name in names)
    return sorted(path for path in wanted if path.name not in SKIP and not path.name.startswith(SKIP_PREFIX))


def compare_all(paths: Sequence[Path], jobs: int) -> tuple[list[Difference], int, int]:
    """Returns the differences, how many answered alike, and how many did not answer outside."""
    done, lock = 0, threading.Lock()
    size = PoolConfig(min_size=jobs, max_size=2 * jobs)
    with SandboxPool(SandboxConfig(**ORDINARY), size) as pool, ThreadPoolExecutor(jobs) as threads:
        comparison = Comparison(pool)

        def one(program: Path) -> Difference | bool | None:
            nonlocal done
            outcome = comparison.compare(program)
            with lock:
                done += 1
                if sys.stderr.isatty():
                    print(f"\r[{done}/{len(paths)}] {program.name:<40.40}", end="", file=sys.stderr)
            return outcome

        outcomes = list(threads.map(one, paths))
    if sys.stderr.isatty():
        print("\r" + " " * 60, end="\r", file=sys.stderr)
    differences = [outcome for outcome in outcomes if isinstance(outcome, Difference)]
    return differences, outcomes.count(True), outcomes.count(None)


def summary(answer: Answer) -> str:
    """One line for a terminal: how it ended, and its first line of output."""
    how = f"exit {answer.exit_code}" if answer.signal is None else f"signal {answer.signal}"
    if answer.timed_out or answer.missing:
        how = "no end" if answer.timed_out else "cannot be executed"
    line = (answer.stdout.strip() or answer.stderr.strip()).split(b"\n", 1)[0].decode("utf-8", "replace")
    return f"{how}: " + "".join(char if char.isprintable() else "?" for char in line)[:90]


def print_report(differences: Sequence[Difference], alike: int, silent: int) -> None:
    for one in differences:
        category, evidence = (one.reason.category, one.reason.evidence) if one.reason else ("UNEXPLAINED", "")
        print(f"{one.program:<28} {category:<22} {evidence}".rstrip())
        if one.reason is None:
            print(f"    outside  {summary(one.outside)}\n    inside   {summary(one.inside)}")
    print(
        f"\n{alike + len(differences)} programs answer --version: {alike} alike, {len(differences)} differ",
        end="",
    )
    print(f" ({silent} do not answer within {OUTSIDE_SECONDS:g} s)")
    for category, count in Counter(one.reason.category if one.reason else "UNEXPLAINED" for one in differences).items():
        print(f"  {count:>4}  {category}")


def as_json(differences: Sequence[Difference], alike: int, silent: int) -> str:
    def answer(one: Answer) -> dict[str, object]:
        texts = {
            "stdout": one.stdout.decode("utf-8", "replace"),
            "stderr": one.stderr.decode("utf-8", "replace"),
        }
        return {**vars(one), **texts}

    rows = [
        {
            "program": one.program,
            "category": one.reason.category if one.reason else None,
            "evidence": one.reason.evidence if one.reason else None,
            "outside": answer(one.outside),
            "inside": answer(one.inside),
        }
        for one in differences
    ]
    unexplained = sum(one.reason is None for one in differences)
    return json.dumps({"alike": alike, "silent": silent, "unexplained": unexplained, "differences": rows}, indent=1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compares --version of the programs in /usr/bin outside and inside.")
    parser.add_argument("name", nargs="*", help="only these programs")
    parser.add_argument("--jobs", type=int, default=max(2, os.cpu_count() or 2), help="comparisons at a time")
    parser.add_argument("--json", action="store_true", help="print JSON, with both answers whole")
    options = parser.parse_args(arguments)
    paths = programs(options.name)
    if options.jobs < 1 or not paths:
        parser.error("--jobs must be at least 1" if options.jobs < 1 else "no such program in /usr/bin")
    try:
        differences, alike, silent = compare_all(paths, options.jobs)
    except SandpoolError as error:
        print(f"compat: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(as_json(differences, alike, silent))
    else:
        print_report(differences, alike, silent)
    return 1 if any(one.reason is None for one in differences) else 0


if __name__ == "__main__":
    sys.exit(main())
