#!/usr/bin/env python3
"""Writes the table of docs/deployment.md: what a sandbox is in containers, units and the like, measured here as root.

    tools/deployment.py             run `pysandpool doctor` in each place, three times, and write the table
    tools/deployment.py --print     print the table, change nothing
    tools/deployment.py --only bwrap --times 1    only the places whose name contains a word

Each place is left as it is, and then changed as the hint says; all runs of a place must give the same. What cannot be
run on this machine is named in the table with its reason. The places are made by tests/support.
"""

from __future__ import annotations

import argparse
import datetime as dt
import errno
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import oci  # noqa: E402
import podman  # noqa: E402
import systemd  # noqa: E402
from oci import ALL_CAPABILITIES, Container  # noqa: E402
from scripts import run_script  # noqa: E402

from pysandpool._backend.seccomp_profile import for_sandboxes  # noqa: E402

PAGE = ROOT / "docs" / "deployment.md"
BEGIN, END = "<!-- table -->", "<!-- end-table -->"
DOCTOR = [sys.executable, "-m", "pysandpool", "doctor", "--json"]
# What is missing where a part of the report is "partial" with namespaces.
_LESS = {"mounts": "no `/proc`", "namespaces": "the hostname is the container's"}
# Of a report, what is "full" wherever namespaces are allowed. Memory and cpu are a matter of cgroups.
WHOLE = ("namespaces", "mounts", "landlock", "seccomp", "network")


@dataclass(frozen=True)
class Place:
    """Where sandboxes are tried."""

    name: str
    report: Callable[[Sequence[str]], dict[str, Any]]
    """The doctor's report, after these commands or settings of a hint have been followed."""
    missing: Callable[[], str]
    """Why it cannot be run here; "" if it can."""
    instead: Callable[[], dict[str, Any]] | None = None
    """The same program as the hint says, where that is no command; `how` says it in a few words."""
    how: str = ""


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
    yield _unit(
        "systemd, `RestrictNamespaces=`, `SystemCallFilter=`, `ProtectHostname=`",
        ["RestrictNamespaces=yes", "SystemCallFilter=@system-service", "ProtectHostname=yes"],
    )
    yield _unit("systemd, a service with all other hardening", HARDENED)
    yield from _others()


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


def _unit(name: str, settings: list[str]) -> Place:
    def report(commands: Sequence[str]) -> dict[str, Any]:
        return systemd.run_doctor([*settings, *(line for one in commands for line in one.splitlines()[1:])])

    return Place(name, report, systemd.missing)


def _others() -> Iterator[Place]:
    bwrap = ["bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-user", "--uid", "1000", "--gid", "1000"]
    need = _needs("bwrap")
    yield Place("bwrap", lambda _: _run([*bwrap, *DOCTOR]), need)
    yield Place(
        "bwrap `--disable-userns`",
        lambda _: _run([*bwrap, "--disable-userns", *DOCTOR]),
        need,
        instead=lambda: _run([*bwrap, *DOCTOR]),
        how="outside of it, or without the option",
    )
    yield Place(
        "a user namespace of one id (`unshare --map-root-user`)",
        lambda _: _run([*_UNSHARE, *DOCTOR]),
        _root,
        instead=lambda: _run(DOCTOR),
        how="outside of it",
    )
    yield Place(
        "a chroot",
        lambda _: _run(_rooted("chroot .")),
        _root,
        instead=lambda: _run(_rooted(_PIVOT)),
        how="started with pivot_root",
    )
    yield Place(
        "`/proc` mounted read-only",
        lambda _: _run(_in_mounts("mount -o remount,ro /proc")),
        _root,
        instead=lambda: _run(_in_mounts("mount -o remount,ro /proc; mount -o remount,rw /proc")),
        how="`mount -o remount,rw /proc`",
    )
    yield Place("`user.max_user_namespaces = 0`", _without_user_namespaces, _root)
    yield Place(
        "RHEL 8 (Linux 4.18), imitated by a filter", lambda _: _script(_RHEL_8), lambda: "", how="a newer kernel"
    )


_UNSHARE = ["unshare", "--user", "--map-root-user"]
_PIVOT = 'sh -ec "mount --rbind . .; cd /mnt/root; pivot_root . .; umount -l /; exec \\"\\$@\\"" sh'
_RHEL_8 = "from pysandpool._backend import hints; hints.kernel_version = lambda: (4, 18); answer('pidfd_open', 38)"


