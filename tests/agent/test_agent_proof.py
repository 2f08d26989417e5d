"""What the agent of macOS proves before its first command, over what stands for `sandbox-exec` and confines, or not."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from agent import AgentLauncher, confine, landlock_abi, stand_in
from eyes import children
from waiting import wait_until

from pysandpool import (
    IsolationReport,
    NamespaceDegradation,
    PooledSandbox,
    SandboxConfig,
    SandboxCreateError,
    SeccompProfile,
)
from pysandpool._pool.isolation import _FACTS, report

# What is left out -> words of the fact that is missing.
OPEN: dict[str, Any] = {"deny_network": False, "seccomp_profile": SeccompProfile.NETWORK}
LEFT_OUT = {
    "read": "cannot be read",
    "write": "cannot be written",
    "signal": "out of reach of signals",
    "network": "bind or connect",
    "set-id": "set-id program",
}


needs_scopes = pytest.mark.skipif(landlock_abi() < 6, reason="no Landlock ABI 6: nothing here can stand for Seatbelt")


def launcher_without(tmp_path: Path, left_out: str, config: SandboxConfig | None = None) -> AgentLauncher:
    return AgentLauncher(config, stand_in(tmp_path, f"exec {confine()} '{left_out}' \"$@\""), confines=True)


def has_cap_sys_admin() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    return bool(int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16) >> 21 & 1)


def facts_of(lease: PooledSandbox) -> set[str]:
    from pysandpool._ffi import check, ffi, lib

    found = ffi.new("sp_isolation *")
    check(lib.sp_lease_isolation(lease._core.ptr, lease._handle, found), lease._core.ptr)
    return {name for index, name in enumerate(_FACTS) if found.facts >> index & 1}


@needs_scopes
def test_what_is_refused_is_proved(tmp_path: Path) -> None:
    launcher = launcher_without(tmp_path, "")
    with launcher.open(warm=1) as pool, pool.acquire() as lease:
        assert lease.isolation == IsolationReport(
            tier="seatbelt", mounts="partial", network="partial", memory="partial"
        )
        assert lease.execute(["/bin/sh", "-c", "echo x > own && cat own"]).check().stdout == b"x\n"
        assert lease.execute(["ls", ".."]).exit_code != 0
        assert lease.isolation == IsolationReport(
            tier="seatbelt", mounts="partial", network="partial", memory="partial"
        )
    launcher.close()


@needs_scopes
@pytest.mark.parametrize("degradation", NamespaceDegradation)
@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_is_not_refused_fails_the_birth(tmp_path: Path, what: str, degradation: NamespaceDegradation) -> None:
    if what == "set-id" and not has_cap_sys_admin():
        pytest.skip("without privilege nothing confines that does not set no_new_privs")
    before = children()
    launcher = launcher_without(tmp_path, what, SandboxConfig(namespace_degradation=degradation))
    with pytest.raises(SandboxCreateError, match=LEFT_OUT[what]) as caught:
        launcher.open(warm=1)
    assert (caught.value.stage, caught.value.errno) == ("seatbelt", errno.ENOTSUP)
    assert "sandbox-exec must be Apple's own" in caught.value.hint
    launcher.close()
    wait_until(lambda: children() <= before, "nobody is left")


@needs_scopes
def test_a_network_that_was_asked_for_is_no_failure(tmp_path: Path) -> None:
    launcher = launcher_without(tmp_path, "network", SandboxConfig(**OPEN))
    with launcher.open(warm=1) as pool, pool.acquire() as lease:
        assert (lease.isolation.mounts, lease.isolation.network) == ("partial", "none")
    launcher.close()


def test_one_that_confines_nothing_is_found_out() -> None:
    launcher = AgentLauncher(confines=True)
    with pytest.raises(SandboxCreateError, match="a directory of the host") as caught:
        launcher.open(warm=1)
    assert (caught.value.stage, caught.value.errno) == ("seatbelt", errno.ENOTSUP)
    assert caught.value.hint
    launcher.close()


def test_where_nothing_has_to_be_proved_the_report_says_what_is_so() -> None:
    launcher = AgentLauncher(SandboxConfig(memory_limit_mb=None))
    with launcher.open(warm=1) as pool, pool.acquire() as lease:
        assert lease.isolation == IsolationReport()
        assert facts_of(lease) <= {"LIMITS", "NO_SET_ID"}, "this process may have no_new_privs"
    launcher.close()


def test_memory_counts_where_the_limit_is_felt() -> None:
    """RLIMIT_DATA reads back on macOS, and limits nothing: there the mapping that is tried succeeds."""
    launcher = AgentLauncher(SandboxConfig())
    with launcher.open(warm=1) as pool, pool.acquire() as lease:
        assert lease.isolation.memory == "partial"
        assert "LIMIT_DATA" in facts_of(lease)
    launcher.close()


def test_each_word_needs_its_facts() -> None:
    config = SandboxConfig()
    every = frozenset({"HOST_UNREAD", "HOST_UNWRITTEN", "HOST_UNSIGNALLED", "NO_CONNECTION", "NO_SET_ID", "LIMITS"})
    assert report(config, every, 0, 0) == IsolationReport(tier="seatbelt", mounts="partial", network="partial")
    assert report(config, every - {"HOST_UNREAD"}, 0, 0).mounts == "none"
    assert report(config, every - {"HOST_UNWRITTEN"}, 0, 0).mounts == "none"
    assert report(config, every - {"NO_CONNECTION"}, 0, 0).network == "none"
