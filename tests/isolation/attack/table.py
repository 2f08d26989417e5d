"""The attacks: what each is called, what it stands for, and how its control is run.

A control is the same program without the defence. "bare" is a plain process of the same user; "ns" has new namespaces
and is root in them, so that it may do there what would need root outside, and do no harm. Braces are filled in by
stage.py: {target} is another process of the user on the control and init inside, {host} that process both times,
{scratch} a directory of /dev/shm on
the control and /tmp inside, {settle} a time in which a watch sees what there is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT, USER = "root", "unprivileged"
BOTH = (ROOT, USER)
OVERLAYS_OF_USERS = (5, 11)
"""the first Linux with mode cow"""
_SCRATCH = "The directory of a lease has no limit but that of each file: its files take the host's disk."


@dataclass(frozen=True)
class Attack:
    name: str
    kind: str
    source: str
    """a CVE, a man page, a CWE"""
    program: str
    """of this directory; "scenario" is a function of scenarios.py"""
    args: tuple[str, ...] = ()
    control: str = "bare"
    users: tuple[str, ...] = BOTH
    """for whom the control can succeed at all"""
    config: dict[str, Any] = field(default_factory=dict)
    since: tuple[int, int] = (0, 0)
    """the first Linux on which the control can succeed, and on which there is what it is tried in"""
    workspace: str = ""
    """the mode in which {rw} is attached as a workspace inside, in place of a bind; "": it is not"""
    hole: str = ""
    """not closed yet, and what would close it: the probe is expected to be REACHED inside"""
    hole_for: tuple[str, ...] = BOTH
    by_landlock: str = ""
    """what SECURITY.md says of a kernel without Landlock, which alone holds the probe: it has to be REACHED there"""
    abi: int = 1
    """the first of Landlock that holds it"""
    tiers: tuple[str, ...] = ("full", "landlock")
    """where it is tried"""
    declared: str = ""
    """what the Landlock tier does not promise, in the words of SECURITY.md: the probe has to be REACHED there"""
    declared_for: tuple[str, ...] = BOTH


def _files() -> list[Attack]:
    def files(name: str, source: str, *args: str, **more: Any) -> Attack:
        return Attack(name, "files", source, "files", args, **more)

    return [
        files("secret-by-path", "CWE-22", "path", "{secret}"),
        files("secret-by-dotdot", "chroot(2)", "parent-path", "{secret}"),
        files("secret-by-process-root", "proc_pid_root(5), CVE-2024-21626", "process-root", "{secret}"),
        files("secret-in-environ", "proc_pid_environ(5)", "process-environ", "{mark}"),
        files("secret-by-process-fd", "proc_pid_fd(5)", "process-fds", "{secret}"),
        files("secret-by-inherited-fd", "CVE-2024-21626, CVE-2016-9962", "inherited-fds", "{secret}"),
        files("secret-by-handle", "open_by_handle_at(2), shocker.c", "handle", "{secret}", users=(ROOT,)),
        files("device-node", "mknod(2), CVE-2020-13401", "make-device", "{rw}", users=(ROOT,)),
        files("whiteout", "rename(2) RENAME_WHITEOUT: a device node without a capability", "leave-whiteout", "{rw}"),
        files("whiteout-node", "mknod(2): no capability since Linux 5.8", "make-whiteout", "{rw}"),
        files("device-open", "mem(4), fuse(4)", "open-device", users=(ROOT,)),
        files("system-file-write", "CWE-732", "write", "/usr/lib/os-release", users=(ROOT,)),
        files("copied-file-write", "CWE-732", "write", "/etc/ld.so.cache", users=(ROOT,)),
        files("readonly-write", "mount_setattr(2)", "write", "{ro}/data"),
        files("readonly-create", "mount_setattr(2)", "create", "{ro}"),
        files("readonly-chmod", "mount_setattr(2)", "chmod", "{ro}/data"),
        files("hardlink-out", "link(2), CVE-2017-1002101", "link", "{ro}/data", "{rw}"),
        files("rename-out", "rename(2), CVE-2015-1328", "rename", "{ro}/data", "{rw}"),
        files("symlink-out", "symlink(7), CVE-2017-1002101", "symlink", "{secret}", "{rw}"),
        files(
            "readonly-fifo",
            "fifo(7): a read-only mount does not stop writers",
            *("fifo", "{ro}/fifo"),
            by_landlock="write to a fifo below a read-only path",
        ),
        files("setuid-program", "execve(2), CVE-2021-4034", "exec-gaining", "{gaining}/setuid", users=(USER,)),
        files("file-capability", "capabilities(7)", "exec-gaining", "{gaining}/filecap", users=(USER,)),
        files(
            "setuid-planted",
            "chmod(2), systemd.exec(5) RestrictSUIDSGID",
            "plant-setuid",
            "{rw}",
        ),
        files(
            "setuid-rewritten",
            "mmap(2) MAP_SHARED: no write that takes the bit",
            *("rewrite-set-id", "{rw}/set-id"),
            tiers=("full",),  # the other refuses the configuration
        ),
        *(
            files(f"workspace-{mode}-{name}", source, *args, workspace=mode, users=users, since=since)
            for mode, since in (("rw", (0, 0)), ("cow", OVERLAYS_OF_USERS))
            for name, source, args, users in (
                ("device-node", "mknod(2)", ("make-device", "{rw}"), (ROOT,)),
                ("whiteout", "rename(2) RENAME_WHITEOUT", ("leave-whiteout", "{rw}"), BOTH),
                ("whiteout-node", "mknod(2)", ("make-whiteout", "{rw}"), BOTH),
                ("setuid-planted", "chmod(2)", ("plant-setuid", "{rw}"), BOTH),
                ("hardlink-out", "link(2)", ("link", "{ro}/data", "{rw}"), BOTH),
                ("rename-out", "rename(2)", ("rename", "{ro}/data", "{rw}"), BOTH),
                ("symlink-out", "symlink(7)", ("symlink", "{secret}", "{rw}"), BOTH),
            )
        ),
        files("workspace-setuid-rewritten", "mmap(2)", "rewrite-set-id", "{rw}/set-id", workspace="rw"),
        files("workspace-readonly-write", "mount_setattr(2)", "write", "{rw}/data", workspace="ro"),
        files("workspace-readonly-create", "mount_setattr(2)", "create", "{rw}", workspace="ro"),
        files(
            "lease-on-readonly",
            "fcntl(2) F_SETLEASE: the host's open() waits lease-break-time",
            "lease",
            "{ro}/data",
        ),
        files(
            "watch-the-host",
            "inotify(7): names and times of what the host and other tenants open",
            "watch",
            "/usr/bin",
        ),
        files(
            "host-command-line",
            "proc_cmdline(5)",
            "path",
            "/proc/cmdline",
        ),
    ]


def _file_calls() -> list[Attack]:
    """On a host that reads what a tenant has left; the control opens the path itself."""
    sources = {
        "read-through-link": "CWE-59, CVE-2019-14271",
        "write-through-link": "CWE-59, CVE-2018-15664",
        "waits-for-fifo": "fifo(7): an open waits for the other side",
        "download-through-link": "CWE-61, CVE-2018-15664",
        "own-process": "proc(5): /proc/self is whoever opens it",
    }
    by_landlock = {"own-process": "have a file call read the program of init"}
    return [
        Attack(f"file-call-{name}", "files", source, "scenario", by_landlock=by_landlock.get(name, ""))
        for name, source in sources.items()
    ]


def _processes() -> list[Attack]:
    def process(name: str, source: str, *args: str, **more: Any) -> Attack:
        return Attack(name, "processes", source, "process", args, **more)

    return [
        process("init-ptrace", "ptrace(2)", "attach", "{target}"),
        process("init-process-vm", "process_vm_readv(2)", "read-memory", "{target}"),
        process("init-kcmp", "kcmp(2)", "compare-memory", "{target}"),
        process(
            "init-process-vm-allowed",
            "process_vm_readv(2): the call is there, init is undumpable",
            *("read-memory", "{target}"),
            config={"seccomp_allow": ("process_vm_readv",)},
        ),
        process(
            "init-steal-fd-allowed",
            "pidfd_getfd(2): the same",
            *("steal-fd", "{target}"),
            config={"seccomp_allow": ("pidfd_getfd",)},
        ),
        process("init-mem", "proc_pid_mem(5), CVE-2012-0056", "mem", "{target}"),
        process("init-exe", "CVE-2019-5736", "exe", "{target}"),
        process("init-control-fd", "proc_pid_fd(5)", "fd", "{target}"),
        process("init-maps", "proc_pid_maps(5)", "maps", "{target}"),
        process("init-steal-fd", "pidfd_getfd(2)", "steal-fd", "{target}"),
        process("init-signals", "pid_namespaces(7)", "signals", "{target}"),
        process("init-limits", "prlimit(2)", "prlimit", "{target}"),
        process("peer-pidfd", "unix(7) SO_PEERPIDFD: of the host, in a session", "peer", since=(6, 5)),
        process("sender-pidfd", "unix(7) SO_PASSPIDFD: the same", "sender", since=(6, 5)),
        process("neighbour-limits", "prlimit(2): what init starts is of this user", "prlimit-child"),
        process("init-oom-score", "proc_pid_oom_score_adj(5)", "oom-score", "{target}"),
        process("init-coredump", "core(5): coredump_filter", "write-of", "{target}", "coredump_filter", "0x7f"),
        process("init-autogroup", "sched(7)", "write-of", "{target}", "autogroup", "10"),
        process("init-clear-refs", "proc_pid_clear_refs(5)", "write-of", "{target}", "clear_refs", "1"),
        process(
            "init-timerslack",
            "proc_pid_timerslack_ns(5)",
            *("write-of", "{target}", "timerslack_ns", "1000000000"),
            users=(ROOT,),
        ),
        process("init-nice", "setpriority(2)", "renice", "{target}"),
        process("init-nice-by-group", "setpriority(2) PRIO_PGRP", "renice-group", "{target}"),
        process("init-nice-by-user", "setpriority(2) PRIO_USER", "renice-user", "1", control="ns"),
        process("init-io-class", "ioprio_set(2)", "io-idle", "{target}"),
        process("init-io-class-by-user", "ioprio_set(2) IOPRIO_WHO_USER", "io-idle-user", "1", control="ns"),
        process("init-idle-class", "sched_setscheduler(2)", "idle-class", "{target}"),
        process("init-idle-class-attr", "sched_setattr(2)", "idle-class-attr", "{target}"),
        process("init-scheduling-parameters", "sched_setparam(2)", "parameter", "{target}"),
        process("init-one-cpu", "sched_setaffinity(2)", "one-cpu", "{target}"),
        process("init-sigio", "fcntl(2) F_SETOWN, F_SETSIG: the kernel sends it", "sigio", "{target}"),
        process("init-forged-signals", "rt_sigqueueinfo(2), pidfd_send_signal(2)", "forged-signals", "{target}"),
        Attack(
            "kill-among-forged",
            "processes",
            "signal(7): of a standard signal one is pending at most, so that a forged one hides the next",
            "scenario",
        ),
        Attack("other-sandbox", "processes", "pid_namespaces(7)", "scenario"),
        Attack("daemon-outlives", "processes", "setsid(2), daemon(7)", "scenario"),
        Attack(
            "trace-me",
            "processes",
            "ptrace(2) PTRACE_TRACEME makes the parent the tracer",
            "scenario",
        ),
        *[
            Attack(f"starting-{what}", "processes", f"{source}: of what init starts beside it", "scenario", (what,))
            for what, source in {
                "descriptors": "proc_pid_fd(5), CVE-2016-9962",
                "memory": "proc_pid_mem(5)",
                "trace": "ptrace(2)",
            }.items()
        ],
        Attack(
            "passed-file-setuid",
            "files",
            "chmod(2): an ordinary user's tenants own what that user passes",
            "scenario",
            ("set-bits",),
        ),
        Attack(
            "passed-file-write",
            "files",
            "proc_pid_fd(5): opens a file anew that was passed for reading",
            "scenario",
            ("reopen",),
            by_landlock="open a file that it was passed anew, as the file's mode permits",
        ),
        Attack(
            "passed-file-truncate",
            "files",
            "truncate(2): by the path of a file that was passed for reading",
            "scenario",
            ("empty",),
            by_landlock="Before Linux 6.2 (ABI 3) it can empty that file by `truncate`.",
            abi=3,
        ),
    ]


def _kernel() -> list[Attack]:
    def kernel(name: str, source: str, *args: str, **more: Any) -> Attack:
        return Attack(name, "kernel", source, "kernel", args, **more)

    return [
        kernel("nested-userns", "user_namespaces(7), CVE-2022-0185", "userns"),
        kernel("nested-userns-clone3", "clone(2), CVE-2022-0185", "userns-clone3"),
        kernel("nested-userns-garbage", "clone(2), upper half of the flags", "userns-garbage"),
        kernel("mount", "mount(2)", "mount", control="ns"),
        kernel("bind-mount", "mount(2)", "bind", control="ns"),
        kernel("uncover-proc", "umount(2): the zygote's /proc lies below", "umount-proc", control="ns"),
        kernel("mount-api", "fsopen(2), CVE-2022-0185", "mount-api", control="ns"),
        kernel("chroot", "chroot(2)", "chroot", control="ns"),
        kernel("pivot-root", "pivot_root(2)", "pivot", control="ns"),
        kernel("setns", "setns(2)", "setns", control="ns"),
        kernel("hostname", "uts_namespaces(7)", "hostname", control="ns"),
        kernel("sysctl", "proc_sys(5), CVE-2022-0811", "knobs", control="ns"),
        kernel("sysctl-as-root", "proc_sys(5), sysrq", "knobs", users=(ROOT,)),
        kernel("bpf", "bpf(2), CVE-2021-3490", "bpf", users=(ROOT,)),
        kernel("perf", "perf_event_open(2), CVE-2013-2094", "perf"),
        kernel("userfaultfd", "userfaultfd(2), CVE-2021-22555", "userfaultfd", since=(5, 11)),
        kernel("io-uring", "io_uring_setup(2), CVE-2022-29582", "io-uring"),
        kernel("keyring", "add_key(2), CVE-2016-0728", "add-key"),
        kernel("kernel-log", "syslog(2)", "syslog", users=(ROOT,)),
        kernel("read-implies-exec", "personality(2)", "personality"),
        kernel("flush-disks", "sync(2), syncfs(2), fsync(2)", "flush-disks", config={"fs_readwrite": ()}),
        kernel("evict-page-cache", "posix_fadvise(2) POSIX_FADV_DONTNEED", "evict"),
        kernel(
            "age-page-cache", "madvise(2) MADV_COLD, MADV_PAGEOUT: of pages that the host has, too", "age", since=(5, 4)
        ),
        kernel("dnotify", "fcntl(2) F_NOTIFY: when the host and other tenants open what", "notify", "/usr/bin"),
        kernel("huge-pages", "memfd_create(2) MFD_HUGETLB: the host's pool, counted by no limit", "huge-pages"),
        kernel("huge-segment", "shmget(2) SHM_HUGETLB: for a group of the host", "huge-segment", users=(ROOT,)),
        kernel("pages-in-pipes", "vmsplice(2): memory that no process has mapped", "pages-in-pipes"),
        kernel("message-queues", "getrlimit(2) RLIMIT_MSGQUEUE, counted for the host's uid too", "message-queues"),
        kernel("i386", "int 0x80, CVE-2009-0835", "i386"),
        kernel("traced-call", "seccomp(2): a tracer changes the call", "traced-call"),
        kernel("tiocsti", "ioctl_tty(2), CVE-2017-5226", "tiocsti", "0x5412"),
        kernel("tiocsti-garbage", "CVE-2019-10063: garbage in the upper half", "tiocsti", "0xdeadbeef00005412"),
        Attack(
            "host-keys",
            "kernel",
            "keyrings(7), proc_keys(5)",
            "scenario",
        ),
    ]


def _shared() -> list[Attack]:
    """What a sandbox without namespaces shares with the host: {host} is a process of the host, of the same user."""
    only = {"tiers": ("landlock",)}
    by_user = {"signals": "signals", "ptrace": "attach", "process-vm": "read-memory", "mem": "mem", "fds": "fd"}
    by_user |= {"maps": "maps", "steal-fd": "steal-fd", "limits": "prlimit", "nice": "renice", "io-class": "io-idle"}
    by_user |= {"idle-class": "idle-class", "one-cpu": "one-cpu", "sigio": "sigio", "forged-signals": "forged-signals"}
    on_file = {"chmod": "chmod", "times": "set-times", "attribute": "set-attribute", "owner": "change-owner"}
    on_file |= {"attribute-read": "read-attribute", "attribute-names": "list-attributes"}
    on_file |= {"truncate": "cut", "truncate-by-open": "cut-by-open"}
    times = "For leases of root: The times of a file that every user may write can be set to the present."
    return [
        *(
            Attack(f"host-{name}", "shared", "credentials(7)", "process", (arg, "{host}"), **only)
            for name, arg in by_user.items()
        ),
        *(
            Attack(
                f"host-file-{name}",
                "shared",
                "landlock(7): it is not judged, or only since ABI 3",
                "files",
                (arg, "{secret}"),
                declared=times if name == "times" else "",
                declared_for=(ROOT,),
                **only,
            )
            for name, arg in on_file.items()
        ),
        Attack("system-v-memory", "shared", "svipc(7)", "kernel", ("segment", "0x5a5a"), **only),
        Attack(
            "host-file-names",
            "shared",
            "landlock(7): metadata is not judged",
            "files",
            ("stat", "{secret}"),
            declared="Names, sizes, owners and times of the host's files can be asked for.",
            **only,
        ),
        Attack(
            "host-link-targets",
            "shared",
            "readlink(2): metadata is not judged",
            "files",
            ("read-link", "{secret}-link"),
            declared="Where a symbolic link of the host leads can be read.",
            **only,
        ),
        Attack(
            "host-file-in-use",
            "shared",
            "open(2) O_PATH, umount(2) EBUSY: it is not judged",
            "files",
            ("keep-in-use", "{secret}"),
            declared="the host cannot unmount it, and the space of a removed file is not freed.",
            **only,
        ),
        Attack(
            "host-process-sessions",
            "shared",
            "getsid(2), getpriority(2), sched_getaffinity(2)",
            "process",
            ("session-of", "{host}"),
            declared="Sessions, groups, priorities and processors of the host's processes can be asked for.",
            **only,
        ),
        Attack(
            "host-process-numbers",
            "shared",
            "pidfd_open(2)",
            "process",
            ("number-used", "{host}"),
            declared="Which process numbers are in use can be found out.",
            **only,
        ),
        Attack(
            "host-name",
            "shared",
            "uts_namespaces(7)",
            "kernel",
            ("host-name",),
            declared="The host's name can be read.",
            **only,
        ),
    ]


def _network() -> list[Attack]:
    def network(name: str, source: str, *args: str, **more: Any) -> Attack:
        return Attack(name, "network", source, "network", args, **more)

    inet = {"seccomp_profile": "network"}
    loopback = {"network": "loopback"}
    host = {"network": "host", "deny_network": False, **inet}
    unix = {"allow_unix_sockets": True}
    return [
        network("inet-socket", "ip(7)", "make", "2", "1", "0"),
        network("inet6-socket", "ipv6(7)", "make", "10", "2", "0"),
        network("unix-socket", "unix(7)", "make", "1", "1", "0"),
        network("netlink-socket", "netlink(7), CVE-2023-32233", "make", "16", "3", "0"),
        network("netlink-socket-network", "netlink(7)", "make", "16", "3", "0", config=inet),
        network("vsock-socket", "vsock(7), CVE-2021-26708", "make", "40", "1", "0"),
        network("vsock-socket-network", "vsock(7)", "make", "40", "1", "0", config=inet),
        network("packet-socket", "packet(7), CVE-2020-14386", "make", "17", "3", "0", control="ns"),
        network("raw-socket-network", "raw(7)", "make", "2", "3", "1", control="ns", config=inet),
        network("host-loopback", "ip(7)", "tcp", "{port}"),
        network("host-loopback-network", "network_namespaces(7)", "tcp", "{port}", config=inet),
        network(
            "shared-port", "socket(7) SO_REUSEPORT: for each of this uid", "share-port", "{shared_port}", config=host
        ),
        network("lingering-socket", "socket(7) SO_LINGER: who closes it waits", "lingering", config=inet),
        network("udp-gro", "udp(7) UDP_GRO: patches the kernel's code", "patch-kernel", "17", "104", "1", config=inet),
        network("udp-encap", "udp(7) UDP_ENCAP: the same", "patch-kernel", "17", "100", "2", config=inet),
        *(
            network(f"packet-times-{option}", "socket(7): the same", "patch-kernel", "1", option, value, config=inet)
            for option, value in (("29", "1"), ("35", "1"), ("37", "8"))
        ),
        network("packet-times-by-request", "socket(7) SIOCGSTAMP: the same", "patch-by-request", config=inet),
        network("flow-label", "ipv6(7): 4,096 for the machine", "flow-label", config=loopback),
        network("multicast-groups", "ipv6(7): of any number", "join-groups", "300", config=loopback),
        network("abstract-socket", "unix(7), CVE-2020-15257", "unix", "{abstract}"),
        network("abstract-socket-unix", "network_namespaces(7)", "unix", "{abstract}", config=unix),
        network(
            "abstract-socket-scoped",
            "unix(7): in the host's network namespace",
            *("unix", "{abstract}"),
            config={**unix, **host},
            since=(6, 12),
        ),
        Attack("abstract-socket-by-default", "network", "network_namespaces(7)", "scenario"),
        Attack("abstract-socket-of-host-network", "network", "landlock(7): scoped", "scenario"),
        Attack("socket-file-by-default", "network", "unix(7), docker.sock", "scenario"),
        Attack("socket-file-bound-alone", "network", "unix(7): a bound path may be a socket itself", "scenario"),
        network("pathname-socket", "unix(7), docker.sock", "unix", "{ro}/stream"),
        network("pathname-datagram", "unix(7): half of a pair", "half-pair", "{ro}/datagram"),
    ]


def _netlink() -> list[Attack]:
    """NETLINK_ROUTE is there where a sandbox has a network: in its own namespace, and in the host's."""

    def netlink(name: str, source: str, *args: str, control: str = "ns") -> list[Attack]:
        source = f"rtnetlink(7): {source}"
        loopback = {"network": "loopback"}
        host = {"network": "host", "deny_network": False, "seccomp_profile": "network"}
        return [
            Attack(f"netlink-{name}", "network", source, "netlink", args, control, config=loopback),
            Attack(f"netlink-{name}-host", "network", source, "netlink", args, control, config=host),
        ]

    changes = ("newaddr", "deladdr", "newlink", "setlink", "newroute", "newneigh", "newqdisc")
    return [
        *(row for kind in changes for row in netlink(kind, f"RTM_{kind.upper()}", "change", kind)),
        *netlink("anything", "every message but a question", "change-anything"),
        *netlink("to-another", "netlink(7): a message to another process", "to-another"),
        *netlink("forged-event", "netlink(7): a message to all who listen to a group", "forge-event"),
        *netlink("protocols", "CVE-2023-32233: netfilter, crypto, ...", "other-protocols", control="bare"),
    ]


