"""`pysandpool doctor`: what a sandbox is worth here, what is missing, and what brings it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agent import STAND_IN, confine, landlock_abi, program, stand_in

from pysandpool import Interpreter, IsolationReport, NamespaceDegradation, Sandbox, SandboxConfig, SandboxCreateError
from pysandpool._backend import delegation as _delegation
from pysandpool._backend import forbidden as _forbidden
from pysandpool._backend import hints as _hints
from pysandpool._backend import machine as _machine
from pysandpool._backend import rlimits
from pysandpool._backend.macos import open_agents
from pysandpool._pool import core
from pysandpool._pool import sandbox as _sandbox
from pysandpool.cli import doctor as _doctor
from pysandpool.cli import main as _cli
from pysandpool.cli.doctor_interpreter import try_python
from pysandpool.cli.doctor_macos import Seatbelt, surroundings

pytestmark = pytest.mark.slow  # not in `make quick`

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
    monkeypatch.setattr(_doctor, "audit_listener", lambda: False)
    monkeypatch.setattr(_doctor, "low_limits", tuple)
    for module in (_hints, _forbidden, _delegation):
        monkeypatch.setattr(module, "container_kind", lambda: "")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    return monkeypatch


def missing() -> dict[str, str]:
    return {one.what: one.fix for one in _doctor.diagnose().missing}


def test_nothing_is_missing(machine: pytest.MonkeyPatch) -> None:
    found = _doctor.diagnose()
    assert (found.works, found.isolation, found.missing) == (True, FULL, ())
    assert "works" in "\n".join(found.lines())
    default = f"max_processes     {SandboxConfig().max_processes} by default, for {os.cpu_count()} processors"
    assert default in found.lines()


def test_who_listens_to_the_audit_trail(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(_doctor, "audit_listener", lambda: True)
    [(what, fix)] = missing().items()
    assert "refused" in what
    assert "seccomp_allow" in fix
    machine.setattr(_doctor, "audit_listener", lambda: None)
    [(what, fix)] = missing().items()
    assert "another network namespace" in what
    assert "actions_logged" in fix


def test_a_kernel_has_no_more_namespaces(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(_doctor, "_try", lambda degradation: dataclasses.replace(FULL, namespaces="partial"))
    machine.setattr(_doctor, "read_sysctl", lambda name: "0" if "uts" in name else "10000")
    [(found, mends)] = missing().items()
    assert "uts or cgroup" in found
    assert "namespaces=15000" in mends


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        ({"namespaces": "partial"}, "hostname", "sethostname"),
        ({"mounts": "partial"}, "/proc", "ProtectKernelTunables=no"),
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


def test_a_limit_that_is_lower_than_elsewhere(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(_doctor, "low_limits", lambda: (rlimits.Low("RLIMIT_AS is 4", "raise it"),))
    assert missing() == {"the limits that sandboxes have elsewhere: RLIMIT_AS is 4": "raise it"}


def test_limits_that_root_need_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1, resource.RLIM_INFINITY))
    monkeypatch.setattr(rlimits, "_may_raise", lambda: False)
    assert rlimits.low_limits() == ()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (512, 512))
    assert [low.what.split()[0] for low in rlimits.low_limits()] == list(rlimits.WANTED)
    assert all("ulimit -H" in low.fix for low in rlimits.low_limits())
    monkeypatch.setattr(rlimits, "_may_raise", lambda: True)
    assert rlimits.low_limits() == ()


def test_what_the_machine_lacks(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(_doctor, "find_parent", lambda wanted: None)
    machine.setattr(_doctor, "read_sysctl", lambda name: "50" if "net" in name else "10000")
    machine.setattr(resource, "getrlimit", lambda which: (64, 64))
    found = "\n".join(f"{what}: {fix}" for what, fix in missing().items())
    assert "systemd-run --user --scope -p Delegate=yes" in found
    assert "RLIMIT_NOFILE is 64" in found
    assert "ulimit -n" in found
    assert "sysctl -w user.max_net_namespaces=15000" in found


def test_it_begins_with_the_cgroup_that_is_missing(machine: pytest.MonkeyPatch) -> None:
    assert "cgroup            /sys/fs/cgroup/user" in _doctor.diagnose().lines()
    machine.setattr(_doctor, "find_parent", lambda wanted: None)
    first, second, *_ = _doctor.diagnose().lines()
    assert first.startswith("for hostile tenants, give the pool a cgroup")
    assert "Delegate=yes and DelegateSubgroup=host" in second
    machine.setattr(_delegation, "container_kind", lambda: "other")
    assert "writable-cgroups=true" in _doctor.diagnose().lines()[1]
    for kind in ("lxc", "systemd-nspawn"):
        machine.setattr(_delegation, "container_kind", lambda kind=kind: kind)
        assert "if systemd runs in the container" in _doctor.diagnose().lines()[1]
    machine.setattr(_delegation, "container_kind", lambda: "firejail")
    assert "docker" not in _doctor.diagnose().lines()[1]
    machine.setattr(_delegation, "container_kind", lambda: "kubernetes")
    assert "cgroup_writable = true" in _doctor.diagnose().lines()[1]
    assert "cgroup" not in _doctor._diagnose(Seatbelt("15.1", "", False)).lines()[0]


@pytest.mark.parametrize("where", ["", "docker", "kubernetes"])
def test_the_command_goes_one_cgroup_deeper(machine: pytest.MonkeyPatch, tmp_path: Path, where: str) -> None:
    """In a plain directory, where the file that the kernel would read is an ordinary one."""
    machine.setattr(_delegation, "container_kind", lambda: where)
    command = re.search(r"sh -c '(.*?)' sh COMMAND", _delegation.delegate())
    assert command is not None
    script = re.sub(r"^c=[^;]*;", f"c={tmp_path};", command[1])
    words = ["sh", "-c", script, "sh", "cat", tmp_path / "host" / "cgroup.procs"]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.stdout.strip().isdigit(), done.stderr


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


def test_landlock_that_a_filter_refuses_needs_no_other_kernel(machine: pytest.MonkeyPatch) -> None:
    def attempt(degradation: NamespaceDegradation) -> IsolationReport:
        if degradation is NamespaceDegradation.FAIL_CLOSED:
            raise SandboxCreateError("landlock", errno.EPERM, "the fix", "landlock_create_ruleset")
        return dataclasses.replace(FULL, landlock="none", landlock_abi=0)

    machine.setattr(_doctor, "_try", attempt)
    [(what, fix)] = missing().items()
    assert "Landlock" in what
    assert "landlock_restrict_self" in fix
    assert "lsm=" not in fix


def test_a_bad_variable_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- macOS: what can be tested of it on any system -----------------------------------------------------------

OF_MACOS = IsolationReport(tier="seatbelt", mounts="partial", network="partial")


@pytest.fixture
def mac(machine: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    machine.setattr(_doctor, "_try", lambda degradation: OF_MACOS)
    return machine


def test_of_macos(mac: pytest.MonkeyPatch) -> None:
    found = _doctor._diagnose(Seatbelt("15.1", "", False))
    assert found.works
    assert [one.what.partition(":")[0] for one in found.missing] == ["limits of memory and processes"]
    text = "\n".join(found.lines())
    assert all(word in text for word in ("15.1", "sandbox-exec      works", "in a sandbox      no", "works"))
    assert "security modules" not in text
    assert json.loads(json.dumps(dataclasses.asdict(found)))["seatbelt"] == {
        "macos": "15.1",
        "sandbox_exec": "",
        "confined": False,
    }


def test_inside_of_a_sandbox_nothing_works(mac: pytest.MonkeyPatch) -> None:
    def fail(degradation: object) -> IsolationReport:
        raise SandboxCreateError("seatbelt", errno.EPERM, _hints.hint_for("seatbelt", errno.EPERM))

    mac.setattr(_doctor, "_try", fail)
    found = _doctor._diagnose(Seatbelt("15.1", "sandbox_apply: Operation not permitted", True))
    assert (found.works, found.stage, found.errno) == (False, "seatbelt", errno.EPERM)
    assert "cannot be nested" in found.hint
    [missing] = found.missing
    assert "outside of that sandbox" in missing.fix


def test_the_seatbelt_of_this_machine_is_tried(tmp_path: Path) -> None:
    program = tmp_path / "sandbox-exec"
    assert surroundings(str(program)).sandbox_exec == "not there"
    for body, why in [("exit 0", ""), ("echo no >&2; exit 71", "no"), ("exit 65", "exit code 65")]:
        program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        program.chmod(0o755)
        assert surroundings(str(program)).sandbox_exec == why
    program.write_text("no program", encoding="utf-8")
    assert "Exec format error" in surroundings(str(program)).sandbox_exec
    [missing] = Seatbelt("", "not there", False).missing(None)
    assert "part of macOS" in missing[1]


@pytest.mark.parametrize("confines", [True, False])
def test_the_whole_of_it_over_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], confines: bool
) -> None:
    """As on macOS, down to the agent's proofs; over one that confines nothing it says so, and exits with 1."""
    if confines and landlock_abi() < 6:
        pytest.skip("no Landlock ABI 6: nothing here can stand for Seatbelt")
    exec_ = stand_in(tmp_path, f"exec {confine()} '' \"$@\"") if confines else STAND_IN
    monkeypatch.setattr(core, "open_agents", partial(open_agents, sandbox_exec=exec_, program=program()))
    monkeypatch.setattr(_sandbox, "_zygotes", type(_sandbox._zygotes)())  # none of Linux
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(_doctor, "surroundings", lambda: Seatbelt("15.1", "", False))
    assert _cli.main(["doctor", "--json"]) == (0 if confines else 1)
    report = json.loads(capsys.readouterr().out)
    assert report["works"] is confines
    if confines:
        assert (report["isolation"]["mounts"], report["isolation"]["namespaces"]) == ("partial", "none")
    else:
        assert (report["stage"], report["errno"], report["isolation"]) == ("seatbelt", errno.ENOTSUP, None)
        assert "sandbox-exec" in report["hint"]


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


