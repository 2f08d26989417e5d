"""Containers of runc: what Docker's flags, and the seccomp profile of this package, allow and refuse there."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import subprocess
from typing import Any

import oci
import pytest
import yaml
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
WHOLE = ("namespaces", "mounts", "landlock", "seccomp", "network")


def attempts(container: Container) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report, or the error, of a sandbox with FAIL_CLOSED and of one with ALLOW_DEGRADATION in `container`."""
    done = oci.run_python(CODE, container=container)
    assert done.returncode == 0, done.stderr
    closed, degraded = json.loads(done.stdout)
    return closed, degraded


INTERPRETER = """
import sys
from pysandpool import Interpreter, NamespaceDegradation, PoolConfig, SandboxConfig, SandboxPool

allow = NamespaceDegradation.ALLOW_DEGRADATION
for start in ("fork", "exec"):
    interpreter = Interpreter(python="/usr/bin/python3", start=start, preload=["json"])
    config = SandboxConfig(namespace_degradation=allow, interpreter=interpreter)
    with SandboxPool(config, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
        print(lease.isolation.tier, lease.run_code("import sys\\n'json' in sys.modules").text)
        if start == "fork":
            with lease.session() as session:
                session.run("x = 1")
                print([copy.run("x + 1").text for copy in session.branch(2)])
        script = "test -t 0 && stty size"
        if len(sys.argv) == 1 or lease.isolation.landlock_abi >= 6:
            print(lease.popen(["sh", "-c", script], pty=True, text=True).communicate()[0].strip())
"""


@pytest.mark.parametrize("container", [Container(), USER], ids=["root", "user"])
def test_code_and_terminals_in_dockers_default_profile(container: Container) -> None:
    done = oci.run_python(INTERPRETER, *(["user"] if container is USER else []), container=container)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["landlock True", "['2', '2']", "24 80", "landlock True", "24 80"]


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


# --- full without all that a sandbox is usually made with -------------------------------------------------------

ADMIN = Container(cap_add=frozenset({"CAP_SYS_ADMIN"}), systempaths="unconfined")
ROOTS = """
import os
from pysandpool import Sandbox
with Sandbox() as sandbox:
    assert sandbox.isolation.tier == "full"
    look = "cd /; cd ../..; ls; ls /proc/1/root/; cat /proc/self/mountinfo"
    print(sandbox.execute(["/bin/sh", "-c", look]).check().stdout.decode())
"""


def without(*calls: str) -> dict[str, Any]:
    """The profile of this package, which refuses these calls."""
    profile = for_sandboxes()
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in calls]
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
    return profile


def test_docker_with_sys_admin_refuses_pivot_root_and_brings_all() -> None:
    assert "pivot_root" not in str(docker_default(ADMIN.capabilities))
    closed, degraded = attempts(ADMIN)
    assert closed == degraded
    assert {closed[name] for name in WHOLE} == {"full"}


def test_the_containers_files_are_out_of_reach_there() -> None:
    control = oci.run(["/bin/sh", "-c", "ls /; cat /proc/self/mountinfo"], ADMIN).stdout
    assert " / / " in control
    assert "root\n" in control
    done = oci.run_python(ROOTS, container=ADMIN)
    assert done.returncode == 0, done.stderr
    names = {line for line in done.stdout.split("\n") if line and " " not in line}
    assert names <= {
        "bin",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "mnt",
        "proc",
        "sbin",
        "sys",
        "tmp",
        "usr",
        "var",
        "workspace",
        "nix",
    }
    assert "overlay" not in [line.split(" ")[4] for line in done.stdout.splitlines() if " - overlay " in line]
    assert " / / ro,nosuid,nodev" in done.stdout


@pytest.mark.parametrize(
    "calls", [("sethostname",), ("sethostname", "mount_setattr"), ("pivot_root", "close_range")], ids=" ".join
)
def test_calls_that_a_profile_refuses(calls: tuple[str, ...]) -> None:
    """As in Podman's profile, which keeps sethostname for CAP_SYS_ADMIN, and in older ones."""
    closed, degraded = attempts(dataclasses.replace(USER, seccomp=without(*calls), systempaths="unconfined"))
    assert closed == degraded
    lacking = {"namespaces"} if "sethostname" in calls else set()
    assert {name for name in WHOLE if closed[name] != "full"} == lacking
    assert closed["tier"] == "full"


def test_a_profile_like_podmans_over_masked_paths() -> None:
    """Without a /proc it needs ALLOW_DEGRADATION, and then no flag."""
    closed, degraded = attempts(dataclasses.replace(USER, seccomp=without("sethostname")))
    assert (closed["stage"], closed["errno"]) == ("mount_proc", errno.EPERM)
    assert (degraded["tier"], degraded["mounts"], degraded["namespaces"]) == ("full", "partial", "partial")


# --- root with less than Docker leaves to it ---------------------------------------------------------------------

STICKY = """
import os, sys
from pathlib import Path
from pysandpool import NamespaceDegradation, SandboxConfig, SandboxPool
with SandboxPool(SandboxConfig(namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION)) as pool:
    with pool.acquire() as sandbox:
        script = "id -u; pwd; mkdir -p d/e; touch d/e/f; chmod 1777 d; chmod 0 d/e"
        uid, folder = sandbox.execute(["/bin/sh", "-c", script]).check().stdout.decode().split()
        tier = sandbox.isolation.tier
print(tier, int(uid) >= 2_000_000_000, Path(folder).parent.exists())
"""