def _limits() -> list[Attack]:
    def hoard(name: str, source: str, *args: str, **more: Any) -> Attack:
        return Attack(name, "limits", source, "hoard", args, **more)

    small = {"memory_limit_mb": 64, "scratch_size_mb": 8}
    return [
        hoard(
            "processes",
            "fork bomb, CWE-400",
            *("processes", "100", "{settle}"),
            config={"max_processes": 64},
        ),
        hoard("memory", "CWE-400", "memory", "100", "{settle}", config=small),
        hoard(
            "memory-reserved",
            "getrlimit(2) RLIMIT_DATA, for who asks for it",
            *("memory", "100", "{settle}"),
            config={"memory_limit_mb": None, "data_limit_mb": 64},
        ),
        hoard("memory-shared", "memfd_create(2)", "memfd", "100", "{settle}", config=small),
        hoard("memory-sockets", "unix(7)", "socket-buffers", "70", "{settle}", config=small),
        hoard(
            "memory-backlog",
            "unix(7): full connections that nobody accepts, in no process's table",
            *("backlog", "70", "{settle}"),
            config={**small, "allow_unix_sockets": True},
        ),
        hoard(
            "memory-datagrams",
            "unix(7): a queue that is not full takes one more message of its whole size",
            *("datagrams", "70", "{settle}"),
            config={**small, "allow_unix_sockets": True},
        ),
        hoard("memory-pipes", "pipe(7)", "pipe-buffers", "70", "{settle}", config=small),
        Attack(
            "memory-netlink",
            "limits",
            "netlink(7): lists that are asked for and not read",
            "netlink",
            ("queues", "70", "{settle}"),
            config={**small, "network": "loopback"},
        ),
        hoard("memory-messages", "sysvipc(7)", "messages", "70", "{settle}", config=small),
        hoard("scratch-bytes", "tmpfs(5)", "disk", "{scratch}", "12", config=small, declared=_SCRATCH),
        hoard("scratch-inodes", "tmpfs(5)", "inodes", "{scratch}", "17000", declared=_SCRATCH),
        hoard("descriptors", "getrlimit(2)", "descriptors", "5000"),
        hoard("locked-memory", "mlock(2)", "locked", "1024"),
        hoard(
            "queued-signals",
            "getrlimit(2) RLIMIT_SIGPENDING, counted for the host's uid too",
            "signals",
            "8192",
        ),
        Attack(
            "queued-signals-of-others",
            "limits",
            "sigqueue(3): with a full queue the KILL of another's timeout loses its value",
            "scenario",
        ),
        hoard(
            "inotify-instances",
            "inotify(7) max_user_instances, counted for the host's uid too",
            "watchers",
            "64",
        ),
        hoard(
            "terminals",
            "pts(4): kernel.pty.max is one budget for all but the host",
            "terminals",
            "64",
        ),
        Attack(
            "output-flood",
            "limits",
            "CWE-400: a reader that stops only when the pipe is empty",
            "scenario",
        ),
    ]


