"""Hints where namespaces are forbidden: all that is needed at once, in the words of the surroundings, and no more."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pysandpool._backend import container as _container
from pysandpool._backend import forbidden as _forbidden
from pysandpool._backend import hints as _hints
from pysandpool._backend import machine as _machine
from pysandpool._backend.container import container_kind
from pysandpool._backend.hints import advice_for, hint_for
from pysandpool._ffi import PROGRAMS

RESTRICTED = "kernel.apparmor_restrict_unprivileged_userns"
Surroundings = Callable[..., None]


ALLOWS_ALL = {
    "is_filtered": False,
    "masked_proc": (),
    "apparmor_profile": "",
    "is_selinux_container": False,
    "is_changed_root": False,
    "service_unit": "",
    "is_gvisor": False,
    "is_nested": False,
    "kernel_version": (6, 12),
}


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    """Sets what the hints see; what is not named allows everything."""

    def set_all(kind: str = "", sysctls: dict[str, str] | None = None, **seen: Any) -> None:
        values = {**ALLOWS_ALL, **seen, "container_kind": kind}
        for module in (_hints, _forbidden):
            monkeypatch.setattr(module, "read_sysctl", (sysctls or {}).get)
            for name in [name for name in values if hasattr(module, name)]:
                monkeypatch.setattr(module, name, partial(values.__getitem__, name))

    set_all()
    return set_all


FORBIDS_ALL = {"is_filtered": True, "masked_proc": ("/proc/keys",), "apparmor_profile": "docker-default"}


def test_docker_gets_all_three_options_at_once(around: Surroundings) -> None:
    around("docker", **FORBIDS_ALL)
    advice = advice_for("user_namespace", errno.EPERM)
    options = ["seccomp=pysandpool.json", "systempaths=unconfined", "apparmor=unconfined"]
    assert f"docker run {' '.join(f'--security-opt {one}' for one in options)} (" in advice.line
    assert "\n" not in advice.line
    write, run, compose = (fix.command for fix in advice.fixes)
    assert write == "pysandpool doctor --seccomp-profile > pysandpool.json"
    assert [word for word in run.split() if "=" in word] == options
    assert yaml.safe_load(compose) == {"security_opt": options}


def test_nothing_is_recommended_that_holds_already(around: Surroundings) -> None:
    around("docker", is_filtered=True)
    assert "systempaths" not in hint_for("user_namespace", errno.EPERM)
    assert "apparmor" not in hint_for("user_namespace", errno.EPERM)
    around("docker", **FORBIDS_ALL)
    assert "seccomp" not in hint_for("mount_proc", errno.EPERM), "the filter has let the calls pass"
    around("docker", sysctls={"user.max_user_namespaces": "0"})
    assert "docker run" not in hint_for("user_namespace", errno.EPERM)


def test_a_root_that_cannot_change_its_user_is_told_all_at_once(around: Surroundings) -> None:
    around("docker", is_filtered=True)
    _write, run, compose = (fix.command for fix in advice_for("drop_root", errno.EPERM).fixes)
    assert run == "docker run --security-opt seccomp=pysandpool.json --user 1000 IMAGE"
    assert yaml.safe_load(compose) == {"security_opt": ["seccomp=pysandpool.json"], "user": "1000"}
    around("kubernetes")
    assert "securityContext: {runAsUser: 1000}" in hint_for("drop_root", errno.EPERM)
    around("")
    assert "ordinary user" in hint_for("drop_root", errno.EINVAL)


def test_podman_and_containerd_have_options_of_their_own(around: Surroundings) -> None:
    around("podman", **FORBIDS_ALL)
    assert "--security-opt unmask=ALL" in hint_for("user_namespace", errno.EPERM)
    around("other", **FORBIDS_ALL)
    assert "nerdctl run --security-opt seccomp=pysandpool.json" in hint_for("user_namespace", errno.EPERM)
    around("podman", is_selinux_container=True)
    assert "label=disable" in hint_for("namespaces", errno.EACCES)


def test_a_pod_gets_its_security_context(around: Surroundings) -> None:
    around("kubernetes", **FORBIDS_ALL)
    write, context, users = (fix.command for fix in advice_for("user_namespace", errno.EPERM).fixes)
    assert write.endswith(" > /var/lib/kubelet/seccomp/pysandpool.json")
    assert yaml.safe_load(context) == {
        "securityContext": {
            "seccompProfile": {"type": "Localhost", "localhostProfile": "pysandpool.json"},
            "procMount": "Unmasked",
            "appArmorProfile": {"type": "Unconfined"},
        }
    }
    assert yaml.safe_load(users) == {"hostUsers": False}


def test_sysctls_belong_to_the_host(around: Surroundings) -> None:
    sysctls = {"kernel.unprivileged_userns_clone": "0", RESTRICTED: "1"}
    around("docker", sysctls, is_filtered=True)
    hint = hint_for("user_namespace", errno.EPERM)
    assert hint.startswith("on the host, allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 && ")
    assert "seccomp=pysandpool.json" in hint
    around("", sysctls)
    assert "on the host" not in hint_for("user_namespace", errno.EPERM)
    around("docker")
    assert "on the host, raise the number" in hint_for("user_namespace", errno.ENOSPC)


def test_apparmor_of_ubuntu_can_allow_pysandpool_alone(around: Surroundings) -> None:
    around("", {RESTRICTED: "1"})
    first, second, third = (fix.command for fix in advice_for("namespaces", errno.EACCES).fixes)
    assert first.startswith("pysandpool doctor --apparmor-profile | sudo tee /etc/apparmor.d/")
    assert second.startswith("sudo apparmor_parser -r /etc/apparmor.d/")
    assert third == f"sysctl -w {RESTRICTED}=0"
    text = _forbidden.apparmor_text()
    assert f'"{(PROGRAMS / "sandpool-zygote").resolve()}"' in text
    assert "  userns,\n" in text


def test_the_profile_of_apparmor_names_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel knows no links, and takes some characters of a name for a pattern."""
    real = tmp_path / "a [b] {c} ?*^@"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    monkeypatch.setattr(_forbidden, "PROGRAMS", tmp_path / "link")
    escaped = r"a \[b\] \{c\} \?\*\^\@"
    assert f'profile pysandpool "{tmp_path}/{escaped}/sandpool-zygote" flags' in _forbidden.apparmor_text()


