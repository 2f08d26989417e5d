"""Which files of csrc may call which, read from definitions and uses.

An include line says less: a header may declare what many files define.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from planted import planted
from test_house import MAY_INCLUDE, ROOT

# The files of host/pool from the bottom up: each calls those of earlier rows only.
POOL_LEVELS = (
    ("ring", "ledger", "histogram"),
    ("state", "slot"),
    ("counters", "orphans"),
    ("entries",),
    ("waiters",),
    ("descriptors",),
    ("settle", "recycle"),
    ("bounds",),
    ("lease", "births", "warm", "stats"),
    ("ticket", "janitor", "drain", "renew"),
    ("close",),
    ("pool",),
)
POOL = "host/pool/"

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_HEAD = r"^(?!static (?!inline))[A-Za-z_][\w \t*]*?\b(sp_\w+)\((?:[^;{}()]|\([^()]*\))*\)\s*"
DEFINITION = re.compile(_HEAD + r"\{", re.MULTILINE)
DECLARATION = re.compile(_HEAD + ";", re.MULTILINE)
# A call, or a function that is passed on or put into a table.
USE = re.compile(r"\b(sp_\w+)(?=\s*\()|(?<=[=,(&])\s*(sp_\w+)(?=\s*[,;)}])")


def code_of(path: Path) -> str:
    text = COMMENT.sub("", path.read_text(encoding="utf-8"))
    return DIRECTIVE.sub("", STRING.sub('""', text))


def calls(csrc: Path) -> Iterator[tuple[str, str, str]]:
    """(file, function, file that defines it): what one file calls of another."""
    files = {path.relative_to(csrc).as_posix(): code_of(path) for path in sorted(csrc.rglob("*.[ch]"))}
    defined: dict[str, set[str]] = {}
    for name, code in files.items():
        for match in DEFINITION.finditer(code):
            defined.setdefault(match[1], set()).add(name)
    for name, code in files.items():
        used = {match[1] or match[2] for match in USE.finditer(DECLARATION.sub("", code))}
        for function in sorted(used & defined.keys()):
            if name not in defined[function]:
                yield from ((name, function, target) for target in sorted(defined[function]))


def level_of(name: str) -> int:
    stem = Path(name).stem
    found = [level for level, stems in enumerate(POOL_LEVELS) if stem in stems]
    assert len(found) == 1, f"{name} has no place in POOL_LEVELS"
    return found[0]


def may_call(name: str, target: str) -> bool:
    """As it may include, with the file that defines what a header declares; and downwards only inside the pool."""
    allowed = next((may for pattern, may in MAY_INCLUDE.items() if fnmatch(name, pattern)), ())
    if not any(fnmatch(target, re.sub(r"\.h$", ".*", pattern)) for pattern in allowed):
        return Path(name).with_suffix("") == Path(target).with_suffix("")
    if name.startswith(POOL) and target.startswith(POOL) and Path(name).stem != Path(target).stem:
        return level_of(target) < level_of(name)
    return True


def breaches(csrc: Path) -> list[str]:
    return [
        f"{name} calls {function} of {target}" for name, function, target in calls(csrc) if not may_call(name, target)
    ]


def test_calls_go_downwards() -> None:
    assert breaches(ROOT / "csrc") == []


def test_each_file_of_the_pool_has_a_level() -> None:
    stems = {path.stem for path in (ROOT / "csrc" / POOL).glob("*.[ch]")}
    assert stems == {stem for level in POOL_LEVELS for stem in level}


def test_the_reader_sees_calls() -> None:
    found = set(calls(ROOT / "csrc"))
    assert ("host/pool/lease.c", "sp_slot_give_back", "host/pool/slot.c") in found
    assert ("host/pool/pool.c", "sp_janitor_main", "host/pool/janitor.c") in found  # passed to pthread_create()
    assert ("host/linux/launcher.c", "sp_session_check_step", "host/sandbox/session.c") in found  # in the table of ops
    assert ("init/serve.c", "sp_packet_send", "common/packet.c") in found


HEADER = (
    "int sp_entry(void);\nint sp_wait(void);\nint sp_run(void);\nint sp_ask(void);\nint sp_table(int (*f)(void));\n"
)
SOUND = {
    "common/wire.c": "int sp_table(int (*f)(void)) { return f(); }\n",
    "host/pool/state.h": HEADER,
    "host/pool/entries.c": '#include "host/pool/state.h"\nint sp_entry(void) { return 1; }\n',
    "host/pool/waiters.c": "static int own(void) { return 2; }\nint sp_wait(void) { return sp_entry() + own(); }\n",
    "host/execute/job.c": "int sp_run(void) { return sp_wait(); }\n",
    "host/sandbox/birth.c": 'int sp_ask(void) { return 0; } /* sp_run() is no call here, nor "sp_run()" */\n',
}


@pytest.mark.parametrize(
    ("name", "line", "breach"),
    [
        ("host/pool/entries.c", "int sp_up(void) { return sp_wait(); }", "calls sp_wait of host/pool/waiters.c"),
        ("host/pool/waiters.c", "int sp_up(void) { return sp_run(); }", "calls sp_run of host/execute/job.c"),
        ("host/sandbox/birth.c", "int sp_up(void) { return sp_entry(); }", "calls sp_entry of host/pool/entries.c"),
        (
            "host/pool/entries.c",
            "int sp_up(void) { return sp_table(sp_wait); }",
            "calls sp_wait of host/pool/waiters.c",
        ),
        ("host/pool/entries.c", "static const struct t t = {.f = sp_run};", "calls sp_run of host/execute/job.c"),
        ("common/wire.c", "int sp_up(void) {\n    return sp_ask();\n}", "calls sp_ask of host/sandbox/birth.c"),
        ("init/serve.c", "int sp_up(void) { return sp_ask(); }", "calls sp_ask of host/sandbox/birth.c"),
    ],
)
def test_a_planted_call_is_seen(tmp_path: Path, name: str, line: str, breach: str) -> None:
    csrc = planted(tmp_path, SOUND)
    assert breaches(csrc) == []
    planted(csrc, {name: f"{SOUND.get(name, '')}{line}\n"})
    assert breaches(csrc) == [f"{name} {breach}"]