def _kept() -> list[Attack]:
    def keep(name: str, source: str, *args: str, **more: Any) -> Attack:
        config = {"memory_limit_mb": 16}
        return Attack(f"memory-{name}", "limits", source, "keep", (*args, "{settle}"), config=config, **more)

    return [
        keep("locks", "fcntl(2)", "locks", "{scratch}", "100000"),
        keep("open-file-locks", "fcntl(2) F_OFD_SETLK", "open-file-locks", "{scratch}", "100000"),
        keep("read-locks", "fcntl(2): the sum of many processes", "read-locks", "20"),
        keep(
            "locks-of-the-dead",
            "clone(2) CLONE_FILES: /proc/locks shows none of who is gone",
            *("locks-of-the-dead", "{scratch}", "100000"),
        ),
        keep("mappings", "mmap(2): 65,530 in each process", "mappings", "300000"),
        keep("epoll-watches", "epoll(7): fs.epoll.max_user_watches, counted for the host's uid", "watches", "150000"),
        keep("landlock-rules", "landlock_add_rule(2): in no limit but a cgroup's", "rules", "200000", since=(5, 13)),
        keep("attributes", "xattr(7): of a memfd, without bound", "attributes", "1000", since=(6, 6)),
        keep("futex-hash", "prctl(2) PR_FUTEX_HASH: a table of any size", "futex-hash", "0x100000", since=(6, 16)),
        keep(
            "pages-by-splice", "splice(2): a slot keeps a folio of up to 2 MiB", "pinned-pages", "splice", "{scratch}"
        ),
        keep("pages-by-sendfile", "sendfile(2): the same", "pinned-pages", "sendfile", "{scratch}"),
        keep("proc-texts", "proc_pid_fdinfo(5)", "texts", "400"),
    ]