def test_a_unit_of_systemd_gets_its_settings(around: Surroundings) -> None:
    around("", is_filtered=True, masked_proc=("/proc/sys",), service_unit="worker.service")
    advice = advice_for("user_namespace", errno.EPERM)
    assert "systemctl edit worker.service" in advice.line
    [fix] = advice.fixes
    head, *settings = fix.command.splitlines()
    assert head == "[Service]"
    assert [one.partition("=")[0] for one in settings] == ["RestrictNamespaces", "SystemCallFilter", "ProtectHostname"]
    assert "worker.service" in hint_for("spawn_zygote", errno.ECONNRESET), "a filter that kills"
    around("", is_filtered=True)
    assert "RestrictNamespaces=no" in hint_for("user_namespace", errno.EPERM)
    around("")
    assert hint_for("spawn_zygote", errno.ECONNRESET) == ""
    assert "AF_UNIX" in hint_for("host_socket", errno.EAFNOSUPPORT)
    assert "ProtectKernelTunables=no" in hint_for("mount_proc", errno.EPERM)


def test_where_no_setting_helps(around: Surroundings) -> None:
    around("ecs", **FORBIDS_ALL)
    assert "privileged: true" in hint_for("user_namespace", errno.EPERM)
    around("lxc", **FORBIDS_ALL)
    assert "security.nesting=true" in hint_for("user_namespace", errno.EPERM)
    assert "lxc.include = /usr/share/lxc/config/nesting.conf" in hint_for("mount_proc", errno.EPERM)
    around("firejail", **FORBIDS_ALL)
    assert "outside of firejail" in hint_for("user_namespace", errno.EPERM)
    around("", is_changed_root=True)
    assert "chroot" in hint_for("user_namespace", errno.EPERM)
    around("")
    assert "is this a chroot" in hint_for("user_namespace", errno.EPERM)


