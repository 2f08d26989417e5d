"""The places of the table in docs/deployment.md: how `pysandpool doctor` is run in each, see tools/deployment.py."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests" / "support")]

import engines  # noqa: E402
import oci  # noqa: E402
import podman  # noqa: E402
import systemd  # noqa: E402
from machines import of_machines  # noqa: E402
from oci import ALL_CAPABILITIES, Container  # noqa: E402
from place import DOCTOR, Place, only_root, report_of, report_of_script  # noqa: E402

from pysandpool._backend.seccomp_profile import for_sandboxes  # noqa: E402


def places() -> Iterator[Place]:
    """All rows, in the order of the table."""
    user = Container(user=1000, no_new_privileges=True)
    bare = replace(user, cap_drop=ALL_CAPABILITIES, read_only=True)
    pod = replace(bare, files=(), env={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    profile = for_sandboxes()
    containers = {
        "Docker, root": Container(),
        "Docker, user 1000": Container(user=1000),
        "Docker, user 1000, `no-new-privileges`, `--cap-drop ALL`, `--read-only`": bare,
        "Docker, `userns-remap`": Container(user_namespace=True),
        "Docker, `seccomp=unconfined` alone": Container(seccomp="unconfined"),
        "Docker, `systempaths=unconfined` alone": Container(systempaths="unconfined"),
        "Docker, `--cap-add SYS_ADMIN`": Container(cap_add=frozenset({"CAP_SYS_ADMIN"})),
        "Docker, `--privileged`": Container(privileged=True),
        "Docker, root, `--cap-drop ALL`": Container(cap_drop=ALL_CAPABILITIES),
        "containerd, which leaves no mark in a container": replace(user, files=()),
        "Kubernetes, restricted pod": pod,
        "Kubernetes, restricted pod with the Localhost profile": replace(pod, seccomp=profile),
    }
    for name, container in containers.items():
        yield _container(name, container, profile)
    for rootless in (False, True):
        yield _podman(f"Podman, {'rootless' if rootless else 'rootful'}", rootless, profile)
    yield from _engines(profile)
    yield _unit(
        "systemd, `RestrictNamespaces=`, `SystemCallFilter=`, `ProtectHostname=`",
        ["RestrictNamespaces=yes", "SystemCallFilter=@system-service", "ProtectHostname=yes"],
    )
    yield _unit("systemd, a service with all other hardening", HARDENED)
    yield from _others()
    yield from of_machines()


HARDENED = [
    *("NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=read-only"),
    *("PrivateTmp=yes", "PrivateNetwork=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes", "RestrictRealtime=yes"),
    *("MemoryDenyWriteExecute=yes", "ProtectKernelTunables=yes", "ProtectKernelLogs=yes", "ProtectKernelModules=yes"),
    *("ProtectControlGroups=yes", "ProtectProc=invisible", "ProcSubset=pid", "ProtectClock=yes"),
    *("RestrictAddressFamilies=AF_UNIX", "SystemCallArchitectures=native"),
]


def _container(name: str, container: Container, profile: dict[str, Any]) -> Place:
    return Place(name, lambda commands: oci.run_doctor(container.followed(commands, profile)), oci.missing)


def _podman(name: str, rootless: bool, profile: dict[str, Any]) -> Place:
    def report(commands: Sequence[str]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "pysandpool.json")
            file.write_text(json.dumps(profile), encoding="utf-8")
            Path(folder).chmod(0o755)
            return podman.run_doctor(podman.options_of(commands, file), rootless=rootless)

    return Place(name, report, podman.missing)


def _engines(profile: dict[str, Any]) -> Iterator[Place]:
    yield _engine("Docker's own daemon, root", engines.DOCKER, profile)
    yield _engine("Docker's own daemon, user 1000", engines.DOCKER, profile, "--user 1000")
    yield _engine("LXC, privileged", engines.LXC, profile)
    yield _engine("LXC, unprivileged", engines.LXC, profile, engines.UNPRIVILEGED)
    yield _engine("systemd-nspawn", engines.NSPAWN, profile)
    for name, options in {"firejail": "", "firejail `--noprofile`": "--noprofile"}.items():
        inside = partial(_in_firejail, options)
        outside = partial(report_of, DOCTOR)
        yield Place(name, inside, engines.FIREJAIL.missing, instead=outside, how="outside of it")


def _in_firejail(options: str, _: Sequence[str]) -> dict[str, Any]:
    return engines.FIREJAIL.run_doctor(options)


def _engine(name: str, engine: engines.Engine, profile: dict[str, Any], options: str = "") -> Place:
    def report(commands: Sequence[str]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "pysandpool.json")
            file.write_text(json.dumps(profile), encoding="utf-8")
            return engine.run_doctor(engine.between.join([options, engines.options_of(engine, commands, file)]))

    return Place(name, report, engine.missing)


def _unit(name: str, settings: list[str]) -> Place:
    def report(commands: Sequence[str]) -> dict[str, Any]:
        return systemd.run_doctor([*settings, *(line for one in commands for line in one.splitlines()[1:])])

    return Place(name, report, systemd.missing)


def _others() -> Iterator[Place]:
    bwrap = ["bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-user", "--uid", "1000", "--gid", "1000"]
    need = _needs("bwrap")
    yield Place("bwrap", lambda _: report_of([*bwrap, *DOCTOR]), need)
    yield Place(
        "bwrap `--disable-userns`",
        lambda _: report_of([*bwrap, "--disable-userns", *DOCTOR]),
        need,
        instead=lambda: report_of([*bwrap, *DOCTOR]),
        how="outside of it, or without the option",
    )
    yield Place(
        "a user namespace of one id (`unshare --map-root-user`)",
        lambda _: report_of([*_UNSHARE, *DOCTOR]),
        only_root,
        instead=lambda: report_of(DOCTOR),
        how="outside of it",
    )
    yield Place(
        "a chroot",
        lambda _: report_of(_rooted("chroot .")),
        only_root,
        instead=lambda: report_of(_rooted(_PIVOT)),
        how="started with pivot_root",
    )
    yield Place(
        "`/proc` mounted read-only",
        lambda _: report_of(_in_mounts("mount -o remount,ro /proc")),
        only_root,
        instead=lambda: report_of(_in_mounts("mount -o remount,ro /proc; mount -o remount,rw /proc")),
        how="`mount -o remount,rw /proc`",
    )
    yield Place("`user.max_user_namespaces = 0`", _without_user_namespaces, only_root)
    yield Place(
        "RHEL 8 (Linux 4.18), imitated by a filter",
        lambda _: report_of_script(_RHEL_8),
        lambda: "",
        how="a newer kernel",
    )


_UNSHARE = ["unshare", "--user", "--map-root-user"]
_PIVOT = 'sh -ec "mount --rbind . .; cd /mnt/root; pivot_root . .; umount -l /; exec \\"\\$@\\"" sh'
_RHEL_8 = "from pysandpool._backend import hints; hints.kernel_version = lambda: (4, 18); answer('pidfd_open', 38)"


def _needs(program: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(program) else f"{program} is not installed"


def _in_mounts(script: str) -> list[str]:
    return ["unshare", "--mount", "sh", "-ec", f'{script}; exec "$@"', "sh", *DOCTOR]


def _rooted(start: str) -> list[str]:
    """In another root directory, with the files of this machine."""
    make = """
        mount -t tmpfs -o mode=755 tmpfs /mnt
        mkdir /mnt/root
        for one in /*; do
            if [ -L $one ]; then cp -P $one /mnt/root; elif [ -d $one ] && [ $one != /mnt ]; then
                mkdir /mnt/root$one
                mount --rbind $one /mnt/root$one
            fi
        done
        cd /mnt/root
    """
    return ["unshare", "--mount", "sh", "-ec", f'{make}\nexec {start} "$@"', "sh", *DOCTOR]


def _without_user_namespaces(commands: Sequence[str]) -> dict[str, Any]:
    limit = re.search(r"user\.max_user_namespaces=(\d+)", " ".join(commands))
    return report_of_script(f"own_users(max_user_namespaces={limit[1] if limit else 0})")