def _since_huge_pages() -> tuple[int, int]:
    """No Linux, where the machine has none."""
    try:
        has_some = "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        has_some = False
    return (3, 15) if has_some else (999, 0)


def _hidden() -> list[Attack]:
    def hide(name: str, source: str, *args: str, **more: Any) -> Attack:
        config = {"memory_limit_mb": 16, **more}
        return Attack(f"memory-{name}", "limits", source, "hide", (name, *args, "{settle}"), config=config)

    return [
        hide("long-names", "proc_pid_maps(5): a line is as long as its path", "{scratch}", "20"),
        # In the Landlock tier these two depend on what the rest of the machine does: they are neither held nor reached.
        replace(hide("sockets-under-way", "unix(7) SCM_RIGHTS: in no process's table", "400"), tiers=("full",)),
        replace(hide("buffers-handed-about", "unix(7) SCM_RIGHTS: faster than anybody looks", "400"), tiers=("full",)),
        hide("memfd-handed-about", "memfd_create(2), unix(7)", "60"),
        replace(hide("undo-lists", "semop(2) SEM_UNDO: of each process and each set", "150"), tiers=("full",)),
        replace(hide("fork-links", "fork(2): each mapping, to each process before", "100"), tiers=("full",)),
        replace(hide("huge-pages-cut", "madvise(2): of 2 MiB 4 KiB stay mapped", "50"), since=_since_huge_pages()),
        hide("packet-options", "ipv6(7) IPV6_2292PKTOPTIONS: a socket keeps any text", "4000", network="loopback"),
    ]


