"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

from importlib import metadata

import pytest

pytest_plugins = ["pytester"]

TESTS = """
used = []

def test_a_fresh_sandbox(sandbox):
    sandbox.shell("echo kept > note", check=True)
    used.append(sandbox.pid)

def test_another_one(sandbox, sandbox_pool):
    assert not sandbox.shell("cat note").ok
    assert sandbox.pid not in used
    assert sandbox_pool.stats().in_use_count == 1
    assert sandbox_pool.run(["echo", "-n", "hello"]).stdout == b"hello"

def test_all_are_released(sandbox_pool):
    assert sandbox_pool.stats().in_use_count == 0
"""
OVERRIDES = """
import pytest
from pysandpool import PoolConfig, SandboxConfig

@pytest.fixture(scope="session")
def sandbox_config():
    return SandboxConfig(env_vars={"NAME": "override"})

@pytest.fixture(scope="session")
def sandbox_pool_config():
    return PoolConfig(min_size=0, max_in_use=1)
"""
USES_OVERRIDES = """
def test_override(sandbox, sandbox_pool):
    assert sandbox.shell("echo $NAME", text=True).stdout == "override\\n"
    assert sandbox_pool.pool_config.max_in_use == 1
"""
UNUSED = """
import sys

def test_nothing_is_loaded():
    assert "pytest_pysandpool" in sys.modules
    assert not [name for name in sys.modules if name.split(".")[0] in ("pysandpool", "cffi", "_cffi_backend")]
"""


def run(pytester: pytest.Pytester, *words: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *words)


def test_it_is_found() -> None:
    found = [point for point in metadata.distribution("pysandpool").entry_points if point.group == "pytest11"]
    assert [(point.name, point.value) for point in found] == [("pysandpool", "pytest_pysandpool")]


@pytest.mark.namespaces
def test_each_test_has_a_sandbox(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    run(pytester).assert_outcomes(passed=3)


@pytest.mark.namespaces
def test_the_configurations_can_be_overridden(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(OVERRIDES)
    pytester.makepyfile(USES_OVERRIDES)
    run(pytester).assert_outcomes(passed=1)


def test_a_run_without_its_fixtures_loads_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(UNUSED)
    run(pytester, "-p", "no:benchmark", "-p", "no:hypothesispytest").assert_outcomes(passed=1)


def test_its_fixtures_are_listed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("")
    listed = run(pytester, "--fixtures").stdout.str()
    assert "A lease of a fresh sandbox for this test alone." in listed
    assert "sandbox_pool_config [session scope]" in listed


def test_it_can_be_switched_off(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    run(pytester, "-p", "no:pysandpool").assert_outcomes(errors=3)
