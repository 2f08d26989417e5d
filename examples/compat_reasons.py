"""Why a program answers otherwise in a sandbox, from evidence only.

A difference without a reason is a finding about the sandbox. So a rule must point at something that was seen: a
second answer unlike the first, a file that only the host has, or, as the strongest, an experiment: the
difference is gone in a sandbox that is given one thing more.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What a program did with ``--version``. ``missing``: it could not be executed at all."""

    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    missing: bool = False


@dataclass(frozen=True)
class Reason:
    category: str
    evidence: str


# What may differ between any two runs: addresses, clock times, process ids, names of temporary files; and the
# words for a refused write, since outside the folder belongs to somebody else and inside it is read-only.
VARIES = (
    (re.compile(rb"0x[0-9a-fA-F]{4,}"), b"0xADDRESS"),
    (re.compile(rb"\b\d\d:\d\d:\d\d(\.\d+)?\b"), b"TIME"),
    (re.compile(rb"(?i)(\bpid[ =:]*|/proc/|\[|\([\w.-]+:)\d+\b"), rb"\1PID"),
    (re.compile(rb"/tmp/[\w.-]*[0-9A-Za-z_]{6,}"), b"/tmp/NAME"),
    (re.compile(rb"Read-only file system"), b"Permission denied"),
)

# Words in a complaint: a line that only the answer from inside has.
WORDS = (
    ("a socket", re.compile(r"(?i)socket|AF_\w+|netlink|d-bus|dbus|system bus|can't connect|cannot connect")),
    ("/sys", re.compile(r"/sys\b|sysfs")),
    ("the locale", re.compile(r"setlocale|setting locale|LC_ALL")),
    (
        "memory beyond the limit",
        re.compile(r"(?i)cannot allocate|out of memory|could not reserve|bad_alloc|heap"),
    ),
)

ABSOLUTE = re.compile(r"(?<![\w/.])/[\w.+@~:%-]+(?:/[\w.+@~%-]+)*")


def same(outside: Answer, inside: Answer) -> bool:
    return _comparable(outside) == _comparable(inside)


def _comparable(answer: Answer) -> tuple[object, ...]:
    state = (answer.exit_code, answer.signal, answer.timed_out, answer.missing)
    return (*state, normalised(answer.stdout), normalised(answer.stderr))


def normalised(output: bytes) -> bytes:
    for pattern, token in VARIES:
        output = pattern.sub(token, output)
    return output.rstrip()


def complaints(outside: Answer, inside: Answer) -> list[str]:
    """The lines that only the answer from inside has."""
    there, here = (normalised(one.stdout + b"\n" + one.stderr).split(b"\n") for one in (outside, inside))
    known = set(there)
    return [line.decode("utf-8", "replace").strip() for line in here if line not in known]


def explain(
    program: Path,
    answers: tuple[Answer, Answer, Answer],
    seen_inside: Callable[[str], bool],
    experiments: Iterable[tuple[str, Callable[[], Answer | None]]] = (),
) -> Reason | None:
    """The reason for a difference, or None.

    Args:
        answers: from outside, from inside, and from outside once more.
        seen_inside: whether a sandbox can see a path.
        experiments: what is given to a sandbox, and the answer from there (None: cannot be tried here). They are
            run in order, only if no file is found, up to the first whose answer is the one from outside.
    """
    outside, inside, again = answers
    if not same(outside, again):
        return Reason("varies by itself", "two runs outside differ as well")
    lines = complaints(outside, inside)
    named = [path for line in lines for path in ABSOLUTE.findall(line)]
    for path in _files_behind(program) + named:
        if os.path.lexists(path) and not seen_inside(path):
            return Reason("a host file not shown", path)
    for given, run in experiments:
        answer = run()
        if answer is not None and same(outside, answer):
            return Reason(given, f"the same as outside when given {given}")
    mode = program.stat().st_mode
    if mode & (stat.S_ISUID | stat.S_ISGID):
        return Reason("set-user-id", f"mode {stat.filemode(mode)}, and the sandbox has no_new_privs")
    for category, words in WORDS:
        for line in filter(words.search, lines):
            return Reason(category, line[:120])
    return None


def _files_behind(program: Path) -> list[str]:
    """What the kernel opens to execute a program: where its link leads, and the interpreter of a script."""
    files = [os.path.realpath(program)]
    try:
        with program.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return files
    if first.startswith(b"#!"):
        files.extend(word.decode("utf-8", "replace") for word in first[2:].split()[:1])
    return files
