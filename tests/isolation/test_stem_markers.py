"""Text of others is looked for in all memory of processes that an interpreter runs: code, sessions and their copies."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from code_pools import code_pool
from own_memory import PLACES_OF

from pysandpool import Bind, CodeResult, Workspace

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an interpreter needs a zygote")


def found_by(run: Callable[[str], CodeResult], marks: dict[str, str]) -> str:
    """The names of the marks that it finds in its memory. Neither the code nor its request contains a mark whole."""
    halves = {name: (mark[:8].encode(), mark[8:].encode()) for name, mark in marks.items()}
    code = f"{PLACES_OF}\nprint(*(name for name, halves in {halves!r}.items() if any(places_of(*halves))))"
    return run(code).check().stdout.strip()


def test_nothing_of_others_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("environ", "bind", "workspace", "setup", "code", "argument", "file", "own")
    marks = {kind: f"{kind}-marker-of-another".replace("-", f"-{tmp_path.stat().st_ino}-", 1) for kind in kinds}
    monkeypatch.setenv("OF_THE_HOST", marks["environ"])
    for kind in ("bind", "workspace"):
        (tmp_path / marks[kind]).mkdir(mode=0o777)
    tmp_path.chmod(0o755)
    config = {"binds": (Bind(tmp_path / marks["bind"], "/shown"),)}
    own = f"own = {marks['own'][:5]!r} + {marks['own'][5:]!r}"
    with code_pool(setup=f"kept = {marks['setup']!r}") as other, code_pool(2, setup=own, config=config) as pool:
        other.run_code("kept")
        with pool.acquire(workspace=Workspace(tmp_path / marks["workspace"], "rw")) as lease:
            lease.write_file("/tmp/file", marks["file"].encode() * 1000)
            lease.run_code(repr(marks["code"]), env={"NAME": marks["argument"]}, input=marks["argument"])
            lease.session().run(repr(marks["code"]))
        for _ in range(2):
            with pool.acquire() as lease, lease.session() as session:
                assert found_by(lease.run_code, marks) == "own", "the control is what `setup` has left"
                assert found_by(session.run, marks) == "own"
                assert found_by(session.branch()[0].run, marks) == "own"
            pool.renew()
