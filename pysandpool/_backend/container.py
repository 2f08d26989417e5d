"""Which container this process runs in: by the marks of its runtime, or by what every runtime does."""

from __future__ import annotations

import os
from pathlib import Path

from pysandpool._backend.machine import is_filtered, masked_proc, mount_points, service_unit

DOCKER, PODMAN, POD, ECS, LXC, OTHER = "docker", "podman", "kubernetes", "ecs", "lxc", "other"
NSPAWN, FIREJAIL = "systemd-nspawn", "firejail"
# Files that a runtime leaves in the container; the first that exists decides. CRI-O leaves Podman's mark in its pods.
_MARKS = (
    ("/var/run/secrets/kubernetes.io", POD),
    ("/run/.containerenv", PODMAN),
    ("/.dockerenv", DOCKER),
    ("/dev/.lxc", LXC),
    ("/dev/lxd/sock", LXC),
    ("/dev/incus/sock", LXC),
)
_VARIABLES = (
    ("KUBERNETES_SERVICE_HOST", POD),
    ("ECS_CONTAINER_METADATA_URI_V4", ECS),
    ("ECS_CONTAINER_METADATA_URI", ECS),
)
_OF_THE_RUNTIME = "container"  # Podman, LXC, systemd-nspawn and firejail set this variable
# Their root directory may be one with a mark: a tree that comes from `docker export` keeps Docker's, and firejail shows
# the files of the machine that it runs on.
_WITH_FILES_OF_OTHERS = (LXC, NSPAWN, FIREJAIL)
_NAMED = (PODMAN, DOCKER, *_WITH_FILES_OF_OTHERS)
_LAYERED = frozenset(["overlay", "fuse.fuse-overlayfs", "aufs"])
_INITS = frozenset(["systemd", "init"])


def container_kind() -> str:
    """One of the kinds above; "other" for a container whose runtime is unknown, such as containerd; "" outside."""
    runtime = os.environ.get(_OF_THE_RUNTIME)
    named = [kind for name, kind in _VARIABLES if name in os.environ]
    named += [kind for kind in _WITH_FILES_OF_OTHERS if kind == runtime]
    named += [kind for mark, kind in _MARKS if os.path.lexists(mark)]
    named += [kind for kind in (runtime, _told_by_systemd()) if kind in _NAMED]
    return named[0] if named else OTHER if _looks_like_one() else ""


def _told_by_systemd() -> str | None:
    """What systemd has found out, if it is pid 1 of this container."""
    try:
        return Path("/run/systemd/container").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _looks_like_one() -> bool:
    """A root of layers, with masked entries in /proc or a filter on all processes; or both of these."""
    if _first_process() in _INITS or service_unit():
        return False
    layered = any(point == "/" and kind in _LAYERED for point, kind in mount_points())
    return layered + bool(masked_proc()) + is_filtered() >= 2


def _first_process() -> str:
    try:
        return Path("/proc/1/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
