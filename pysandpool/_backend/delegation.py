"""How this process gets a cgroup of its own, in which it may make those of sandboxes."""

from __future__ import annotations

from pysandpool._backend.container import FIREJAIL, LXC, NSPAWN, POD, container_kind

# Controllers can be enabled only in a cgroup without processes, so that the host has to move into a child cgroup.
_GO_DEEPER = 'mkdir $c/host && echo $$ > $c/host/cgroup.procs && exec "$@"\' sh COMMAND'
_OWN_CGROUP = "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)"
_SYSTEMD = (
    "Delegate=yes and DelegateSubgroup=host in the unit of a service (systemd 254 and later); from a shell: "
    f"systemd-run --user --scope -p Delegate=yes sh -c 'c={_OWN_CGROUP}; {_GO_DEEPER}"
)
_CONTAINER_CGROUP = (
    "docker run --security-opt writable-cgroups=true (Docker 28 and later), or podman run --security-opt "
    f"unmask=/sys/fs/cgroup; start in it with sh -c 'c=/sys/fs/cgroup; {_GO_DEEPER}; "
    "and cgroup_parent='/sys/fs/cgroup' in the configuration"
)
# These show a writable one, in which systemd works if it is the container's first process.
_SYSTEM_CONTAINER_CGROUP = (
    f"if systemd runs in the container, {_SYSTEMD}; if not, start with sh -c 'c=/sys/fs/cgroup; {_GO_DEEPER} and "
    "cgroup_parent='/sys/fs/cgroup' in the configuration"
)
_POD_CGROUP = (
    "let the node's runtime make /sys/fs/cgroup writable (containerd 2.1 and later: cgroup_writable = true of the "
    "runtime; CRI-O: the annotation io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw); start with "
    f"sh -c 'c=/sys/fs/cgroup; {_GO_DEEPER}; and cgroup_parent='/sys/fs/cgroup' in the "
    "configuration"
)


def delegate() -> str:
    """The command that gives this process a delegated cgroup of version 2."""
    of_kind = {
        "": _SYSTEMD,
        FIREJAIL: _SYSTEMD,
        POD: _POD_CGROUP,
        LXC: _SYSTEM_CONTAINER_CGROUP,
        NSPAWN: _SYSTEM_CONTAINER_CGROUP,
    }
    return of_kind.get(container_kind(), _CONTAINER_CGROUP)
