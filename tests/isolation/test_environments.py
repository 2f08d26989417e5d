"""Kernels and containers that refuse something: the error says where, what and what helps; or a sandbox has less.

Each environment is simulated for one process, see simulate.py, as root and as an ordinary user.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass, field
from typing import Any

import pytest
from scripts import run_script
from simulate import cgroup_mount

pytestmark = pytest.mark.slow

SCRIPT = """
import codecs, dataclasses, json, os, sys
import simulate
from simulate import *
from pysandpool import NamespaceDegradation, Sandbox, SandboxConfig, SandboxCreateError, SeccompProfile
from pysandpool._backend import linux
from pysandpool._backend import forbidden
codecs.lookup("ascii")
in_container("docker")
linux.find_parent = lambda wanted: None  # whether there is a cgroup is not what this is about
before, ordinary, after, config = json.loads(sys.argv[1])
exec(before)
if ordinary:
    become_ordinary()
exec(after)

def attempt(degradation):
    try:
        with Sandbox(SandboxConfig(namespace_degradation=degradation, **eval(config))) as sandbox:
            assert sandbox.execute(["/bin/echo", "runs"]).stdout == b"runs\\n"
            return dataclasses.asdict(sandbox.isolation)
    except SandboxCreateError as error:
        return {"stage": error.stage, "errno": error.errno, "hint": error.hint}

print(json.dumps([attempt(one) for one in NamespaceDegradation]))
"""


@dataclass(frozen=True)
class Environment:
    """What is done `before` root is given up, where it is, and `after`; and what comes of it."""

    after: str = ""
    before: str = ""
    config: str = "{}"
    fails: tuple[str, int] | None = None
    """stage and errno, with FAIL_CLOSED"""
    hint: tuple[str, ...] = ()
    less: dict[str, Any] | None = field(default_factory=dict)
    """what of the report is not "full" with ALLOW_DEGRADATION; None: it fails in the same way; see LOWER"""


# With ALLOW_DEGRADATION it is the Landlock tier, whatever its report says of limits.
LOWER = {"tier": "landlock", "namespaces": "none"}


def limit(kind: str, stage: str = "user_namespace", less: dict[str, Any] | None = LOWER) -> Environment:
    return Environment(
        f"own_users(max_{kind}_namespaces=0)",
        fails=(stage, errno.ENOSPC),
        hint=(f"sysctl -w user.max_{kind}_namespaces=15000",),
        less=less,
    )


def docker(err: int) -> Environment:
    """Docker's default profile, for a container without CAP_SYS_ADMIN."""
    calls = [f"answer('clone', {err}, (0, 0x7e020000))"]
    calls += [f"answer('{name}', {err})" for name in ("unshare", "mount", "umount2", "pivot_root", "setns", "keyctl")]
    return Environment("; ".join(calls), fails=("user_namespace", err), hint=("seccomp=pysandpool.json",), less=LOWER)


def without(call: str, err: int, stage: str, hint: str) -> Environment:
    return Environment(f"answer('{call}', {err})", fails=(stage, err), hint=(hint,), less=LOWER)


