"""`Interpreter` and `SandboxConfig.interpreter`: values that check themselves."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pysandpool import Interpreter, InvalidSandboxConfigError, SandboxConfig
from pysandpool._backend.python import python_paths, readonly_paths


def test_defaults() -> None:
    assert dataclasses.asdict(Interpreter()) == {
        "python": sys.executable,
        "preload": (),
        "setup": None,
        "warmup": None,
        "after_fork": None,
        "preload_timeout": 60.0,
        "start": "fork",
        "command": None,
    }
    assert SandboxConfig().interpreter is None


def test_it_is_a_value() -> None:
    one = Interpreter(preload=["json"], setup="x = 1", preload_timeout=timedelta(seconds=5))
    assert one == Interpreter(preload=("json",), setup="x = 1", preload_timeout=5)
    for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), dataclasses.replace(one)):
        assert twin == one
        assert hash(twin) == hash(one)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.setup = None  # type: ignore[misc]
    assert hash(SandboxConfig(interpreter=one)) == hash(SandboxConfig(interpreter=dataclasses.replace(one)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("python", "python3"),
        ("python", ""),
        ("python", "/usr/bin/python3\0"),
        ("preload", ["numpy.random", ""]),
        ("preload", ["os; import sys"]),
        ("preload", ["a."]),
        ("preload", ["x"] * 257),
        ("setup", "x = '\0'"),
        ("setup", "x = '\ud800'"),
        ("warmup", "#" * (1 << 20) + "#"),
        ("after_fork", "\0"),
        ("preload_timeout", 0),
        ("preload_timeout", -1),
        ("preload_timeout", float("nan")),
        ("preload_timeout", 3601),
    ],
)
def test_bad_values(field: str, value: Any) -> None:
    with pytest.raises(InvalidSandboxConfigError) as found:
        Interpreter(**{field: value})
    assert found.value.field == f"Interpreter.{field}"
    assert found.value.allowed in str(found.value)
    assert not isinstance(found.value, TypeError)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("python", 3),
        ("preload", "numpy"),
        ("preload", 1),
        ("preload", [b"numpy"]),
        ("setup", b"x = 1"),
        ("warmup", 1),
        ("after_fork", ["x"]),
        ("preload_timeout", "60"),
        ("preload_timeout", True),
    ],
)
def test_bad_types(field: str, value: Any) -> None:
    with pytest.raises(TypeError) as found:
        Interpreter(**{field: value})
    assert isinstance(found.value, InvalidSandboxConfigError)


def test_a_configuration_takes_an_interpreter_only() -> None:
    with pytest.raises(TypeError, match="Interpreter"):
        SandboxConfig(interpreter="/usr/bin/python3")  # type: ignore[arg-type]


def test_the_own_python_is_shown() -> None:
    own = SandboxConfig(interpreter=Interpreter())
    assert set(python_paths()) <= set(readonly_paths(own))
    assert readonly_paths(own) == readonly_paths(SandboxConfig(fs_python=True))
    assert readonly_paths(SandboxConfig(interpreter=Interpreter(python="/usr/bin/another"))) == ()


def test_the_own_python_by_another_name_is_the_own_one(tmp_path: Path) -> None:
    folder = os.path.join(sys.prefix, "bin")
    names = [os.path.join(folder, name) for name in ("python", "python3")]
    own = [path for path in names if os.path.realpath(path) == os.path.realpath(sys.executable)]
    own.append(os.path.realpath(sys.executable))
    assert all(Interpreter(python=path).is_own for path in own)
    elsewhere = tmp_path / "python"
    elsewhere.symlink_to(sys.executable)
    assert not Interpreter(python=elsewhere).is_own