def test_the_filter_of_systemd_nspawn(around: Surroundings) -> None:
    around("systemd-nspawn", is_filtered=True, masked_proc=("/proc/sys",))
    [fix] = advice_for("landlock", errno.EPERM).fixes
    assert fix.command.startswith('systemd-nspawn --system-call-filter="landlock_create_ruleset ')
    assert fix.command in hint_for("landlock", errno.EPERM)
    assert "ALLOW_DEGRADATION" in hint_for("landlock", errno.EPERM)
    assert "ALLOW_DEGRADATION" not in advice_for("landlock", errno.EPERM, may_degrade=True).line
    [fix] = advice_for("namespaces", errno.EPERM).fixes
    assert "@mount" in fix.command
    assert "start this process outside of it" in hint_for("mount_proc", errno.EPERM)
    around("docker")
    assert "a seccomp profile refuses Landlock" in hint_for("landlock", errno.EPERM)


def test_kernels_that_lack_something(around: Surroundings) -> None:
    around("docker", is_filtered=True, kernel_version=(4, 18))
    assert "too old" in hint_for("spawn_zygote", errno.ENOSYS)
    around("docker", is_gvisor=True)
    assert "--runtime=runc" in hint_for("root_template", errno.ENOSYS)
    around("docker", is_filtered=True)
    assert "seccomp=pysandpool.json" in hint_for("user_namespace", errno.ENOSYS)
    around("")
    assert "CONFIG_USER_NS" in hint_for("user_namespace", errno.ENOSYS)
    assert "lacks a system call" in hint_for("bind", errno.ENOSYS)


def test_an_outer_user_namespace_may_have_the_limit(around: Surroundings) -> None:
    around("", {"user.max_user_namespaces": "10000"}, is_nested=True)
    assert "bwrap --disable-userns" in hint_for("user_namespace", errno.ENOSPC)
    around("", {"user.max_user_namespaces": "0"}, is_nested=True)
    assert "sysctl -w user.max_user_namespaces=15000" in hint_for("user_namespace", errno.ENOSPC)


def test_code_that_needs_a_proc_is_told_how_to_get_one(around: Surroundings) -> None:
    around("docker", **FORBIDS_ALL)
    with_proc = advice_for("mount_proc", errno.EPERM, may_degrade=True)
    assert "systempaths=unconfined" in with_proc.line
    assert advice_for("preload", errno.ENOTSUP) == with_proc


def test_the_lower_tier_is_named_where_it_can_be_had(around: Surroundings) -> None:
    around("docker", is_filtered=True)
    for stage, err in [("user_namespace", errno.EPERM), ("clone", errno.ENOSPC), ("drop_root", errno.EINVAL)]:
        assert "ALLOW_DEGRADATION" in hint_for(stage, err)
        assert "ALLOW_DEGRADATION" not in advice_for(stage, err, may_degrade=True).line
    assert "without any /proc inside" in hint_for("mount_proc", errno.EPERM)
    assert "ALLOW_DEGRADATION" not in hint_for("bind", errno.EACCES)
    around("docker", is_filtered=True, kernel_version=(5, 10))
    assert "ALLOW_DEGRADATION" not in hint_for("user_namespace", errno.EPERM), "it has no Landlock"


def test_what_the_lower_tier_cannot_give_needs_namespaces(around: Surroundings) -> None:
    around("docker", is_filtered=True)
    for stage, err, part in [("tier", errno.EOPNOTSUPP, "leave it out"), ("landlock", errno.ENOSYS, "lsm=landlock")]:
        advice = advice_for(stage, err)
        assert part in advice.line
        assert "or allow namespaces: the container forbids namespaces: docker run" in advice.line
        assert advice.fixes


def test_a_read_only_proc(around: Surroundings) -> None:
    assert "read-only" in hint_for("id_map", errno.EROFS)