NO_LANDLOCK = {"landlock": "none", "landlock_abi": 0}
ENVIRONMENTS = {
    "nothing": Environment(),
    "no user namespaces": limit("user"),
    "no pid namespaces": limit("pid"),
    "no mount namespaces": limit("mnt"),
    "no ipc namespaces": limit("ipc"),
    "no uts namespaces": limit("uts", less={"namespaces": "partial"}),
    "no cgroup namespaces": limit("cgroup", less={"namespaces": "partial"}),
    "no network namespaces": limit("net", "network_namespace", less={"network": "partial", "unix_sockets": "full"}),
    "neither uts, cgroup nor network namespaces": Environment(
        "own_users(max_uts_namespaces=0, max_cgroup_namespaces=0, max_net_namespaces=0)",
        fails=("user_namespace", errno.ENOSPC),
        hint=("max_uts_namespaces=15000", "max_cgroup_namespaces=15000"),
        less={"namespaces": "partial", "network": "partial", "unix_sockets": "full"},
    ),
    "one cgroup namespace": Environment(
        "own_users(max_cgroup_namespaces=1)", fails=("clone", errno.ENOSPC), less={"namespaces": "partial"}
    ),
    "no network namespaces, but sockets": Environment(
        "own_users(max_net_namespaces=0)",
        config="dict(seccomp_profile=SeccompProfile.NETWORK)",
        fails=("network_namespace", errno.ENOSPC),
        hint=("user.max_net_namespaces",),
        less=None,
    ),
    "no network namespaces, but unix sockets": Environment(
        "own_users(max_net_namespaces=0)",
        config="dict(allow_unix_sockets=True)",
        fails=("network_namespace", errno.ENOSPC),
        less=None,
    ),
    "docker's profile, EPERM": docker(errno.EPERM),
    "docker's profile, ENOSYS": docker(errno.ENOSYS),
    "no mount, EPERM": without("mount", errno.EPERM, "namespaces", "--seccomp-profile"),
    "no mount, ENOSYS": without("mount", errno.ENOSYS, "namespaces", "--seccomp-profile"),
    "no pivot_root": Environment("answer('pivot_root', 1)"),
    "no mount_setattr": Environment("answer('mount_setattr', 38)"),
    "no close_range": Environment("answer('close_range', 38)"),
    "no other hostname": Environment("answer('sethostname', 1)", less={"namespaces": "partial"}),
    "apparmor": Environment(
        "in_container(''); answer('mount', 13); forbidden.is_filtered = lambda: False; "
        "forbidden.read_sysctl = {'kernel.apparmor_restrict_unprivileged_userns': '1'}.get",
        fails=("namespaces", errno.EACCES),
        hint=("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0", "doctor --apparmor-profile"),
        less=LOWER,
    ),
    "kubernetes": Environment(
        "in_container('kubernetes'); answer('unshare', 1); answer('clone', 1, (0, 0x10000000))",
        before="mask_proc()",
        fails=("user_namespace", errno.EPERM),
        hint=("seccompProfile: {type: Localhost", "procMount: Unmasked", "hostUsers: false"),
        less=LOWER,
    ),
    "masked /proc": Environment(
        before="mask_proc()",
        fails=("mount_proc", errno.EPERM),
        hint=("/proc/irq", "systempaths=unconfined", "ALLOW_DEGRADATION"),
        less={"mounts": "partial"},
    ),
    "Landlock is not built in": Environment("answer('landlock_create_ruleset', 38)", less=NO_LANDLOCK),
    "Landlock is not enabled": Environment("answer('landlock_create_ruleset', 95)", less=NO_LANDLOCK),
    "Landlock by the variable": Environment("os.environ['PYSANDPOOL_LANDLOCK_ABI'] = '0'", less=NO_LANDLOCK),
    "Landlock is denied": Environment(
        "answer('landlock_create_ruleset', 1)",
        fails=("landlock", errno.EPERM),
        hint=("landlock_restrict_self",),
        less=NO_LANDLOCK,
    ),
    "no cgroup": Environment(
        "in_container('')",
        config="dict(cpu_quota_us=50_000)",
        fails=("limits", errno.ENOTSUP),
        hint=("systemd-run --user --scope -p Delegate=yes",),
    ),
    "no cgroup in a container": Environment(
        "in_container('docker')",
        config="dict(cpu_quota_us=50_000)",
        fails=("limits", errno.ENOTSUP),
        hint=("writable-cgroups=true", "cgroup_parent='/sys/fs/cgroup'"),
    ),
    "read-only cgroup": Environment(
        before="cgroup_read_only(); in_container('')",
        config="dict(cgroup_parent=cgroup_mount(), cpu_quota_us=50_000)",
        fails=("cgroup", errno.EROFS),
        hint=("Delegate=yes",),
    ),
}
WORDS = (
    "namespaces",
    "mounts",
    "landlock",
    "seccomp",
    "no_new_privs",
    "network",
    "unix_sockets",
    "memory",
    "processes",
    "cpu",
)


