"""examples/toolchains.py: what every machine has works in a sandbox, and docs/toolchains.md is a page of its making."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("rich", reason="the example needs rich: pip install rich")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import toolchains  # noqa: E402
import toolchains_page as page  # noqa: E402
from toolchains_catalogue import FOLDER, KINDS, Check, Toolchain, load  # noqa: E402
from toolchains_trial import STEPS_MB, WORKS, Outcome, Trial, smallest  # noqa: E402

EVERYWHERE = ("c", "git", "make", "python", "python-multiprocessing", "sh")
WANTED = """
c c-asan c-tsan c-ubsan cargo cpp git go haskell java kotlin lua make mono node npm ocaml pascal perl php postgresql
python python-jupyter python-matplotlib python-multiprocessing python-numpy python-pandas python-pip python-pytest r
racket redis ruby rust sbcl scala sqlite typescript
"""
ALL = load()
PAGE = page.PAGE.read_text(encoding="utf-8")


# --- the catalogue ---------------------------------------------------------------------------------------


def test_the_catalogue_is_whole() -> None:
    assert {one.name for one in ALL} >= set(WANTED.split())
    assert {one.name for one in ALL} == {path.name for path in FOLDER.iterdir() if path.is_dir()}
    for one in ALL:
        assert one.needs or one.modules, one.name
        assert one.kind in KINDS, one.name
        assert one.install.startswith(("apt-get install ", "npm install ", "python -m pip install ")), one.name


def test_an_unknown_name_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert toolchains.main(["c", "klingon"]) == 2
    assert "no such toolchain: klingon; there are ada, " in capsys.readouterr().err


# --- trials ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("need", "steps"), [(1, 4), (4, 4), (5, 6), (100, 128), (2048, 2048), (2049, None)])
def test_the_smallest_step(need: int, steps: int | None) -> None:
    tried: list[int] = []

    def enough(limit: int) -> bool:
        tried.append(limit)
        return limit >= need

    assert smallest(STEPS_MB, enough, 3) == steps
    assert len(tried) < 9


def test_a_step_that_suffices_only_sometimes_is_not_taken() -> None:
    answers = iter([True, True, False, True, True])
    assert smallest((4, 8), lambda limit: next(answers), 2) == 8


def outcome_of(**changes: object) -> Outcome:
    [one] = load(["sh"])
    return Trial(dataclasses.replace(one, **changes), lambda _: None).run(search=False)  # type: ignore[arg-type]


def test_failures_are_reported() -> None:
    assert outcome_of(hello=Check("echo lost >&2; exit 3", "hello\n")).hello == "exit 3: lost"
    assert outcome_of(hello=Check("echo goodbye", "hello\n")).hello == "exit 0: goodbye"
    assert outcome_of(threads=Check("kill -9 $$", "36\n")).threads == "signal 9"
    assert outcome_of(tests=Check("echo 1 passed", words="2 passed")).tests == "exit 0: 1 passed"
    assert outcome_of(compile="echo broken; false").hello == "exit 1: broken"
    missing = outcome_of(needs=("sh", "klingon", "/no/such/path"), modules=("qapla",))
    assert missing.missing == "qapla, klingon, /no/such/path"


def test_the_limit_of_memory_is_searched() -> None:
    """A program that has touched 100 MiB for half a second needs more than 96, and 128 is enough."""
    [one] = load(["python"])
    code = 'python3 -c \'import time; x = b"x" * (100 << 20); time.sleep(0.5); print("hello")\''
    changed = dataclasses.replace(one, hello=Check(code, "hello\n"), threads=None, tests=None)
    outcome = Trial(changed, lambda _: None, repeats=1).run(search=True)
    assert (outcome.hello, outcome.hello_mb) == (WORKS, 128)
    assert outcome.hello_peak_mb is not None
    assert outcome.hello_peak_mb >= 100


@pytest.mark.namespaces
def test_what_every_machine_has_works(capsys: pytest.CaptureFixture[str]) -> None:
    code = toolchains.main(["--quick", "--json", *EVERYWHERE])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert code == 0, rows
    assert set(rows) == set(EVERYWHERE)
    for row in rows.values():
        assert row["missing"] or (row["hello"] == WORKS and row["version"] not in ("", "?")), row
    assert not rows["sh"]["missing"]


# --- the page --------------------------------------------------------------------------------------------


def table_below(heading: str) -> list[list[str]]:
    part = PAGE.split(f"## {heading}\n\n")[1].split("\n\n")[0]
    return [line.strip("| ").split(" | ") for line in part.splitlines()]


def test_the_page_has_the_form_that_the_script_writes() -> None:
    assert PAGE.startswith(page.HEAD)
    facts = PAGE[len(page.HEAD) :].strip().split("\n", 1)[0]
    for name in ("date", "pysandpool", "kernel", "distribution", "cores", "user", "memory limited by", "N"):
        assert re.search(rf"(^|, ){name} [^ ]", facts), name
    for kind, heading in KINDS.items():
        head, rule, *rows = table_below(heading)
        assert tuple(head) == page.header(kind)
        assert rule == ["---"] * len(head)
        assert all(len(row) == len(head) for row in rows)


def test_each_toolchain_has_its_row() -> None:
    installs = {row[0]: row[1] for row in table_below("What to install")[2:]}
    assert installs == {one.title: f"`{one.install}`" for one in ALL}
    shown = {row[0] for heading in KINDS.values() for row in table_below(heading)[2:]}
    skipped = {row[0] for row in table_below("Not tried")[2:]} if "## Not tried" in PAGE else set()
    for one in ALL:
        assert (page.title(one) in shown) != (one.title in skipped), one.name


def test_a_page_of_outcomes() -> None:
    [one] = load(["c"])
    lost = dataclasses.replace(one, title="Lost")
    good = Outcome("c", "", "12", WORKS, WORKS, "", 24, 30, 4, 2)
    text = page.markdown({"N": "3"}, [(one, good), (lost, Outcome("lost", missing="gcc"))])
    assert "| C (gcc) | 12 | yes | yes | - | 24 (30) | 4 (2) |\n" in text
    assert "| Lost | not there: gcc |\n" in text


@pytest.mark.namespaces
def test_a_failure_fails_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    one: Toolchain = load(["sh"])[0]
    monkeypatch.setattr(toolchains, "load", lambda _: [dataclasses.replace(one, hello=Check("false", "hello\n"))])
    assert toolchains.main(["--quick"]) == 1
    assert "exit 1" in capsys.readouterr().out