# --- which container, by what a process in it sees -----------------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No mark of any runtime, and a root of its own."""
    for name in ("KUBERNETES_SERVICE_HOST", "ECS_CONTAINER_METADATA_URI", "ECS_CONTAINER_METADATA_URI_V4", "container"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_container, "_MARKS", ())
    monkeypatch.setattr(_container, "_told_by_systemd", lambda: None)
    monkeypatch.setattr(_container, "_first_process", lambda: "gunicorn")
    monkeypatch.setattr(_container, "mount_points", lambda: (("/", "ext4"),))
    monkeypatch.setattr(_container, "masked_proc", tuple)
    monkeypatch.setattr(_container, "is_filtered", lambda: False)
    monkeypatch.setattr(_container, "service_unit", lambda: "")
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1", "kubernetes"),
        ("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4", "ecs"),
        ("container", "podman", "podman"),
        ("container", "lxc", "lxc"),
        ("container", "systemd-nspawn", "systemd-nspawn"),
        ("container", "firejail", "firejail"),
        ("container", "something", ""),
    ],
)
def test_variables_of_runtimes(nowhere: pytest.MonkeyPatch, name: str, value: str, kind: str) -> None:
    assert container_kind() == ""
    nowhere.setenv(name, value)
    assert container_kind() == kind


def test_marks_of_runtimes(nowhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nowhere.setattr(_container, "_MARKS", ((str(tmp_path / "mark"), "docker"),))
    assert container_kind() == ""
    (tmp_path / "mark").touch()
    assert container_kind() == "docker"
    for kind in ("lxc", "systemd-nspawn", "firejail"):  # over files that have come from a container of Docker
        nowhere.setenv("container", kind)
        assert container_kind() == kind


def test_a_container_without_marks(nowhere: pytest.MonkeyPatch) -> None:
    nowhere.setattr(_container, "is_filtered", lambda: True)
    assert container_kind() == "", "a filter alone may be that of a service"
    nowhere.setattr(_container, "mount_points", lambda: (("/", "overlay"), ("/proc", "proc")))
    assert container_kind() == "other"
    nowhere.setattr(_container, "service_unit", lambda: "worker.service")
    assert container_kind() == "", "a unit may not see pid 1"
    nowhere.setattr(_container, "service_unit", lambda: "")
    nowhere.setattr(_container, "_first_process", lambda: "systemd")
    assert container_kind() == "", "a live system has a root of layers, too"


def test_what_a_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, str] = {}
    monkeypatch.setattr(_machine, "_read", lambda path: files.get(str(path), ""))
    files["/proc/self/attr/current"] = "docker-default (enforce)"
    assert _machine.apparmor_profile() == "docker-default"
    files["/proc/self/attr/current"] = "pysandpool (unconfined)"
    assert _machine.apparmor_profile() == ""
    files["/proc/self/attr/current"] = "system_u:system_r:container_t:s0:c1,c2"
    assert _machine.is_selinux_container()
    files["/proc/version"] = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"
    assert _machine.is_gvisor()
    files["/proc/self/uid_map"] = "0 0 4294967295"
    assert not _machine.is_nested()
    files["/proc/self/uid_map"] = "0 100000 65536"
    assert _machine.is_nested()
    files["/proc/self/cgroup"] = "0::/system.slice/worker.service/inner"
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert _machine.service_unit() == ""
    monkeypatch.setenv("INVOCATION_ID", "1")
    assert _machine.service_unit() == "worker.service"
    files["/proc/self/mountinfo"] = "23 22 0:5 / /home rw - ext4 d rw"
    assert _machine.is_changed_root()
    files["/proc/self/mountinfo"] = "23 22 0:5 / / rw - ext4 d rw"
    assert not _machine.is_changed_root()
    monkeypatch.setattr(_machine.os, "uname", lambda: SimpleNamespace(release="4.18.0-553.el8.x86_64"))
    assert _machine.kernel_version() == (4, 18)


def test_a_slow_search_of_a_workspace_is_not_a_slow_machine() -> None:
    assert 'use "ro" or "cow"' in hint_for("workspace", errno.ETIMEDOUT)
    assert 'use "ro" or "cow"' not in hint_for("clone", errno.ETIMEDOUT)