# --- the interpreter that waits --------------------------------------------------------------------------


def test_doctor_tells_whether_this_python_can_wait_in_sandboxes() -> None:
    found = try_python(NamespaceDegradation.FAIL_CLOSED)
    assert (found.python, found.works, found.error) == (os.path.normpath(sys.executable), True, "")
    assert found.start_seconds is not None
    assert "waits in sandboxes; it started in" in next(found.lines())


def test_a_python_that_cannot_wait_is_missing_with_its_fix(
    machine: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.setattr(_doctor, "_try", lambda degradation: dataclasses.replace(FULL, tier="full"))
    monkeypatch.setattr(sys, "executable", "/does/not/exist/python3")
    found = _doctor.diagnose()
    assert found.interpreter is not None
    assert not found.interpreter.works
    (missing,) = (one for one in found.missing if "waits in sandboxes" in one.what)
    assert missing.fix
    assert "cannot wait in sandboxes" in "\n".join(found.lines())


def test_the_report_tells_what_an_interpreter_shares() -> None:
    words = {"shared": Interpreter(), "own": Interpreter(start="exec"), "none": None}
    for word, interpreter in words.items():
        with Sandbox(SandboxConfig(interpreter=interpreter)) as sandbox:
            assert sandbox.isolation.interpreter == word
