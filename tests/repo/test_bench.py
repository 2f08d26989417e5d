"""The benchmarks compare like with like: every contender of a ratio runs its command in the same environment."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

from pysandpool import Sandbox

BENCH = Path(__file__).resolve().parents[2] / "bench"
SHOW = ["/usr/bin/env", "-0"]
OF_THE_HOST = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TMPDIR": "/var/tmp", "ONLY_OF_THE_HOST": "1"}

pytest.importorskip("numpy", reason="the benchmarks need the extra bench")


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """bench/peers.py, imported by a host whose environment differs from a sandbox's in each way."""
    for name, value in OF_THE_HOST.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("peers")


@pytest.fixture
def ours() -> list[bytes]:
    """The variables of a sandbox's command, as it sees them itself."""
    with Sandbox() as sandbox:
        return variables(sandbox.execute(SHOW).check())


def variables(result: Any) -> list[bytes]:
    return sorted(result.stdout.rstrip(b"\0").split(b"\0"))


@pytest.mark.namespaces
def test_subprocess_has_the_environment_of_a_sandbox(peers: Any, ours: list[bytes]) -> None:
    assert b"LANG=C" in ours
    for timeout in (None, 10.0):
        assert variables(peers.spawn(SHOW, b"", timeout).run()) == ours
    assert variables(peers.run_outside(SHOW, capture_output=True)) == ours


@pytest.mark.namespaces
def test_a_bare_spawn_has_the_environment_of_a_sandbox(peers: Any, ours: list[bytes]) -> None:
    assert variables(peers.bare(SHOW, b"").run()) == ours


@pytest.mark.namespaces
def test_bubblewrap_has_the_environment_of_a_sandbox(peers: Any, ours: list[bytes]) -> None:
    contenders = peers.bwrap(SHOW, b"")
    if not contenders:
        pytest.skip("bubblewrap is not installed or cannot make namespaces here")
    found = variables(contenders[0].run())
    assert [one for one in found if not one.startswith(b"PWD=")] == ours


@pytest.mark.parametrize("path", [*BENCH.glob("rows_*.py"), *BENCH.glob("test_bench_*.py")], ids=lambda path: path.stem)
def test_rows_start_their_peers_in_that_environment(path: Path) -> None:
    """By bench/peers.py: a row with a subprocess of its own would have the host's environment again."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    assert not [ast.unparse(func) for func in calls if ast.unparse(func).startswith(("subprocess.", "os."))]
