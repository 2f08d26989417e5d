"""Which system calls `seccomp_allow` may add to a profile: a leaf.

The table of the filter itself is csrc/host/seccomp/table.h; a test compares the two. A call that is in neither list
below was judged by nobody, and cannot be allowed.
"""

from __future__ import annotations

import difflib
import platform
from collections.abc import Iterable
from typing import Any

from pysandpool._config.fields import Refuse
from pysandpool._config.syscalls import AARCH64, X86_64

_AIO = "fs.aio-max-nr is one budget for the whole host: a tenant can use it up"
_RULESETS = "rules are memory of the kernel that no limit but a cgroup's counts"
_POLICIES = "policies for ranges of a memfd are memory of the kernel that no limit counts"
_XATTRS = "attributes of a memfd are memory of the kernel that no limit but a cgroup's counts"
_PAGES = "a page of a file in a pipe or a socket keeps up to 2 MiB of memory that no limit but a cgroup's counts"
_TRACE = "with PTRACE_O_TRACEEXIT, which strace and lldb ask for, a tenant can leave processes that nothing ever ends"
_LEGACY = "legacy code of the kernel that few use"
ALLOWABLE: dict[str, str] = {
    **dict.fromkeys(
        "file_getattr futex_requeue futex_wait futex_wake get_mempolicy getxattrat kcmp listxattrat migrate_pages"
        " move_pages name_to_handle_at pidfd_getfd process_mrelease process_vm_readv process_vm_writev sysfs".split(),
        "",
    ),
    **dict.fromkeys("mbind set_mempolicy set_mempolicy_home_node".split(), _POLICIES),
    **dict.fromkeys(
        "fremovexattr fsetxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat".split(), _XATTRS
    ),
    **dict.fromkeys(("sendfile", "splice"), _PAGES),
    **dict.fromkeys(("listmount", "statmount"), "the sources of mounts name devices and directories of the host"),
    **dict.fromkeys("io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit".split(), _AIO),
    **dict.fromkeys(("remap_file_pages", "uselib"), _LEGACY),
    **dict.fromkeys("landlock_add_rule landlock_create_ruleset landlock_restrict_self".split(), _RULESETS),
    "ptrace": _TRACE,
    "seccomp": "a listener keeps filters, which are memory of the kernel, when their process is gone",
    "file_setattr": "flags and project ids of files in a writable bind outlive the lease",
    "process_madvise": "it takes files' pages out of the host's page cache, where a tenant may write the file",
    "modify_ldt": "16-bit segments, code of the kernel that past exploits came through",
    "memfd_secret": "memory that no watch can look at; bounded by the 64 KiB of locked memory",
    "cachestat": "tells which parts of the host's files others have read lately",
    "perf_event_open": "a large part of the kernel, and with kernel.perf_event_paranoid < 1 a view of the whole host",
    "userfaultfd": "lets a tenant stop the kernel in the middle of a copy, which many exploits are built on",
}
"""Every name that may be allowed, with what is to be known of it; "" where there is nothing."""

_OUTSIDE = "it would take a tenant out of its namespaces, mounts or limits"
_MACHINE = "it acts on the whole machine"
_KEYS = "keyrings are shared with and counted for the host's user, and past exploits came through them"
_CHECKED = "it is allowed, and the filter looks at its arguments, which a name could only switch off"
_RING = "no filter sees what the ring does: it would open sockets of any family"
_WATCH = "it tells what the host and other tenants open, and when"
_SOCKETS = "seccomp_profile, network and allow_unix_sockets say which sockets there are"
_FORK = "allow_fork=True does that"
NEVER: dict[str, str] = {
    **dict.fromkeys(
        "chroot clone3 fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_by_handle_at open_tree"
        " open_tree_attr pivot_root setdomainname sethostname setns umount2 vhangup".split(),
        _OUTSIDE,
    ),
    **dict.fromkeys(
        "acct clock_settime delete_module finit_module init_module ioperm iopl kexec_file_load kexec_load"
        " lookup_dcookie quotactl quotactl_fd reboot settimeofday swapoff swapon syslog".split(),
        _MACHINE,
    ),
    **dict.fromkeys(("add_key", "keyctl", "request_key"), _KEYS),
    **dict.fromkeys(("io_uring_enter", "io_uring_register", "io_uring_setup"), _RING),
    **dict.fromkeys(
        "fanotify_init fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch".split(), _WATCH
    ),
    **dict.fromkeys(("fork", "vfork"), _FORK),
    **dict.fromkeys(("accept", "accept4", "bind", "connect", "listen"), _SOCKETS),
    **dict.fromkeys(
        "arch_prctl chmod clone close_range creat fadvise64 fchmod fchmodat fchmodat2 fcntl ioctl ioprio_set"
        " madvise memfd_create mknod mknodat mmap open openat openat2 personality prctl prlimit64"
        " sched_setaffinity sched_setattr sched_setparam sched_setscheduler setpriority setrlimit setsockopt"
        " socket socketpair sync syncfs unshare".split(),
        _CHECKED,
    ),
    "vmsplice": "memory that a pipe holds is counted by no limit but a cgroup's",
    "ustat": "it tells how full any mounted file system of the machine is, other tenants' scratch too",
    **dict.fromkeys(
        "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink".split(),
        "their bytes are counted for the host's user, who has 800 KiB in all",
    ),
    "bpf": "it loads programs into the kernel",
}
"""What must not be allowed, and why."""

_TABLES = {"x86_64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}


def allowed_calls(refuse: Refuse, name: str, value: Any) -> tuple[str, ...]:
    """The names in order and once each; each of this machine's architecture, and such that nothing promised breaks."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise refuse(name, value, "a sequence of names of system calls", True)
    names = list(value)
    for one in names:
        if not isinstance(one, str):
            raise refuse(name, one, "a name of a system call", True)
        if one not in ALLOWABLE or one not in _known():
            raise refuse(name, one, _why_not(one), False)
    return tuple(sorted(set(names)))


def _known() -> frozenset[str]:
    return _TABLES.get(platform.machine(), X86_64 | AARCH64)


def _why_not(name: str) -> str:
    if name not in _known():
        if name in X86_64 | AARCH64:
            return f"no system call of {platform.machine()}, of other machines only"
        near = difflib.get_close_matches(name, sorted(set(ALLOWABLE) & _known()) + sorted(_known()), 3)
        return "no known system call" + (f"; near it: {', '.join(dict.fromkeys(near))}" if near else "")
    if name in NEVER:
        return f"never allowed: {NEVER[name]}"
    return "nothing that can be allowed: the profile allows it already, or nobody has judged it yet"
