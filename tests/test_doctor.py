"""`pysandpool doctor`: what a sandbox is worth here, what is missing, and what brings it."""

from __future__ import annotations

import dataclasses
import json
import resource
import subprocess
import sys
from typing import Any

import pytest

from pysandpool import IsolationReport, SandboxCreateError, _doctor, _machine

FULL = IsolationReport(
    **dict.fromkeys(
        ["namespaces", "mounts", "landlock", "seccomp", "no_new_privs", "network", "memory", "processes", "cpu"], "full"
    ),
    landlock_abi=7,
)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that lacks nothing."""
    monkeypatch.setattr(_doctor, "_try", lambda degradation: FULL)
    monkeypatch.setattr(_doctor, "find_parent", lambda wanted: "/sys/fs/cgroup/user")
    monkeypatch.setattr(_doctor, "read_sysctl", lambda name: "10000")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    return monkeypatch


def missing() -> dict[str, str]:
    return {one.what: one.fix for one in _doctor.diagnose().missing}


def test_nothing_is_missing(machine: pytest.MonkeyPatch) -> None:
    found = _doctor.diagnose()
    assert (found.works, found.isolation, found.missing) == (True, FULL, ())
    assert "works" in "\n".join(found.lines())


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        ({"namespaces": "partial"}, "uts or cgroup", "namespaces=15000"),
        ({"mounts": "partial"}, "/proc", "systempaths=unconfined"),
        ({"network": "partial"}, "network namespace", "user.max_net_namespaces"),
        ({"landlock": "none", "landlock_abi": 0}, "Landlock", "lsm=landlock"),
        ({"landlock": "partial", "landlock_abi": 3}, "Landlock ABI 6 (this is 3)", "6.12"),
    ],
    ids=lambda one: "" if isinstance(one, str) else next(iter(one)),
)
def test_what_a_report_lacks(machine: pytest.MonkeyPatch, change: dict[str, Any], what: str, fix: str) -> None:
    machine.setattr(_doctor, "_try", lambda degradation: dataclasses.replace(FULL, **change))
    [(found, mends)] = missing().items()
    assert what in found
    assert fix in mends


def test_what_the_machine_lacks(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(_doctor, "find_parent", lambda wanted: None)
    machine.setattr(_doctor, "read_sysctl", lambda name: "50" if "net" in name else "10000")
    machine.setattr(resource, "getrlimit", lambda which: (64, 64))
    found = "\n".join(f"{what}: {fix}" for what, fix in missing().items())
    assert "systemd-run --user --scope -p Delegate=yes" in found
    assert "RLIMIT_NOFILE is 64" in found
    assert "ulimit -n" in found
    assert "sysctl -w user.max_net_namespaces=15000" in found


def test_a_failure_has_its_address(machine: pytest.MonkeyPatch) -> None:
    def fail(degradation: object) -> IsolationReport:
        raise SandboxCreateError("user_namespace", 28, "the fix", "clone")

    machine.setattr(_doctor, "_try", fail)
    found = _doctor.diagnose()
    assert (found.works, found.stage, found.errno, found.hint, found.isolation) == (
        *(False, "user_namespace", 28),
        *("the fix", None),
    )
    text = "\n".join(found.lines())
    assert all(part in text for part in ("does not work", "stage user_namespace, errno ENOSPC", "hint: the fix"))


def test_a_bad_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "pysandpool", "doctor", "--json"]
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", "seven")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "PYSANDPOOL_LANDLOCK_ABI" in json.loads(done.stdout)["error"]


def test_here() -> None:
    done = subprocess.run([sys.executable, "-m", "pysandpool", "doctor", "--json"], capture_output=True, check=False)
    found = json.loads(done.stdout)
    assert (done.returncode, found["works"]) == (0, True)
    assert found["isolation"]["namespaces"] == "full"
    assert set(found["sysctls"]) == set(_machine.SYSCTLS)


def test_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _machine.read_sysctl("kernel.ostype") == "Linux"
    assert _machine.read_sysctl("kernel.no_such_setting") is None
    files = {"/proc/self/status": "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1"}
    monkeypatch.setattr(_machine, "_read", lambda path: files.get(str(path), ""))
    assert _machine.is_filtered()
    files["/proc/self/status"] = "Name:\tx\nSeccomp:\t0"
    assert not _machine.is_filtered()
    files["/proc/self/mountinfo"] = (
        "22 27 0:21 / /proc rw - proc proc rw\n"
        "23 22 0:5 /null /proc/kcore rw - devtmpfs d rw\n24 27 0:6 / /procx rw - x x rw"
    )
    assert _machine.masked_proc() == ("/proc/kcore",)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert _machine.in_pod()
    assert _machine.in_container()
