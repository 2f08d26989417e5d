"""Which system calls `seccomp_allow` may add to a profile.

The table of the filter itself is csrc/host/seccomp/table.h; a test compares the two. Calls that are in none of the
lists below are those that every profile allows.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Any

from pysandpool._config.fields import Refuse
from pysandpool._config.syscalls import AARCH64, X86_64

_AIO = "fs.aio-max-nr limits the whole host: a tenant can use it up"
_RULESETS = "rules are kernel memory, which only a cgroup limits"
_POLICIES = "policies for ranges of a memfd are kernel memory, which nothing limits"
_XATTRS = "attributes of a memfd are kernel memory, which only a cgroup limits"
_PAGES = "a page of a file in a pipe or a socket keeps up to 2 MiB of memory, which only a cgroup limits"
_TRACE = "with PTRACE_O_TRACEEXIT, which strace and lldb use, a tenant can leave processes that can never be killed"
_LEGACY = "legacy code of the kernel, which few programs use"
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
    "seccomp": "a listener keeps filters, which are kernel memory, after their process has ended",
    "file_setattr": "flags and project ids of files in a writable bind outlive the lease",
    "process_madvise": "removes pages of files that the tenant may write from the page cache of the host",
    "modify_ldt": "16-bit segments: kernel code that past exploits have used",
    "memfd_secret": "memory that the memory watch cannot read; limited by the 64 KiB of locked memory",
    "cachestat": "shows which parts of the host's files others have read lately",
    "perf_event_open": "a large part of the kernel, and with kernel.perf_event_paranoid < 1 a view of the whole host",
    "userfaultfd": "lets a tenant stop the kernel in the middle of a copy, which many exploits need",
}
"""Every system call that may be allowed, and the price of allowing it; "" if it has none."""

_OUTSIDE = "with it a tenant could leave its namespaces, mounts or limits"
_MACHINE = "it changes the whole machine"
_KEYS = "keyrings are shared with the host's user and count against its quota, and past exploits have used them"
_CHECKED = "it is allowed already, and the filter checks its arguments; naming it could only switch that check off"
_RING = "no filter sees the operations of a ring, which can open sockets of any family"
_WATCH = "it shows which files the host and other tenants open, and when"
_SOCKETS = "seccomp_profile, network and allow_unix_sockets decide about sockets"
_FORK = "allow_fork=True allows it"
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
        "arch_prctl chmod clone close_range creat fadvise64 fchmod fchmodat fchmodat2 fcntl fdatasync fsync"
        " getsockopt ioctl ioprio_set madvise memfd_create mknod mknodat mmap open openat openat2 personality"
        " prctl prlimit64 renameat2 sched_setaffinity sched_setattr sched_setparam sched_setscheduler"
        " setpriority setrlimit setsockopt shmget socket socketpair sync sync_file_range syncfs unshare".split(),
        _CHECKED,
    ),
    "vmsplice": "it puts memory into a pipe, which only a cgroup limits",
    "ustat": "it shows how full each mounted file system of the machine is, the scratch of other tenants included",
    **dict.fromkeys(
        "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink".split(),
        "message queues count against the host's user, who has 800 KiB in all",
    ),
    "bpf": "it loads programs into the kernel",
}
"""Every system call that must not be allowed, and why."""

UNREVIEWED = frozenset(
    "_sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms get_thread_area getpmsg listns"
    " lsm_get_self_attr lsm_list_modules lsm_set_self_attr nfsservctl putpmsg query_module rseq_slice_yield security"
    " set_thread_area tuxcall vserver".split()
)
"""System calls that the profiles refuse, and of which nobody has looked at what they would give a tenant."""

_TABLES = {"x86_64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}


def allowed_calls(refuse: Refuse, name: str, value: Any) -> tuple[str, ...]:
    """The names, sorted and without duplicates. Refuses a name that is not in `ALLOWABLE`, or not of this machine."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise refuse(name, value, "a sequence of names of system calls", True)
    names = list(value)
    for one in names:
        if not isinstance(one, str):
            raise refuse(name, one, "a name of a system call", True)
        if one not in ALLOWABLE or one not in _known():
            raise refuse(name, one, _why_not(one), False)
    return tuple(sorted(set(names)))


def _machine() -> str:
    return os.uname().machine


def _known() -> frozenset[str]:
    return _TABLES.get(_machine(), X86_64 | AARCH64)


def _why_not(name: str) -> str:
    if name not in _known():
        if name in X86_64 | AARCH64:
            return f"a system call of {_machine()}, and this one is of other machines only"
        near = difflib.get_close_matches(name, sorted(set(ALLOWABLE) & _known()) + sorted(_known()), 3)
        return "a known system call" + (f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else "")
    if NEVER.get(name) == _CHECKED:
        return f"a call that the profile refuses ({name}: {_CHECKED})"
    if name in NEVER:
        return f"a call that can be allowed ({name}: {NEVER[name]})"
    if name in UNREVIEWED:
        return f"a call that can be allowed ({name}: nobody has reviewed yet what it would give a tenant)"
    return f"a call that the profile refuses ({name}: the profile allows it already, so leave it out)"