def _filters() -> list[Attack]:
    def filters(name: str, source: str, *args: str, **more: Any) -> Attack:
        return Attack(name, "filters", source, "filters", args, **more)

    option = "ptrace(2) PTRACE_O_TRACEEXIT: two that trace each other so never end"
    return [
        filters("filter-listener", "seccomp_unotify(2): keeps filters alive", "flags", "8", since=(5, 0)),
        filters("filter-flag-log", "seccomp(2) SECCOMP_FILTER_FLAG_LOG: a record for each verdict", "flags", "2"),
        filters("filters-of-one-task", "seccomp(2): 32,768 instructions, in memory of the kernel", "many", "1000"),
        filters("filters-of-the-dead", "seccomp_unotify(2)", "of-the-dead", "20", since=(5, 0)),
        filters("filter-on-socket", "socket(7) SO_ATTACH_FILTER, for each descriptor", "on-sockets", "50"),
        Attack("filter-log", "filters", "seccomp(2) SECCOMP_RET_LOG: the host's audit trail", "scenario"),
        filters("stop-at-exit-seize", option, "stop-at-exit", "seize"),
        filters("stop-at-exit-options", option, "stop-at-exit", "options", "0"),
        filters("stop-at-exit-garbage", option, "stop-at-exit", "options", "0x10003f"),
    ]


