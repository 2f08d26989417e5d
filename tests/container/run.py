"""A newcomer's two commands, `make demo` and `make test`, in a container with Docker's defaults: as root and as a user.

    python tests/container/run.py [--user root] [pytest arguments]

The container is that of tests/support/oci.py: runc, Docker's filter and capabilities, no network. It refuses
namespaces, so that sandboxes are of the Landlock tier. The tree is this one, built and prepared (`make prepare`); it
belongs to the user of the container. With arguments for pytest, `make demo` is left out. At the end there is a table
for each user, with a line for each directory of tests, and all reasons of skipped tests. The exit code is 0 when
nothing failed.
"""

from __future__ import annotations

import argparse
import io
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import oci  # noqa: E402

SECONDS = 3600
"""at most, for each command"""
USERS = {"root": 0, "user": 1000}
WORDS = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL")
# As in a clone that belongs to the user: the repository of a git worktree is outside of the tree.
TRUSTED = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}


@dataclass
class Outcome:
    """What became of the tests of one run."""

    directories: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    """How many tests were skipped for each."""

    def read(self, line: str) -> None:
        """A line of `pytest -v -rs` under pytest-xdist."""
        test = re.match(r"\[gw\d+\] \[ *\d+%\] ([A-Z]+) (tests/[^/]+)/", line)
        if test is not None:
            self.directories.setdefault(test[2], Counter())[test[1]] += 1
        skip = re.match(r"SKIPPED \[(\d+)\] \S+: (.*)", line)
        if skip is not None:
            self.reasons[skip[2]] += int(skip[1])

    def table(self) -> str:
        rows = [("", *(word.lower() for word in WORDS))]
        for name, counts in [*sorted(self.directories.items()), ("all", sum(self.directories.values(), Counter()))]:
            rows.append((name, *(str(counts[word]) for word in WORDS)))
        lines = ["  ".join([row[0].ljust(20), *(cell.rjust(7) for cell in row[1:])]) for row in rows]
        return "\n".join([*lines, *(f"{number:5} skipped: {reason}" for reason, number in self.reasons.most_common())])


def run(command: Sequence[str], uid: int, outcome: Outcome) -> int:
    """Runs it in a container of its own, which ends with it or after SECONDS, and prints what it prints."""
    print(f"=== uid {uid}: {shlex.join(command)}", flush=True)
    container = oci.Container(user=uid, owned=(str(ROOT),), env=TRUSTED)
    bounded = ["timeout", "--kill-after=10", str(SECONDS), *command]
    with oci.words_for(bounded, container) as words:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with process:
            assert process.stdout is not None
            for line in io.TextIOWrapper(process.stdout, errors="replace"):
                print(line, end="", flush=True)
                outcome.read(line)
    return process.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--user", action="append", choices=USERS, help="this user only")
    options, arguments = parser.parse_known_args()
    if oci.missing():
        print(f"no container here: {oci.missing()}")
        return 1
    codes = {}
    tables = []
    for uid in (USERS[name] for name in options.user or USERS):
        outcome = Outcome()
        test = ["make", "test", f"PYTEST_ARGS={shlex.join(['-v', *arguments])}"]
        for command in [test] if arguments else [["make", "demo"], test]:
            codes[f"uid {uid}: make {command[1]}"] = run(command, uid, outcome)
        tables.append(f"uid {uid}\n{outcome.table()}")
    print("\n\n".join(["", *tables, *(f"{what} ended with {code}" for what, code in codes.items())]))
    return 0 if not any(codes.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
