"""Contract, rows "defaults" and "invalid": the two configurations as values, and what they refuse."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from conftest import HostState

from pysandpool import (
    InvalidPoolConfigError,
    InvalidSandboxConfigError,
    NamespaceDegradation,
    PoolConfig,
    PoolError,
    SandboxConfig,
    SandboxError,
    SandboxPool,
    SeccompProfile,
)


def test_pool_defaults() -> None:
    config = PoolConfig()
    assert (config.min_size, config.max_size) == (1, 16)
    assert config.max_idle_duration == 30.0
    assert config.health_check_interval is None
    assert config.max_in_use is None
    assert config == PoolConfig(
        min_size=1, max_size=16, max_idle_duration=30.0, health_check_interval=None, max_in_use=None
    )


def test_sandbox_defaults() -> None:
    expected = {
        "fs_readonly": (),
        "fs_readwrite": (),
        "deny_network": True,
        "memory_limit_mb": 512,
        "max_processes": 64,
        "cpu_quota_us": None,
        "cpu_period_us": 100_000,
        "cgroup_parent": None,
        "timeout_secs": 30.0,
        "seccomp_profile": SeccompProfile.ESSENTIAL,
        "allow_fork": True,
        "allow_unix_sockets": False,
        "namespace_degradation": NamespaceDegradation.FAIL_CLOSED,
        "env_vars": {},
        "scratch_size_mb": 64,
        "max_output_bytes": 4 * 1024 * 1024,
    }
    config = SandboxConfig()
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(("kind", "field", "value"), [(PoolConfig, "max_size", 3), (SandboxConfig, "max_processes", 3)])
def test_configs_are_values(kind: Callable[..., Any], field: str, value: int) -> None:
    one, same, other = kind(**{field: value}), kind(**{field: value}), kind()
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one, field, 5)
    assert pickle.loads(pickle.dumps(one)) == one


def test_config_does_not_follow_its_arguments() -> None:
    env, paths = {"A": "1"}, ["/usr/share"]
    config = SandboxConfig(env_vars=env, fs_readonly=paths)
    env["B"] = "2"
    paths.append("/root")
    assert dict(config.env_vars) == {"A": "1"}
    assert config.fs_readonly == ("/usr/share",)


def test_durations_are_seconds_or_timedelta() -> None:
    assert PoolConfig(max_idle_duration=timedelta(seconds=30)) == PoolConfig(max_idle_duration=30) == PoolConfig()
    assert PoolConfig(max_idle_duration=None).max_idle_duration is None
    assert SandboxConfig(timeout_secs=timedelta(seconds=2)).timeout_secs == 2.0


def test_pool_returns_its_configs() -> None:
    pool_config = PoolConfig(min_size=0, max_size=3)
    sandbox_config = SandboxConfig(max_processes=7)
    with SandboxPool(sandbox_config, pool_config) as pool:
        assert pool.pool_config == pool_config
        assert pool.config == sandbox_config
    assert pool.pool_config == pool_config
    assert pool.config == sandbox_config


def test_min_size_zero_is_legal() -> None:
    assert PoolConfig(min_size=0).min_size == 0
    assert PoolConfig(min_size=0, max_size=1, health_check_interval=0).health_check_interval == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"min_size": 0, "max_size": 0},
        {"min_size": 5, "max_size": 4},
        {"min_size": 17},
        {"min_size": -1},
        {"min_size": -2, "max_size": -1},
        {"max_size": -1},
        {"max_idle_duration": 0},
        {"max_idle_duration": -0.5},
        {"max_idle_duration": timedelta(seconds=-1)},
        {"max_idle_duration": math.nan},
        {"max_idle_duration": math.inf},
        {"health_check_interval": -1},
        {"health_check_interval": math.nan},
        {"min_size": math.inf, "max_size": 4},
        {"max_size": math.nan},
        {"max_in_use": 0},
        {"max_in_use": -3},
    ],
    ids=str,
)
def test_invalid_pool_config(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidPoolConfigError) as raised:
        PoolConfig(**fields)
    error = raised.value
    assert isinstance(error, ValueError)
    assert isinstance(error, PoolError)
    sizes = {"min_size": 1, "max_size": 16, **fields}
    for name in ("min_size", "max_size"):
        assert getattr(error, name) is sizes[name]
        assert str(sizes[name]) in str(error)
    for value in fields.values():
        assert repr(value) in str(error)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_limit_mb", 0),
        ("memory_limit_mb", -1),
        ("memory_limit_mb", "512"),
        ("max_processes", 0),
        ("max_processes", 2.5),
        ("max_processes", True),
        ("cpu_quota_us", 0),
        ("cpu_period_us", 0),
        ("cpu_period_us", None),
        ("timeout_secs", 0),
        ("timeout_secs", -1.0),
        ("timeout_secs", math.nan),
        ("timeout_secs", "soon"),
        ("scratch_size_mb", 0),
        ("max_output_bytes", -1),
        ("seccomp_profile", "essential"),
        ("namespace_degradation", 1),
        ("deny_network", 0),
        ("deny_network", False),
        ("allow_fork", "no"),
        ("allow_unix_sockets", None),
        ("fs_readonly", "/usr/share"),
        ("fs_readonly", ("relative/path",)),
        ("fs_readonly", ("/nul\0byte",)),
        ("fs_readwrite", ("/",)),
        ("fs_readwrite", (3,)),
        ("env_vars", {"A=B": "x"}),
        ("env_vars", {"": "x"}),
        ("env_vars", {"A": "nul\0byte"}),
        ("env_vars", {"A": 1}),
        ("env_vars", ["A=B"]),
    ],
)
def test_invalid_sandbox_config(field: str, value: Any) -> None:
    with pytest.raises(InvalidSandboxConfigError) as raised:
        SandboxConfig(**{field: value})
    error = raised.value
    assert isinstance(error, ValueError)
    assert isinstance(error, SandboxError)
    assert field in str(error)
    wrong = value[0] if isinstance(value, tuple) else value
    assert repr(wrong) in str(error)
    assert error.allowed
    assert error.allowed in str(error)


def test_sandbox_config_is_keyword_only() -> None:
    with pytest.raises(TypeError):
        SandboxConfig(("/usr",))  # type: ignore[call-arg]


@pytest.mark.parametrize("arguments", [(PoolConfig(),), (None, SandboxConfig()), ({},)], ids=str)
def test_pool_refuses_what_is_no_config(arguments: tuple[Any, ...]) -> None:
    before = HostState()
    with pytest.raises(TypeError):
        SandboxPool(*arguments)
    before.assert_restored(0)
