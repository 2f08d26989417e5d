"""Code in the Landlock tier: an interpreter that waits in each sandbox, where the kernel refuses namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from test_landlock_tier import _in_the_tier, abi, config, mark, with_mark

from pysandpool import Interpreter, PoolConfig, PooledSandbox, SandboxConfig, SandboxPool

__all__ = ["_in_the_tier", "abi", "mark"]  # fixtures of this module, too
PYTHON = "/usr/bin/python3"
Start = Literal["fork", "exec"]


def code_config(start: Start, **fields: Any) -> SandboxConfig:
    names = ("python", "setup", "warmup", "after_fork", "preload", "preload_timeout")
    of_interpreter = {name: fields.pop(name) for name in names if name in fields}
    given: dict[str, Any] = {"python": PYTHON, "setup": "import os, tempfile\nready = 41", **of_interpreter}
    return config(interpreter=Interpreter(start=start, **given), **fields)


@pytest.fixture(params=["exec", "fork"])
def start(request: pytest.FixtureRequest) -> Start:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def lease(abi: int, start: Start) -> Iterator[PooledSandbox]:
    with SandboxPool(code_config(start), PoolConfig(min_size=1, max_size=2)) as pool, pool.acquire() as one:
        assert (one.isolation.tier, one.isolation.interpreter) == ("landlock", {"exec": "own", "fork": "shared"}[start])
        yield one


def test_code_runs_in_the_directory_of_the_lease(lease: PooledSandbox) -> None:
    places = "[os.getcwd(), os.environ['HOME'], os.environ['TMPDIR'], tempfile.gettempdir(), os.path.expanduser('~')]"
    first = lease.run_code(f"print(ready)\nopen('kept', 'w').close()\nset({places}) == {{os.getcwd()}}")
    assert (first.stdout, first.text, first.exit_code) == ("41\n", "True", 0), first
    second = lease.run_code("os.listdir()")
    assert second.text == "['kept']", second
    assert lease.execute(["/bin/sh", "-c", "ls $HOME"], text=True).stdout == "kept\n"
    assert lease.run_code("os.environ['X']", env={"X": os.sep}).text == repr(os.sep)


@pytest.fixture
def forked(abi: int) -> Iterator[SandboxPool]:
    with SandboxPool(code_config("fork"), PoolConfig(min_size=1, max_size=2)) as pool:
        yield pool


def test_a_session_keeps_its_state_and_branches(forked: SandboxPool) -> None:
    with forked.acquire() as lease, lease.session() as session:
        assert session.run("x = ready\nopen('of the session', 'w').close()").error is None
        copies = session.branch(2)
        found = [copy.run(f"x += {n}\nx, os.listdir()").text for n, copy in enumerate(copies)]
        assert found == ["(41, ['of the session'])", "(42, ['of the session'])"]
        assert session.run("x").text == "41"
        copies[0].close()
        assert copies[1].run("x").text == "42"
        assert lease.execute(["/bin/echo", "beside"], text=True).stdout == "beside\n"
    with forked.acquire() as lease:
        assert lease.run_code("os.listdir()").text == "[]"


def test_a_timeout_ends_code_and_what_it_has_started(forked: SandboxPool, mark: str) -> None:
    code = f"import subprocess\nsubprocess.Popen(['/bin/sleep', '{mark}'], start_new_session=True)\nwhile True: pass"
    with forked.acquire() as lease:
        assert lease.run_code(code, timeout=2).timed_out
        assert with_mark(mark) == []
        assert lease.run_code("ready").text == "41"


def test_doctor_tries_an_interpreter_in_this_tier() -> None:
    """In a process of its own: in this one a zygote with namespaces may serve `Sandbox` already."""
    done = subprocess.run(
        [sys.executable, "-m", "pysandpool", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)
    assert (found["works"], found["stage"]) == (False, "user_namespace")
    assert found["isolation"]["tier"] == "landlock"
    # The ids of a lease pass through the directories of this Python, or they do not.
    places = [part for end in {sys.prefix, sys.base_prefix} for part in (Path(end), *Path(end).parents)]
    works = os.geteuid() != 0 or all(part.stat().st_mode & 1 for part in places)
    assert found["interpreter"]["works"] == works, found["interpreter"]
    assert works or "EACCES" in found["interpreter"]["error"]