@pytest.mark.parametrize("lacking", ["", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID"])
def test_leases_have_ids_of_their_own_if_root_can_clear_up_after_them(lacking: str) -> None:
    """Without CAP_DAC_OVERRIDE it could not enter their directories, without CAP_FOWNER not remove a sticky one."""
    done = oci.run_python(STICKY, container=Container(cap_drop=frozenset({lacking} - {""})))
    assert done.stdout.split() == ["landlock", str(not lacking), "False"], done.stderr


# --- each hint, followed ---------------------------------------------------------------------------------------

DOCTOR = [oci.PYTHON, "-m", "pysandpool", "doctor"]
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
RESTRICTED = dataclasses.replace(USER, cap_drop=ALL_CAPABILITIES, read_only=True, files=(), env=POD)
# All that Docker, compose, containerd and Kubernetes refuse with their defaults.
REFUSED = {
    "docker, root": Container(),
    "docker, user": Container(user=1000),
    "docker, no new privileges, read-only": dataclasses.replace(USER, read_only=True),
    "docker, no capabilities": dataclasses.replace(USER, cap_drop=ALL_CAPABILITIES),
    "docker, root, no capabilities": Container(cap_drop=ALL_CAPABILITIES),
    "docker, ids of its own": Container(user_namespace=True),
    "docker, seccomp=unconfined alone": Container(seccomp="unconfined"),
    "docker, systempaths=unconfined alone": Container(systempaths="unconfined"),
    "containerd, root": Container(files=()),
    "containerd, user": dataclasses.replace(USER, files=()),
    "kubernetes, root": Container(files=(), env=POD),
    "kubernetes, root, no capabilities": Container(files=(), env=POD, cap_drop=ALL_CAPABILITIES),
    "kubernetes, restricted": RESTRICTED,
}


@pytest.fixture(scope="module")
def profile() -> dict[str, Any]:
    """The profile as a user gets it."""
    done = subprocess.run([*DOCTOR, "--seccomp-profile"], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def commands_of(report: dict[str, Any]) -> list[str]:
    return [fix["command"] for fix in report["fixes"]]


# /proc alone is covered in the others: there sandboxes have namespaces, and no /proc.
LOWER = [name for name in REFUSED if "seccomp=unconfined" not in name]


@pytest.mark.parametrize("name", LOWER)
def test_the_other_way_that_the_hint_names(name: str) -> None:
    """A newcomer's two commands, in the container as it is."""
    found = oci.run_doctor(REFUSED[name])
    assert "pysandpool run --allow-degradation" in found["hint"]
    assert (found["isolation"]["tier"], found["isolation"]["landlock"]) == ("landlock", "full")
    assert not [one for one in found["missing"] if "private" in one["what"]]
    hidden = "/etc/hostname"
    assert oci.run(["cat", hidden], REFUSED[name]).returncode == 0, "the control: the container itself may read it"
    script = f"echo written > here; cat here; cat {hidden}"
    words = [oci.PYTHON, "-m", "pysandpool", "run", "--allow-degradation", "--", "sh", "-c", script]
    done = oci.run(words, REFUSED[name])
    assert (done.returncode, done.stdout) == (1, "written\n"), done.stderr
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize("name", REFUSED)
def test_a_hint_that_is_followed_brings_all(name: str, profile: dict[str, Any]) -> None:
    container = REFUSED[name]
    before = oci.run_doctor(container)
    assert not before["works"]
    kinds = {"docker": "docker", "containerd": "other", "kubernetes": "kubernetes"}
    assert before["container"] == kinds[name.partition(",")[0]]
    after = oci.run_doctor(container.followed(commands_of(before), profile))
    assert after["works"], after["error"]
    assert [after["isolation"][word] for word in WHOLE] == ["full"] * len(WHOLE)


def test_the_hint_asks_for_no_more_than_is_needed(profile: dict[str, Any]) -> None:
    """With any one of its options left out, the sandbox does not work."""
    [run] = [command for command in commands_of(oci.run_doctor(USER)) if command.startswith("docker run")]
    options = [word for word in run.split() if "=" in word]
    assert len(options) == 2
    assert [oci.run_doctor(USER.with_security_opt([one], profile))["works"] for one in options] == [False, False]


# --- the recipes of docs/deployment.md -------------------------------------------------------------------------

PAGE = (oci.ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
YAML = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]


def test_the_recipes_for_docker_and_compose(profile: dict[str, Any]) -> None:
    [recipe] = re.findall(r"^docker run.*?IMAGE", PAGE.replace("\\\n", ""), re.MULTILINE | re.DOTALL)
    [service] = [one["services"]["worker"] for one in YAML if "services" in one]
    of_compose = Container(user=int(service["user"])).with_security_opt(service["security_opt"], profile)
    assert of_compose == Container(user=1000).with_options(recipe, profile)
    for container in (of_compose, dataclasses.replace(RESTRICTED.with_options(recipe, profile), env={})):
        assert oci.run_doctor(container)["works"]


def test_the_recipes_for_pods(profile: dict[str, Any]) -> None:
    restricted, whole = [one["spec"] for one in YAML if "spec" in one]
    context = restricted["containers"][0]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert (context["runAsUser"], context["allowPrivilegeEscalation"]) == (RESTRICTED.user, False)
    isolation = oci.run_doctor(RESTRICTED.with_context(context, profile))["isolation"]
    assert {word: isolation[word] for word in WHOLE} == {**dict.fromkeys(WHOLE, "full"), "mounts": "partial"}
    assert whole["hostUsers"] is False
    pod = dataclasses.replace(RESTRICTED, user_namespace=True)
    assert oci.run_doctor(pod.with_context(whole["containers"][0]["securityContext"], profile))["works"]


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
    assert for_sandboxes("arm64") == for_sandboxes("aarch64")
    with pytest.raises(ValueError, match="riscv64"):
        for_sandboxes("riscv64")