def attempts(environment: Environment, ordinary: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    arguments = [environment.before, ordinary, environment.after, environment.config]
    done = run_script(SCRIPT, json.dumps(arguments))
    assert done.returncode == 0, done.stderr
    closed, degraded = json.loads(done.stdout)
    return closed, degraded


def unlike(report: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Where the report differs from that of a machine where nothing is refused."""
    assert "stage" not in report, report
    return {name: value for name, value in report.items() if value != plain[name]}


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    closed, degraded = attempts(ENVIRONMENTS["nothing"], ordinary=False)
    assert closed == degraded, "what may be left out is not left out for nothing"
    assert [closed[name] for name in WORDS].count("full") >= 6
    return closed


@pytest.mark.parametrize(
    "ordinary", [False, True] if os.geteuid() == 0 else [True], ids=lambda ordinary: "user" if ordinary else "root"
)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment(name: str, ordinary: bool, plain: dict[str, Any]) -> None:
    if name == "read-only cgroup" and cgroup_mount() is None:
        pytest.skip("no cgroup v2 is mounted here")
    environment = ENVIRONMENTS[name]
    closed, degraded = attempts(environment, ordinary)
    if environment.fails is None:
        assert unlike(closed, plain) == environment.less
        assert closed == degraded
        return
    assert (closed.get("stage"), closed.get("errno")) == environment.fails, closed
    assert [part for part in environment.hint if part not in closed["hint"]] == [], closed["hint"]
    if environment.less is None:
        assert degraded == closed
    elif environment.less is LOWER:
        assert "ALLOW_DEGRADATION" in closed["hint"]
        assert {name: degraded.get(name) for name in LOWER} == LOWER
        assert (degraded["landlock"], degraded["seccomp"]) == (plain["landlock"], plain["seccomp"])
    else:
        assert unlike(degraded, plain) == environment.less


def test_a_filter_that_kills_does_not_kill_the_host() -> None:
    """Landlock is asked for by a process of its own: one that survived here could not be told from the host."""
    script = (
        "from simulate import *; answer('clone', 1, (0, CLONE_NEWUSER)); kill_for('landlock_create_ruleset'); "
        "from pysandpool import NamespaceDegradation, Sandbox, SandboxConfig, SandboxCreateError\n"
        "try: Sandbox(SandboxConfig(namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION))\n"
        "except SandboxCreateError as error: print(error.stage)"
    )
    done = run_script(script)
    assert (done.returncode, done.stdout) == (0, "landlock\n"), done.stderr


def test_the_doctor_reports_what_a_degraded_sandbox_has() -> None:
    script = (
        "import simulate; simulate.mask_proc(); simulate.in_container('docker'); "
        "import sys; from pysandpool.cli.main import main; sys.exit(main(%r))"
    )
    done = run_script(script % ["doctor", "--json"])
    found = json.loads(done.stdout)
    assert (done.returncode, found["works"], found["stage"]) == (1, False, "mount_proc")
    assert (found["isolation"]["mounts"], found["isolation"]["namespaces"]) == ("partial", "full")
    assert "/proc/irq" in found["masked_proc"]
    assert any("systempaths=unconfined" in one["fix"] for one in found["missing"])
    run = "docker run --security-opt systempaths=unconfined IMAGE"
    assert run in [fix["command"] for fix in found["fixes"]]
    text = run_script(script % ["doctor"])
    assert text.returncode == 1
    assert "ALLOW_DEGRADATION it works" in text.stdout
    assert "fix: " in text.stdout
    fixes = run_script(script % ["doctor", "--fix"]).stdout.splitlines()
    assert fixes.count(run) == 1
    assert fixes[fixes.index(run) - 1].startswith("# ")


def test_the_doctor_reports_a_hostname_that_is_the_hosts() -> None:
    script = (
        "from simulate import *; in_container('docker'); answer('sethostname', 1); import sys; "
        "from pysandpool.cli.main import main; sys.exit(main(%r))"
    )
    done = run_script(script % ["doctor", "--json"])
    found = json.loads(done.stdout)
    assert (found["works"], found["isolation"]["namespaces"]) == (True, "partial")
    missing = {one["what"]: one["fix"] for one in found["missing"]}
    (name,) = (what for what in missing if "hostname" in what)
    assert "--seccomp-profile" in missing[name]
