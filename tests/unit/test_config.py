"""Contract, rows "defaults" and "invalid": the two configurations as values, and every refusal with its facts."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import pickle
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from host_state import HostState

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
from pysandpool._config.sandbox import processes_for

MIB = 1024 * 1024


def test_pool_defaults() -> None:
    config = PoolConfig()
    assert (config.min_size, config.max_size) == (1, 16)
    assert (config.max_idle_duration, config.health_check_interval, config.max_in_use) == (30.0, None, None)
    assert (config.health_check_command, config.health_check_timeout) == (("/bin/true",), 5.0)
    assert config.refill_concurrency == 4


def test_sandbox_defaults() -> None:
    assert dataclasses.asdict(SandboxConfig()) == {
        "fs_readonly": (),
        "fs_readwrite": (),
        "binds": (),
        "scratch_dirs": (),
        "workdir": None,
        "fs_python": False,
        "rootfs": None,
        "deny_network": True,
        "network": None,
        "memory_limit_mb": 512,
        "data_limit_mb": None,
        "max_processes": 192 + 4 * (os.cpu_count() or 1),
        "cpu_quota_us": None,
        "cpu_period_us": 100_000,
        "cgroup_parent": None,
        "timeout_secs": 30.0,
        "seccomp_profile": SeccompProfile.ESSENTIAL,
        "seccomp_allow": (),
        "allow_fork": True,
        "allow_unix_sockets": None,
        "namespace_degradation": NamespaceDegradation.FAIL_CLOSED,
        "env_vars": {},
        "scratch_size_mb": 64,
        "max_output_bytes": 4 * MIB,
        "interpreter": None,
    }


def test_the_default_of_processes_grows_with_the_processors() -> None:
    counts = [processes_for(processors) for processors in (1, 2, 64, 256)]
    assert counts == sorted(set(counts))
    assert counts[2] > 4 * 64


SAMPLES: list[Callable[[], Any]] = [
    lambda: PoolConfig(min_size=0, max_size=3, max_idle_duration=None, health_check_interval=0, max_in_use=2),
    lambda: SandboxConfig(
        fs_readonly=["/usr/share", Path("/opt")],
        env_vars={"A": "b", "LANG": None},
        timeout_secs=timedelta(seconds=2),
        memory_limit_mb=None,
    ),
]


@pytest.mark.parametrize("make", SAMPLES)
def test_a_config_is_a_value(make: Callable[[], Any]) -> None:
    one, other = make(), make()
    assert one == other
    assert hash(one) == hash(other)
    assert one != type(one)()
    for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), dataclasses.replace(one)):
        assert twin == one
        assert hash(twin) == hash(one)


@pytest.mark.parametrize("make", SAMPLES)
def test_a_config_does_not_change(make: Callable[[], Any]) -> None:
    config = make()
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, 1)


def test_what_was_passed_in_is_copied() -> None:
    env, paths = {"A": "1"}, ["/opt"]
    config = SandboxConfig(env_vars=env, fs_readonly=paths)
    env["A"] = "2"
    paths.append("/srv")
    assert config.env_vars == {"A": "1"}
    assert config.fs_readonly == ("/opt",)
    with pytest.raises(TypeError):
        config.env_vars["B"] = "3"  # type: ignore[index]


def test_replace_checks_again() -> None:
    with pytest.raises(InvalidPoolConfigError):
        dataclasses.replace(PoolConfig(), max_size=0)
    with pytest.raises(InvalidSandboxConfigError):
        dataclasses.replace(SandboxConfig(), memory_limit_mb=0)


def test_sandbox_config_takes_keywords_only() -> None:
    with pytest.raises(TypeError):
        SandboxConfig(["/opt"])  # type: ignore[misc]


@pytest.mark.parametrize("value", [2, 2.0, timedelta(seconds=2)])
def test_durations_become_seconds(value: Any) -> None:
    assert PoolConfig(max_idle_duration=value).max_idle_duration == 2.0
    assert isinstance(PoolConfig(max_idle_duration=value).max_idle_duration, float)
    assert SandboxConfig(timeout_secs=value) == SandboxConfig(timeout_secs=2)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["/usr//share/./doc/"], ("/usr/share/doc",)),
        ([Path("/a/b"), "/a/b"], ("/a/b",)),
        (["//a", "/b/../c"], ("/a", "/c")),
        ((f"/x{number}" for number in range(2)), ("/x0", "/x1")),
        (["/tmp/below"], ("/tmp/below",)),
        (["/dev/shm"], ("/dev/shm",)),
    ],
)
def test_paths_are_normalised(given: Any, kept: tuple[str, ...]) -> None:
    assert SandboxConfig(fs_readonly=given).fs_readonly == kept


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"max_size": 0}, "max_size"),
        ({"max_size": 0, "min_size": 0}, "max_size"),
        ({"max_size": -1}, "max_size"),
        ({"max_size": 16_001}, "max_size"),
        ({"max_size": math.nan}, "max_size"),
        ({"max_size": 2.5}, "max_size"),
        ({"min_size": 5, "max_size": 4}, "min_size"),
        ({"min_size": 17}, "min_size"),
        ({"min_size": -2, "max_size": -1}, "max_size"),
        ({"min_size": -1}, "min_size"),
        ({"min_size": math.inf}, "min_size"),
        ({"max_idle_duration": 0}, "max_idle_duration"),
        ({"max_idle_duration": -1.0}, "max_idle_duration"),
        ({"max_idle_duration": timedelta(seconds=-1)}, "max_idle_duration"),
        ({"max_idle_duration": math.inf}, "max_idle_duration"),
        ({"max_idle_duration": math.nan}, "max_idle_duration"),
        ({"max_idle_duration": 10**400}, "max_idle_duration"),
        ({"health_check_interval": -1}, "health_check_interval"),
        ({"health_check_interval": 2**32}, "health_check_interval"),
        ({"health_check_interval": math.nan}, "health_check_interval"),
        ({"max_in_use": 0}, "max_in_use"),
        ({"max_in_use": -3}, "max_in_use"),
        ({"max_in_use": 16_001}, "max_in_use"),
        ({"health_check_command": ()}, "health_check_command"),
        ({"health_check_command": ("",)}, "health_check_command"),
        ({"health_check_command": ("/bin/true", "a\0b")}, "health_check_command"),
        ({"health_check_timeout": 0}, "health_check_timeout"),
        ({"health_check_timeout": 5.1}, "health_check_timeout"),
        ({"health_check_timeout": math.inf}, "health_check_timeout"),
        ({"refill_concurrency": 0}, "refill_concurrency"),
        ({"refill_concurrency": 17}, "refill_concurrency"),
    ],
)
def test_bad_pool_values(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidPoolConfigError) as refused:
        PoolConfig(**fields)
    error = refused.value
    assert isinstance(error, ValueError)
    assert isinstance(error, PoolError)
    assert not isinstance(error, TypeError)
    assert error.field == field
    assert error.value is fields[field]
    minimum, maximum = fields.get("min_size", 1), fields.get("max_size", 16)
    assert error.min_size is minimum
    assert error.max_size is maximum
    assert repr(fields[field]) in str(error)
    for text in (field, error.allowed, f"min_size={minimum}", f"max_size={maximum}"):
        assert text in str(error)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_size": "4"},
        {"max_size": None},
        {"min_size": True},
        {"max_idle_duration": "30"},
        {"max_idle_duration": True},
        {"health_check_interval": "n"},
        {"max_in_use": [1]},
        {"health_check_command": "/bin/true"},
        {"health_check_command": (b"/bin/true",)},
        {"health_check_command": None},
        {"health_check_timeout": None},
        {"refill_concurrency": None},
    ],
)
def test_bad_pool_types(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidPoolConfigError) as refused:
        PoolConfig(**fields)
    assert isinstance(refused.value, TypeError)
    assert refused.value.field in fields


def test_legal_pool_limits() -> None:
    assert PoolConfig(min_size=0).min_size == 0
    assert PoolConfig(min_size=16, max_size=16).min_size == 16
    assert PoolConfig(max_size=16_000, max_in_use=16_000).max_in_use == 16_000
    assert PoolConfig(health_check_interval=None) == PoolConfig()
    assert PoolConfig(health_check_command=["/bin/true"]) == PoolConfig()
    assert PoolConfig(health_check_timeout=timedelta(seconds=5), refill_concurrency=4) == PoolConfig()
    assert PoolConfig(max_idle_duration=Decimal("1.5")).max_idle_duration == 1.5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_limit_mb", 0),
        ("data_limit_mb", 0),
        ("data_limit_mb", 1 << 25),
        ("memory_limit_mb", -1),
        ("memory_limit_mb", 1 << 25),
        ("max_processes", 0),
        ("max_processes", 2.5),
        ("cpu_quota_us", 0),
        ("cpu_quota_us", 999),
        ("cpu_period_us", 0),
        ("cpu_period_us", 1_000_001),
        ("timeout_secs", 0),
        ("timeout_secs", -0.1),
        ("timeout_secs", math.inf),
        ("timeout_secs", math.nan),
        ("scratch_size_mb", 0),
        ("max_output_bytes", -1),
        ("fs_readonly", ["relative"]),
        ("fs_readonly", [""]),
        ("fs_readonly", ["/a\0b"]),
        ("fs_readonly", ["/" + "a" * 4096]),
        ("fs_readwrite", ["/"]),
        ("fs_readwrite", ["/a/.."]),
        ("fs_readwrite", ["/tmp"]),
        ("fs_readwrite", ["/proc/self"]),
        ("env_vars", {"A=B": "c"}),
        ("env_vars", {"": "c"}),
        ("env_vars", {"A": "c\0"}),
        ("env_vars", {"A": "\ud800"}),
        ("deny_network", False),
    ],
)
def test_bad_sandbox_values(field: str, value: Any) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        SandboxConfig(**{field: value})
    error = refused.value
    assert isinstance(error, ValueError)
    assert isinstance(error, SandboxError)
    assert not isinstance(error, TypeError)
    assert error.field == field
    assert repr(error.value) in repr(value)
    for text in (field, repr(error.value), error.allowed):
        assert text in str(error)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_limit_mb", "512"),
        ("memory_limit_mb", True),
        ("cpu_period_us", None),
        ("timeout_secs", "5"),
        ("deny_network", 1),
        ("allow_fork", None),
        ("fs_python", "/usr"),
        ("allow_unix_sockets", 1),
        ("seccomp_profile", "network"),
        ("namespace_degradation", None),
        ("fs_readonly", "/usr"),
        ("fs_readonly", Path("/usr")),
        ("fs_readonly", [b"/usr"]),
        ("fs_readonly", [1]),
        ("fs_readonly", None),
        ("fs_readwrite", [3]),
        ("env_vars", [("A", "b")]),
        ("env_vars", ["A=b"]),
        ("env_vars", {"A": 1}),
        ("env_vars", {b"A": "b"}),
    ],
)
def test_bad_sandbox_types(field: str, value: Any) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        SandboxConfig(**{field: value})
    assert isinstance(refused.value, TypeError)
    assert refused.value.field == field


def test_none_is_unlimited() -> None:
    limits = ("memory_limit_mb", "max_processes", "timeout_secs", "scratch_size_mb", "max_output_bytes")
    config = SandboxConfig(**dict.fromkeys(limits))  # type: ignore[arg-type]
    assert [getattr(config, limit) for limit in limits] == [None] * len(limits)


def test_the_host_network_needs_inet_sockets() -> None:
    with pytest.raises(InvalidSandboxConfigError, match=r"seccomp_profile=SeccompProfile\.NETWORK"):
        SandboxConfig(deny_network=False)
    assert not SandboxConfig(deny_network=False, seccomp_profile=SeccompProfile.NETWORK).deny_network
    assert SandboxConfig(deny_network=True, seccomp_profile=SeccompProfile.NETWORK).deny_network


@pytest.mark.parametrize(
    "others",
    [{}, {"deny_network": False}, {"seccomp_profile": SeccompProfile.NETWORK}],
    ids=["none", "deny_network", "seccomp_profile"],
)
def test_one_error_names_all_that_the_host_network_needs(others: dict[str, Any]) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        SandboxConfig(network="host", **others)
    assert (refused.value.field, refused.value.value) == ("network", "host")
    assert "deny_network=False and seccomp_profile=SeccompProfile.NETWORK" in refused.value.allowed


@pytest.mark.parametrize("field", ["fs_readonly", "fs_readwrite"])
def test_what_is_no_list_of_paths_is_refused_with_the_list_that_was_meant(field: str) -> None:
    volumes = {"/srv/data": {"bind": "/data", "mode": "rw"}}
    for value, text in ((volumes, "not a mapping"), ("/srv/data", "not a single one"), (Path("/srv/data"), "single")):
        with pytest.raises(InvalidSandboxConfigError, match=text) as refused:
            SandboxConfig(**{field: value})
        assert isinstance(refused.value, TypeError)
        assert "['/srv/data']" in refused.value.allowed


@pytest.mark.parametrize("value", ["python:3.12", "alpine", "docker://busybox"])
def test_the_name_of_an_image_is_no_rootfs(value: str) -> None:
    with pytest.raises(InvalidSandboxConfigError, match="a directory, not an image: `docker export") as refused:
        SandboxConfig(rootfs=value)
    assert (refused.value.field, refused.value.value) == ("rootfs", value)


def test_a_path_is_read_only_or_writable() -> None:
    with pytest.raises(InvalidSandboxConfigError, match="fs_readwrite") as refused:
        SandboxConfig(fs_readonly=["/opt", "/srv"], fs_readwrite=["/srv/"])
    assert refused.value.value == "/srv"


def test_pool_returns_its_configs() -> None:
    pool_config, config = PoolConfig(min_size=0, max_size=3), SandboxConfig(max_processes=7)
    with SandboxPool(config, pool_config) as pool:
        assert (pool.config, pool.pool_config) == (config, pool_config)
    assert (pool.config, pool.pool_config) == (config, pool_config), "after close too"


@pytest.mark.parametrize("arguments", [(PoolConfig(),), (None, SandboxConfig()), ({},)], ids=str)
def test_pool_refuses_what_is_no_config(arguments: tuple[Any, ...]) -> None:
    before = HostState()
    with pytest.raises(TypeError):
        SandboxPool(*arguments)
    before.assert_restored(0)


@pytest.mark.parametrize("field", ["fs_readonly", "fs_readwrite"])
def test_the_number_of_binds_is_bounded(field: str) -> None:
    other = "fs_readwrite" if field == "fs_readonly" else "fs_readonly"
    paths = [f"/srv/{number}" for number in range(4096)]
    SandboxConfig(**{field: paths})
    with pytest.raises(InvalidSandboxConfigError, match="4,096") as refused:
        SandboxConfig(**{field: paths, other: ["/srv/other"]})
    assert (refused.value.field, refused.value.value) == (field, 4097)
    with pytest.raises(InvalidSandboxConfigError, match="bytes"):
        SandboxConfig(**{field: [path + "/x" * 1000 for path in paths]})
