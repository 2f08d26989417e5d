"""Containers of runc: what Docker's flags, and the seccomp profile of this package, allow and refuse there."""

from __future__ import annotations

import dataclasses
import errno
import json
from typing import Any

import oci
import pytest
from oci import ALL_CAPABILITIES, Container

from pysandpool._backend.seccomp_profile import FOR_SANDBOXES, docker_default, for_sandboxes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(oci.missing()), reason=oci.missing())]

CODE = """
import dataclasses, json
from pysandpool import NamespaceDegradation, Sandbox, SandboxConfig, SandboxCreateError

def attempt(degradation):
    try:
        with Sandbox(SandboxConfig(namespace_degradation=degradation)) as sandbox:
            assert sandbox.execute(["/bin/echo", "runs"]).stdout == b"runs\\n"
            return dataclasses.asdict(sandbox.isolation)
    except SandboxCreateError as error:
        return {"stage": error.stage, "errno": error.errno, "hint": error.hint}

print(json.dumps([attempt(one) for one in NamespaceDegradation]))
"""
USER = Container(user=1000, no_new_privileges=True)


def attempts(container: Container) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report, or the error, of a sandbox with FAIL_CLOSED and of one with ALLOW_DEGRADATION in `container`."""
    done = oci.run_python(CODE, container=container)
    assert done.returncode == 0, done.stderr
    closed, degraded = json.loads(done.stdout)
    return closed, degraded


def test_what_a_container_has() -> None:
    """The control of all others: capabilities, filter and masked paths are those that the flags give."""
    show = "grep -E '^(Seccomp|CapBnd|NoNewPrivs):' /proc/self/status; grep -c ' /proc/' /proc/self/mountinfo; id -u"
    plain = oci.run(["/bin/sh", "-c", show]).stdout.split()
    assert [*plain[:6:2], plain[1]] == ["CapBnd:", "NoNewPrivs:", "Seccomp:", plain[1]]
    assert (plain[1][-8:], plain[3], plain[5], plain[-1]) == ("a80425fb", "0", "2", "0")
    assert int(plain[-2]) > 5, "masked and read-only paths"
    bare = dataclasses.replace(USER, seccomp="unconfined", systempaths="unconfined", cap_drop=ALL_CAPABILITIES)
    assert oci.run(["/bin/sh", "-c", show], bare).stdout.split()[1::2] == [f"{0:016x}", "1", "0", "1000"]


@pytest.mark.parametrize("container", [Container(), USER], ids=["root", "user"])
def test_dockers_default_profile_allows_no_namespaces(container: Container) -> None:
    closed, _ = attempts(container)
    assert (closed["stage"], closed["errno"]) == ("user_namespace", errno.EPERM)


@pytest.mark.parametrize("container", [Container(), USER], ids=["root", "user"])
def test_the_profile_of_this_package_does(container: Container) -> None:
    closed, degraded = attempts(dataclasses.replace(container, seccomp=for_sandboxes(), systempaths="unconfined"))
    assert closed == degraded
    assert all(closed[name] == "full" for name in ("namespaces", "mounts", "landlock", "seccomp", "network"))


def test_the_profile_is_dockers_and_what_it_names_besides() -> None:
    def names(profile: dict[str, Any]) -> set[str]:
        return set(profile["syscalls"][0]["names"])

    for machine in ("x86_64", "aarch64"):
        ours, theirs = for_sandboxes(machine), docker_default(machine=machine)
        assert names(ours) - names(theirs) == set(FOR_SANDBOXES)
        assert names(theirs) < names(ours)
        with_rules = [rule for rule in theirs["syscalls"][1:] if rule["names"][0] not in FOR_SANDBOXES]
        assert ours["syscalls"][1:] == with_rules
    assert {"kexec_load", "bpf", "io_uring_setup", "add_key", "init_module"}.isdisjoint(names(for_sandboxes("x86_64")))
    assert "bpf" in names(docker_default(ALL_CAPABILITIES, "x86_64"))
    with pytest.raises(ValueError, match="riscv64"):
        for_sandboxes("riscv64")
