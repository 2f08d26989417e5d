"""How each container engine is told to allow what sandboxes need: options, and the same as lines of files.

Sources: the references of `docker run`, `podman run`, nerdctl, compose, and Kubernetes' SecurityContext;
lxc.container.conf(5), systemd-nspawn(1) and firejail(1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pysandpool._backend.container import DOCKER, ECS, FIREJAIL, LXC, NSPAWN, OTHER, POD, PODMAN

# What a container forbids by.
SECCOMP, PROC, APPARMOR, SELINUX, ROOT = "seccomp", "proc", "apparmor", "selinux", "root"
PROFILE = "pysandpool.json"
_NESTING = "lxc.include = /usr/share/lxc/config/nesting.conf"
_WRITE = "pysandpool doctor --seccomp-profile > "
_WORDS = {
    SECCOMP: "namespaces",
    PROC: "a new /proc",
    APPARMOR: "mounts, by AppArmor",
    SELINUX: "mounts, by SELinux",
    ROOT: "root's change to another user",
}


@dataclass(frozen=True)
class Fix:
    """One thing to do."""

    where: str
    """What it does, and where it is to be done: a line for a person."""
    command: str
    """A command, or lines of a file."""


class Advice(NamedTuple):
    """All that is to be done, as one line for an error and as steps."""

    line: str = ""
    fixes: tuple[Fix, ...] = ()


def container_advice(kind: str, found: Sequence[str]) -> Advice:
    """What a container of this kind needs, if it forbids by what was `found`."""
    of_kind = {
        DOCKER: _docker,
        PODMAN: _podman,
        POD: _pod,
        ECS: _ecs,
        OTHER: _other,
        LXC: _lxc,
        NSPAWN: _nspawn,
        FIREJAIL: _firejail,
    }
    return of_kind[kind](found)


def nspawn_filter(calls: str) -> Fix:
    """The option that lets a container of systemd-nspawn make these calls, too."""
    return Fix("start the container with this option", f'systemd-nspawn --system-call-filter="{calls}"')


def _docker(found: Sequence[str]) -> Advice:
    values = _values(found, "systempaths=unconfined")
    lines = [f"security_opt: [{', '.join(values)}]"] * bool(values) + ['user: "1000"'] * (ROOT in found)
    fix = Fix("or, for the service in compose.yaml", "\n".join(lines))
    return _run("docker", found, values, f" (compose: {', '.join(lines)})", fix)


def _podman(found: Sequence[str]) -> Advice:
    return _run("podman", found, _values(found, "unmask=ALL"))


def _other(found: Sequence[str]) -> Advice:
    return _run("nerdctl", found, _values(found, "systempaths=unconfined"), " (other runtimes have other names for it)")


def _values(found: Sequence[str], unmask: str) -> list[str]:
    """The values of `--security-opt`."""
    values = {
        SECCOMP: f"seccomp={PROFILE}",
        PROC: unmask,
        APPARMOR: "apparmor=unconfined",
        SELINUX: "label=disable",
    }
    return [values[name] for name in found if name in values]


def _run(program: str, found: Sequence[str], values: list[str], more: str = "", *fixes: Fix) -> Advice:
    options = [f"--security-opt {value}" for value in values] + ["--user 1000"] * (ROOT in found)
    run = f"{program} run {' '.join(options)}"
    line = f"the container forbids {_forbidden(found)}: {run}{more}"
    steps = [Fix("start the container with these options", f"{run} IMAGE"), *fixes]
    if SECCOMP in found:
        line += f"; `{_WRITE}{PROFILE}` writes that profile (seccomp=unconfined does, too)"
        steps.insert(0, Fix("write the seccomp profile where the container is started", _WRITE + PROFILE))
    return Advice(line, tuple(steps))


def _pod(found: Sequence[str]) -> Advice:
    """Fields of a container's securityContext; /proc can be unmasked only in a user namespace of the pod."""
    values = {
        SECCOMP: f"seccompProfile: {{type: Localhost, localhostProfile: {PROFILE}}}",
        PROC: "procMount: Unmasked",
        APPARMOR: "appArmorProfile: {type: Unconfined}",
        SELINUX: "seLinuxOptions: {type: spc_t}",
        ROOT: "runAsUser: 1000",
    }
    context = f"securityContext: {{{', '.join(values[name] for name in found)}}}"
    line = f"the pod forbids {_forbidden(found)}: {context} of the container"
    steps = [Fix("in the pod's specification, for the container", context)]
    if PROC in found:
        line += ", and hostUsers: false of the pod (Kubernetes 1.33 and later)"
        steps.append(Fix("in the pod's specification (Kubernetes 1.33 and later)", "hostUsers: false"))
    if SECCOMP in found:
        write = f"{_WRITE}/var/lib/kubelet/seccomp/{PROFILE}"
        line += f"; `{write}` writes that profile on a node (type: Unconfined does, too)"
        steps.insert(0, Fix("on each node, write the seccomp profile", write))
    return Advice(line, tuple(steps))


def _ecs(found: Sequence[str]) -> Advice:
    return Advice(
        f"the task forbids {_forbidden(found)}, and ECS has no setting for that but privileged: true, on EC2 only",
        (Fix("in the container's definition, on EC2 only", '"privileged": true'),),
    )


def _lxc(found: Sequence[str]) -> Advice:
    return Advice(
        f"the container forbids {_forbidden(found)}: on the host, incus config set NAME security.nesting=true (lxc "
        "config set of LXD; pct set ID --features nesting=1 of Proxmox; a configuration of LXC itself ends with "
        f"{_NESTING})",
        (
            Fix("on the host, for Incus (LXD: lxc config set)", "incus config set NAME security.nesting=true"),
            Fix("or, without LXD or Incus, at the end of the container's configuration", _NESTING),
        ),
    )


def _nspawn(found: Sequence[str]) -> Advice:
    """Its filter allows mounts to root by default; who has taken them away knows how."""
    fix = nspawn_filter("@mount sethostname landlock_create_ruleset landlock_add_rule landlock_restrict_self")
    if SECCOMP in found:
        return Advice(f"the container forbids {_forbidden(found)}: {fix.command}", (fix,))
    return Advice(f"the container forbids {_forbidden(found)}: start this process outside of it")


def _firejail(found: Sequence[str]) -> Advice:
    """No option of it uncovers /proc."""
    return Advice(f"firejail forbids {_forbidden(found)}: start this process outside of firejail")


def _forbidden(found: Sequence[str]) -> str:
    return " and ".join(_WORDS[name] for name in found)