def _root() -> str:
    return "" if os.geteuid() == 0 else "only root can make it"


def _needs(program: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(program) else f"{program} is not installed"


def _run(words: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    return oci.read_report(done)


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


def _script(code: str) -> dict[str, Any]:
    """In a process that `code` has changed, see tests/support/simulate.py."""
    end = "import sys; from pysandpool.cli.main import main; sys.exit(main(['doctor', '--json']))"
    return oci.read_report(run_script(f"from simulate import *; {code}; {end}"))


def _without_user_namespaces(commands: Sequence[str]) -> dict[str, Any]:
    limit = re.search(r"user\.max_user_namespaces=(\d+)", " ".join(commands))
    return _script(f"own_users(max_user_namespaces={limit[1] if limit else 0})")


def row(place: Place, times: int) -> tuple[str, str, str, str]:
    """The cells of a place; raises AssertionError if its runs differ."""
    why = place.missing()
    if why:
        return place.name, f"not run: {why}", "", ""
    found = _same([_cells(place) for _ in range(times)])
    return (place.name, *found)


def _same(cells: list[tuple[str, str, str]]) -> tuple[str, str, str]:
    assert len(set(cells)) == 1, f"the runs differ: {cells}"
    return cells[0]


def _cells(place: Place) -> tuple[str, str, str]:
    before = place.report([])
    if before["works"]:
        return _tier(before["isolation"]), _tier(before["isolation"]), ""
    stage = f"refused: `{before['stage']}`, {errno.errorcode.get(before['errno'], before['errno'])}"
    degraded = _tier(before["isolation"]) if before["isolation"] else "refused"
    commands = [fix["command"] for fix in before["fixes"]]
    if place.instead is not None:
        return stage, degraded, f"{_after(place.instead())}: {place.how}"
    if not commands:
        return stage, degraded, place.how or before["hint"]
    return stage, degraded, f"{_after(place.report(commands))}: {_short(commands)}"


def _after(report: dict[str, Any]) -> str:
    return _tier(report["isolation"]) if report["works"] else f"refused: `{report['stage']}`"


def _tier(isolation: dict[str, Any]) -> str:
    if isolation.get("tier", "full") != "full":
        return str(isolation["tier"])
    less = [_LESS.get(name, f"{name} {isolation[name]}") for name in WHOLE if isolation[name] != "full"]
    return f"full, but {' and '.join(less)}" if less else "full"


def _short(commands: Sequence[str]) -> str:
    """The commands and settings, without that which writes the profile, and one of those that say the same."""
    kept = [
        one
        for one in commands
        if "doctor --seccomp-profile" not in one and not one.startswith(("security_opt:", "user:"))
    ]
    lines = [line for one in kept for line in one.replace(" IMAGE", "").splitlines() if line != "[Service]"]
    return ", ".join(f"`{line}`" for line in lines)


def versions() -> str:
    """What was measured with."""

    def version(*words: str) -> str:
        found = re.search(r"\d+(\.\d+)*", subprocess.run(words, capture_output=True, text=True, check=False).stdout)
        return found[0] if found else "?"

    programs = {
        "runc": ("runc", "--version"),
        "Podman": ("podman", "--version"),
        "systemd": (systemd.PROGRAM, "--version"),
        "bwrap": ("bwrap", "--version"),
    }
    there = [f"{name} {version(*words)}" for name, words in programs.items() if shutil.which(words[0])]
    return ", ".join([f"Linux {'.'.join(platform.release().split('.')[:2])}", *there])


def table(chosen: Sequence[Place], times: int) -> str:
    lines = [
        f"Measured on {dt.date.today().isoformat()} with {versions()}; each place {times} times, all alike.",
        "",
        "| where | by default | with `ALLOW_DEGRADATION` | with the hint followed |",
        "|---|---|---|---|",
    ]
    for place in chosen:
        cells = row(place, times)
        print(" | ".join(cells), file=sys.stderr)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", dest="only_print")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--times", type=int, default=3, metavar="N")
    args = parser.parse_args()
    chosen = [place for place in places() if args.only.lower() in place.name.lower()]
    made = table(chosen, args.times)
    if args.only_print or args.only:
        print(made)
        return 0
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
