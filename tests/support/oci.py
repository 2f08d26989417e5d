"""Containers as Docker and Kubernetes make them, run by runc or crun: their capabilities, masked paths and filters.

The root file system is an overlay over the host's own, so that the container has the host's programs and this
repository. What is written in it is lost at its end. Only root can make such a container, see `missing`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pysandpool._backend.seccomp_profile import CAPABILITIES, docker_default

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
_IN_ORDER = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_CAPABILITIES = tuple(f"CAP_{name}" for name in re.findall(r"\w+", _IN_ORDER))
"""By number."""
ALL_CAPABILITIES = frozenset(_CAPABILITIES)
MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# Where the overlay is mounted: a mount namespace of its own, which ends with the container. A cgroup file system that
# is mounted outside of /sys/fs/cgroup is not in it: runc would look for a hierarchy with the name of that directory.
START = """
set -e
while read -r _ where kind _; do
    case "$kind $where" in *" /sys/fs/cgroup"*) ;; cgroup*) umount "$where" ;; esac
done < /proc/mounts
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" overlay "$1/root"
rm -f "$1/root/.dockerenv" "$1/root/run/.containerenv"
for made in $3; do mkdir -p "$(dirname "$1/root$made")"; : > "$1/root$made"; done
for passed in $4; do chmod o+x "$1/root$passed"; done
for owned in $6; do
    find "$1/root$owned" -path "*/.venv/*" -prune -o -path "*/.mypy_cache/*" -prune -o -exec chown -h "$5:$5" {} +
done
shift 6
exec "$@"
"""


@dataclass(frozen=True)
class Container:
    """One container; the defaults are those of `docker run`, and each field is named after the flag it stands for."""

    user: int = 0
    seccomp: str | dict[str, Any] = "docker"
    """"docker", "unconfined", or a profile in the form of the OCI specification."""
    systempaths: str = "masked"
    """"masked", or "unconfined" as with --security-opt systempaths=unconfined and procMount: Unmasked."""
    no_new_privileges: bool = False
    read_only: bool = False
    """A read-only root with a writable /tmp."""
    cap_add: frozenset[str] = frozenset()
    cap_drop: frozenset[str] = frozenset()
    """Names such as "CAP_SYS_ADMIN"; ALL_CAPABILITIES stands for ALL."""
    privileged: bool = False
    user_namespace: bool = False
    """Ids of its own, as with the daemon's userns-remap and with hostUsers: false."""
    writable_cgroups: bool = False
    env: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ("/.dockerenv",)
    """Empty files that the runtime leaves: Docker's mark by default; containerd leaves none."""
    owned: tuple[str, ...] = ()
    """Directories that belong to `user` with all that is in them, but for what is in a .venv or in a cache of mypy."""
    runtime: str = "runc"

    @property
    def capabilities(self) -> frozenset[str]:
        given = ALL_CAPABILITIES if self.privileged else (CAPABILITIES | self.cap_add) - self.cap_drop
        return given & _own_capabilities()

    def with_options(self, run: str, profile: dict[str, Any] | None = None) -> Container:
        """The same with the options of a `docker run` command; `profile` is what the file holds that it names."""
        words = shlex.split(run)
        given = list(zip(words, words[1:]))
        changed = self.with_security_opt([value for option, value in given if option == "--security-opt"], profile)
        users = [int(value) for option, value in given if option == "--user"]
        return replace(changed, user=users[-1]) if users else changed

    def with_security_opt(self, values: Sequence[str], profile: dict[str, Any] | None = None) -> Container:
        """The same with values of --security-opt, or of compose's security_opt. There is no AppArmor here."""
        changed = self
        for value in values:
            name, _, what = value.partition("=")
            if name == "seccomp":
                changed = replace(changed, seccomp=what if what == "unconfined" or profile is None else profile)
            elif value == "systempaths=unconfined":
                changed = replace(changed, systempaths="unconfined")
            else:
                assert name in {"apparmor", "label"}, value
        return changed

    def with_context(self, context: dict[str, Any], profile: dict[str, Any] | None = None) -> Container:
        """The same with the securityContext of a container of a pod."""
        changed = self
        if "seccompProfile" in context:
            local = context["seccompProfile"]["type"] == "Localhost"
            changed = replace(changed, seccomp=profile if local and profile is not None else "unconfined")
        changed = replace(changed, user=context.get("runAsUser", changed.user))
        if context.get("procMount") == "Unmasked":
            changed = replace(changed, systempaths="unconfined")
        return changed

    def followed(self, commands: Sequence[str], profile: dict[str, Any]) -> Container:
        """The same with all that a hint names: options of a runtime, or fields of a pod."""
        changed = self
        for command in commands:
            if command.startswith(("docker run ", "nerdctl run ")):
                changed = changed.with_options(command, profile)
            elif command.startswith("securityContext:"):
                changed = changed.with_context(yaml.safe_load(command)["securityContext"], profile)
            elif command == "hostUsers: false":
                changed = replace(changed, user_namespace=True)
            elif command.startswith(("security_opt:", "user:")):
                service = yaml.safe_load(command)
                of_compose = self.with_security_opt(service.get("security_opt", []), profile)
                of_compose = replace(of_compose, user=int(service.get("user", self.user)))
                assert of_compose == changed, "compose says what `docker run` says"
            else:
                assert command.startswith("pysandpool doctor --seccomp-profile > "), command
        return changed