def _binds() -> list[Attack]:
    return [
        Attack(
            "readonly-below-readwrite",
            "files",
            "mount_namespaces(7): the later bind hides the earlier",
            "scenario",
        ),
        Attack(
            "bind-swapped-for-symlink",
            "files",
            "CVE-2021-30465, CVE-2017-1002101",
            "scenario",
        ),
    ]


def _remains() -> list[Attack]:
    channels = {
        "tmp": "tmpfs(5)",
        "dev-shm": "shm_overview(7)",
        "sysv-shm": "sysvipc(7)",
        "sysv-sem": "sysvipc(7)",
        "sysv-msg": "sysvipc(7)",
        "stdin-signal": "fcntl(2) F_SETSIG: kept in the open file",
        "stdin-flags": "fcntl(2) F_SETFL: kept in the open file",
    }
    return [
        Attack(
            "sockets-of-the-last",
            "remains",
            "unix(7): sockets under way in themselves wait for the collector, and /proc/net/unix names them",
            "scenario",
            tiers=("full",),  # in the other there is no /proc to see them in
        ),
        Attack(
            "listeners-of-the-last",
            "remains",
            "unix(7): a listener under way in a connection that it has not accepted",
            "scenario",
        ),
        *_left(channels),
    ]


def _left(channels: dict[str, str]) -> list[Attack]:
    return [
        Attack(
            f"left-{channel}",
            "remains",
            source,
            "scenario",
            (channel,),
            # The lower tier has no such channel: `system-v-memory`, and a directory that is removed.
            tiers=("full", "landlock") if channel.startswith("stdin") else ("full",),
        )
        for channel, source in channels.items()
    ]


ATTACKS = [
    *_files(),
    *_file_calls(),
    *_processes(),
    *_shared(),
    *_kernel(),
    *_network(),
    *_netlink(),
    *_limits(),
    *_kept(),
    *_hidden(),
    *_filters(),
    *_binds(),
    *_remains(),
]