def missing(runtime: str = "runc") -> str:
    """Why containers cannot be run here; "" if they can."""
    if os.geteuid() != 0:
        return "only root can make a container from the files of this machine"
    if shutil.which(runtime) is None:
        return f"{runtime} is not installed: apt-get install {runtime}"
    return _refusal(runtime)


@cache
def _own_capabilities() -> frozenset[str]:
    """What this process can give away: a container that it runs in may have taken something."""
    found = re.search(r"^CapBnd:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return frozenset(name for number, name in enumerate(_CAPABILITIES) if int(found[1], 16) >> number & 1)


@cache
def _refusal(runtime: str) -> str:
    done = run(["/bin/true"], Container(runtime=runtime))
    return "" if done.returncode == 0 else f"{runtime} starts no container here: {done.stderr.strip()[-300:]}"


def run(
    command: Sequence[str], container: Container | None = None, timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """Runs `command` in a new container, in the directory of this repository."""
    with words_for(command, container or Container()) as words:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)


@contextmanager
def words_for(command: Sequence[str], container: Container) -> Iterator[list[str]]:
    """The command line that runs `command` in a new container. Its files are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="sandpool-oci-") as bundle:
        mounts = Path(bundle, "mounts")
        mounts.mkdir()
        Path(bundle).chmod(0o755)  # a container with ids of its own enters it as another user
        Path(bundle, "config.json").write_text(json.dumps(_spec(container, command, mounts / "root")), encoding="utf-8")
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", START, "sh"]
        words += [str(mounts), bundle, " ".join(container.files), " ".join(way())]
        words += [str(container.user), " ".join(container.owned if container.user != 0 else ())]
        words += [container.runtime, "--root", f"{bundle}/state", "run", "--bundle", bundle, f"sandpool-{uuid.uuid4()}"]
        yield words


def run_doctor(container: Container | None = None) -> dict[str, Any]:
    """What `pysandpool doctor --json` finds in a new container."""
    return read_report(run([PYTHON, "-m", "pysandpool", "doctor", "--json"], container))


def read_report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The report that a `pysandpool doctor --json` has printed."""
    assert done.stdout.startswith("{"), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_python(code: str, *args: str, container: Container | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a new container, with what this process imports from: the package, and tests/support."""
    return run([PYTHON, "-c", code, *args], container)


def way() -> list[str]:
    """The directories that an ordinary user of the container passes through; those of the machine stay as they are."""
    ends = [Path(path) for path in {str(ROOT), sys.prefix, sys.base_prefix}]
    return sorted({str(one) for end in ends for one in (end, *end.parents)})


def _spec(container: Container, command: Sequence[str], root: Path) -> dict[str, Any]:
    """The bundle's config.json, with the values of Docker 28."""
    masked = container.systempaths == "masked" and not container.privileged
    namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup", *(["user"] if container.user_namespace else [])]
    return {
        "ociVersion": "1.0.2",
        "hostname": "container",
        "root": {"path": str(root), "readonly": container.read_only},
        "process": _process(container, command),
        "mounts": _mounts(container),
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces],
            "resources": {"devices": [{"allow": container.privileged, "access": "rwm"}]},
            "maskedPaths": list(MASKED) if masked else [],
            "readonlyPaths": list(READ_ONLY) if masked else [],
            **_filter(container),
            **_ids(container),
        },
    }


def _process(container: Container, command: Sequence[str]) -> dict[str, Any]:
    given = sorted(container.capabilities)
    effective = given if container.user == 0 else []
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    support = f"{ROOT}:{Path(__file__).parent}"
    env = {"PATH": path, "HOME": "/tmp", "PYTHONPATH": support, "PYTHONDONTWRITEBYTECODE": "1", **container.env}
    return {
        "terminal": False,
        "user": {"uid": container.user, "gid": container.user},
        "args": list(command),
        "cwd": str(ROOT),
        "env": [f"{name}={value}" for name, value in env.items()],
        "capabilities": {
            "bounding": given,
            "effective": effective,
            "permitted": effective,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": container.no_new_privileges,
    }


def _mounts(container: Container) -> list[dict[str, Any]]:
    def mount(where: str, kind: str, *options: str) -> dict[str, Any]:
        return {"destination": where, "type": kind, "source": kind, "options": list(options)}

    access = [] if container.privileged else ["ro"]
    cgroup_access = [] if container.writable_cgroups or container.privileged else ["ro"]
    mounts = [
        mount("/proc", "proc", "nosuid", "noexec", "nodev"),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        mount("/sys", "sysfs", "nosuid", "noexec", "nodev", *access),
        mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", *cgroup_access),
        mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
    ]
    if container.read_only:
        mounts.append(mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777"))
    # What lies on another file system than / is not in the overlay, and what lies in /tmp may be covered.
    for path in sorted({str(ROOT), sys.prefix, sys.base_prefix}):
        if os.stat(path).st_dev != os.stat("/").st_dev or (container.read_only and path.startswith("/tmp/")):
            bind = {"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]}
            mounts.append(bind)
    return mounts


def _filter(container: Container) -> dict[str, Any]:
    if container.privileged or container.seccomp == "unconfined":
        return {}
    if container.seccomp == "docker":
        return {"seccomp": docker_default(container.capabilities)}
    return {"seccomp": container.seccomp}


def _ids(container: Container) -> dict[str, Any]:
    if not container.user_namespace:
        return {}
    ids = [{"containerID": 0, "hostID": 200_000, "size": 65_536}]
    return {"uidMappings": ids, "gidMappings": ids}
